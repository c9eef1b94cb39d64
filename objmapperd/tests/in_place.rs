//! A stream that is short, in memory and taken at once is sent by the worker that answers; every
//! other by the transfer path. What the client gets is the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{Get, Hello, Mode, Range, Request};
use support::content::content;
use support::daemon::{Daemon, Setup, counter};
use support::until;

const MIB: usize = 1 << 20;

/// Streams of all sizes; how many a worker sent.
fn sent_in_place(daemon: &Daemon) -> u64 {
    let mut client = daemon.client();
    let before = counter(&mut client, "transfer.in_place");
    let mut peer = daemon.greeted();
    for (number, size) in [1, 1000, 300_000, MIB, MIB + 1, 3 * MIB].into_iter().enumerate() {
        let bytes = content(size, number as u64);
        let name = size.to_string();
        daemon.write(&name, &bytes);
        let uri = format!("/{name}");
        assert!(peer.get(Mode::Splice, uri.as_bytes(), Range::ALL).bytes == bytes, "{size} bytes");
    }
    counter(&mut client, "transfer.in_place") - before
}

#[test]
fn the_limit_says_who_sends() {
    assert_eq!(sent_in_place(&Daemon::start()), 4);
    let limited = |limit| format!("[delivery]\nin_place_limit = {limit}\n");
    assert_eq!(sent_in_place(&Setup::default().config(&limited("300000")).start()), 3);
    assert_eq!(sent_in_place(&Setup::default().config(&limited("0")).start()), 0);
}

#[test]
fn what_the_socket_does_not_take_goes_on_over_the_transfer_path() {
    // As the kernel has it, less than half of the body. One worker: who is answered by it knows
    // that its turn before is over.
    let daemon = Setup::default().config("[limits]\nsend_buffer = 0\n").workers(1).start();
    let bytes = content(MIB, 1);
    daemon.write("large", &bytes);
    daemon.write("small", b"small");
    let mut client = daemon.client();
    let mut peer = daemon.greeted();
    let mut requests = Vec::new();
    let large = Get::new(Mode::Splice, Range::ALL, b"/large");
    let ids = [
        peer.encode(Request::Get(large), &mut requests),
        peer.encode(Request::Get(large), &mut requests),
        peer.encode(Request::Get(Get::new(Mode::Copy, Range::ALL, b"/small")), &mut requests),
    ];
    peer.send(&requests);
    // Nothing is read before the worker has begun and given it away.
    until("the first body is under way", || counter(&mut client, "transfer.bodies") > 0);
    assert_eq!(counter(&mut client, "transfer.in_place"), 0);
    for id in &ids[..2] {
        assert!(peer.object(*id).bytes == bytes);
    }
    assert_eq!(peer.object(ids[2]).bytes, b"small", "in order");
}

#[test]
fn where_replies_may_overtake_a_worker_sends_one_frame_at_most() {
    let daemon = Daemon::start();
    daemon.write("frame", &content(64 * 1024, 1));
    daemon.write("more", &content(64 * 1024 + 1, 2));
    let mut client = daemon.client();
    let mut peer = daemon.peer();
    peer.greet_with(Hello { capabilities: OUT_OF_ORDER, ..Hello::default() });
    for (uri, size) in [("/frame", 64 * 1024), ("/more", 64 * 1024 + 1)] {
        let mut request = Vec::new();
        let get = Get::new(Mode::Splice, Range::ALL, uri.as_bytes());
        let id = peer.encode(Request::Get(get), &mut request);
        peer.send(&request);
        assert_eq!(peer.object(id).bytes.len(), size, "{uri}");
        // It is counted when it is out.
        until("the first one is counted", || counter(&mut client, "transfer.in_place") > 0);
    }
    assert_eq!(counter(&mut client, "transfer.in_place"), 1);
}
