//! Links, devices and the like in the tree, and who may see it.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use objmapper_proto::{Mode, Range, Status};

use crate::scene::{guarded, refused, served};
use crate::support::daemon::{Daemon, Place, Setup};
use crate::support::{is_root, skip};

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
