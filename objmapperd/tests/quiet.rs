//! What costs nothing must cost nothing: turns are counted, not time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use objmapper_client::Mode;
use objmapper_proto::{Get, Range, Request};
use support::daemon::{Daemon, Setup, counter};
use support::peer::Peer;
use support::{skip, until};

/// A connection that ends while its peer has not taken a descriptor stays, to be asked; it
/// must not be looked at for ever.
fn one_that_lingers(daemon: &Daemon, end: impl FnOnce(&mut Peer)) -> Peer {
    let mut peer = daemon.greeted();
    let get = Get::new(Mode::Fdpass, Range::ALL, b"/file");
    peer.request(Request::Get(get));
    end(&mut peer);
    peer
}

/// Of our own: one turn each, seldom two. A connection that spins has thousands meanwhile.
const PINGS: u64 = 2000;

fn costs_nothing(end: impl FnOnce(&mut Peer)) {
    let daemon = Daemon::start();
    std::fs::write(daemon.path("file"), "x").unwrap();
    let mut client = daemon.client();
    let _lingering = one_that_lingers(&daemon, end);
    let before = counter(&mut client, "pool.turns");
    for _ in 0..PINGS {
        client.ping().unwrap();
    }
    let turns = counter(&mut client, "pool.turns") - before;
    assert!(turns < 2 * PINGS, "{turns} turns for {PINGS} pings");
}

#[test]
fn a_closed_connection_that_still_owes() {
    costs_nothing(|peer| {
        peer.request(Request::Close);
    });
}

#[test]
fn a_broken_connection_that_still_owes() {
    costs_nothing(|peer| peer.send(&[0xff; 64]));
}

#[test]
fn a_half_closed_connection_that_still_owes() {
    costs_nothing(|peer| peer.writer().shutdown_write().unwrap());
}

/// The states of the daemon's threads, as in proc_pid_stat(5): `S` sleeps, `R` runs.
fn states(daemon: &Daemon) -> Vec<char> {
    std::fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
        .filter_map(|stat| stat.rsplit(')').next()?.trim().chars().next())
        .collect()
}

#[test]
fn a_worker_that_looks_for_more_gives_up() {
    if std::thread::available_parallelism().map_or(1, usize::from) == 1 {
        return skip("nobody spins on one CPU");
    }
    let daemon = Setup::default().argument("--spin=2ms").start();
    let mut client = daemon.client();
    for _ in 0..100 {
        client.ping().unwrap();
    }
    assert!(counter(&mut client, "pool.spins") > 0);
    until("everybody sleeps", || states(&daemon).iter().all(|state| *state == 'S'));
}

#[test]
fn without_spinning_nobody_looks_for_more() {
    let daemon = Setup::default().argument("--spin=0s").start();
    let mut client = daemon.client();
    for _ in 0..100 {
        client.ping().unwrap();
    }
    assert_eq!(counter(&mut client, "pool.spins"), 0);
}
