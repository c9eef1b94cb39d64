//! The byte vectors of the specification, as a daemon sends them: what the client makes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::*;
use objmapper_client::{Client, Error, Kind, Mode, Object, Status};
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/golden"))
}

fn bytes_of(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap());
    let pairs = lines.flat_map(str::split_whitespace);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The vector, addressed to request `id` (and later frames to the requests behind it, as far as
/// they were so before). A daemon that lies about a length is taken at its word.
fn golden(name: &str, id: u64) -> Vec<u8> {
    let text = std::fs::read_to_string(directory().join(format!("{name}.hex"))).unwrap();
    let mut bytes = bytes_of(&text);
    let mut at = 0;
    let mut first = None;
    while let Some(header) = bytes.get_mut(at..at + 16) {
        let length = u32::from_le_bytes(header[..4].try_into().unwrap());
        let old = u64::from_le_bytes(header[8..].try_into().unwrap());
        let first = *first.get_or_insert(old);
        if old != 0 {
            header[8..].copy_from_slice(&(id + old - first).to_le_bytes());
        }
        at = at.saturating_add(16 + length as usize);
    }
    bytes
}

/// A client, and a peer that answers its first request with this vector and `fds` descriptors.
fn answered(name: &str, fds: usize) -> (Client, std::thread::JoinHandle<()>) {
    let name = name.to_owned();
    against(move |mut peer| {
        let id = peer.request().unwrap().header.id;
        let file = file(b"0123456789");
        peer.raw(&golden(&name, id), &vec![borrow(&file); fds]);
        peer.listen();
    })
}

fn check<T>(name: &str, fds: usize, ask: impl FnOnce(&mut Client) -> T) -> T {
    let _no_leak = no_leak();
    let (mut client, peer) = answered(name, fds);
    let answer = ask(&mut client);
    drop(client);
    peer.join().unwrap();
    answer
}

fn refusal(name: &'static str) -> Error {
    check(name, 0, |client| {
        let error = client.read("/x").unwrap_err();
        assert!(!error.ends_connection(), "{error}");
        error
    })
}

#[test]
fn objects() {
    let size = check("object_descriptor", 1, |client| {
        let object = client.open("/models/a.gguf").unwrap();
        assert_eq!(object.metadata().version().to_string(), "ffeeddccbbaa99887766554433221100");
        object.size()
    });
    assert_eq!(size, 8 << 30);
    check("object_inline", 0, |client| {
        let object = client.get("/x", Mode::Auto).unwrap();
        assert!(object.metadata().is_immutable() && object.metadata().kind() == Kind::Memory);
        let size = object.metadata().size();
        assert_eq!(object.into_bytes().unwrap().len() as u64, size);
    });
    check("object_inline_empty", 0, |client| assert_eq!(client.read("/x").unwrap(), b""));
    check("object_range", 0, |client| {
        assert_eq!(client.read_range("/x", 4096..5120).unwrap().len(), 4);
    });
    check("object_stat", 0, |client| assert!(client.stat("/x").is_ok()));
}

#[test]
fn bodies() {
    let body = check("body_stream", 0, |client| client.read("/x")).unwrap();
    assert!(!body.is_empty());
    let _no_leak = no_leak();
    let (mut client, peer) = answered("body_shrunk", 0);
    let error = client.read("/x").unwrap_err();
    assert_eq!((error.status(), error.ends_connection()), (Some(Status::Changed), false));
    assert!(error.to_string().contains("changed"));
    // The PONG behind it does not answer this with the right bytes, but it is where it should be.
    assert!(client.ping().unwrap_err().to_string().contains("does not answer what was asked"));
    peer.join().unwrap();
}

#[test]
fn many() {
    check("objects_mixed", 2, |client| {
        let results = client.open_many_shared(&["/1", "/2", "/3"]);
        assert_eq!(results[0].as_ref().unwrap().size(), 10);
        assert_eq!(
            results[1].as_ref().unwrap_err().to_string(),
            "/2: NOT_FOUND: no object of that name"
        );
        assert!(results[2].as_ref().unwrap().metadata().is_shared());
    });
    check("many_streamed", 0, |client| {
        let results = client.read_many(&["/1", "/2", "/3"]);
        assert_eq!(results[0].as_ref().unwrap(), b"1");
        assert_eq!(results[1].as_ref().unwrap(), b"body");
        let error = results[2].as_ref().unwrap_err();
        assert_eq!(error.to_string(), "/3: IO: the file system failed");
    });
}

#[test]
fn other_answers() {
    check("stats_text", 0, |client| assert!(!client.stats().unwrap().is_empty()));
    check("entries_last", 0, |client| assert!(client.list("/").unwrap().next().is_none()));
    let names = check("entries_page", 0, |client| {
        let entries = client.list("/").unwrap().take(2).collect::<Result<Vec<_>, _>>().unwrap();
        entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>()
    });
    assert!(names.len() == 2 && names.is_sorted());
    let _no_leak = no_leak();
    let (client, peer) = answered("close_ack", 0);
    client.close().unwrap();
    peer.join().unwrap();
}

#[test]
fn refusals() {
    assert!(refusal("error_not_found").is_not_found());
    let busy = refusal("error_busy");
    assert!(matches!(busy, Error::Refused { retry_after: Some(_), .. }) && busy.may_retry());
    let unknown = refusal("lenient_unknown_status");
    assert!(unknown.status().is_some(), "{unknown}");
    let ended = check("error_connection", 0, |client| client.read("/x").unwrap_err());
    assert!(matches!(ended, Error::Ended { .. }), "{ended}");
}

/// The names of the vectors that end a connection to the daemon that sends them.
fn malformed() -> Vec<String> {
    let _no_leak = no_leak(); // reading them takes descriptors while others count
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("# from: daemon") && text.contains("ends\n") {
            names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    names
}

#[test]
fn nothing_malformed_is_taken() {
    let names = malformed();
    assert!(names.len() >= 15, "{names:?}");
    for name in &names {
        for ask in [
            |client: &mut Client| client.get("/x", Mode::Auto).map(drop),
            |client: &mut Client| client.get_many(&["/x"], Mode::Auto).remove(0).map(drop),
            |client: &mut Client| client.list("/").unwrap().next().unwrap().map(drop),
            |client: &mut Client| client.stats().map(drop),
        ] {
            let error = check(name, 0, |client| ask(client).expect_err(name));
            assert!(matches!(error, Error::Protocol(_)), "{name}: {error}");
        }
    }
}

#[test]
fn auto_may_come_as_a_stream() {
    check("body_stream", 0, |client| {
        assert!(matches!(client.get("/x", Mode::Auto).unwrap(), Object::Bytes(..)));
    });
}
