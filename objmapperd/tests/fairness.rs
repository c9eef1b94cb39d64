//! Everybody gets on: many busy connections on two workers, counted in replies, not in time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;

use objmapper_client::Mode;
use objmapper_os::fds::FdQueue;
use objmapper_os::limits::raise_nofile;
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{self, Split};
use objmapper_proto::{Get, Hello, Op, Range, Request, limits};
use support::content::content;
use support::daemon::{Daemon, counter};
use support::held::Held;
use support::neighbour::Neighbour;
use support::peer::Peer;
use support::{skip, until};

/// Far more than there are workers.
const CONNECTIONS: usize = 100;

/// A connection that always has requests waiting, as many as a depth says, and counts replies.
struct Busy {
    stream: Stream,
    request: Vec<u8>,
    /// What is left of requests that were not taken yet.
    unsent: VecDeque<u8>,
    buffer: Vec<u8>,
    room: Vec<u8>,
    fds: FdQueue,
    replies: usize,
}

impl Busy {
    /// Has sent `depth` requests.
    fn new(daemon: &Daemon, mode: Mode, uri: &str, depth: usize) -> Self {
        let mut peer = daemon.peer();
        let mut hello = peer.hello(Hello::default());
        let mut request = Vec::new();
        Request::Get(Get::new(mode, Range::ALL, uri.as_bytes())).encode(2, &mut request);
        hello.extend(request.repeat(depth));
        let stream = peer.stream;
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            request,
            unsent: hello.into(),
            buffer: Vec::new(),
            room: vec![0; 256 * 1024],
            fds: FdQueue::with_capacity(limits::DESCRIPTORS),
            replies: 0,
        }
    }

    /// Takes what has come, and asks once more for each reply.
    fn step(&mut self) {
        match self.stream.recv(&mut self.room, &mut self.fds) {
            Ok(received) => self.buffer.extend_from_slice(&self.room[..received.bytes]),
            Err(error) => assert!(error.is_would_block(), "{error}"),
        }
        self.fds.clear();
        let mut used = 0;
        while let Split::Whole(frame, n) =
            frame::split(&self.buffer[used..], limits::REPLY_PAYLOAD).unwrap()
        {
            used += n;
            let op = Op::from_u8(frame.header.op).unwrap();
            let inline = frame.header.length as usize > 64 || frame.header.fds > 0;
            // A streamed reply is over with its END.
            if op == Op::End || op == Op::Object && inline {
                self.replies += 1;
                self.unsent.extend(&self.request);
            }
            assert_ne!(op, Op::Error, "{frame:?}");
        }
        self.buffer.drain(..used);
        while !self.unsent.is_empty() {
            match self.stream.send(self.unsent.make_contiguous(), &[], false) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.is_would_block() => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Runs all of them, in turn, until `total` replies came. The daemon always has far more to do
/// than is taken from it in a round, so that it, and not this loop, decides who is served.
fn run(connections: &mut [Busy], total: usize) {
    until("that many replies have come", || {
        connections.iter_mut().for_each(Busy::step);
        connections.iter().map(|busy| busy.replies).sum::<usize>() >= total
    });
}

#[track_caller]
fn nobody_starves(connections: &[Busy]) {
    let mut replies: Vec<usize> = connections.iter().map(|busy| busy.replies).collect();
    replies.sort_unstable();
    let mean = replies.iter().sum::<usize>() / replies.len();
    assert!(replies[0] >= mean / 3, "{} is least, {mean} the mean: {replies:?}", replies[0]);
}

/// `total` replies are a good many turns for each: a machine that is busy with other things as well
/// keeps a worker from its CPU for as long as several.
fn a_hundred_on_two_workers(mode: Mode, size: usize, depth: usize, total: usize) {
    raise_nofile().unwrap();
    let daemon = Daemon::start();
    daemon.write("file", &content(size, 3));
    let mut connections: Vec<Busy> =
        (0..CONNECTIONS).map(|_| Busy::new(&daemon, mode, "/file", depth)).collect();
    run(&mut connections, total);
    nobody_starves(&connections);
}

#[test]
fn a_hundred_busy_connections_on_two_workers() {
    a_hundred_on_two_workers(Mode::Copy, 16, 256, CONNECTIONS * 4000);
}

#[test]
fn a_hundred_that_ask_for_descriptors() {
    a_hundred_on_two_workers(Mode::Fdpass, 16, 64, CONNECTIONS * 1500);
}

#[test]
fn a_hundred_bodies_on_one_transfer_path() {
    a_hundred_on_two_workers(Mode::Splice, 300_000, 8, CONNECTIONS * 30);
}

#[test]
fn a_few_without_measure_do_not_stop_the_others() {
    let daemon = Daemon::start();
    let mut neighbour = Neighbour::of(&daemon);
    let mut greedy: Vec<Busy> = (0..4)
        .map(|n| {
            Busy::new(&daemon, Mode::Copy, ["/neighbour/small", "/neighbour/large"][n % 2], 400)
        })
        .collect();
    // They are served all the time, before and after each of the neighbour's requests.
    for _ in 0..20 {
        let before: usize = greedy.iter().map(|busy| busy.replies).sum();
        run(&mut greedy, before + 200);
        neighbour.check();
    }
    drop(greedy);
    daemon.settles_with(1);
    neighbour.check_anew(&daemon);
}

#[test]
fn idle_workers_take_over_from_busy_ones() {
    raise_nofile().unwrap();
    let daemon = Daemon::start();
    daemon.write("file", &content(16, 3));
    let mut watcher = daemon.client();
    // Connections are dealt out in turn: with every other one idle, all the work is one worker's.
    let (mut busy, mut idle) = (Vec::new(), Vec::new());
    for n in 0..40 {
        if n % 2 == 0 {
            busy.push(Busy::new(&daemon, Mode::Copy, "/file", 64));
            busy.last_mut().unwrap().step();
        } else {
            idle.push(daemon.greeted());
        }
    }
    let before = counter(&mut watcher, "pool.steals");
    until("work was stolen", || {
        run(&mut busy, 1);
        counter(&mut watcher, "pool.steals") > before
    });
    idle.iter_mut().for_each(support::peer::Peer::ping);
}

#[test]
fn a_worker_that_is_held_back_is_relieved() {
    let daemon = Daemon::start();
    daemon.write("x", b"x");
    let mut peers: Vec<Peer> = (0..6).map(|_| daemon.greeted()).collect();
    let get = Get::new(Mode::Copy, Range::ALL, b"/x");
    let Some(held) = Held::back(&daemon, "worker-0", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    // One of these it opens itself, and is held back; the others are done by its neighbour. Until
    // it is caught: the neighbour may have been quicker with all of them.
    let (stuck, id) = loop {
        let ids: Vec<u64> = peers.iter_mut().map(|p| p.request(Request::Get(get))).collect();
        let mut open: Vec<usize> = (0..peers.len()).collect();
        until("all are answered, but for the one that is held", || {
            open.retain(|&n| !peers[n].stream.has_input().unwrap());
            open.is_empty() || open.len() == 1 && held.has_caught()
        });
        for n in (0..peers.len()).filter(|n| !open.contains(n)) {
            assert_eq!(peers[n].object(ids[n]).bytes, b"x");
        }
        if let [n] = open[..] {
            break (n, ids[n]);
        }
    };
    let before = counter(&mut daemon.client(), "pool.reliefs");
    // What becomes ready now at the one that is held is in its epoll instance and nowhere else.
    for n in (0..peers.len()).filter(|&n| n != stuck) {
        peers[n].ping();
    }
    assert!(counter(&mut daemon.client(), "pool.reliefs") > before);
    assert!(!peers[stuck].stream.has_input().unwrap(), "it was held back all the while");
    drop(held);
    assert_eq!(peers[stuck].object(id).bytes, b"x");
}

/// How often a thread of this name has given up its CPU: each time that it went to sleep.
fn sleeps(daemon: &Daemon, thread: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let is_named = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap().trim() == thread;
    let status = fs::read_to_string(tasks.find(is_named).unwrap().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_worker_that_works_alone_is_watched() {
    let daemon = Daemon::start();
    // All the work is one worker's; the other wakes up now and then to see how it gets on.
    let mut peer = daemon.greeted();
    let workers = ["worker-0", "worker-1"];
    let before = workers.map(|worker| sleeps(&daemon, worker));
    until("both have slept again and again", || {
        peer.ping();
        let now = workers.map(|worker| sleeps(&daemon, worker));
        now.iter().zip(before).all(|(now, before)| *now > before + 20)
    });
}
