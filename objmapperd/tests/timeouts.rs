//! Peers that take too long. Each is told which timeout it was, if it reads at all, and let go;
//! whoever keeps to the rules notices nothing. Nothing here measures how long it took.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::File;

use objmapper_proto::{Get, GetMany, Hello, Mode, Range, Request, Status};
use support::daemon::{Daemon, Setup, counter};
use support::neighbour::Neighbour;
use support::peer::{Peer, uri_list};
use support::until;

fn town(timeouts: &str) -> (Daemon, Neighbour) {
    let daemon = Setup::default().config(&format!("[timeouts]\n{timeouts}\n")).start();
    let neighbour = Neighbour::of(&daemon);
    (daemon, neighbour)
}

/// The peer is told of this timeout, and that it may come again.
#[track_caller]
fn told(peer: &mut Peer, setting: &str) {
    let (status, text) = peer.expect_dismissal();
    assert_eq!(status, Status::Busy);
    assert!(text.contains(setting) && text.contains("connect again"), "{text}");
}

fn a_get(peer: &mut Peer, mode: Mode, uri: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let get = Get::new(mode, Range::ALL, uri.as_bytes());
    peer.encode(Request::Get(get), &mut bytes);
    bytes
}

#[test]
fn one_that_says_no_hello() {
    let (daemon, mut neighbour) = town("hello = \"1s\"");
    let mut silent = daemon.peer();
    let mut half = daemon.peer();
    let hello = half.hello(Hello::default());
    half.send(&hello[..20]);
    told(&mut silent, "timeouts.hello");
    told(&mut half, "timeouts.hello");
    assert_eq!(counter(&mut neighbour.client, "connections.timed_out"), 2);
    drop((silent, half));
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn one_that_begins_a_request_and_does_not_end_it() {
    let (daemon, mut neighbour) = town("request = \"300ms\"");
    let mut peer = daemon.greeted();
    let whole = a_get(&mut peer, Mode::Copy, "/neighbour/small");
    for length in [1, 15, 16, whole.len() - 1] {
        let mut peer = daemon.greeted();
        // What came before is answered, and gives the next one its own time.
        peer.send(&whole);
        peer.send(&whole[..length]);
        assert_eq!(peer.object(2).status(), Status::Ok);
        told(&mut peer, "timeouts.request");
    }
    // One that has not begun any is not meant.
    peer.ping();
    drop(peer);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn one_that_keeps_sending_a_little_of_a_request() {
    let (daemon, mut neighbour) = town("request = \"300ms\"");
    let mut peer = daemon.greeted();
    let uris = uri_list(&vec!["/neighbour/small"; 4000]);
    let mut bytes = Vec::new();
    peer.encode(Request::GetMany(GetMany::new(Mode::Copy, &uris).unwrap()), &mut bytes);
    // Byte after byte, and time runs on all the same.
    let mut rest = bytes.iter();
    until("it is let go", || {
        let byte = *rest.next().expect("it was let go before the request was whole");
        peer.stream.send(&[byte], &[], false).is_err()
    });
    told(&mut peer, "timeouts.request");
    drop(peer);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn one_that_asks_for_nothing() {
    let daemon = Setup::default().config("[timeouts]\nidle = \"1s\"\n").start();
    daemon.write("small", b"small");
    let mut silent = daemon.greeted();
    let mut asking = daemon.greeted();
    asking.ping();
    told(&mut silent, "timeouts.idle");
    // Also one whose last answer came by way of the transfer path.
    daemon.write("large", &vec![7; 2 << 20]);
    let mut asking = daemon.greeted();
    assert_eq!(asking.get(Mode::Copy, b"/large", Range::ALL).bytes.len(), 2 << 20);
    told(&mut asking, "timeouts.idle");
}

/// The heartbeat. How long two others may be silent, one after the other, is twice the time.
#[test]
fn whoever_pings_is_not_idle() {
    let daemon = Setup::default().config("[timeouts]\nidle = \"1s\"\n").start();
    let mut living = daemon.greeted();
    for _ in 0..2 {
        let silent = daemon.greeted();
        while !silent.stream.has_hung_up().unwrap() {
            living.ping();
            std::thread::sleep(std::time::Duration::from_millis(100)); // a tenth of what it has
        }
    }
    living.ping();
}

#[test]
fn whoever_keeps_to_the_rules_may_be_idle() {
    let (daemon, mut neighbour) = town("hello = \"1s\"\nrequest = \"100ms\"\nsend = \"100ms\"");
    // It is idle for as long as it takes to throw three others out.
    for _ in 0..3 {
        let mut peer = daemon.greeted();
        peer.send(&[1]);
        told(&mut peer, "timeouts.request");
    }
    neighbour.check_anew(&daemon);
}

/// It is closed: everything that was sent can be read, and then the end.
fn is_closed(peer: &Peer) {
    peer.stream.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    until("the connection is closed", || match peer.stream.recv_bytes(&mut buffer) {
        Ok(n) => n == 0,
        Err(error) => !error.is_would_block(),
    });
}

#[test]
fn one_that_does_not_read_its_replies() {
    let (daemon, mut neighbour) = town("send = \"300ms\"");
    let mut peer = daemon.greeted();
    let batch = a_get(&mut peer, Mode::Copy, "/neighbour/small").repeat(500);
    peer.stream.set_nonblocking(true).unwrap();
    // It goes on sending, which is no excuse.
    until(
        "it is let go",
        || matches!(peer.stream.send(&batch, &[], false), Err(error) if !error.is_would_block()),
    );
    until("it is in the log", || daemon.log().contains("timeouts.send"));
    is_closed(&peer);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn one_that_does_not_read_a_body() {
    let (daemon, mut neighbour) = town("send = \"300ms\"");
    File::create(daemon.path("huge")).unwrap().set_len(1 << 32).unwrap();
    for mode in [Mode::Copy, Mode::Splice] {
        let before = counter(&mut neighbour.client, "connections.timed_out");
        let mut peer = daemon.greeted();
        let get = a_get(&mut peer, mode, "/huge");
        peer.send(&get);
        until("it is let go", || {
            counter(&mut neighbour.client, "connections.timed_out") == before + 1
        });
        is_closed(&peer);
        daemon.settles_with(1);
        assert_eq!(counter(&mut neighbour.client, "bodies.under_way"), 0);
    }
    neighbour.check_anew(&daemon);
}

#[test]
fn one_that_does_not_take_its_descriptors() {
    let (daemon, mut neighbour) = town("send = \"300ms\"");
    let mut peer = daemon.greeted();
    let uris = uri_list(&vec!["/neighbour/small"; 253]);
    for _ in 0..8 {
        peer.request(Request::GetMany(GetMany::new(Mode::Fdpass, &uris).unwrap()));
    }
    until("it is let go", || counter(&mut neighbour.client, "connections.timed_out") == 1);
    neighbour.check_anew(&daemon);
    drop(peer);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}
