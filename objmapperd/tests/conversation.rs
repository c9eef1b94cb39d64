//! What a pipelining client may rely on: replies in the order of the requests, whatever they are,
//! and all of them, however it says goodbye.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::path::Path;

use objmapper_client::Pipeline;
use objmapper_proto::request::List;
use objmapper_proto::{Delivery, Get, GetMany, Hello, Mode, Range, Reply, Request, Status, limits};
use support::content::{Numbers, content};
use support::daemon::{Daemon, counter};
use support::peer::{Peer, uri_list};
use support::until;

/// A request of some kind, and what its answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Get(Mode, usize),
    Missing,
    Many(Mode),
    Stat,
    List,
    Ping(usize),
    Stats,
    Nonsense,
}

/// Sizes of the files: sent in place, streamed, streamed in many turns.
const SIZES: [usize; 4] = [0, 900, 70_000, 3_000_000];

/// A daemon with those files, and the script of a conversation.
struct Stage {
    daemon: Daemon,
    bodies: Vec<Vec<u8>>,
    uris: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let daemon = Daemon::start();
        let bodies: Vec<_> = SIZES.iter().map(|&size| content(size, size as u64)).collect();
        let uris: Vec<_> = SIZES.iter().map(|size| format!("/dir/{size}")).collect();
        for (uri, body) in uris.iter().zip(&bodies) {
            daemon.write(&uri[1..], body);
        }
        Self { daemon, bodies, uris }
    }

    /// Appends the request, and gives its id.
    fn ask(&self, peer: &mut Peer, asked: Asked, out: &mut Vec<u8>) -> u64 {
        let all = Range::ALL;
        match asked {
            Asked::Get(mode, file) => {
                let uri = self.uris[file].as_bytes();
                peer.encode(Request::Get(Get::new(mode, all, uri)), out)
            }
            Asked::Missing => {
                let get = Get::new(Mode::Copy, all, b"/missing");
                peer.encode(Request::Get(get), out)
            }
            Asked::Many(mode) => {
                let list = uri_list(&self.uris);
                peer.encode(Request::GetMany(GetMany::new(mode, &list).unwrap()), out)
            }
            Asked::Stat => peer.encode(Request::Stat(self.uris[1].as_bytes()), out),
            Asked::List => {
                let list = List { limit: 100, prefix: b"/dir", cursor: b"" };
                peer.encode(Request::List(list), out)
            }
            Asked::Ping(length) => peer.encode(Request::Ping(&vec![7; length]), out),
            Asked::Stats => peer.encode(Request::Stats, out),
            Asked::Nonsense => {
                let at = out.len();
                let id = peer.encode(Request::Stats, out);
                out[at + 4] = 0x5f; // an op that nothing has
                id
            }
        }
    }

    /// Reads the answer, which must be the next one.
    #[track_caller]
    fn hear(&self, peer: &mut Peer, asked: Asked, id: u64) {
        match asked {
            Asked::Get(mode, file) => {
                let answer = peer.object(id);
                assert_eq!((answer.status(), answer.end), (Status::Ok, Status::Ok), "{asked:?}");
                self.check(answer, mode, file);
            }
            Asked::Missing => assert_eq!(peer.object(id).status(), Status::NotFound),
            Asked::Nonsense => assert_eq!(peer.object(id).status(), Status::Unsupported),
            Asked::Many(mode) => {
                let answers = peer.objects(id, self.uris.len());
                for (file, answer) in answers.into_iter().enumerate() {
                    self.check(answer, mode, file);
                }
            }
            Asked::Stat => assert_eq!(peer.object(id).head.size, SIZES[1] as u64),
            Asked::List | Asked::Ping(_) | Asked::Stats => {
                let frame = peer.frame();
                assert_eq!(frame.header.id, id, "{asked:?}");
                match (asked, frame.reply()) {
                    (Asked::List, Reply::Entries(page)) => assert_eq!(page.count(), SIZES.len()),
                    (Asked::Ping(length), Reply::Pong(bytes)) => assert_eq!(bytes.len(), length),
                    (Asked::Stats, Reply::Stats(text)) => assert!(text.ends_with('\n')),
                    (_, other) => panic!("{asked:?} was answered by {other:?}"),
                }
            }
        }
    }

    #[track_caller]
    fn check(&self, answer: support::peer::Answer, mode: Mode, file: usize) {
        let by_descriptor = answer.head.delivery == Delivery::Descriptor;
        match mode {
            Mode::Fdpass => assert!(by_descriptor),
            Mode::Copy | Mode::Splice => assert!(!by_descriptor),
            Mode::Auto => {}
        }
        let mut bytes = answer.bytes;
        if let Some(file) = answer.file {
            std::io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
        }
        assert!(bytes == self.bodies[file], "file {file} by {mode}");
    }

    /// A batch of requests: sends them at once, and then `farewell` happens.
    fn batch(&self, script: &[Asked], farewell: impl FnOnce(&mut Peer, &mut Vec<u8>)) -> Peer {
        let mut peer = self.daemon.greeted();
        let mut out = Vec::new();
        let ids: Vec<u64> =
            script.iter().map(|&asked| self.ask(&mut peer, asked, &mut out)).collect();
        farewell(&mut peer, &mut out);
        for (&asked, id) in script.iter().zip(ids) {
            self.hear(&mut peer, asked, id);
        }
        peer
    }
}

/// Some of everything, in an order that depends on the seed.
fn script(seed: u64, length: usize) -> Vec<Asked> {
    let mut numbers = Numbers::new(seed);
    let mut request = || {
        let mode = Mode::ALL[numbers.below(4)];
        match numbers.below(16) {
            0..=6 => Asked::Get(mode, numbers.below(SIZES.len())),
            7 | 8 => Asked::Missing,
            9 => Asked::Many(mode),
            10 => Asked::List,
            11 => Asked::Stats,
            12 => Asked::Nonsense,
            13 => Asked::Stat,
            _ => Asked::Ping(numbers.below(limits::PING + 1)),
        }
    };
    (0..length).map(|_| request()).collect()
}

/// Few enough for the socket's own buffer, so that nothing has to be read meanwhile.
const BATCH: usize = 60;

#[test]
fn a_mixture_of_everything_is_answered_in_order() {
    let stage = Stage::new();
    for seed in 0..8 {
        let mut peer = stage.batch(&script(seed, BATCH), |peer, out| peer.send(out));
        peer.ping();
    }
}

#[test]
fn how_requests_are_cut_into_sends_changes_nothing() {
    let stage = Stage::new();
    for piece in [1, 7, 16, 17, 1000] {
        stage.batch(&script(piece as u64, 20), |peer, out| {
            // Beside the reader: while a body is under way nothing is read from us.
            let (writer, out) = (peer.writer(), std::mem::take(out));
            std::thread::spawn(move || {
                for piece in out.chunks(piece) {
                    assert_eq!(writer.send(piece, &[], false).unwrap(), piece.len());
                }
            });
        });
    }
}

#[test]
fn everything_may_come_right_behind_hello() {
    let stage = Stage::new();
    let mut peer = stage.daemon.peer();
    let mut out = peer.hello(Hello::default());
    let script = script(3, BATCH);
    let ids: Vec<u64> = script.iter().map(|&asked| stage.ask(&mut peer, asked, &mut out)).collect();
    peer.send(&out);
    let ack = peer.acknowledged();
    assert_eq!(ack.max_descriptors, 0);
    for (&asked, id) in script.iter().zip(ids) {
        stage.hear(&mut peer, asked, id);
    }
}

#[test]
fn who_closes_is_answered_to_the_end() {
    let stage = Stage::new();
    for seed in 0..8 {
        let mut close = 0;
        let mut peer = stage.batch(&script(seed, BATCH), |peer, out| {
            close = peer.encode(Request::Close, out);
            // What comes behind it is not read.
            peer.encode(Request::Ping(b"too late"), out);
            peer.send(out);
        });
        let frame = peer.frame();
        assert_eq!((frame.header.id, frame.reply()), (close, Reply::CloseAck(0)));
        peer.expect_end();
    }
}

#[test]
fn who_stops_sending_is_answered_to_the_end() {
    let stage = Stage::new();
    for seed in 0..24 {
        let mut script = script(seed, BATCH);
        // A large body in the middle, and one at the end.
        script[BATCH / 2] = Asked::Get(Mode::Copy, 3);
        script[BATCH - 1] = Asked::Get(if seed % 2 == 0 { Mode::Splice } else { Mode::Copy }, 3);
        let mut peer = stage.batch(&script, |peer, out| {
            peer.send(out);
            peer.stream.shutdown_write().unwrap();
        });
        peer.expect_end();
    }
}

#[test]
fn who_stops_sending_while_a_body_is_under_way_gets_all_of_it() {
    let stage = Stage::new();
    for mode in [Mode::Copy, Mode::Splice] {
        let mut peer = stage.daemon.greeted();
        let mut out = Vec::new();
        let body = stage.ask(&mut peer, Asked::Get(mode, 3), &mut out);
        let ping = stage.ask(&mut peer, Asked::Ping(5), &mut out);
        peer.send(&out);
        // The head and some bytes have come, the rest does not fit the socket: now say that
        // nothing more will be asked.
        let frame = peer.frame();
        let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
        peer.stream.shutdown_write().unwrap();
        let (bytes, end) = peer.body(body, item.head.range.length);
        assert!(bytes == stage.bodies[3] && end == Status::Ok);
        stage.hear(&mut peer, Asked::Ping(5), ping);
        peer.expect_end();
    }
}

#[test]
fn who_reads_late_gets_everything() {
    let stage = Stage::new();
    let script = script(11, BATCH);
    let mut watcher = stage.daemon.client();
    stage.batch(&script, |peer, out| {
        peer.send(out);
        // Nothing is read until the daemon can do no more than wait for that.
        let mut before = None;
        until("the daemon waits", || {
            let now = (
                counter(&mut watcher, "replies.body_bytes"),
                counter(&mut watcher, "transfer.bodies"),
            );
            let same = before == Some(now);
            before = Some(now);
            same && now.1 > 0
        });
    });
}

#[test]
fn a_deep_pipeline_of_the_client_library() {
    let stage = Stage::new();
    let mut client = stage.daemon.client();
    let mut pipeline: Pipeline<'_> = client.pipeline().unwrap();
    let mut numbers = Numbers::new(5);
    let mut expected = std::collections::VecDeque::new();
    for _ in 0..5000 {
        let file = numbers.below(3);
        let mode = Mode::ALL[numbers.below(4)];
        expected.push_back((pipeline.get(&stage.uris[file], mode).unwrap(), file));
    }
    for (id, answer) in &mut pipeline {
        let (expected_id, file) = expected.pop_front().unwrap();
        assert_eq!(id, expected_id);
        let objmapper_client::Answer::Object(object) = answer.unwrap() else { panic!() };
        assert!(object.into_bytes().unwrap() == stage.bodies[file]);
    }
    assert!(expected.is_empty());
}

#[test]
fn stats_are_lines_of_name_and_value_and_count() {
    let stage = Stage::new();
    let mut client = stage.daemon.client();
    let before = counter(&mut client, "requests.fdpass");
    for _ in 0..3 {
        client.open(&stage.uris[1]).unwrap();
    }
    assert_eq!(counter(&mut client, "requests.fdpass"), before + 3);
    until("it is alone", || counter(&mut client, "connections.open") == 1);
    assert_eq!(counter(&mut client, "pool.workers"), 2);
    let all = client.stats().unwrap();
    let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert!(all.iter().all(|(_, value)| value.parse::<u64>().is_ok()), "{all:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "each name once");
    // Operators find each of them explained, and nothing else.
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let manual = fs::read_to_string(manual).unwrap();
    let figures = manual.split("\n## ").find(|part| part.starts_with("Counters\n")).unwrap();
    let rows = figures.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let mut explained: Vec<&str> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    explained.sort_unstable();
    assert_eq!(explained, names);
}

#[test]
fn a_ping_brings_back_what_it_carried() {
    let daemon = Daemon::start();
    let mut peer = daemon.greeted();
    for length in [0, 1, limits::PING] {
        let bytes = content(length, 9);
        let id = peer.request(Request::Ping(&bytes));
        let frame = peer.frame();
        assert_eq!((frame.header.id, frame.reply()), (id, Reply::Pong(&bytes)));
    }
    let id = peer.request(Request::Ping(&[0; limits::PING + 1]));
    assert_eq!(peer.object(id).status(), Status::BadRequest);
    daemon.client().close().unwrap();
}
