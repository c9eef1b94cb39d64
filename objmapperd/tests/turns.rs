//! Turns of connections that never stop: how soon somebody else is served, told by how much they
//! have been given by then.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use objmapper_client::Mode;
use objmapper_os::socket::Stream;
use objmapper_proto::{Get, Range, Reply, Request};
use objmapperd::quantum::{QUANTUM, SLICE};
use support::content::content;
use support::daemon::Setup;
use support::held::Held;
use support::peer::Peer;
use support::skip;

/// Far more requests than there are in a round of turns.
const MANY: usize = 40 * QUANTUM;

/// How many requests in this mode the daemon has answered, asked for by a request that is sent
/// before `meanwhile`.
fn answered(mode: Mode, peer: &mut Peer, meanwhile: impl FnOnce()) -> usize {
    let id = peer.request(Request::Stats);
    meanwhile();
    let frame = peer.frame();
    assert_eq!(frame.header.id, id);
    let Reply::Stats(text) = frame.reply() else { panic!("{frame:?}") };
    let name = format!("requests.{mode} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// How much somebody who never stops is given until an other is served, who asks when the nth
/// object is opened; objects have this size. `None` where threads cannot be held back.
fn given_before_another(mode: Mode, size: usize, nth: usize) -> Option<usize> {
    let daemon = Setup::default().workers(1).start();
    daemon.write("x", &content(size, 1));
    let [mut greedy, mut modest] = [daemon.greeted(), daemon.greeted()];
    assert_eq!(modest.get(mode, b"/x", Range::ALL).bytes, content(size, 1));
    let before = answered(mode, &mut modest, || ());

    let held = Held::at(&daemon, "worker-0", ("openat2", nth), 600)?;
    let mut bytes = Vec::new();
    for _ in 0..MANY {
        greedy.encode(Request::Get(Get::new(mode, Range::ALL, b"/x")), &mut bytes);
    }
    let (writer, mut reader) = (greedy.writer(), greedy.writer());
    std::thread::scope(|scope| {
        scope.spawn(move || writer.send(&bytes, &[], false));
        scope.spawn(move || drain(&mut reader));
        held.is_caught();
        let given = answered(mode, &mut modest, || drop(held)) - before;
        // Whoever reads and writes for it comes to an end.
        greedy.stream.shutdown().unwrap();
        Some(given)
    })
}

/// Reads until the end.
fn drain(stream: &mut Stream) {
    let mut room = vec![0; 1 << 16];
    while stream.recv_bytes(&mut room).is_ok_and(|bytes| bytes > 0) {}
}

#[test]
fn who_became_ready_in_a_long_turn_is_served_next() {
    let Some(given) = given_before_another(Mode::Copy, 1, 1) else {
        return skip("strace is needed to hold a thread back");
    };
    assert_eq!(given, QUANTUM, "one turn");
}

#[test]
fn who_used_up_a_turn_is_served_by_the_slice() {
    let Some(given) = given_before_another(Mode::Copy, 1, QUANTUM + 2) else {
        return skip("strace is needed to hold a thread back");
    };
    assert_eq!(given, QUANTUM + SLICE, "one turn and a slice of the next");
}

#[test]
fn long_replies_count_as_many_objects() {
    // Each goes out at once, and all that a turn gives fit into the socket.
    for mode in [Mode::Copy, Mode::Splice] {
        let Some(given) = given_before_another(mode, 64 << 10, 1) else {
            return skip("strace is needed to hold a thread back");
        };
        assert!((2..QUANTUM / 10).contains(&given), "{mode}: {given} of 64 KiB in a turn");
    }
}
