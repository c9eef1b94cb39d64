//! Readers that take their time: each body goes on where it stopped, and those that wait cost no
//! memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;

use objmapper_proto::{Delivery, Get, Mode, Range, Reply, Request, Status};
use support::content::Numbers;
use support::daemon::{Daemon, Place, Setup, counter, settle};
use support::peer::Peer;
use support::until;

const READERS: usize = 500;

/// A daemon with the tree at `/` and, strictly, at `/strict`; a frame fills a socket several times.
fn start() -> Daemon {
    let place = Place::new();
    let strict = format!("--mount=/strict={},strict=true", place.tree().display());
    Setup::default().config("[limits]\nsend_buffer = \"32KiB\"\n").argument(strict).start_in(place)
}

/// Asks for a body and reads no further than its head.
fn begun(daemon: &Daemon, mode: Mode, uri: &str) -> (Peer, u64, u64) {
    let mut peer = daemon.greeted();
    let get = Get {
        mode,
        range: Range::ALL,
        uri: uri.as_bytes(),
        unless: None,
        shared: false,
        to: false,
    };
    let id = peer.request(Request::Get(get));
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(item.head.delivery, Delivery::Stream);
    (peer, id, item.head.range.length)
}

#[test]
fn readers_that_wait_cost_no_memory_and_get_everything() {
    let daemon = start();
    let content = Numbers::new(3).bytes((1 << 20) + 321);
    daemon.write("file", &content);
    let mut client = daemon.client();
    let ways = [(Mode::Splice, "/file"), (Mode::Copy, "/strict/file")];
    // What a first body makes it allocate is there afterwards.
    for (mode, uri) in ways {
        client.get(uri, mode).unwrap().into_bytes().unwrap();
    }
    let before = daemon.memory("RssAnon");
    let readers: Vec<_> =
        (0..READERS).map(|n| ways[n % 2]).map(|(mode, uri)| begun(&daemon, mode, uri)).collect();
    // All heads are here, so all bodies are under way.
    assert_eq!(counter(&mut client, "transfer.bodies"), 2 + READERS as u64);
    let grown = daemon.memory("RssAnon").saturating_sub(before);
    let allowed = READERS * 16 * 1024;
    assert!(grown <= allowed, "{READERS} readers cost {grown} bytes, {allowed} are allowed");
    for (mut peer, id, length) in readers {
        let (bytes, status) = peer.body(id, length);
        assert_eq!(status, Status::Ok);
        assert!(bytes == content);
    }
    until("all bodies are counted", || {
        counter(&mut client, "replies.body_bytes") == (2 + READERS as u64) * content.len() as u64
    });
}

#[test]
fn a_strict_body_is_of_one_version_whenever_it_is_read() {
    const SIZE: usize = 4 << 20;
    let daemon = start();
    let path = daemon.write("file", &vec![b'o'; SIZE]);
    settle(&mut daemon.client(), "/file");
    let (mut strict, strict_id, length) = begun(&daemon, Mode::Copy, "/strict/file");
    let (mut moved, moved_id, _) = begun(&daemon, Mode::Splice, "/file");
    // In place, as long as before: what is on its way refers to these pages or is a copy.
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![b'n'; SIZE], 0).unwrap();

    let (bytes, status) = strict.body(strict_id, length);
    assert_eq!(status, Status::Changed);
    let old = bytes.iter().take_while(|&&byte| byte == b'o').count();
    assert!(bytes[old..].iter().all(|&byte| byte == 0), "the old version, then what fills up");
    assert_eq!(moved.body(moved_id, length).1, Status::Changed);
}

#[test]
fn a_change_ends_a_long_body_before_all_of_it_was_sent() {
    const SIZE: u64 = 64 << 20;
    let daemon = start();
    let path = daemon.write("file", b"");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(SIZE).unwrap();
    settle(&mut daemon.client(), "/file");
    for (mode, uri) in [(Mode::Splice, "/file"), (Mode::Copy, "/strict/file")] {
        let (mut peer, id, length) = begun(&daemon, mode, uri);
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", SIZE - 1).unwrap();
        let (bytes, status) = peer.body(id, length);
        assert_eq!(status, Status::Changed, "{mode}");
        assert!(bytes.len() as u64 <= 4 << 20, "{mode}: {} bytes came", bytes.len());
        settle(&mut daemon.client(), "/file");
    }
}
