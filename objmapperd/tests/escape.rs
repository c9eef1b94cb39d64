//! Nothing outside the tree is ever handed out, whatever the name, whatever lies in the tree, and
//! whatever happens to it meanwhile. Each refusal says what it is and what to do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use objmapper_proto::{Header, Mode, Op, Range, Status, limits};
use support::daemon::{Daemon, Place, Setup};
use support::peer::{Answer, Peer};
use support::{is_root, skip, until};

const SECRET: &[u8] = b"this lies outside";
const INSIDE: &[u8] = b"this lies inside!";

/// A place with a secret beside its tree.
fn guarded() -> Place {
    let place = Place::new();
    fs::create_dir(place.outside("secrets")).unwrap();
    fs::write(place.outside("secrets/file"), SECRET).unwrap();
    place.write("file", INSIDE);
    place.write("dir/file", INSIDE);
    place
}

/// Asks in every way there is.
#[track_caller]
fn every_answer(peer: &mut Peer, uri: &[u8]) -> Vec<Answer> {
    let mut answers = vec![peer.stat(uri)];
    for mode in Mode::ALL {
        answers.push(peer.get(mode, uri, Range::ALL));
        answers.push(peer.get(mode, uri, Range { offset: 0, length: 0 }));
        answers.extend(peer.get_many(mode, &[b"/file", uri]).pop());
    }
    answers
}

/// Refused in every way, with this status and these words. Twice: not remembered wrongly either.
#[track_caller]
fn refused(peer: &mut Peer, uri: impl AsRef<[u8]>, status: Status, words: &str) {
    let uri = uri.as_ref();
    for answer in every_answer(peer, uri).into_iter().chain(every_answer(peer, uri)) {
        let shown = String::from_utf8_lossy(uri);
        assert_eq!(answer.status(), status, "{shown}: {:?}", answer.text);
        assert!(answer.text.contains(words), "{shown}: {:?}", answer.text);
        assert!(answer.file.is_none() && answer.bytes.is_empty());
    }
}

#[track_caller]
fn served(peer: &mut Peer, uri: &str) {
    for answer in every_answer(peer, uri.as_bytes()) {
        assert_eq!(answer.status(), Status::Ok, "{uri}: {:?}", answer.text);
        assert_eq!(answer.head.size, INSIDE.len() as u64);
    }
}

#[test]
fn names_that_need_resolving() {
    const DOTS: &str = "send the path they lead to";
    let daemon = Setup::default().start_in(guarded());
    let mut peer = daemon.greeted();
    for uri in [
        "/..",
        "/../secrets/file",
        "/dir/../file",
        "/dir/../../secrets/file",
        "/dir/..",
        "/./file",
        "/dir/./file",
        "/a/./b",
        "/.",
        "/%2e%2e/secrets/file",
        "/%2E%2e/secrets/file",
        "/.%2e/secrets/file",
        "/dir/%2e/file",
        "kv:/../file",
        "file:///../secrets/file",
    ] {
        refused(&mut peer, uri, Status::BadUri, DOTS);
    }
    for uri in ["//", "//file", "/dir//file", "/dir/file//"] {
        refused(&mut peer, uri, Status::BadUri, "write one '/'");
    }
    // Not what they look like: these are names, and nothing has them.
    for uri in ["/...", "/..file", "/dir/..x", "/%2e%2e%2e"] {
        refused(&mut peer, uri, Status::NotFound, "no object of that name");
    }
    served(&mut peer, "/dir/file");
}

#[test]
fn names_with_hidden_bytes() {
    const HIDDEN: &str = "an escaped '/' or NUL";
    let daemon = Setup::default().start_in(guarded());
    let mut peer = daemon.greeted();
    for uri in [
        "/dir%2ffile",
        "/dir%2Ffile",
        "/%2e%2e%2fsecrets%2ffile",
        "/..%2fsecrets/file",
        "/%2Fetc/passwd",
        "/dir/%2F",
        "/file%00",
        "/file%00.txt",
        "/%00",
        "/dir%00/file",
    ] {
        refused(&mut peer, uri, Status::BadUri, HIDDEN);
    }
    refused(&mut peer, b"/file\0", Status::BadUri, "write it as %00");
    refused(&mut peer, b"/file\0/../../etc/passwd", Status::BadUri, "write it as %00");
    refused(&mut peer, "/fil\u{e9}", Status::BadUri, "write it as %C3");
    refused(&mut peer, "/file?x=1", Status::BadUri, "write it as %3F");
    refused(&mut peer, "/file#x", Status::BadUri, "write it as %23");
    refused(&mut peer, "/dir\\..\\file", Status::BadUri, "write it as %5C");
    refused(&mut peer, "/file%", Status::BadUri, "write a plain '%' as %25");
    refused(&mut peer, "/file%2", Status::BadUri, "write a plain '%' as %25");
    refused(&mut peer, "/file%zz", Status::BadUri, "write a plain '%' as %25");
    refused(&mut peer, "file", Status::BadUri, "must begin with '/' or with a scheme");
    refused(&mut peer, "../file", Status::BadUri, "must begin with '/' or with a scheme");
    refused(&mut peer, "", Status::BadUri, "give a path like");
}

#[test]
fn names_that_are_too_long() {
    let daemon = Setup::default().start_in(guarded());
    let mut peer = daemon.greeted();
    let long = |length: usize| "/x".repeat(length / 2 + 1)[..length].to_owned();
    for length in [limits::URI + 1, limits::URI + 2, 60_000] {
        let text = format!("the URI has {length} bytes, the limit is 4096");
        // By hand: an encoder would cut it.
        let uri = long(length).into_bytes();
        let mut get = vec![1, 0];
        get.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
        get.extend_from_slice(&[0; 4 + 16]);
        get.extend_from_slice(&uri);
        for (op, payload) in [(Op::Get, get), (Op::Stat, uri)] {
            let frame = Header::new(op, 77, u32::try_from(payload.len()).unwrap(), 0);
            peer.send(&[&frame.encode()[..], &payload].concat());
            let answer = peer.object(77);
            assert_eq!((answer.status(), &answer.text), (Status::BadUri, &text));
        }
    }
    refused(&mut peer, long(limits::URI), Status::NotFound, "no object of that name");
    refused(&mut peer, long(limits::URI - 1), Status::NotFound, "no object of that name");
    // A single name longer than any file's, and one that is longer only as it is written.
    refused(&mut peer, format!("/{}", "x".repeat(256)), Status::NotFound, "no object");
    let name = "\u{7f}".repeat(255);
    daemon.write(&name, INSIDE);
    served(&mut peer, &format!("/{}", "%7F".repeat(255)));
}

/// Through a mount of its own, out of which no ".." leads anyway, and as it is mounted.
const CLONES: [&str; 2] = ["auto", "off"];

#[test]
fn links_are_refused_unless_the_mount_says_otherwise() {
    const LINK: &str = "a symlink that this mount does not follow";
    let place = guarded();
    for (link, target) in links(&place) {
        symlink(target, place.path(link)).unwrap();
    }
    for clone in CLONES {
        let options = format!("read_only_clone = \"{clone}\"\n");
        let daemon = Setup::default().root_options(&options).start_beside(&place);
        let mut peer = daemon.greeted();
        for uri in [
            "/absolute",
            "/absolute-inside",
            "/parent/secrets/file",
            "/parent",
            "/up-and-out",
            "/secrets/file",
            "/root/etc/passwd",
            "/dir/to-file",
            "/to-dir/file",
            "/to-dir",
            "/chain",
            "/loop",
            "/dangling",
            "/dir/deep/out",
        ] {
            refused(&mut peer, uri, Status::Escape, LINK);
        }
        assert_eq!(peer.list(b"/to-dir", b"", 10).unwrap_err().status(), Status::Escape);
        served(&mut peer, "/dir/file");
    }
}

/// Links in the tree, and where they lead.
fn links(place: &Place) -> Vec<(&'static str, String)> {
    fs::create_dir(place.path("dir/deep")).unwrap();
    let secret = place.outside("secrets/file").to_str().unwrap().to_owned();
    let inside = place.path("file").to_str().unwrap().to_owned();
    [
        ("absolute", secret.as_str()),
        ("absolute-inside", inside.as_str()),
        ("parent", ".."),
        ("up-and-out", "dir/../../secrets/file"),
        ("secrets", "../secrets"),
        ("root", "/"),
        ("dir/to-file", "file"),
        ("to-dir", "dir"),
        ("chain", "to-dir/to-file"),
        ("loop", "loop"),
        ("dangling", "nowhere"),
        ("dir/deep/out", "../../../secrets/file"),
        ("dir/deep/in", "../../file"),
    ]
    .map(|(link, target)| (link, target.to_owned()))
    .to_vec()
}

#[test]
fn links_that_are_followed_stay_beneath_the_root() {
    const OUT: &str = "leads out of its mount";
    let place = guarded();
    for (link, target) in links(&place) {
        symlink(target, place.path(link)).unwrap();
    }
    for clone in CLONES {
        let options = format!("symlinks = \"beneath\"\nread_only_clone = \"{clone}\"\n");
        let daemon = Setup::default().root_options(&options).start_beside(&place);
        let mut peer = daemon.greeted();
        for uri in ["/dir/to-file", "/to-dir/file", "/chain", "/dir/deep/in"] {
            served(&mut peer, uri);
        }
        for uri in [
            "/absolute",
            "/absolute-inside",
            "/parent/secrets/file",
            "/parent",
            "/up-and-out",
            "/secrets/file",
            "/root/etc/passwd",
            "/dir/deep/out",
        ] {
            refused(&mut peer, uri, Status::Escape, OUT);
        }
        refused(&mut peer, "/loop", Status::Escape, "symlink");
        refused(&mut peer, "/dangling", Status::NotFound, "no object of that name");
        refused(&mut peer, "/to-dir", Status::NotRegular, "directories can be listed");
        assert_eq!(peer.list(b"/to-dir", b"", 100).unwrap().names.len(), 3);
        assert_eq!(peer.list(b"/secrets", b"", 10).unwrap_err().status(), Status::Escape);
    }
}

/// /proc/self is the daemon's own there: its links are no links by name, the kernel jumps.
#[test]
fn magic_links_are_never_followed() {
    for symlinks in ["refuse", "beneath"] {
        let mount = format!("/proc=/proc/self,symlinks={symlinks}");
        let place = guarded();
        let file = place.path("file").to_str().unwrap().to_owned();
        let daemon = Setup::default().argument("--mount").argument(mount).start_in(place);
        let mut peer = daemon.greeted();
        // The daemon's own descriptors, and the one of this connection.
        daemon.settles_with(1);
        let fds: Vec<String> = fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
            .unwrap()
            .map(|fd| format!("/proc/fd/{}", fd.unwrap().file_name().to_str().unwrap()))
            .collect();
        assert!(fds.len() > 10);
        let others = ["/proc/exe", "/proc/cwd", "/proc/root", "/proc/root/etc/passwd"];
        let ways = [format!("/proc/root{file}"), format!("/proc/task/{}/root{file}", daemon.pid())];
        let namespaces = ["/proc/ns/mnt", "/proc/map_files"];
        for uri in
            fds.iter().map(String::as_str).chain(others).chain(ways.iter().map(String::as_str))
        {
            refused(&mut peer, uri, Status::Escape, "symlink");
        }
        for uri in namespaces {
            assert_ne!(peer.get(Mode::Fdpass, uri.as_bytes(), Range::ALL).status(), Status::Ok);
        }
        // The tree is served all the same.
        assert_eq!(peer.get(Mode::Fdpass, b"/proc/status", Range::ALL).status(), Status::Ok);
    }
}

#[test]
fn what_is_no_regular_file() {
    const KIND: &str = "not a regular file; directories can be listed";
    let place = guarded();
    let make = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).current_dir(place.tree()).status().unwrap().success()
    };
    assert!(make("mkfifo", &["fifo"]));
    let _listener = UnixListener::bind(place.path("socket")).unwrap();
    let devices = is_root()
        && make("mknod", &["null", "c", "1", "3"])
        && make("mknod", &["-m", "666", "zero", "c", "1", "5"])
        && make("mknod", &["ram", "b", "1", "0"])
        && make("mknod", &["none", "c", "240", "77"]);
    // The mount of its own has no devices.
    for clone in CLONES {
        let second = format!("/plain={},read_only_clone=off", place.tree().display());
        let options = format!("read_only_clone = \"{clone}\"\n");
        let place = &place;
        let daemon = Setup::default()
            .root_options(&options)
            .argument("--mount")
            .argument(second)
            .start_beside(place);
        let mut peer = daemon.greeted();
        for uri in ["/fifo", "/socket", "/dir", "/dir/", "/", "/plain/fifo", "/plain"] {
            refused(&mut peer, uri, Status::NotRegular, KIND);
        }
        refused(&mut peer, "/fifo/x", Status::NotFound, "no object of that name");
        refused(&mut peer, "/file/", Status::NotFound, "no object of that name");
        if devices {
            for uri in ["/null", "/zero", "/ram", "/none", "/plain/null", "/plain/none"] {
                refused(&mut peer, uri, Status::NotRegular, KIND);
            }
        }
        let listed = peer.list(b"/", b"", 100).unwrap().names;
        let names: Vec<&[u8]> = listed.iter().map(|(name, ..)| name.as_slice()).collect();
        assert_eq!(names, [&b"dir/"[..], b"file", b"plain/"]);
    }
    if !devices {
        skip("devices: mknod is not permitted here");
    }
}

#[test]
fn other_users_are_not_served_unless_a_rule_says_so() {
    let place = guarded();
    let mount = |name: &str, rule: &str| format!("/{name}={}{rule}", place.tree().display());
    let me = objmapper_os::peer::own_uid();
    let setup = Setup::default()
        .root_options("allow = [\"uid:4711\"]\n")
        .argument("--mount")
        .argument(mount("read", &format!(",allow=uid:{me} read")))
        .argument("--mount")
        .argument(mount("list", &format!(",allow=uid:{me} list")))
        .argument("--mount")
        .argument(mount("all", ",allow=any"));
    let daemon = setup.start_beside(&place);
    let mut peer = daemon.greeted();
    let denied = format!(
        "no rule of this mount allows uid {me}: add one under 'allow' (for keys: kv.allow)"
    );
    for uri in ["/file", "/missing", "/dir", "/list/file", "/list/missing"] {
        let answer = peer.get(Mode::Fdpass, uri.as_bytes(), Range::ALL);
        assert_eq!((answer.status(), answer.text.as_str()), (Status::Denied, denied.as_str()));
        assert_eq!(peer.stat(uri.as_bytes()).status(), Status::Denied, "{uri}");
    }
    for uri in ["/read/file", "/all/file"] {
        assert_eq!(
            peer.get(Mode::Fdpass, uri.as_bytes(), Range::ALL).status(),
            Status::Ok,
            "{uri}"
        );
    }
    for (prefix, allowed) in [("/", false), ("/read", false), ("/list", true), ("/all", true)] {
        assert_eq!(peer.list(prefix.as_bytes(), b"", 9).is_ok(), allowed, "{prefix}");
    }
}

/// The bytes of an answer, in whatever form they came.
fn bytes_of(answer: Answer) -> Vec<u8> {
    let mut bytes = answer.bytes;
    if let Some(file) = answer.file {
        std::io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
    }
    bytes
}

/// Does something again and again for as long as others need it. They may have failed.
fn meanwhile<T: Send>(work: impl Fn(), others: [impl FnOnce() -> T + Send; 2]) -> [T; 2] {
    std::thread::scope(|scope| {
        let others = others.map(|other| scope.spawn(other));
        while others.iter().any(|other| !other.is_finished()) {
            work();
        }
        others.map(|other| other.join().unwrap())
    })
}

/// While one thread does something to `/dir/file` again and again, others fetch it. Whatever they
/// get, it is never from outside.
fn race(symlinks: &str, swap: fn(&Daemon)) {
    /// Of each kind, for each who fetches; or so many in all, if one kind is rare.
    const ENOUGH: usize = 300;
    const MANY: usize = 4000;
    let place = guarded();
    symlink("../secrets", place.path("link")).unwrap();
    // As it is mounted: out of a mount of its own no ".." would lead anyway.
    let options = format!("symlinks = \"{symlinks}\"\nread_only_clone = \"off\"\n");
    let daemon = Setup::default().root_options(&options).start_in(place);
    let fetch = |mode: Mode| {
        let mut peer = daemon.greeted();
        move || {
            let (mut hits, mut refusals, mut all) = (0, 0, 0);
            until("both were met often enough", || {
                all += 100;
                for _ in 0..100 {
                    let answer = peer.get(mode, b"/dir/file", Range::ALL);
                    match answer.status() {
                        Status::Ok => {
                            hits += 1;
                            let bytes = bytes_of(answer);
                            assert!(bytes == INSIDE, "{:?}", String::from_utf8_lossy(&bytes));
                        }
                        Status::Escape => refusals += 1,
                        // A copy also notices that the file got another name.
                        Status::Changed | Status::NotFound | Status::Busy => {}
                        other => panic!("{other}: {}", answer.text),
                    }
                }
                let rarer = hits.min(refusals);
                rarer >= ENOUGH || all >= MANY && rarer > 0
            });
        }
    };
    meanwhile(|| swap(&daemon), [Mode::Fdpass, Mode::Copy].map(fetch));
}

/// A link to the outside in the place of the directory, and away again.
fn swap_directory(daemon: &Daemon) {
    let [dir, away, link] = ["dir", "away", "link"].map(|name| daemon.path(name));
    fs::rename(&dir, &away).unwrap();
    fs::rename(&link, &dir).unwrap();
    fs::rename(&dir, &link).unwrap();
    fs::rename(&away, &dir).unwrap();
}

/// A link to the outside over the file, and a file over the link, each in one step.
fn swap_file(daemon: &Daemon) {
    let [file, link, other] = ["dir/file", "dir/l", "dir/f"].map(|name| daemon.path(name));
    symlink("../../secrets/file", &link).unwrap();
    fs::hard_link(daemon.path("file"), &other).unwrap();
    fs::rename(&link, &file).unwrap();
    fs::rename(&other, &file).unwrap();
}

#[test]
fn a_race_of_directory_and_link_with_links_refused() {
    race("refuse", swap_directory);
}

#[test]
fn a_race_of_directory_and_link_with_links_followed() {
    race("beneath", swap_directory);
}

#[test]
fn a_race_of_file_and_link_with_links_refused() {
    race("refuse", swap_file);
}

#[test]
fn a_race_of_file_and_link_with_links_followed() {
    race("beneath", swap_file);
}

#[test]
fn a_race_that_moves_a_directory_while_it_is_walked() {
    const FETCHES: usize = 1000;
    let place = guarded();
    // Two levels up from here is the root, and out of it once dir/deep lies at the top.
    place.write("dir/deep/x", INSIDE);
    symlink("../../file", place.path("dir/deep/up")).unwrap();
    fs::write(place.outside("file"), SECRET).unwrap();
    let options = "symlinks = \"beneath\"\nread_only_clone = \"off\"\n";
    let daemon = Setup::default().root_options(options).start_in(place);
    let fetch = |mode: Mode| {
        let mut peer = daemon.greeted();
        move || {
            for _ in 0..FETCHES {
                let bytes = bytes_of(peer.get(mode, b"/dir/deep/up", Range::ALL));
                assert!(bytes.is_empty() || bytes == INSIDE, "{}", String::from_utf8_lossy(&bytes));
            }
        }
    };
    let (inner, outer) = (daemon.path("dir/deep"), daemon.path("deep"));
    let shift = || {
        fs::rename(&inner, &outer).unwrap();
        fs::rename(&outer, &inner).unwrap();
    };
    meanwhile(shift, [Mode::Fdpass, Mode::Splice].map(fetch));
}

#[test]
fn the_client_library_says_it_in_words() {
    let daemon = Setup::default().start_in(guarded());
    symlink("/etc", daemon.path("link")).unwrap();
    let mut client = daemon.client();
    let text = client.open("/link/passwd").unwrap_err().to_string();
    assert!(
        text.starts_with("/link/passwd: ESCAPE: the name is, or leads through, a symlink"),
        "{text}"
    );
    let text = client.open("/dir").unwrap_err().to_string();
    assert!(text.starts_with("/dir: NOT_REGULAR: not a regular file"), "{text}");
    assert!(Daemon::client(&daemon).open("/file").is_ok());
}
