//! Clients of the keyspace that ask for more than there is: of memory, and of others' time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;

use support::daemon::{Daemon, Place, Setup, counter};
use support::resp::{Reply, Resp, connect, encoded, keyspace, queued, start};
use support::until;

/// What one user may have queued is little.
fn start_small() -> Daemon {
    let place = Place::new();
    let config = "[limits]\nqueued_bytes = \"8MiB\"\nsend_buffer = \"64KiB\"\n";
    keyspace(Setup::default().config(config), &place).start_in(place)
}

/// Bytes of memory of its own, at most so far.
fn peak(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

fn info(client: &mut Resp, name: &str) -> u64 {
    let text = client.say("INFO").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    value.parse().unwrap()
}

#[test]
fn a_request_of_many_short_words_is_taken_in_whole() {
    let daemon = start();
    let mut client = connect(&daemon);
    for count in [20_000, 30_000, 200_000] {
        let mut words = vec!["DEL".to_owned()];
        words.extend((0..count).map(|n| format!("key:{n}")));
        client.say("SET key:7 x");
        assert_eq!(client.ask(&words), Reply::Integer(1), "{count} keys");
    }
    // While it is not whole it counts with all that is kept of it.
    client.send(b"*200000\r\n");
    client.send(&b"$0\r\n\r\n".repeat(100_000));
    let kept = 100_000 * (6 + size_of::<std::ops::Range<usize>>() as u64);
    let mut own = daemon.client();
    until("all of it has come", || counter(&mut own, "queued.bytes") >= kept);
}
