//! What a service manager hears: a socket is put in its place, and every message compared.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use objmapper_os::clock;
use objmapper_proto::{Get, Mode, Range, Request, Status};
use support::content::content;
use support::daemon::{Place, Setup};
use support::held::Held;
use support::{PATIENCE, skip, until};

/// Larger than any socket's buffer.
const LARGE: usize = 24 << 20;

/// A socket that a service manager would listen at.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn beside(place: &Place) -> Self {
        let path = place.outside("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned() }
    }

    /// The next message.
    #[track_caller]
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Lets go of everything that has come so far.
    fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 1]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }

    /// RELOADING with a time that is not before `since`, in microseconds.
    #[track_caller]
    fn hears_reloading(&self, since: u64) {
        let message = self.hears();
        let lines: Vec<&str> = message.lines().collect();
        let [reloading, time, status] = lines[..] else { panic!("{message}") };
        assert_eq!((reloading, status), ("RELOADING=1", "STATUS=Reloading"));
        let time: u64 = time.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((since..=clock::monotonic_ns() / 1000).contains(&time), "{message}");
    }
}

#[test]
fn ready_reloading_ready_stopping() {
    let place = Place::new();
    let manager = Manager::beside(&place);
    let config = place.outside("objmapperd.toml");
    let mut daemon = Setup::default().variable("NOTIFY_SOCKET", &manager.path).start_in(place);
    // Said when connections are accepted; before, nothing was said.
    assert_eq!(manager.hears(), "READY=1\nSTATUS=Serving 1 mount");

    let tree = fs::read_to_string(&config).unwrap();
    let dir = daemon.tree().display().to_string();
    fs::write(&config, format!("{tree}[[mount]]\nuri = \"/more\"\ndir = \"{dir}\"\n")).unwrap();
    let before = clock::monotonic_ns() / 1000;
    daemon.signal("HUP");
    manager.hears_reloading(before);
    assert_eq!(manager.hears(), "READY=1\nSTATUS=Serving 2 mounts");

    // One that fails ends all the same, and says so.
    fs::write(&config, format!("{tree}[limits]\nindex_shards = 3\n")).unwrap();
    let before = clock::monotonic_ns() / 1000;
    daemon.signal("HUP");
    manager.hears_reloading(before);
    let ready = manager.hears();
    let place = format!("{}:5: limits.index_shards = 3: must be", config.display());
    let status =
        "READY=1\nSTATUS=Serving 2 mounts; not reloaded: there is a mistake in the configuration: ";
    assert!(ready.starts_with(&format!("{status}{place}")), "{ready}");
    assert_eq!(ready.lines().count(), 2);

    fs::write(&config, tree).unwrap();
    let before = clock::monotonic_ns() / 1000;
    daemon.signal("HUP");
    manager.hears_reloading(before);
    assert_eq!(manager.hears(), "READY=1\nSTATUS=Serving 1 mount", "the trouble is over");

    // Said when the drain begins, not when it is over.
    daemon.write("large", &content(LARGE, 1));
    let mut peer = daemon.greeted();
    let (id, length) = peer.begin_body(b"/large");
    daemon.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=Draining");
    assert_eq!(peer.body(id, length).1, Status::Ok);
    drop(peer);
    assert!(daemon.wait().success());
}

#[test]
fn who_wants_signs_of_life_gets_them() {
    let place = Place::new();
    let manager = Manager::beside(&place);
    let mut daemon = Setup::default()
        .variable("NOTIFY_SOCKET", &manager.path)
        .variable("WATCHDOG_USEC", "20000")
        .start_in(place);
    assert_eq!(manager.hears(), "READY=1\nSTATUS=Serving 1 mount");
    // While nobody asks for anything, and while it works.
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    daemon.write("large", &content(LARGE, 1));
    let mut peer = daemon.greeted();
    let (id, length) = peer.begin_body(b"/large");
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    // A drain may take long: it is no reason to fall silent.
    daemon.signal("TERM");
    while manager.hears() != "STOPPING=1\nSTATUS=Draining" {}
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    assert_eq!(peer.body(id, length).1, Status::Ok);
    drop(peer);
    assert!(daemon.wait().success());
}

#[test]
fn signs_of_life_that_another_process_owes_are_not_sent() {
    let place = Place::new();
    let manager = Manager::beside(&place);
    let mut daemon = Setup::default()
        .variable("NOTIFY_SOCKET", &manager.path)
        .variable("WATCHDOG_USEC", "1")
        .variable("WATCHDOG_PID", std::process::id().to_string())
        .start_in(place);
    assert_eq!(manager.hears(), "READY=1\nSTATUS=Serving 1 mount");
    for _ in 0..10 {
        daemon.signal("HUP");
        manager.hears_reloading(0);
        assert_eq!(manager.hears(), "READY=1\nSTATUS=Serving 1 mount");
    }
    daemon.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=Draining");
    assert!(daemon.wait().success());
}

#[test]
fn a_worker_that_is_stuck_keeps_it_silent() {
    let place = Place::new();
    let manager = Manager::beside(&place);
    let mut daemon = Setup::default()
        .workers(1)
        .variable("NOTIFY_SOCKET", &manager.path)
        .variable("WATCHDOG_USEC", "200000")
        .start_in(place);
    daemon.write("x", b"after all");
    let Some(held) = Held::back(&daemon, "worker-0", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    let mut peer = daemon.greeted();
    let get = Get::new(Mode::Copy, Range::ALL, b"/x");
    let id = peer.request(Request::Get(get));
    let stuck = "ERROR stuck; not telling the service manager that all is well threads=worker-0";
    until("it is noticed", || daemon.log().contains(stuck));
    drop(held);
    assert_eq!(peer.object(id).bytes, b"after all");
    // Read what was said so far; what comes then was said after.
    manager.forget();
    assert_eq!(manager.hears(), "WATCHDOG=1");
    drop(peer);
    assert!(daemon.stop().success());
}
