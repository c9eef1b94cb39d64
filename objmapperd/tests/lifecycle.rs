//! How the daemon starts, what it takes over from a service manager, and how it stops.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use objmapper_client::Client;
use objmapper_proto::{Get, Mode, Range, Reply, Request, Status};
use support::content::content;
use support::daemon::{Daemon, Place, Setup, counter};
use support::peer::Peer;
use support::{PATIENCE, is_root, skip, until, wait_for};

/// Larger than any socket's buffer.
const LARGE: usize = 24 << 20;

/// A peer with a body half out.
fn with_a_body_under_way(daemon: &Daemon) -> (Peer, u64, u64) {
    daemon.write("large", &content(LARGE, 1));
    let mut peer = daemon.greeted();
    let (id, length) = peer.begin_body(b"/large");
    (peer, id, length)
}

/// Nobody can connect any more: the drain has begun.
#[track_caller]
fn until_it_drains(daemon: &Daemon) {
    until("the socket is closed", || Peer::connect(&daemon.socket()).is_err());
}

#[track_caller]
fn dismissed_because_it_stops(peer: &mut Peer) {
    let (status, text) = peer.expect_dismissal();
    assert_eq!(
        (status, text.as_str()),
        (Status::Stopping, "the daemon is stopping: connect again")
    );
}

/// The end of a process that was not expected to become a daemon, and what it said.
#[track_caller]
fn failed(mut child: Child, place: &Place) -> (Option<i32>, String) {
    let status = wait_for("the process has ended", || child.try_wait().unwrap());
    (status.code(), fs::read_to_string(place.outside("log")).unwrap())
}

#[test]
fn told_to_stop_while_nobody_asks_anything() {
    for signal in ["TERM", "INT"] {
        let mut daemon = Daemon::start();
        let mut silent = daemon.peer();
        let mut idle: Vec<Peer> = (0..20).map(|_| daemon.greeted()).collect();
        // Half a request is no request.
        idle[0].send(&[1, 2, 3]);
        daemon.signal(signal);
        idle.iter_mut().for_each(dismissed_because_it_stops);
        dismissed_because_it_stops(&mut silent);
        assert!(daemon.wait().success());
        assert!(!daemon.socket().exists(), "the socket is removed");
        assert_eq!(fs::read_dir(daemon.outside("run")).unwrap().count(), 0);
    }
}

#[test]
fn told_to_stop_while_a_body_is_under_way() {
    let mut daemon = Daemon::start();
    let (mut peer, id, length) = with_a_body_under_way(&daemon);
    let mut idle = daemon.greeted();
    daemon.signal("TERM");
    until_it_drains(&daemon);
    dismissed_because_it_stops(&mut idle);
    let (bytes, end) = peer.body(id, length);
    assert!(end == Status::Ok && bytes == content(LARGE, 1), "the body is whole");
    dismissed_because_it_stops(&mut peer);
    assert!(daemon.wait().success());
    assert!(!daemon.log().contains("cutting off"), "{}", daemon.log());
}

#[test]
fn what_was_asked_before_the_stop_is_answered() {
    let mut daemon = Daemon::start();
    let (mut peer, id, length) = with_a_body_under_way(&daemon);
    // Behind the body, unread so far.
    let pings: Vec<u64> = (0..100).map(|_| peer.request(Request::Ping(b"still there?"))).collect();
    daemon.signal("TERM");
    until_it_drains(&daemon);
    assert_eq!(peer.body(id, length).1, Status::Ok);
    for id in pings {
        let frame = peer.frame();
        assert_eq!((frame.header.id, frame.reply()), (id, Reply::Pong(b"still there?")));
    }
    dismissed_because_it_stops(&mut peer);
    assert!(daemon.wait().success());
}

#[test]
fn a_body_that_was_asked_for_behind_another_is_the_last_thing_that_comes() {
    let mut daemon = Setup::default().argument("--drain-deadline").argument("1h").start();
    let (mut peer, first, length) = with_a_body_under_way(&daemon);
    // Read in the turn that the stop gives, when the first is out.
    let second = peer.request(Request::Get(Get::new(Mode::Splice, Range::ALL, b"/large")));
    let mut idle = daemon.greeted();
    daemon.signal("TERM");
    until_it_drains(&daemon);
    dismissed_because_it_stops(&mut idle);
    assert_eq!(peer.body(first, length).1, Status::Ok);
    assert_eq!(peer.frame().header.id, second);
    assert_eq!(peer.body(second, length).1, Status::Ok);
    dismissed_because_it_stops(&mut peer);
    assert!(daemon.wait().success());
}

#[test]
fn who_does_not_read_is_cut_off_at_the_deadline() {
    let mut daemon = Setup::default().argument("--drain-deadline").argument("100ms").start();
    let (peer, ..) = with_a_body_under_way(&daemon);
    assert!(daemon.stop().success());
    assert!(daemon.log().contains("drain deadline passed; cutting off"), "{}", daemon.log());
    // The stream ends inside the body: nobody can take that for the whole.
    let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
    loop {
        match peer.stream.recv_bytes(&mut buffer) {
            Ok(n) if n > 0 => read += n,
            _ => break,
        }
    }
    assert!(read < LARGE, "{read} bytes came");
}

#[test]
fn told_twice_it_does_not_wait() {
    let mut daemon = Setup::default().argument("--drain-deadline").argument("1h").start();
    let (_peer, ..) = with_a_body_under_way(&daemon);
    daemon.signal("TERM");
    until_it_drains(&daemon);
    until("it has begun to drain", || daemon.log().contains("stopping"));
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(daemon.log().contains("second signal; cutting off"), "{}", daemon.log());
}

#[test]
fn the_socket_looks_as_it_was_configured() {
    for (mode, bits) in [("0600", 0o600), ("0666", 0o666), ("0660", 0o660)] {
        let daemon = Setup::default().argument("--socket-mode").argument(mode).start();
        let metadata = fs::metadata(daemon.socket()).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, bits);
    }
    if !is_root() {
        return skip("only root may give a socket to somebody else");
    }
    let listen = "[listen]\nowner = \"daemon\"\ngroup = \"daemon\"\n";
    let daemon = Setup::default().config(listen).start();
    let metadata = fs::metadata(daemon.socket()).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1, 1));
}

#[test]
fn an_abstract_name_will_do() {
    let place = Place::new();
    let name = format!("@objmapper-test-{}", std::process::id());
    let mut child = Setup::default().socket(name.clone().into()).spawn(&place);
    let builder = Client::builder().path(&name).timeout(PATIENCE);
    wait_for("it listens", || builder.connect().ok()).ping().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_replaced() {
    let place = Daemon::start().kill();
    assert!(place.socket().exists());
    let daemon = Setup::default().start_in(place);
    daemon.client().ping().unwrap();
}

#[test]
fn a_second_daemon_is_refused() {
    let daemon = Daemon::start();
    let second = Place::new();
    let before = fs::metadata(daemon.socket()).unwrap().ino();
    let setup = Setup::default().socket(daemon.socket());
    let (code, said) = failed(setup.spawn(&second), &second);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another process is listening here"), "{said}");
    let remedy = ": stop the process that listens there, or choose another place with --socket";
    assert!(said.contains(remedy), "{said}");
    assert!(said.contains(daemon.socket().to_str().unwrap()), "{said}");
    assert_eq!(fs::metadata(daemon.socket()).unwrap().ino(), before);
    daemon.client().ping().unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let place = Place::new();
    fs::write(place.socket(), b"precious").unwrap();
    let (code, said) = failed(Setup::default().spawn(&place), &place);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("exists and is not a socket"), "{said}");
    assert!(said.contains(": move what is there away, or choose another place"), "{said}");
    assert_eq!(fs::read(place.socket()).unwrap(), b"precious");
}

#[test]
fn a_start_that_cannot_succeed_says_why() {
    let place = Place::new();
    let (code, said) = failed(Setup::default().nofile(300).spawn(&place), &place);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("RLIMIT_NOFILE is 300 and must be more than") && said.contains("raise it"),
        "{said}"
    );
    assert!(!place.socket().exists());

    if !is_root() {
        return skip("root is needed to take a directory from another user");
    }
    let place = Place::new();
    fs::set_permissions(place.tree(), fs::Permissions::from_mode(0o700)).unwrap();
    let setup = Setup::default().root_options("read_only_clone = \"on\"\n").unprivileged();
    let (code, said) = failed(setup.spawn(&place), &place);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot mount") && said.contains("because:"), "{said}");
}

#[test]
fn a_socket_from_a_service_manager_is_used_and_left() {
    let place = Place::new();
    let path = place.outside("given");
    let listen = format!("--listen={}", path.display());
    let words = ["systemd-socket-activate", &listen, "--fdname=objmapper"];
    if Command::new(words[0]).arg("--version").output().is_err() {
        return skip("systemd-socket-activate is not installed");
    }
    let mut child = Setup::default().wrapper(&words).spawn(&place);
    place.write("file", b"content");
    // The connection that starts the daemon is its first.
    let client = Client::builder().path(&path).timeout(PATIENCE);
    let mut client = wait_for("somebody listens", || client.connect().ok());
    assert_eq!(client.open("/file").unwrap().read_to_vec().unwrap(), b"content");
    assert_eq!(counter(&mut client, "connections.accepted"), 1);
    assert!(!place.socket().exists(), "no socket of its own");
    drop(client);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let status = wait_for("the daemon has ended", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(path.exists(), "what the service manager made is its own to remove");
}

#[test]
fn of_several_sockets_the_one_with_the_name_is_taken() {
    let place = Place::new();
    let (ours, other) = (place.outside("ours"), place.outside("other"));
    let (listen_ours, listen_other) =
        (format!("--listen={}", ours.display()), format!("--listen={}", other.display()));
    let words =
        ["systemd-socket-activate", &listen_other, &listen_ours, "--fdname=admin:objmapper"];
    if Command::new(words[0]).arg("--version").output().is_err() {
        return skip("systemd-socket-activate is not installed");
    }
    let mut child = Setup::default().wrapper(&words).spawn(&place);
    let client = Client::builder().path(&ours).timeout(PATIENCE);
    wait_for("somebody listens", || client.connect().ok()).ping().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_daemon_that_was_activated_for_another_is_not_confused() {
    let place = Place::new();
    let taken = UnixListener::bind(place.outside("taken")).unwrap();
    // Variables that were meant for the process that started this one.
    let daemon = Setup::default()
        .variable("LISTEN_FDS", "1")
        .variable("LISTEN_PID", std::process::id().to_string())
        .start_in(place);
    daemon.client().ping().unwrap();
    drop(taken);
}
