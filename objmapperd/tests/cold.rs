//! What is not in memory is waited for by helpers: the transfer path moves only what is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use objmapper_client::{Client, Mode};
use objmapper_os::file::{Page, page_at};
use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{Get, Hello, Range, Reply, Request, Status};
use support::content::Numbers;
use support::daemon::{Daemon, counter};
use support::skip;

const MIB: usize = 1 << 20;

/// Drops a file's pages; false where they stay.
fn chill(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    // dd(1): "count=0" with nocache drops the cache of the whole file.
    let operand = format!("if={}", path.display());
    let mut dd = Command::new("dd");
    dd.args([&operand, "iflag=nocache", "count=0", "status=none"]);
    let dropped = dd.status().is_ok_and(|status| status.success());
    dropped && page_at(file.as_fd(), 0).unwrap() == Page::Cold
}

fn read(client: &mut Client, mode: Mode) -> Vec<u8> {
    client.get("/file", mode).unwrap().into_bytes().unwrap()
}

#[test]
fn a_short_body_that_is_cold_stays_whole_where_replies_may_overtake_it() {
    let daemon = Daemon::start();
    let content = Numbers::new(7).bytes(30_000);
    let path = daemon.write("file", &content);
    let mut peer = daemon.peer();
    peer.greet_with(Hello { capabilities: OUT_OF_ORDER, ..Hello::default() });
    // The name is in memory, so that a worker begins the body; it cannot go on.
    peer.stat(b"/file");
    if !chill(&path) {
        return skip("this file system keeps its pages, or dd cannot drop them");
    }
    let mut bytes = Vec::new();
    let get = Get::new(Mode::Splice, Range::ALL, b"/file");
    let body = peer.encode(Request::Get(get), &mut bytes);
    let ping = peer.encode(Request::Ping(b"x"), &mut bytes);
    peer.send(&bytes);
    let (mut got, mut pongs, mut ended) = (Vec::new(), 0, false);
    while !ended || pongs == 0 {
        let frame = peer.frame();
        match frame.reply() {
            Reply::Data(piece) => got.extend_from_slice(piece),
            Reply::End(end) => ended = end.status == Status::Ok && frame.header.id == body,
            Reply::Pong(_) => pongs += usize::from(frame.header.id == ping),
            Reply::Object(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(got == content, "nothing cuts in on a frame");
}

#[test]
fn a_cold_body_is_fetched_by_windows_and_a_hot_one_is_not() {
    let daemon = Daemon::start();
    let content = Numbers::new(7).bytes(3 * MIB + 12345);
    let path = daemon.write("file", &content);
    let mut client = daemon.client();
    assert!(read(&mut client, Mode::Splice) == content);
    assert_eq!(counter(&mut client, "transfer.cold"), 0, "it was written just now");
    if !chill(&path) {
        return skip("this file system keeps its pages, or dd cannot drop them");
    }
    for mode in [Mode::Splice, Mode::Copy] {
        assert!(chill(&path));
        let before = counter(&mut client, "transfer.cold");
        assert!(read(&mut client, mode) == content, "{mode}");
        let cold = counter(&mut client, "transfer.cold") - before;
        // Each window at most once: what is read ahead meanwhile may be there by then.
        assert!((1..=4).contains(&cold), "{mode}: {cold}");
        assert!(read(&mut client, mode) == content);
        assert_eq!(counter(&mut client, "transfer.cold"), before + cold, "it is in memory now");
    }
    assert_eq!(counter(&mut client, "transfer.bodies"), 5);
}
