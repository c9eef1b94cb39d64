//! Frames in pieces, and peers that leave in the midst of one.

use objmapper_proto::{GetMany, Hello, Mode, Op, Request, Status, limits};

use crate::support::content::content;
use crate::support::peer::{Peer, uri_list};
use crate::support::until;
use crate::town::{a_get, all_is_well, header, town};

#[test]
fn half_frames() {
    let (daemon, mut neighbour) = town();
    let mut peers: Vec<Peer> = (0..20).map(|_| daemon.greeted()).collect();
    let whole = a_get(&mut peers[0], Mode::Copy, "/neighbour/small");
    for (number, peer) in peers.iter().enumerate() {
        // Half a header, half a payload, and a long promise.
        peer.send(&whole[..=number * 2]);
        let promise = u32::try_from(limits::REQUEST_PAYLOAD).unwrap();
        daemon.greeted().send(&header(promise, Op::GetMany as u8, 0, 0, 9));
    }
    neighbour.check();
    // A pause between the bytes of a frame means nothing.
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(&whole[1 + number * 2..]);
        assert_eq!(peer.object(2).bytes, content(300, 1));
        peer.send(&whole[..whole.len() - 1]);
    }
    drop(peers);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn one_byte_at_a_time() {
    let (daemon, mut neighbour) = town();
    let mut peer = daemon.peer();
    let mut bytes = peer.hello(Hello::default());
    bytes.extend(a_get(&mut peer, Mode::Copy, "/neighbour/small"));
    bytes.extend(a_get(&mut peer, Mode::Fdpass, "/neighbour/small"));
    for byte in bytes {
        peer.send(&[byte]);
        // It was read, alone, before the next one goes.
        until("the byte was read", || peer.stream.unread().unwrap() == 0);
    }
    peer.acknowledged();
    assert_eq!(peer.object(2).bytes, content(300, 1));
    assert!(peer.object(3).file.is_some());
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn disconnects_at_every_byte_of_a_hello() {
    let (daemon, mut neighbour) = town();
    let whole = daemon.peer().hello(Hello::default());
    for length in 0..=whole.len() {
        daemon.peer().send(&whole[..length]);
        // And one that only stops sending: it is told nothing, and let go.
        let mut peer = daemon.peer();
        peer.send(&whole[..length]);
        peer.stream.shutdown_write().unwrap();
        if length == whole.len() {
            peer.acknowledged();
        }
        peer.expect_end();
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn disconnects_at_every_byte_of_a_get() {
    let (daemon, mut neighbour) = town();
    for mode in Mode::ALL {
        let uri = "/neighbour/large";
        let whole = a_get(&mut daemon.greeted(), mode, uri);
        for length in 0..=whole.len() {
            daemon.greeted().send(&whole[..length]);
            let mut peer = daemon.greeted();
            peer.send(&whole[..length]);
            peer.stream.shutdown_write().unwrap();
            if length == whole.len() {
                assert_eq!(peer.object(2).status(), Status::Ok);
            }
            peer.expect_end();
        }
        neighbour.check();
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn disconnects_at_every_stage_of_an_answer() {
    let (daemon, mut neighbour) = town();
    let uris = uri_list(&vec!["/neighbour/small"; 600]);
    for mode in Mode::ALL {
        for frames in 0..6 {
            let mut peer = daemon.greeted();
            let many = GetMany::new(mode, &uris).unwrap();
            peer.request(Request::GetMany(many));
            let body = a_get(&mut peer, mode, "/neighbour/large");
            peer.send(&body);
            for _ in 0..frames {
                peer.frame();
            }
        }
        neighbour.check();
    }
    all_is_well(&daemon, &mut neighbour);
}
