//! What runs out, runs out for those who use it up: descriptors in flight, connections, the
//! daemon's own descriptors. Others are served, or told what the limit is; afterwards all is as
//! before.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::os::unix::process::CommandExt;
use std::process::Command;

use objmapper_client::{Client, Mode, Object};
use objmapper_os::limits::raise_nofile;
use objmapper_proto::{GetMany, Range, Reason, Request, Status};
use support::daemon::{Daemon, NOBODY, Setup, counter};
use support::neighbour::Neighbour;
use support::peer::{Peer, uri_list};
use support::{PATIENCE, is_root, skip, until};

/// The least that a daemon of two workers and two helpers starts with, and little more.
const FEW: u64 = 1400;

/// A peer that asks for descriptors, many at a time, and reads nothing.
fn hog(daemon: &Daemon) -> Peer {
    let mut peer = daemon.greeted();
    let uris = uri_list(&vec!["/neighbour/small"; 253]);
    for _ in 0..8 {
        peer.request(Request::GetMany(GetMany::new(Mode::Fdpass, &uris).unwrap()));
    }
    peer
}

/// What the hog gets when it reads at last: everything.
fn satisfy(hog: &mut Peer) {
    for request in 0..8 {
        for answer in hog.objects(2 + request, 253) {
            assert_eq!(answer.status(), Status::Ok);
        }
    }
    hog.ping();
}

/// Waits until the ledger has nothing more to give to those who ask for more.
fn until_it_is_used_up(watcher: &mut Client) {
    let mut before = 0;
    until("a limit of the ledger is met again and again", || {
        let waits = counter(watcher, "descriptors.waits");
        let more = waits > before && before > 0;
        before = waits;
        more
    });
}

#[test]
fn one_who_never_reads_descriptors_is_alone_with_that() {
    raise_nofile().unwrap();
    let limits = "[limits]\ndescriptors_per_connection = 253\n";
    let daemon = Setup::default().unprivileged().nofile(FEW).config(limits).start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut hog = hog(&daemon);
    until_it_is_used_up(&mut neighbour.client);
    assert_eq!(counter(&mut neighbour.client, "descriptors.limit"), FEW / 2);
    let in_flight = counter(&mut neighbour.client, "descriptors.in_flight_at_most");
    assert!((253..260).contains(&in_flight), "{in_flight} in flight");
    for _ in 0..50 {
        neighbour.check_anew(&daemon);
    }
    satisfy(&mut hog);
    drop(hog);
    daemon.settles_with(1);
    neighbour.check();
}

#[test]
fn many_who_never_read_leave_descriptors_to_others() {
    const HOGS: usize = 12;
    raise_nofile().unwrap();
    if !is_root() {
        return skip("two users are needed, and only root can be two");
    }
    let daemon = Setup::default().unprivileged().nofile(FEW).start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut hogs: Vec<Peer> = (0..HOGS).map(|_| hog(&daemon)).collect();
    until_it_is_used_up(&mut neighbour.client);
    // Together they have what one user may have, and not a descriptor more.
    let in_flight = counter(&mut neighbour.client, "descriptors.in_flight_at_most");
    let per_user = counter(&mut neighbour.client, "descriptors.limit") / 2;
    assert!(in_flight <= per_user, "{in_flight} in flight, {per_user} allowed");
    // Bytes are there for all the same, and another user gets descriptors.
    assert_eq!(neighbour.client.read("/neighbour/small").unwrap().len(), 300);
    as_somebody_else(&daemon);
    // Half of them read what they asked for, the others just leave.
    // (All at once: what one takes another of the same user may not have yet.)
    hogs.truncate(HOGS / 2);
    std::thread::scope(|scope| {
        for hog in &mut hogs {
            scope.spawn(|| satisfy(hog));
        }
    });
    drop(hogs);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
    as_somebody_else(&daemon);
}

/// Runs [`somebody_else`] as the daemon's user.
#[track_caller]
fn as_somebody_else(daemon: &Daemon) {
    let command = |program: &std::path::Path| {
        let mut command = Command::new(program);
        command.args(["--exact", "somebody_else", "--ignored", "--nocapture"]);
        command.env("TEST_SOCKET", daemon.socket()).uid(NOBODY).gid(NOBODY).output()
    };
    let program = std::env::current_exe().unwrap();
    let output = command(&program).unwrap_or_else(|_| {
        // The build's directory is not open to that user.
        let copy = daemon.outside("test");
        std::fs::copy(&program, &copy).unwrap();
        command(&copy).unwrap()
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "the other half of a test above: it is run by that, as another user"]
fn somebody_else() {
    let Some(socket) = std::env::var_os("TEST_SOCKET") else {
        return skip("runs only as a part of another test");
    };
    let mut client = Client::builder().path(socket).timeout(PATIENCE).connect().unwrap();
    for _ in 0..50 {
        assert_eq!(client.open("/neighbour/large").unwrap().size(), 700_000);
    }
    let opened = client.open_many(&["/neighbour/small"; 50]);
    assert!(opened.iter().all(Result::is_ok));
}

#[test]
fn auto_sends_bytes_while_descriptors_are_scarce() {
    let limits = "[limits]\ndescriptors_in_flight = 253\ndescriptors_per_uid = 253\n\
                  descriptors_per_connection = 253\n";
    let daemon = Setup::default().config(limits).start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut reason = || {
        let object = neighbour.client.get("/neighbour/large", Mode::Auto).unwrap();
        (matches!(object, Object::Bytes(..)), object.metadata().reason())
    };
    assert_eq!(reason(), (false, Reason::Large));
    let hog = hog(&daemon);
    until("descriptors are scarce", || reason() == (true, Reason::Descriptors));
    drop(hog);
    daemon.settles_with(1);
    until("there are enough again", || reason() == (false, Reason::Large));
    neighbour.check();
}

#[test]
fn more_connections_than_are_allowed() {
    let daemon =
        Setup::default().config("[limits]\nconnections = 50\nconnections_per_uid = 50\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut admitted: Vec<Peer> = (1..50).map(|_| daemon.greeted()).collect();
    // All at once, and with a HELLO that nobody reads.
    let mut refused: Vec<Peer> = (0..150).map(|_| daemon.peer()).collect();
    for peer in &mut refused {
        let hello = peer.hello(objmapper_proto::Hello::default());
        let _ = peer.try_send(&hello);
    }
    for peer in &mut refused {
        let (status, text) = peer.expect_dismissal();
        assert_eq!(status, Status::Busy);
        assert_eq!(text, "there are 50 connections open, limits.connections is 50");
    }
    assert_eq!(counter(&mut neighbour.client, "connections.turned_away"), 150);
    assert_eq!(counter(&mut neighbour.client, "connections.open"), 50);
    daemon.settles_with(50);
    admitted.iter_mut().for_each(Peer::ping);
    neighbour.check();
    // The client library says it in words, and that it may be tried again.
    let error = Client::builder().path(daemon.socket()).connect().unwrap_err();
    assert!(error.may_retry() && error.to_string().contains("limits.connections"), "{error}");
    // One goes, one may come.
    admitted.pop();
    daemon.settles_with(49);
    daemon.greeted().ping();
    drop(admitted);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

/// Sets the daemon's soft limit so that it can open so many descriptors more.
fn allow_more(daemon: &Daemon, more: usize) -> bool {
    let taken: Vec<usize> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let limit = (0..).filter(|number| !taken.contains(number)).nth(more).unwrap();
    prlimit(daemon, &format!("{limit}:"))
}

fn prlimit(daemon: &Daemon, limits: &str) -> bool {
    let pid = daemon.pid().to_string();
    let limits = format!("--nofile={limits}");
    Command::new("prlimit").args(["--pid", &pid, &limits]).status().is_ok_and(|s| s.success())
}

#[test]
fn no_descriptor_left_to_accept_with() {
    let daemon = Daemon::start();
    let mut neighbour = Neighbour::of(&daemon);
    // What the neighbour was given may still be open for a moment.
    daemon.settles_with(1);
    if !allow_more(&daemon, 3) {
        return skip("prlimit(1) is needed to take descriptors away from a running process");
    }
    let mut admitted: Vec<Peer> = (0..3).map(|_| daemon.greeted()).collect();
    // One after the other is let in for a moment, to be told.
    for _ in 0..3 {
        let (status, text) = daemon.peer().expect_dismissal();
        assert_eq!(status, Status::Busy);
        assert_eq!(text, "the daemon is out of descriptors: try again");
    }
    until("it counted them", || counter(&mut neighbour.client, "connections.turned_away") >= 3);
    // Who is in is answered, and told what is wrong: a lack is never "not found".
    admitted.iter_mut().for_each(Peer::ping);
    let busy = "the daemon or its machine is out of descriptors or memory: try again";
    for mode in Mode::ALL {
        let answer = admitted[0].get(mode, b"/neighbour/small", Range::ALL);
        assert_eq!((answer.status(), answer.text.as_str()), (Status::Busy, busy), "{mode}");
        assert!(answer.retry_after_ms > 0);
        let answers = admitted[1].get_many(mode, &["/neighbour/small", "/missing", "/neighbour"]);
        let statuses: Vec<Status> = answers.iter().map(support::peer::Answer::status).collect();
        assert!(!statuses.contains(&Status::Ok) && statuses[0] == Status::Busy, "{statuses:?}");
    }
    assert_eq!(admitted[2].stat(b"/neighbour/small").status(), Status::Busy);
    assert_eq!(admitted[2].list(b"/", b"", 9).unwrap_err().status(), Status::Busy);
    // With a few back it goes on, with no more than these.
    admitted.truncate(1);
    daemon.settles_with(2);
    neighbour.check();
    assert_eq!(admitted[0].get(Mode::Copy, b"/neighbour/small", Range::ALL).status(), Status::Ok);
    // And with all of them as if nothing had been.
    assert!(prlimit(&daemon, "5000:"));
    let mut more: Vec<Peer> = (0..50).map(|_| daemon.greeted()).collect();
    more.iter_mut().for_each(Peer::ping);
    drop((admitted, more));
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn clients_that_wait_while_there_are_no_descriptors_are_served_later() {
    let daemon = Daemon::start();
    let mut neighbour = Neighbour::of(&daemon);
    // Not even the reserve can be had again: its number is beyond the limit.
    if !prlimit(&daemon, "4:") {
        return skip("prlimit(1) is needed to take descriptors away from a running process");
    }
    let mut waiting: Vec<Peer> = (0..20).map(|_| daemon.peer()).collect();
    for peer in &mut waiting {
        let hello = peer.hello(objmapper_proto::Hello::default());
        let _ = peer.try_send(&hello);
    }
    until("accepting failed", || daemon.log().contains("cannot accept"));
    neighbour.client.ping().unwrap();
    assert!(prlimit(&daemon, "5000:"));
    let (mut served, mut turned_away) = (0, 0);
    for peer in &mut waiting {
        let frame = peer.frame();
        if frame.header.id == 0 {
            turned_away += 1;
        } else {
            peer.ping();
            served += 1;
        }
    }
    assert!(served > 0 && served + turned_away == 20, "{served} {turned_away}");
    drop(waiting);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}
