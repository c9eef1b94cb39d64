//! What one user may have of the whole. Whoever has had enough waits, or is told the limit with
//! its name; the next user is served.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use objmapper_os::limits::raise_nofile;
use objmapper_proto::{
    Get, GetMany, Header, Hello, Mode, Op, Range, Reply, Request, Status, limits,
};
use support::content::content;
use support::daemon::{Daemon, NOBODY, Setup, counter};
use support::neighbour::Neighbour;
use support::peer::{Peer, uri_list};
use support::{is_root, skip, until};

/// The least that a daemon of two workers and two helpers starts with, and little more.
const FEW: u64 = 1400;

/// A daemon that anybody may connect to.
fn for_anybody() -> Setup {
    let setup = Setup::default().unprivileged().root_options("allow = [\"any\"]\n");
    setup.argument("--socket-mode").argument("0666")
}

/// Another user's process, which keeps what it got until it is told to go.
struct Lazy {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it got.
    got: usize,
}

impl Lazy {
    /// Runs this program's test of this name as a user of its own, and waits until it says
    /// what it has.
    fn start(daemon: &Daemon, role: &str, number: u32) -> Self {
        let uid = NOBODY + 1 + number;
        let spawn = |program: &Path| {
            let mut command = Command::new(program);
            command.args(["--exact", role, "--ignored", "--nocapture"]);
            command.env("TEST_SOCKET", daemon.socket()).uid(uid).gid(uid);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        };
        let program = std::env::current_exe().unwrap();
        let mut child = spawn(&program).unwrap_or_else(|_| {
            // The build's directory is not open to that user.
            let copy = daemon.outside("test");
            if !copy.exists() {
                std::fs::copy(&program, &copy).unwrap();
            }
            spawn(&copy).unwrap()
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let got = lines.find_map(|line| line.unwrap().strip_prefix("got ")?.parse().ok()).unwrap();
        // The rest of what it says is nobody's; the pipe stays open for it.
        let stdin = child.stdin.take();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, stdin, got }
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// For the other half: says how much it got, and waits until it may go.
fn keep<T>(things: T, count: usize) {
    // For the test that runs this one.
    #[allow(clippy::print_stdout)]
    {
        println!("\ngot {count}");
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(things);
}

fn test_peer() -> Option<Peer> {
    let socket = std::env::var_os("TEST_SOCKET")?;
    Some(Peer::connect(Path::new(&socket)).unwrap())
}

#[test]
#[ignore = "the other half of a test below: it is run by that, as another user"]
fn takes_descriptors_and_does_not_read() {
    if std::env::var_os("TEST_SOCKET").is_none() {
        return skip("runs only as a part of another test");
    }
    let uris = uri_list(&vec!["/neighbour/small"; 253]);
    let lazy: Vec<Peer> = (0..4)
        .map(|_| {
            let mut peer = test_peer().unwrap();
            peer.greet();
            for _ in 0..8 {
                peer.request(Request::GetMany(GetMany::new(Mode::Fdpass, &uris).unwrap()));
            }
            peer
        })
        .collect();
    keep(lazy, 4);
}

#[test]
#[ignore = "the other half of a test below: it is run by that, as another user"]
fn takes_connections() {
    if std::env::var_os("TEST_SOCKET").is_none() {
        return skip("runs only as a part of another test");
    }
    raise_nofile().unwrap();
    let mut admitted = Vec::new();
    loop {
        let mut peer = test_peer().unwrap();
        let hello = peer.hello(Hello::default());
        let _ = peer.try_send(&hello);
        let frame = peer.frame();
        if frame.header.id != 0 {
            admitted.push(peer);
            continue;
        }
        let Reply::Error(error) = frame.reply() else { panic!("{frame:?}") };
        assert_eq!(error.status, Status::Busy);
        assert!(error.text.contains("limits.connections_per_uid"), "{}", error.text);
        let count = admitted.len();
        return keep(admitted, count);
    }
}

#[test]
#[ignore = "the other half of a test below: it is run by that, as another user"]
fn asks_for_figures() {
    if std::env::var_os("TEST_SOCKET").is_none() {
        return skip("runs only as a part of another test");
    }
    let mut peer = test_peer().unwrap();
    peer.greet();
    peer.request(Request::Stats);
    let frame = peer.frame();
    let Reply::Error(error) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(error.status, Status::Denied);
    assert!(error.text.contains("listen.stats"), "{}", error.text);
    peer.ping();
    keep(peer, 1);
}

#[test]
fn figures_may_be_for_the_owner_and_root_alone() {
    if !is_root() {
        return skip("two users are needed, and only root can be two");
    }
    let daemon = for_anybody().config("[listen]\nstats = \"owner\"\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    let other = Lazy::start(&daemon, "asks_for_figures", 0);
    assert_eq!(counter(&mut neighbour.client, "connections.open"), 2);
    drop(other);
    daemon.settles_with(1);
}

#[test]
fn however_many_users_do_not_read_descriptors_others_get_some() {
    raise_nofile().unwrap();
    if !is_root() {
        return skip("several users are needed, and only root can be several");
    }
    let daemon = for_anybody().nofile(FEW).start();
    let mut neighbour = Neighbour::of(&daemon);
    let limit = counter(&mut neighbour.client, "descriptors.limit");
    let mut lazy = Vec::new();
    for number in 0..6 {
        lazy.push(Lazy::start(&daemon, "takes_descriptors_and_does_not_read", number));
        // Whatever they have by now.
        neighbour.check_anew(&daemon);
    }
    let mut before = 0;
    until("they are refused again and again", || {
        let waits = counter(&mut neighbour.client, "descriptors.waits");
        let more = waits > before && before > 0;
        before = waits;
        more
    });
    for _ in 0..30 {
        neighbour.check_anew(&daemon);
    }
    let in_flight = counter(&mut neighbour.client, "descriptors.in_flight_at_most");
    assert!(in_flight > limit / 3 && in_flight < limit, "{in_flight} of {limit}");
    drop(lazy);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn however_many_users_take_connections_others_get_some() {
    if !is_root() {
        return skip("several users are needed, and only root can be several");
    }
    let daemon = for_anybody().config("[limits]\nconnections = 1000\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    let lazy: Vec<_> = (0..6).map(|n| Lazy::start(&daemon, "takes_connections", n)).collect();
    let got: Vec<_> = lazy.iter().map(|lazy| lazy.got).collect();
    // The first one has most, and no one nothing.
    assert!((600..=656).contains(&got[0]) && got.iter().all(|&got| got > 1), "{got:?}");
    for _ in 0..20 {
        neighbour.check_anew(&daemon);
    }
    assert_eq!(counter(&mut neighbour.client, "connections.over_share"), 6);
    assert!(counter(&mut neighbour.client, "connections.open") < 900);
    drop(lazy);
    daemon.settles_with(1);
}

#[test]
fn connections_of_one_user_have_a_limit_also_for_root() {
    let daemon = Setup::default().config("[limits]\nconnections_per_uid = 10\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut admitted: Vec<Peer> = (1..10).map(|_| daemon.greeted()).collect();
    for _ in 0..3 {
        let (status, text) = daemon.peer().expect_dismissal();
        let uid = objmapper_os::peer::own_uid();
        assert_eq!(status, Status::Busy);
        let expected = "has 10 connections open, limits.connections_per_uid is 10";
        assert_eq!(text, format!("uid {uid} {expected}"));
    }
    assert_eq!(counter(&mut neighbour.client, "connections.turned_away"), 3);
    assert_eq!(counter(&mut neighbour.client, "connections.over_share"), 3);
    admitted.pop();
    daemon.settles_with(9);
    daemon.greeted().ping();
    drop(admitted);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn bodies_that_are_one_too_many() {
    let daemon = Setup::default().config("[limits]\nbodies = 4\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    File::create(daemon.path("huge")).unwrap().set_len(1 << 32).unwrap();
    let ask =
        |peer: &mut Peer, mode| peer.request(Request::Get(Get::new(mode, Range::ALL, b"/huge")));
    let mut lazy: Vec<Peer> = (0..3).map(|_| daemon.greeted()).collect();
    for (n, peer) in lazy.iter_mut().enumerate() {
        ask(peer, [Mode::Copy, Mode::Splice][n % 2]);
        until("it is under way", || {
            counter(&mut neighbour.client, "bodies.under_way") == n as u64 + 1
        });
    }
    // Three of four, since one user may have three times what is left.
    let mut peer = daemon.greeted();
    let answer = peer.get(Mode::Copy, b"/huge", Range::ALL);
    assert_eq!(answer.status(), Status::Busy);
    assert!(answer.text.contains("3 of 3 bodies under way") && answer.retry_after_ms > 0);
    assert!(answer.text.contains("limits.bodies is 4"), "{}", answer.text);
    let answers = peer.get_many(Mode::Copy, &["/neighbour/small", "/huge", "/neighbour/small"]);
    let statuses: Vec<Status> = answers.iter().map(support::peer::Answer::status).collect();
    assert_eq!(statuses, [Status::Ok, Status::Busy, Status::Ok]);
    // What is no body of its own is not concerned.
    assert_eq!(peer.get(Mode::Copy, b"/neighbour/small", Range::ALL).bytes, content(300, 1));
    assert!(peer.get(Mode::Fdpass, b"/huge", Range::ALL).file.is_some());
    drop((lazy, peer));
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn unfinished_requests_have_a_limit_together() {
    const LIMIT: usize = 1 << 20;
    let daemon = Setup::default().config("[limits]\nqueued_bytes = \"1MiB\"\n").start();
    let mut neighbour = Neighbour::of(&daemon);
    let length = u32::try_from(limits::REQUEST_PAYLOAD).unwrap();
    let mut whole =
        Header { length, op: Op::GetMany as u8, flags: 0, fds: 0, id: 2 }.encode().to_vec();
    whole.resize(limits::HEADER + limits::REQUEST_PAYLOAD, 0xff);
    let mut peers: Vec<Peer> = (0..40).map(|_| daemon.greeted()).collect();
    // As much of it as the socket takes.
    let mut sent = vec![0; peers.len()];
    for (peer, sent) in peers.iter().zip(&mut sent) {
        peer.stream.set_nonblocking(true).unwrap();
        *sent = peer.stream.send(&whole[..whole.len() - 1], &[], false).unwrap();
        assert!(*sent > 64 * 1024, "{sent}");
    }
    let asked: usize = sent.iter().sum();
    assert!(asked > 2 * LIMIT);
    let queued = |neighbour: &mut Neighbour| counter(&mut neighbour.client, "queued.bytes");
    // One user gets about a half; beside that a read that was under way, and a little of each.
    let most = (LIMIT / 2 + 4 * 64 * 1024 + peers.len() * 4096) as u64;
    until("as much as may be is taken in", || queued(&mut neighbour) >= LIMIT as u64 / 3);
    for _ in 0..20 {
        neighbour.check_anew(&daemon);
        let now = queued(&mut neighbour);
        assert!(now <= most, "{now} bytes are kept, {most} are allowed");
    }
    // When some have gone, what others began comes to its end.
    peers.truncate(2);
    for (peer, sent) in peers.iter_mut().zip(&sent) {
        peer.stream.set_nonblocking(false).unwrap();
        peer.send(&whole[*sent..]);
        assert_eq!(peer.object(2).status(), Status::Unsupported);
        peer.ping();
    }
    assert_eq!(queued(&mut neighbour), 0);
    drop(peers);
    daemon.settles_with(1);
}

#[test]
fn the_sum_of_the_limits_is_told() {
    raise_nofile().unwrap();
    let daemon = Setup::default().nofile(FEW).argument("--log").argument("debug").start();
    let log = daemon.log();
    for words in [
        "16384  connections                limits.connections",
        "350  files of bodies under way  limits.bodies",
        "700  waiting to be sent         limits.descriptors_in_flight",
        "1400  allowed                    RLIMIT_NOFILE",
    ] {
        assert!(log.contains(words), "{words:?} in {log}");
    }
    assert!(log.contains("RLIMIT_NOFILE 1400 is below"), "{log}");
}
