//! Connections that are gone, and what takes their place: against a daemon that is restarted, and
//! against one that closes at the worst moment.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::Daemon;
use common::*;
use objmapper_client::{Client, Error, Mode, Reconnect};
use objmapper_proto::{Delivery, Reply, Status};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A listening socket, and what answers one connection after the other: as many as there are
/// scripts, and no more.
fn listening(
    scripts: Vec<fn(Peer)>,
) -> (tempfile::TempDir, objmapper_client::Builder, JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        for script in scripts {
            let (socket, _) = listener.accept().unwrap();
            let mut peer = Peer::over(socket.into());
            peer.greet();
            script(peer);
        }
    });
    (dir, Client::builder().path(path).timeout(PATIENCE), thread)
}

fn hang_up(mut peer: Peer) {
    peer.request().unwrap();
}

fn pong(mut peer: Peer) {
    peer.pong();
}

/// Half of a body, and then nothing.
fn half_a_body(mut peer: Peer) {
    answer_half(&mut peer);
}

fn answer_half(peer: &mut Peer) {
    let id = peer.request().unwrap().header.id;
    peer.reply(id, Reply::Object(item(head(Delivery::Stream, 6))), &[]);
    peer.reply(id, Reply::Data(b"abc"), &[]);
}

fn a_body(mut peer: Peer) {
    answer(&mut peer);
}

fn a_body_and_a_half(mut peer: Peer) {
    answer(&mut peer);
    answer_half(&mut peer);
}

fn answer(peer: &mut Peer) {
    let id = peer.request().unwrap().header.id;
    peer.reply(id, Reply::Object(inline(b"abcdef")), &[]);
}

#[test]
fn a_restart_goes_unnoticed() {
    let _no_leak = no_leak();
    let Some(mut daemon) = Daemon::start() else { return };
    for name in ["a", "b", "c", "d"] {
        daemon.put(name, name.as_bytes());
    }
    let mut client = daemon.client();
    let mut names = 0;
    for entry in client.list("/").unwrap().page_size(1) {
        daemon.restart(); // a cursor holds over that
        names += usize::from(entry.is_ok());
    }
    assert_eq!(names, 4);
    let mut after_a_restart = |ask: &dyn Fn(&mut Client) -> Vec<u8>, expected: &[u8]| {
        daemon.restart();
        assert_eq!(ask(&mut client), expected);
    };
    after_a_restart(&|client| client.open("/a").unwrap().read_to_vec().unwrap(), b"a");
    after_a_restart(&|client| client.read("/b").unwrap(), b"b");
    after_a_restart(&|client| vec![client.stat("/b").unwrap().size().to_le_bytes()[0]], &[1]);
    after_a_restart(&|client| client.read_many(&["/c", "/d"]).remove(1).unwrap(), b"d");
    let copied = |client: &mut Client| {
        let mut out = Vec::new();
        client.copy_to("/d", &mut out).map(|_| out).unwrap()
    };
    after_a_restart(&copied, b"d");
    after_a_restart(&|client| client.ping().map(|_| vec![]).unwrap(), b"");
    after_a_restart(&|client| client.stats().map(|_| vec![]).unwrap(), b"");
}

#[test]
fn a_daemon_that_is_away_for_a_while_is_waited_for() {
    let _no_leak = no_leak();
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.put("a", b"a");
    let patient = Reconnect::Within(Duration::from_mins(1));
    let mut client = daemon.builder().reconnect(patient).connect().unwrap();
    daemon.stop();
    std::thread::scope(|scope| {
        scope.spawn(|| daemon.start_again());
        assert_eq!(client.read("/a").unwrap(), b"a");
    });
}

#[test]
fn no_longer_than_was_said() {
    let _no_leak = no_leak();
    let Some(mut daemon) = Daemon::start() else { return };
    let time = Duration::from_millis(50);
    let mut client = daemon.builder().reconnect(Reconnect::Within(time)).connect().unwrap();
    daemon.kill();
    for _ in 0..2 {
        let asked = Instant::now();
        assert!(matches!(client.ping(), Err(Error::Unreachable(_))));
        assert!(asked.elapsed() >= time);
    }
}

#[test]
fn a_pipeline_ends_with_its_connection() {
    let _no_leak = no_leak();
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.put("a", b"a");
    let mut client = daemon.client();
    let mut pipeline = client.pipeline().unwrap();
    for _ in 0..3 {
        pipeline.get("/a", Mode::Copy).unwrap();
    }
    assert!(pipeline.next().unwrap().1.is_ok());
    daemon.restart();
    pipeline.get("/a", Mode::Copy).unwrap();
    // The daemon had answered what it had read.
    let results: Vec<bool> = pipeline.map(|(_, result)| result.is_ok()).collect();
    assert_eq!(results, [true, true, false]);
    assert!(client.pipeline().unwrap().get("/a", Mode::Copy).is_ok());
    assert_eq!(client.read("/a").unwrap(), b"a");
}

#[test]
fn what_was_owed_is_forgotten_with_the_connection() {
    let _no_leak = no_leak();
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.put("a", &vec![7; 100_000]);
    let mut client = daemon.client();
    let mut pipeline = client.pipeline().unwrap();
    for _ in 0..50 {
        pipeline.get("/a", Mode::Copy).unwrap();
    }
    pipeline.flush().unwrap();
    drop(pipeline);
    daemon.kill();
    daemon.start_again();
    let mut tries = 0;
    // Not Within: this is about what is owed. Until it listens it cannot be reached.
    while let Err(error) = client.read("/a") {
        assert!(matches!(error, Error::Unreachable(_)), "{error}");
        tries += 1;
        assert!(tries < 10_000);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.read("/a").unwrap().len(), 100_000);
}

#[test]
fn a_request_is_asked_again_once() {
    let _no_leak = no_leak();
    let (_dir, builder, thread) = listening(vec![hang_up, pong, hang_up, hang_up, pong]);
    let mut client = builder.connect().unwrap();
    client.ping().unwrap();
    assert!(matches!(client.ping(), Err(Error::Closed { .. })), "twice is enough");
    client.ping().unwrap();
    thread.join().unwrap();
    assert!(matches!(client.ping(), Err(Error::Unreachable(_))));
}

#[test]
fn a_body_that_was_written_somewhere_is_not_asked_for_again() {
    let _no_leak = no_leak();
    let (_dir, builder, thread) = listening(vec![half_a_body, a_body_and_a_half, a_body]);
    let mut client = builder.connect().unwrap();
    // In memory it can begin again.
    assert_eq!(client.read("/x").unwrap(), b"abcdef");
    let mut out = Vec::new();
    assert!(matches!(client.copy_to("/x", &mut out), Err(Error::Closed { .. })));
    assert_eq!(out, b"abc");
    assert_eq!(client.read("/x").unwrap(), b"abcdef");
    thread.join().unwrap();
}

#[test]
fn a_refusal_is_an_answer_and_a_protocol_error_is_not_tried_again() {
    let _no_leak = no_leak();
    let (_dir, builder, thread) = listening(vec![
        |mut peer| {
            let id = peer.request().unwrap().header.id;
            peer.reply(id, Reply::Object(refused(Status::Busy, "later")), &[]);
            peer.request().unwrap();
            peer.raw(&[0xff; 32], &[]);
            peer.listen();
        },
        pong,
    ]);
    let mut client = builder.connect().unwrap();
    assert_eq!(client.read("/x").unwrap_err().status(), Some(Status::Busy));
    assert!(matches!(client.ping(), Err(Error::Protocol(_))));
    client.ping().unwrap(); // over the next one
    thread.join().unwrap();
}

#[test]
fn never_is_never_and_a_socket_from_elsewhere_has_no_other() {
    let _no_leak = no_leak();
    let (_dir, builder, thread) = listening(vec![hang_up]);
    let mut client = builder.reconnect(Reconnect::Never).connect().unwrap();
    for _ in 0..2 {
        assert!(matches!(client.ping(), Err(Error::Closed { .. })));
    }
    thread.join().unwrap();
    let (mut client, peer) = against(hang_up);
    for _ in 0..2 {
        assert!(matches!(client.ping(), Err(Error::Closed { .. })));
    }
    peer.join().unwrap();
}

#[test]
fn goodbye_is_said_to_the_daemon_that_was_asked() {
    let _no_leak = no_leak();
    let (_dir, builder, thread) = listening(vec![hang_up]);
    assert!(matches!(builder.connect().unwrap().close(), Err(Error::Closed { .. })));
    thread.join().unwrap();
}
