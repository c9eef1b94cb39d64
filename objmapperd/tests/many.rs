//! GET_MANY: an answer for each item, in the order of the items, whatever they are and however
//! little the client takes at a time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::os::unix::fs::{FileExt, symlink};

use objmapper_client::{Mode, Object};
use objmapper_os::limits::raise_nofile;
use objmapper_proto::{Delivery, GetMany, Hello, Range, Request, Status, limits};
use support::content::content;
use support::daemon::Daemon;
use support::peer::{Answer, uri_list};

/// What a client may be able to take at a time: descriptors in a message, bytes in a frame.
const APPETITES: [(u16, u32); 6] =
    [(253, 524_288), (1, 524_288), (3, 524_288), (253, 8192), (1, 8192), (3, 8192)];

fn hello((max_descriptors, max_payload): (u16, u32)) -> Hello {
    Hello { max_descriptors, max_payload, ..Hello::default() }
}

/// A URI, and the bytes or the refusal that belong to it.
type Case = (String, Result<Vec<u8>, Status>);

/// Hits and misses of all kinds, small and large, in no order that could help.
fn mixture(daemon: &Daemon) -> Vec<Case> {
    std::fs::create_dir(daemon.path("directory")).unwrap();
    symlink("/etc/passwd", daemon.path("link")).unwrap();
    let misses = [
        ("/missing", Status::NotFound),
        ("/directory", Status::NotRegular),
        ("/link", Status::Escape),
        ("/../up", Status::BadUri),
        ("/hidden%2Fslash", Status::BadUri),
        ("", Status::BadUri),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (number, size) in [0, 1, 300_000, 5000, 64 << 10, 1 << 20, 17, 70_000].iter().enumerate() {
        let (uri, status) = misses[number % misses.len()];
        let name = format!("file-{number}");
        let bytes = content(*size, number as u64);
        daemon.write(&name, &bytes);
        cases.push((format!("/{name}"), Ok(bytes)));
        cases.push((uri.to_owned(), Err(status)));
    }
    // Twice the same, one behind the other.
    cases.push(cases[4].clone());
    cases.push(cases[4].clone());
    cases
}

#[track_caller]
fn check(answer: &Answer, (uri, expected): &Case, mode: Mode) {
    let got = match answer.status() {
        Status::Ok => {
            assert_eq!(answer.end, Status::Ok);
            let mut bytes = answer.bytes.clone();
            if let Some(file) = &answer.file {
                bytes.resize(usize::try_from(answer.head.size).unwrap(), 0);
                file.read_exact_at(&mut bytes, 0).unwrap();
            }
            assert_eq!(answer.head.range, Range { offset: 0, length: bytes.len() as u64 });
            Ok(bytes)
        }
        refusal => Err(refusal),
    };
    assert!(got == *expected, "{uri} by {mode}: {:?}", answer.head);
    let by_descriptor = answer.head.delivery == Delivery::Descriptor;
    match mode {
        Mode::Fdpass => assert_eq!(by_descriptor, expected.is_ok()),
        Mode::Copy | Mode::Splice => assert!(!by_descriptor),
        Mode::Auto => {}
    }
}

fn mixed(mode: Mode) {
    let daemon = Daemon::start();
    let cases = mixture(&daemon);
    let uris: Vec<&str> = cases.iter().map(|(uri, _)| uri.as_str()).collect();
    for appetite in APPETITES {
        let mut peer = daemon.peer();
        peer.greet_with(hello(appetite));
        for _ in 0..3 {
            let answers = peer.get_many(mode, &uris);
            answers.iter().zip(&cases).for_each(|(answer, case)| check(answer, case, mode));
            peer.ping();
        }
    }
}

#[test]
fn a_mixture_by_fdpass() {
    mixed(Mode::Fdpass);
}

#[test]
fn a_mixture_by_copy() {
    mixed(Mode::Copy);
}

#[test]
fn a_mixture_by_splice() {
    mixed(Mode::Splice);
}

#[test]
fn a_mixture_by_auto() {
    mixed(Mode::Auto);
}

#[test]
fn the_client_library_sees_the_same() {
    let daemon = Daemon::start();
    let mut cases = mixture(&daemon);
    // It refuses these itself.
    cases.retain(|(_, expected)| *expected != Err(Status::BadUri));
    let uris: Vec<&str> = cases.iter().map(|(uri, _)| uri.as_str()).collect();
    let mut client = daemon.client();
    for mode in Mode::ALL {
        let results = client.get_many(&uris, mode);
        for (result, (uri, expected)) in results.into_iter().zip(&cases) {
            let got = match result.and_then(Object::into_bytes) {
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(error.status().unwrap()),
            };
            assert!(got == *expected, "{uri} by {mode}");
        }
    }
}

#[test]
fn more_descriptors_than_a_message_can_carry() {
    raise_nofile().unwrap();
    let daemon = Daemon::start();
    let names: Vec<String> = (0..700).map(|n| format!("/many/{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        daemon.write(&name[1..], n.to_string().as_bytes());
    }
    for appetite in APPETITES {
        let mut peer = daemon.peer();
        peer.greet_with(hello(appetite));
        for (n, answer) in peer.get_many(Mode::Fdpass, &names).iter().enumerate() {
            check(answer, &(names[n].clone(), Ok(n.to_string().into_bytes())), Mode::Fdpass);
        }
    }
}

#[test]
fn as_many_as_a_request_can_hold() {
    let daemon = Daemon::start();
    daemon.write("x", b"content");
    let names: Vec<&str> = (0..limits::MANY).map(|n| ["/x", "/y", "/"][n % 3]).collect();
    let mut peer = daemon.greeted();
    for mode in [Mode::Copy, Mode::Splice, Mode::Auto] {
        let answers = peer.get_many(mode, &names);
        assert_eq!(answers.len(), limits::MANY);
        for (n, answer) in answers.iter().enumerate() {
            let expected = [Status::Ok, Status::NotFound, Status::NotRegular][n % 3];
            assert_eq!(answer.status(), expected);
            assert!(n % 3 != 0 || answer.bytes == b"content");
        }
    }
}

#[test]
fn descriptors_of_single_requests_and_of_many_share_the_way() {
    let daemon = Daemon::start();
    for n in 0..40 {
        daemon.write(format!("{n}"), n.to_string().as_bytes());
    }
    for appetite in APPETITES {
        let mut peer = daemon.peer();
        peer.greet_with(hello(appetite));
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        for n in 0..20 {
            let uris = [format!("/{n}"), "/missing".to_owned(), format!("/{}", n + 20)];
            let list = uri_list(&uris);
            let many = Request::GetMany(GetMany::new(Mode::Fdpass, &list).unwrap());
            let many = peer.encode(many, &mut bytes);
            let uri = format!("/{n}");
            let get = objmapper_proto::Get::new(Mode::Fdpass, Range::ALL, uri.as_bytes());
            asked.push((n, many, peer.encode(Request::Get(get), &mut bytes)));
        }
        peer.send(&bytes);
        for (n, many, one) in asked {
            let file = |n: usize| (format!("/{n}"), Ok(n.to_string().into_bytes()));
            let answers = peer.objects(many, 3);
            check(&answers[0], &file(n), Mode::Fdpass);
            check(&answers[1], &("/missing".to_owned(), Err(Status::NotFound)), Mode::Fdpass);
            check(&answers[2], &file(n + 20), Mode::Fdpass);
            check(&peer.object(one), &file(n), Mode::Fdpass);
        }
    }
}
