//! Clients that may pass descriptors, and do it wrong.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use objmapper_proto::hello::PASS_FDS;
use objmapper_proto::word::flag;
use objmapper_proto::{Get, Hello, Mode, Op, Range, Reply, Request, Status};

use crate::support::daemon::{Daemon, Setup};
use crate::support::neighbour::Neighbour;
use crate::support::peer::Peer;
use crate::town::{a_get, all_is_well, header, town};

fn passer(daemon: &Daemon) -> Peer {
    let mut peer = daemon.peer();
    peer.greet_with(Hello { capabilities: PASS_FDS, ..Hello::default() });
    peer
}

/// A GET that wants to be sent elsewhere.
fn a_get_to(peer: &mut Peer, uri: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let get = Get { to: true, ..Get::new(Mode::Splice, Range::ALL, uri.as_bytes()) };
    peer.encode(Request::Get(get), &mut bytes);
    bytes
}

/// It is sent away with this status; what it is told contains this.
#[track_caller]
fn dismissed(mut peer: Peer, why: &str) {
    let frame = loop {
        let frame = peer.frame();
        if frame.header.id == 0 {
            break frame;
        }
    };
    let Reply::Error(error) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(error.status, Status::UnexpectedDescriptor);
    assert!(error.text.contains(why), "{}", error.text);
    peer.expect_end();
}

#[test]
fn a_descriptor_that_is_declared_and_does_not_come() {
    let (daemon, mut neighbour) = town();
    let mut peer = passer(&daemon);
    let bytes = a_get_to(&mut peer, "/neighbour/small");
    peer.send(&bytes);
    dismissed(peer, "with or before the last byte");
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_number_of_descriptors_that_cannot_be() {
    let (daemon, mut neighbour) = town();
    for fds in [0, 2, u16::MAX] {
        let mut peer = passer(&daemon);
        let mut bytes = a_get_to(&mut peer, "/neighbour/small");
        bytes[6..8].copy_from_slice(&fds.to_le_bytes());
        peer.send(&bytes);
        dismissed(peer, "a GET with TO has one");
    }
    for op in [Op::Ping, Op::Stat, Op::GetMany, Op::Get] {
        let peer = passer(&daemon);
        peer.send(&header(0, op as u8, 0, 1, 2));
        dismissed(peer, "no other request has any");
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn descriptors_that_no_frame_declares() {
    let (daemon, mut neighbour) = town();
    let null = File::open("/dev/null").unwrap();
    for count in [1, 16, 17, 252] {
        // With a request that is whole.
        let mut peer = passer(&daemon);
        let mut bytes = Vec::new();
        peer.encode(Request::Ping(b""), &mut bytes);
        peer.send_with(&bytes, &vec![null.as_fd(); count]).unwrap();
        dismissed(peer, if count > 32 { "more came than" } else { "no frame declares them" });
        // One more than the request has.
        let mut peer = passer(&daemon);
        let bytes = a_get_to(&mut peer, "/no/such");
        peer.send_with(&bytes, &vec![null.as_fd(); count + 1]).unwrap();
        dismissed(peer, if count > 31 { "more came than" } else { "no frame declares them" });
    }
    // A byte and a descriptor at a time, in a frame that never ends.
    let peer = passer(&daemon);
    let bytes = header(200_000, Op::Stat as u8, 0, 0, 2);
    for byte in &bytes {
        peer.send_with(&[*byte], &[null.as_fd(), null.as_fd()]).unwrap();
    }
    while peer.send_with(b"x", &[null.as_fd()]).is_ok() {}
    dismissed(peer, "more came than may wait");
    neighbour.check();
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn descriptors_before_they_were_agreed_on() {
    let (daemon, mut neighbour) = town();
    let null = File::open("/dev/null").unwrap();
    let mut peer = daemon.peer();
    let mut bytes = peer.hello(Hello { capabilities: PASS_FDS, ..Hello::default() });
    bytes.extend(a_get_to(&mut peer, "/neighbour/small"));
    if peer.send_with(&bytes, &[null.as_fd()]).is_ok() {
        // This kernel cannot refuse them.
        while peer.frame_or_end().is_some() {}
    } else {
        let hello = peer.hello(Hello { capabilities: PASS_FDS, ..Hello::default() });
        peer.send(&hello);
        assert_eq!(peer.acknowledged().capabilities, PASS_FDS);
        peer.ping();
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn what_is_refused_closes_what_came_with_it() {
    let (daemon, mut neighbour) = town();
    let mut peer = passer(&daemon);
    let null = File::open("/dev/null").unwrap();
    for (offset, value) in [(16, 2), (16, 9), (5, flag::TO | 32), (18, 200)] {
        let mut bytes = a_get_to(&mut peer, "/neighbour/small");
        bytes[offset] = value;
        peer.send_with(&bytes, &[null.as_fd()]).unwrap();
        let frame = peer.frame();
        assert!(matches!(frame.reply(), Reply::Error(_)), "{frame:?}");
        peer.ping();
    }
    daemon.settles_with(2);
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn frames_in_pieces_with_their_descriptors() {
    let (daemon, mut neighbour) = town();
    let expected = neighbour.client.read("/neighbour/small").unwrap();
    let mut peer = passer(&daemon);
    // With the first byte of the frame, with its last, and with another frame before it.
    for at in [0, 20] {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let before = a_get(&mut peer, Mode::Copy, "/neighbour/small");
        let bytes = [before.clone(), a_get_to(&mut peer, "/neighbour/small")].concat();
        let at = if at == 0 { 0 } else { before.len() + at };
        for (n, byte) in bytes.iter().enumerate() {
            let fds = [writer.as_fd()];
            peer.send_with(&[*byte], if n == at { &fds } else { &[] }).unwrap();
        }
        let ops: Vec<u8> = (0..3).map(|_| peer.frame().header.op).collect();
        assert_eq!(ops, [Op::Object as u8, Op::Object as u8, Op::End as u8]);
        drop(writer);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        assert!(bytes == expected);
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn its_own_connection_as_destination() {
    let daemon = Setup::default().config("[timeouts]\nsend = \"300ms\"\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut peer = passer(&daemon);
    let own = peer.as_fd().try_clone_to_owned().unwrap();
    let bytes = a_get_to(&mut peer, "/neighbour/large");
    peer.send_with(&bytes, &[own.as_fd()]).unwrap();
    // While the body is under way nothing is read: it takes as much as the socket holds.
    assert_eq!(peer.frame().header.op, Op::Object as u8);
    neighbour.check();
    // The daemon has the peer's end as well, and so cannot see it go.
    drop((own, peer));
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn its_own_connection_behind_replies_that_nobody_reads() {
    let daemon = Setup::default().config("[timeouts]\nsend = \"300ms\"\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    for whole in [true, false] {
        let mut peer = passer(&daemon);
        let own = peer.as_fd().try_clone_to_owned().unwrap();
        // Descriptors are on their way, and then a body that fills the way.
        for (mode, uri) in [(Mode::Fdpass, "/neighbour/small"), (Mode::Copy, "/neighbour/large")] {
            let bytes = a_get(&mut peer, mode, uri).repeat(if mode == Mode::Copy { 20 } else { 1 });
            peer.send(&bytes);
        }
        // This is read when it is over, or never.
        let bytes = a_get_to(&mut peer, "/neighbour/small");
        let end = if whole { bytes.len() } else { bytes.len() / 2 };
        peer.send_with(&bytes[..end], &[own.as_fd()]).unwrap();
        drop((own, peer));
    }
    all_is_well(&daemon, &mut neighbour);
}
