//! Turns of connections that never stop: how soon somebody else is served, told by how much they
//! have been given by then.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use objmapper_client::Mode;
use objmapper_os::socket::Stream;
use objmapper_proto::{Get, Range, Reply, Request};
use objmapperd::quantum::{QUANTUM, SLICE};
use support::daemon::Setup;
use support::held::Held;
use support::peer::Peer;
use support::skip;

/// Far more requests than there are in a round of turns.
const MANY: usize = 40 * QUANTUM;

/// What the daemon has copied so far, asked for by a request that is sent before `meanwhile`.
fn copies(peer: &mut Peer, meanwhile: impl FnOnce()) -> usize {
    let id = peer.request(Request::Stats);
    meanwhile();
    let frame = peer.frame();
    assert_eq!(frame.header.id, id);
    let Reply::Stats(text) = frame.reply() else { panic!("{frame:?}") };
    let copies = text.lines().find_map(|line| line.strip_prefix("requests.copy ")).unwrap();
    copies.parse().unwrap()
}

/// How much somebody who never stops is given until an other is served, who asks when the nth
/// object is opened. `None` where threads cannot be held back.
fn given_before_another(nth: usize) -> Option<usize> {
    let daemon = Setup::default().workers(1).start();
    daemon.write("x", b"x");
    let [mut greedy, mut modest] = [daemon.greeted(), daemon.greeted()];
    assert_eq!(modest.get(Mode::Copy, b"/x", Range::ALL).bytes, b"x");
    let before = copies(&mut modest, || ());

    let held = Held::at(&daemon, "worker-0", ("openat2", nth), 50)?;
    let mut bytes = Vec::new();
    for _ in 0..MANY {
        greedy.encode(Request::Get(Get::new(Mode::Copy, Range::ALL, b"/x")), &mut bytes);
    }
    let (writer, mut reader) = (greedy.writer(), greedy.writer());
    std::thread::scope(|scope| {
        scope.spawn(move || writer.send(&bytes, &[], false));
        scope.spawn(move || drain(&mut reader));
        held.is_caught();
        let given = copies(&mut modest, || drop(held)) - before;
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
    let Some(given) = given_before_another(1) else {
        return skip("strace is needed to hold a thread back");
    };
    assert_eq!(given, QUANTUM, "one turn");
}

#[test]
fn who_used_up_a_turn_is_served_by_the_slice() {
    let Some(given) = given_before_another(QUANTUM + 2) else {
        return skip("strace is needed to hold a thread back");
    };
    assert_eq!(given, QUANTUM + SLICE, "one turn and a slice of the next");
}
