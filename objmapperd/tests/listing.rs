//! LIST: every name once, in order, however few at a time; names that need escapes; mounts that
//! lie in and over a listed directory. And STAT, which sees what GET sees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use objmapper_proto::word::uri::encode_path;
use objmapper_proto::{Hello, Kind, Mode, Range, Status};
use support::daemon::{Daemon, Place, Setup, mtime_ns};
use support::peer::Peer;

/// All names below a prefix, `limit` at a time. The cursors must lead to an end.
#[track_caller]
fn pages(peer: &mut Peer, prefix: &str, limit: u32) -> Vec<(String, Kind, u64)> {
    let (mut all, mut cursor) = (Vec::new(), Vec::new());
    loop {
        let page = peer.list(prefix.as_bytes(), &cursor, limit).unwrap();
        all.extend(page.names.into_iter().map(|(n, k, s)| (String::from_utf8(n).unwrap(), k, s)));
        if page.cursor.is_empty() {
            return all;
        }
        assert!(page.cursor > cursor, "a cursor goes forward");
        cursor = page.cursor;
    }
}

fn names(peer: &mut Peer, prefix: &str, limit: u32) -> Vec<String> {
    pages(peer, prefix, limit).into_iter().map(|(name, ..)| name).collect()
}

fn encoded(name: &[u8]) -> String {
    let mut text = Vec::new();
    encode_path(name, &mut text);
    String::from_utf8(text).unwrap()
}

/// Names that a URI cannot hold as they are, and some that it can.
fn awkward() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "plain",
        "two words",
        "100%",
        "%41",
        "a%2Fb",
        "ä",
        "日本語",
        "a+b",
        "a:b",
        "kv:x",
        "?",
        "#x",
        "a\\b",
        "\"",
        "'",
        "~",
        "...",
        "..x",
        "-",
        " ",
        "\n",
        "\u{7f}",
        "x;y=z",
        "[1]",
        "{",
        "|",
    ]
    .map(|name| name.as_bytes().to_vec())
    .to_vec();
    names.push(b"not \xff utf-8 \xc3".to_vec());
    names.push(vec![0xfe; 255]);
    names.push((1..=255).filter(|&byte| byte != b'/').take(255).collect());
    names
}

#[test]
fn names_of_every_kind_are_listed_and_can_be_fetched() {
    let daemon = Daemon::start();
    let mut expected = Vec::new();
    for (number, name) in awkward().into_iter().enumerate() {
        let below = OsStr::from_bytes(&name);
        if number % 3 == 0 {
            daemon.write(daemon.path("d").join(below).join("inner"), b"");
            expected.push((encoded(&name) + "/", Kind::Prefix, 0));
        } else {
            daemon.write(daemon.path("d").join(below), &vec![b'x'; number]);
            expected.push((encoded(&name), Kind::File, number as u64));
        }
    }
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    let mut peer = daemon.greeted();
    for limit in [1, 7, 4096] {
        for prefix in ["/d", "/d/"] {
            assert_eq!(pages(&mut peer, prefix, limit), expected, "{limit} of {prefix}");
        }
    }
    for (name, kind, size) in expected {
        if kind == Kind::Prefix {
            assert_eq!(names(&mut peer, &format!("/d/{name}"), 10), ["inner"]);
            continue;
        }
        let uri = format!("/d/{name}");
        for mode in Mode::ALL {
            assert_eq!(peer.get(mode, uri.as_bytes(), Range::ALL).head.size, size, "{uri}");
        }
    }
}

#[test]
fn the_client_library_lists_the_same() {
    let daemon = Daemon::start();
    let all = awkward();
    for name in &all {
        daemon.write(daemon.path("d").join(OsStr::from_bytes(name)), b"12");
    }
    let expected: BTreeSet<String> = all.iter().map(|name| encoded(name)).collect();
    let mut client = daemon.client();
    for size in [1, 7, 4096] {
        let entries: Vec<_> =
            client.list("/d").unwrap().page_size(size).map(Result::unwrap).collect();
        let listed: Vec<&str> = entries.iter().map(objmapper_client::Entry::name).collect();
        assert!(listed.iter().copied().eq(expected.iter().map(String::as_str)), "{listed:?}");
        for entry in &entries {
            assert_eq!(client.read(entry.uri()).unwrap(), b"12");
        }
    }
}

#[test]
fn pages_are_cut_to_what_the_client_takes() {
    let daemon = Daemon::start();
    // Encoded three times as long: a page of 8 KiB holds nine.
    for number in 0..100 {
        let mut name = vec![0xff; 250];
        name.extend_from_slice(format!("{number:05}").as_bytes());
        daemon.write(OsStr::from_bytes(&name), b"");
    }
    let mut peer = daemon.peer();
    peer.greet_with(Hello { max_payload: 8192, ..Hello::default() });
    let listed = names(&mut peer, "/", 4096);
    assert_eq!(listed.len(), 100);
    assert!(listed.is_sorted());
}

#[test]
fn what_is_neither_file_nor_directory_is_not_listed() {
    let place = Place::new();
    let second = place.outside("second");
    fs::create_dir_all(second.join("inside")).unwrap();
    fs::write(second.join("file"), b"123").unwrap();
    for (link, target) in [
        ("to-file", "file"),
        ("to-directory", "inside"),
        ("dangling", "nowhere"),
        ("out", "/etc"),
        ("up", ".."),
    ] {
        symlink(target, second.join(link)).unwrap();
        symlink(target, place.path(link)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(second.join("socket")).unwrap();
    let mount = format!("/followed={},symlinks=beneath", second.display());
    let daemon = Setup::default().argument("--mount").argument(mount).start_in(place);
    let mut peer = daemon.greeted();
    let expected =
        [("file", 3), ("inside/", 0), ("to-directory/", 0), ("to-file", 3)].map(|(name, size)| {
            let kind = if name.ends_with('/') { Kind::Prefix } else { Kind::File };
            (name.to_owned(), kind, size)
        });
    for limit in [1, 2, 100] {
        assert_eq!(pages(&mut peer, "/followed", limit), expected);
        assert_eq!(names(&mut peer, "/", limit), ["followed/"], "links are refused here");
    }
}

#[test]
fn mounts_are_listed_where_they_lie() {
    let place = Place::new();
    let other = place.outside("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("theirs"), b"").unwrap();
    for name in ["a", "b/x", "file", "n", "z"] {
        place.write(name, b"of the tree");
    }
    // Over a file, over a directory, beside them, and two levels down where nothing is.
    let mut setup = Setup::default();
    for uri in ["/file", "/b", "/m", "/deep/down", "/n/below", "/zz"] {
        setup = setup.argument("--mount").argument(format!("{uri}={}", other.display()));
    }
    let daemon = setup.start_in(place);
    let mut peer = daemon.greeted();
    for limit in [1, 2, 3, 7, 100] {
        // The file n can be had, and so can what is mounted below /n.
        let root = ["a", "b/", "deep/", "file/", "m/", "n", "n/", "z", "zz/"];
        assert_eq!(names(&mut peer, "/", limit), root, "{limit} at a time");
        assert_eq!(names(&mut peer, "/deep", limit), ["down/"]);
        assert_eq!(names(&mut peer, "/deep/down", limit), ["theirs"]);
        assert_eq!(names(&mut peer, "/b", limit), ["theirs"]);
        assert_eq!(names(&mut peer, "/file", limit), ["theirs"]);
    }
    assert_eq!(peer.stat(b"/file").status(), Status::NotRegular);
    assert_eq!(peer.stat(b"/b/x").status(), Status::NotFound);
    assert_eq!(peer.stat(b"/n").status(), Status::Ok);
    assert_eq!(peer.stat(b"/file/theirs").status(), Status::Ok);
}

#[test]
fn refusals_of_a_listing() {
    let daemon = Daemon::start();
    daemon.write("file", b"");
    symlink("/etc", daemon.path("link")).unwrap();
    let mut peer = daemon.greeted();
    for (prefix, status) in [
        ("/missing", Status::NotFound),
        ("/file", Status::NotRegular),
        ("/link", Status::Escape),
        ("/..", Status::BadUri),
        ("/a%2Fb", Status::BadUri),
        ("kv:", Status::NotFound),
        ("", Status::BadUri),
    ] {
        let refused = peer.list(prefix.as_bytes(), b"", 10).unwrap_err();
        assert_eq!(refused.status(), status, "{prefix}");
        assert!(!refused.text.is_empty());
    }
    assert_eq!(peer.list(b"/", b"nul\0", 10).unwrap_err().status(), Status::BadRequest);
    for limit in [0, 4097, u32::MAX] {
        let id = peer.request(objmapper_proto::Request::List(objmapper_proto::List {
            limit,
            prefix: b"/",
            cursor: b"",
        }));
        assert_eq!(peer.object(id).status(), Status::BadRequest, "limit {limit}");
    }
    assert_eq!(names(&mut peer, "/", 10), ["file"]);
}

#[test]
fn names_that_stay_are_listed_once_whatever_comes_and_goes() {
    let daemon = Daemon::start();
    let stays: Vec<String> = (0..60).map(|n| format!("stays-{n:02}")).collect();
    for name in &stays {
        daemon.write(name, b"");
    }
    let mut peer = daemon.greeted();
    let (mut listed, mut cursor, mut round) = (Vec::new(), Vec::new(), 0);
    loop {
        let page = peer.list(b"/", &cursor, 3).unwrap();
        listed.extend(page.names.into_iter().map(|(name, ..)| String::from_utf8(name).unwrap()));
        if page.cursor.is_empty() {
            break;
        }
        // The name that the cursor stands for may be the one that goes.
        daemon.write(format!("comes-{round}"), b"");
        daemon.write(format!("stays-{round}x"), b"");
        let _ = fs::remove_file(daemon.path(format!("stays-{}x", round - 1)));
        cursor = page.cursor;
        round += 1;
    }
    let of_those: Vec<&String> = listed.iter().filter(|name| stays.contains(name)).collect();
    assert!(of_those.into_iter().eq(&stays), "{listed:?}");
}

#[test]
fn stat_says_what_get_says() {
    let daemon = Daemon::start();
    let path = daemon.write("file", &[7; 1000]);
    symlink("file", daemon.path("link")).unwrap();
    let mut client = daemon.client();
    support::daemon::settle(&mut client, "/file");
    let mut peer = daemon.greeted();
    let (stat, get) = (peer.stat(b"/file"), peer.get(Mode::Copy, b"/file", Range::ALL));
    assert_eq!(stat.head.size, 1000);
    assert_eq!(stat.head.mtime_ns, mtime_ns(&path));
    assert_eq!((stat.head.version, stat.head.kind), (get.head.version, get.head.kind));
    for uri in ["/missing", "/", "/link", "/..", "/%00", "kv:x", "/file/below", "/file/"] {
        let (stat, get) =
            (peer.stat(uri.as_bytes()), peer.get(Mode::Copy, uri.as_bytes(), Range::ALL));
        assert_ne!(stat.status(), Status::Ok, "{uri}");
        assert_eq!((stat.status(), stat.text), (get.status(), get.text), "{uri}");
    }
}
