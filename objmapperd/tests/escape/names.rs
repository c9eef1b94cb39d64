//! Names that look as if they led elsewhere.

use objmapper_proto::{Header, Op, Status, limits};

use crate::scene::{INSIDE, guarded, refused, served};
use crate::support::daemon::Setup;

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
