//! Peers that send and do not read.

use std::fs::File;

use objmapper_proto::{Mode, Request, Status};

use crate::support::daemon::counter;
use crate::support::peer::Peer;
use crate::support::until;
use crate::town::{a_get, all_is_well, town};

/// Fills the way to the daemon with requests and reads nothing, until no more can be sent.
/// Returns how many bytes went out.
fn flood(peer: &mut Peer, request: &[u8]) -> usize {
    peer.stream.set_nonblocking(true).unwrap();
    let batch = request.repeat(64 * 1024 / request.len());
    let (mut sent, mut full) = (0, 0);
    // Full for good: many tries later there is still no room.
    until("the daemon stops reading", || {
        match peer.stream.send(&batch[sent % request.len()..], &[], false) {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(error) if error.is_would_block() => full += 1,
            Err(error) => panic!("{error}"),
        }
        full == 200
    });
    sent
}

#[test]
fn a_huge_pipeline_that_is_never_read() {
    /// Both sides' buffers, what one turn reads, and slack: no more than this is taken in.
    const MOST: usize = 8 << 20;
    let (daemon, mut neighbour) = town();
    let mut ping = Vec::new();
    Request::Ping(&[0; 1000]).encode(2, &mut ping);
    let misses = a_get(&mut daemon.greeted(), Mode::Copy, "/there/is/no/such/file");
    let hits = a_get(&mut daemon.greeted(), Mode::Copy, "/neighbour/small");
    for request in [ping, misses, hits] {
        let mut peers: Vec<Peer> = (0..3).map(|_| daemon.greeted()).collect();
        for peer in &mut peers {
            let sent = flood(peer, &request);
            assert!(sent < MOST, "{sent} bytes of requests were taken in unanswered");
            neighbour.check();
        }
        neighbour.check_anew(&daemon);
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_large_copy_that_is_never_read() {
    let (daemon, mut neighbour) = town();
    let huge = File::create(daemon.path("huge")).unwrap();
    huge.set_len(1 << 32).unwrap();
    for mode in [Mode::Copy, Mode::Splice] {
        let before = counter(&mut neighbour.client, "transfer.bodies");
        let peers: Vec<Peer> = (0..10)
            .map(|_| {
                let mut peer = daemon.greeted();
                let bytes = a_get(&mut peer, mode, "/huge");
                peer.send(&bytes);
                peer
            })
            .collect();
        until("all bodies are under way", || {
            counter(&mut neighbour.client, "transfer.bodies") == before + 10
        });
        neighbour.check_anew(&daemon);
        // Nobody spins for them: at rest nothing but our own asking is counted.
        until("the daemon is at rest", || {
            let turns = counter(&mut neighbour.client, "pool.turns");
            counter(&mut neighbour.client, "pool.turns") <= turns + 1
        });
        drop(peers);
        daemon.settles_with(1);
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_flood_of_misses_that_is_read() {
    let (daemon, mut neighbour) = town();
    let before = counter(&mut neighbour.client, "index.entries");
    let mut peer = daemon.greeted();
    let uris: Vec<String> = (0..4096).map(|n| format!("/neighbour/missing-{n}")).collect();
    for _ in 0..20 {
        let answers = peer.get_many(Mode::Fdpass, &uris);
        assert!(answers.iter().all(|answer| answer.status() == Status::NotFound));
    }
    neighbour.check();
    // Names that lead nowhere take no room among those that do.
    assert_eq!(counter(&mut neighbour.client, "index.entries"), before);
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn one_byte_of_a_reply_at_a_time() {
    let (daemon, mut neighbour) = town();
    let mut peer = daemon.greeted();
    let bytes = a_get(&mut peer, Mode::Copy, "/neighbour/small");
    let requests = bytes.repeat(2000);
    let writer = peer.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut rest = &requests[..];
            while !rest.is_empty() {
                let Ok(sent) = writer.send(rest, &[], false) else { return };
                rest = &rest[sent..];
            }
        });
        let mut byte = [0; 1];
        for _ in 0..20_000 {
            assert_eq!(peer.stream.recv_bytes(&mut byte).unwrap(), 1);
        }
        neighbour.check();
        for _ in 0..20_000 {
            assert_eq!(peer.stream.recv_bytes(&mut byte).unwrap(), 1);
        }
        // It leaves with most of it unread, and what it still sends fails or not.
        peer.stream.shutdown().unwrap();
    });
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}
