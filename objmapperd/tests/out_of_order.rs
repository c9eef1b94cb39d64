//! Replies that overtake bodies, where both sides agreed on it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::HashMap;

use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::word::flag;
use objmapper_proto::{Get, GetMany, Hello, Mode, Op, Range, Reply, Request, Status};
use support::content::content;
use support::daemon::{Daemon, Setup, counter};
use support::neighbour::Neighbour;
use support::peer::{Peer, uri_list};
use support::until;

/// Far more than two sockets hold.
const LARGE: usize = 16 << 20;

/// A daemon with two large files and a small one, and a peer that agreed on the order.
fn scene() -> (Daemon, Peer) {
    scene_with(Setup::default())
}

fn scene_with(setup: Setup) -> (Daemon, Peer) {
    let daemon = setup.start();
    daemon.write("a", &content(LARGE, 1));
    daemon.write("b", &content(LARGE, 2));
    daemon.write("small", b"small");
    let mut peer = daemon.peer();
    let ack = peer.greet_with(Hello { capabilities: OUT_OF_ORDER, ..Hello::default() });
    assert_eq!(ack.capabilities, OUT_OF_ORDER);
    (daemon, peer)
}

/// Sends a request with these header flags.
fn flagged(peer: &mut Peer, request: Request<'_>, flags: u8) -> u64 {
    let mut bytes = Vec::new();
    let id = peer.encode(request, &mut bytes);
    bytes[5] |= flags;
    peer.send(&bytes);
    id
}

fn get(uri: &[u8]) -> Request<'_> {
    Request::Get(Get::new(Mode::Splice, Range::ALL, uri))
}

/// What came, frame by frame: `(op, id)`; bodies are put together.
#[derive(Default)]
struct Heard {
    frames: Vec<(Op, u64)>,
    bodies: HashMap<u64, Vec<u8>>,
    remaining: Option<u32>,
}

impl Heard {
    /// Reads one frame.
    fn next(&mut self, peer: &mut Peer) {
        let frame = peer.frame();
        let (id, op) = (frame.header.id, Op::from_u8(frame.header.op).unwrap());
        match frame.reply() {
            Reply::Data(bytes) => self.bodies.entry(id).or_default().extend_from_slice(bytes),
            Reply::End(end) => assert_eq!(end.status, Status::Ok, "{}", end.text),
            Reply::CloseAck(remaining) => self.remaining = Some(remaining),
            _ => {}
        }
        self.frames.push((op, id));
    }

    /// Reads on until this frame has come.
    fn until(&mut self, peer: &mut Peer, op: Op, id: u64) {
        while !self.frames.contains(&(op, id)) {
            self.next(peer);
        }
    }

    fn position(&self, op: Op, id: u64) -> usize {
        self.frames.iter().position(|frame| *frame == (op, id)).unwrap()
    }

    /// Data frames of this body between two places.
    fn data(&self, id: u64, places: std::ops::Range<usize>) -> usize {
        self.frames[places].iter().filter(|frame| **frame == (Op::Data, id)).count()
    }
}

#[test]
fn a_ping_overtakes_a_body() {
    let (daemon, mut peer) = scene();
    let body = peer.request(get(b"/a"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Data, body);
    for _ in 0..5 {
        let sent = heard.frames.len();
        let ping = peer.request(Request::Ping(b"x"));
        heard.until(&mut peer, Op::Pong, ping);
        // What was on its way in the socket, and the frame that had begun.
        let between = heard.data(body, sent..heard.frames.len());
        assert!(between <= 4, "{between} frames of a body before a PONG");
    }
    heard.until(&mut peer, Op::End, body);
    assert!(heard.bodies[&body] == content(LARGE, 1));
    drop(peer);
    daemon.settles_with(0);
}

#[test]
fn no_frame_begins_while_one_waits_to_be_read() {
    let (daemon, mut peer) = scene();
    let mut watcher = daemon.client();
    let body = peer.request(get(b"/a"));
    until("a frame is there", || peer.stream.readiness().unwrap().input);
    // The daemon is asked until it had the time for a second one.
    (0..100).for_each(|_| assert!(counter(&mut watcher, "bodies.under_way") == 1));
    let ping = peer.request(Request::Ping(b"x"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Pong, ping);
    assert!(heard.data(body, 0..heard.frames.len()) <= 1, "{:?}", heard.frames);
    heard.until(&mut peer, Op::End, body);
    assert!(heard.bodies[&body] == content(LARGE, 1));
}

#[test]
fn nothing_overtakes_where_it_was_not_agreed_on() {
    let (daemon, _) = scene();
    let mut peer = daemon.greeted();
    let body = peer.request(get(b"/a"));
    let ping = peer.request(Request::Ping(b"x"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Pong, ping);
    assert_eq!(heard.position(Op::End, body) + 1, heard.position(Op::Pong, ping));
    // Nor may it be asked for.
    let id = flagged(&mut peer, Request::Ping(b"x"), flag::ORDERED);
    assert_eq!(peer.object(id).status(), Status::Unsupported);
}

#[test]
fn what_is_ordered_overtakes_nothing() {
    let (_daemon, mut peer) = scene();
    let body = peer.request(get(b"/a"));
    let ordered = flagged(&mut peer, Request::Ping(b"x"), flag::ORDERED);
    let behind = peer.request(Request::Ping(b"y"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Pong, behind);
    assert!(heard.position(Op::End, body) < heard.position(Op::Pong, ordered));
}

#[test]
fn bodies_take_turns_and_descriptors_pass_between() {
    let (_daemon, mut peer) = scene();
    let (a, b) = (peer.request(get(b"/a")), peer.request(get(b"/b")));
    let file = peer.request(Request::Get(Get::new(Mode::Fdpass, Range::ALL, b"/small")));
    let missing = peer.request(get(b"/missing"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::End, a);
    heard.until(&mut peer, Op::End, b);
    assert!(heard.bodies[&a] == content(LARGE, 1));
    assert!(heard.bodies[&b] == content(LARGE, 2));
    let (half, end) = (heard.frames.len() / 2, heard.frames.len());
    for id in [a, b] {
        assert!(heard.data(id, 0..half) > 0 && heard.data(id, half..end) > 0, "in turns");
    }
    let first_end = heard.position(Op::End, a).min(heard.position(Op::End, b));
    assert!(heard.position(Op::Object, file) < first_end);
    assert!(heard.position(Op::Error, missing) < first_end);
}

#[test]
fn a_body_with_priority_goes_first() {
    let (_daemon, mut peer) = scene();
    let mut bytes = Vec::new();
    let plain = peer.encode(get(b"/a"), &mut bytes);
    let at = bytes.len();
    let urgent = peer.encode(get(b"/b"), &mut bytes);
    bytes[at + 5] |= flag::PRIORITY;
    peer.send(&bytes);
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::End, urgent);
    assert!(heard.data(plain, 0..heard.frames.len()) <= 1);
    heard.until(&mut peer, Op::End, plain);
    assert!(
        heard.bodies[&plain] == content(LARGE, 1) && heard.bodies[&urgent] == content(LARGE, 2)
    );
}

#[test]
fn close_says_how_many_replies_are_still_to_come() {
    let (daemon, mut peer) = scene();
    let mut bytes = Vec::new();
    let a = peer.encode(get(b"/a"), &mut bytes);
    let b = peer.encode(get(b"/b"), &mut bytes);
    let close = peer.encode(Request::Close, &mut bytes);
    peer.send(&bytes);
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::CloseAck, close);
    assert_eq!(heard.remaining, Some(2));
    heard.until(&mut peer, Op::End, a);
    heard.until(&mut peer, Op::End, b);
    assert!(heard.bodies[&a] == content(LARGE, 1) && heard.bodies[&b] == content(LARGE, 2));
    peer.expect_end();
    daemon.settles_with(0);
}

#[test]
fn who_stops_sending_gets_the_bodies_that_are_under_way() {
    let (daemon, mut peer) = scene();
    let (a, b) = (peer.request(get(b"/a")), peer.request(get(b"/b")));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Data, b);
    peer.stream.shutdown_write().unwrap();
    heard.until(&mut peer, Op::End, a);
    heard.until(&mut peer, Op::End, b);
    assert!(heard.bodies[&a] == content(LARGE, 1) && heard.bodies[&b] == content(LARGE, 2));
    peer.expect_end();
    daemon.settles_with(0);
}

#[test]
fn more_bodies_than_may_be_under_way_come_all_the_same() {
    let (daemon, mut peer) = scene();
    daemon.write("many", &content(1 << 20, 7));
    let mut bytes = Vec::new();
    let ids: Vec<u64> = (0..50).map(|_| peer.encode(get(b"/many"), &mut bytes)).collect();
    let ping = peer.encode(Request::Ping(b"x"), &mut bytes);
    peer.send(&bytes);
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Pong, ping);
    let last = ids.iter().filter(|id| !heard.frames.contains(&(Op::End, **id))).count();
    for id in &ids {
        heard.until(&mut peer, Op::End, *id);
    }
    assert!(last <= 16, "{last} under way at once");
    assert!(ids.iter().all(|id| heard.bodies[id] == content(1 << 20, 7)));
    drop(peer);
    daemon.settles_with(0);
}

#[test]
fn the_parts_of_a_get_many_stay_in_order() {
    let (_daemon, mut peer) = scene();
    let body = peer.request(get(b"/a"));
    let list = uri_list(&[b"/b".as_slice(), b"/small", b"/missing", b"/b"]);
    let many = peer.request(Request::GetMany(GetMany::new(Mode::Splice, &list).unwrap()));
    let ping = peer.request(Request::Ping(b"x"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Pong, ping);
    heard.until(&mut peer, Op::End, body);
    // Two large ones and a small one, each behind the part that announced it.
    let ends = |heard: &Heard| heard.frames.iter().filter(|f| **f == (Op::End, many)).count();
    while ends(&heard) < 3 {
        heard.next(&mut peer);
    }
    let own: Vec<Op> = heard.frames.iter().filter(|f| f.1 == many).map(|f| f.0).collect();
    let mut open = false;
    for op in own {
        match op {
            Op::Objects => {
                assert!(!open, "a part before the body of the one before is out");
                open = true;
            }
            Op::End => open = false,
            other => assert_eq!(other, Op::Data),
        }
    }
    assert!(heard.bodies[&body] == content(LARGE, 1));
}

#[test]
fn bodies_go_on_while_a_descriptor_has_to_wait() {
    let limit = "[limits]\ndescriptors_per_uid = 253\n";
    let (daemon, mut peer) = scene_with(Setup::default().config(limit));
    let mut hog = daemon.greeted();
    let small = Request::Get(Get::new(Mode::Fdpass, Range::ALL, b"/small"));
    // Never read: no more for this user.
    for _ in 0..253 {
        hog.request(small);
    }
    let mut client = daemon.client();
    until("the limit is reached", || counter(&mut client, "replies.descriptors") == 253);

    let mut bytes = Vec::new();
    let body = peer.encode(get(b"/a"), &mut bytes);
    let file = peer.encode(small, &mut bytes);
    peer.send(&bytes);
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::End, body);
    assert!(heard.bodies[&body] == content(LARGE, 1));
    assert!(!heard.frames.contains(&(Op::Object, file)), "it was there to be had");
    drop(hog);
    heard.until(&mut peer, Op::Object, file);
    drop((peer, client));
    daemon.settles_with(0);
}

#[test]
fn all_parts_of_a_get_many_overtake_the_bodies_of_others() {
    let (daemon, mut peer) = scene();
    let body = peer.request(get(b"/a"));
    let mut heard = Heard::default();
    heard.until(&mut peer, Op::Data, body);
    // More than a turn takes.
    let list = uri_list(&[b"/small"; 1000]);
    let many = peer.request(Request::GetMany(GetMany::new(Mode::Fdpass, &list).unwrap()));
    let ping = peer.request(Request::Ping(b"x"));
    heard.until(&mut peer, Op::Pong, ping);
    assert!(heard.frames.iter().filter(|f| **f == (Op::Objects, many)).count() > 1);
    assert!(!heard.frames.contains(&(Op::End, body)), "it waited for a body of another reply");
    heard.until(&mut peer, Op::End, body);
    assert!(heard.bodies[&body] == content(LARGE, 1));
    drop(peer);
    daemon.settles_with(0);
}

#[test]
fn a_neighbour_does_not_notice() {
    let (daemon, mut peer) = scene();
    let mut neighbour = Neighbour::of(&daemon);
    // Never read.
    for _ in 0..40 {
        peer.request(get(b"/a"));
        peer.request(Request::Ping(b"x"));
    }
    neighbour.check();
    drop(peer);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}
