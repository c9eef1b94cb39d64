//! The real daemon, loaded and killed without a word, again and again: what it acknowledged is there
//! after the next start, under each policy, with compaction in a third of the rounds.
//!
//! A few rounds in the ordinary tests; the long form is
//!
//! ```text
//! CRASH_ROUNDS=100 cargo test --release -p objmapperd --test crash_loop -- --nocapture
//! ```
//!
//! The checker knows of each writer what was sent and how much of it was acknowledged. Since a writer's
//! requests are done in order, what is found must be what the first m of them lead to, with m not
//! below what was acknowledged and not above what was sent. A counter that all add to must lie between
//! the two sums. (A kill keeps what the kernel has; a missing sync shows in a power cut only.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use support::daemon::{Place, Setup};
use support::resp::{Reply, Resp, encoded};
use support::{until, wait_for};

const WRITERS: u32 = 4;
const KEYS: u32 = 30;

/// Requests that a writer sends at once at most.
const PIPELINE: u32 = 8;

/// Ends far in the future, so that it can be told from one that is lost.
const LATER: &str = "9000000000000";

/// One request of a writer.
#[derive(Debug, Clone)]
enum Verb {
    Set(u32, String),
    /// With an end.
    SetUntil(u32, String),
    Delete(u32),
    Add,
}

/// What a writer's keys are: the value, and whether it ends.
type Map = BTreeMap<u32, (String, bool)>;

fn apply(map: &mut Map, verb: &Verb) {
    match verb {
        Verb::Set(key, value) => drop(map.insert(*key, (value.clone(), false))),
        Verb::SetUntil(key, value) => drop(map.insert(*key, (value.clone(), true))),
        Verb::Delete(key) => drop(map.remove(key)),
        Verb::Add => {}
    }
}

/// A writer, over all rounds.
struct Writer {
    number: u32,
    /// After what was acknowledged, or found.
    map: Map,
    /// Sent and not acknowledged.
    open: Vec<Verb>,
    turn: u64,
    acknowledged: u64,
}

impl Writer {
    fn name(&self, key: u32) -> String {
        format!("writer {} key {key}", self.number)
    }

    /// Numbers that look like chance, the same in each run.
    fn chance(&mut self) -> u32 {
        self.turn += 1;
        let n = (self.turn ^ u64::from(self.number) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u32::try_from((n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40).unwrap()
    }

    fn next(&mut self) -> Verb {
        let (key, turn) = (self.chance() % KEYS, self.turn);
        // Some are long enough to lie in memory of their own.
        let long = if self.chance().is_multiple_of(50) { 60_000 } else { self.chance() % 100 };
        let value = format!("{turn} {}", "x".repeat(usize::try_from(long).unwrap()));
        match self.chance() % 10 {
            0 | 1 => Verb::Delete(key),
            2 => Verb::Add,
            3 | 4 => Verb::SetUntil(key, value),
            _ => Verb::Set(key, value),
        }
    }

    /// As it is sent.
    fn words(&self, verb: &Verb) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        match verb {
            Verb::Set(key, value) => words(&["SET", &self.name(*key), value]),
            Verb::SetUntil(key, value) => words(&["SET", &self.name(*key), value, "PXAT", LATER]),
            Verb::Delete(key) => words(&["DEL", &self.name(*key)]),
            Verb::Add => words(&["INCR", "sum"]),
        }
    }

    /// Writes until the daemon is gone.
    fn write(&mut self, socket: &Path) {
        let Ok(mut redis) = Resp::connect(socket) else { return };
        loop {
            let mut pipeline = Vec::new();
            let count = 1 + self.chance() % PIPELINE;
            for _ in 0..count {
                let verb = self.next();
                pipeline.extend(encoded(&self.words(&verb)));
                self.open.push(verb);
            }
            if redis.try_send(&pipeline).is_err() {
                return;
            }
            for _ in 0..count {
                match redis.try_reply() {
                    Ok(Reply::Error(error)) => panic!("{error}"),
                    Ok(_) => {
                        let verb = self.open.remove(0);
                        self.acknowledged += u64::from(matches!(verb, Verb::Add));
                        apply(&mut self.map, &verb);
                    }
                    Err(_) => return,
                }
            }
        }
    }

    /// Looks what is there, and goes on from it.
    fn check(&mut self, redis: &mut Resp) {
        let mut found = Map::new();
        for key in 0..KEYS {
            let name = self.name(key);
            match redis.ask(&["GET", &name]) {
                Reply::Null => {}
                Reply::Bulk(value) => {
                    let end = redis.ask(&["PEXPIRETIME", &name]);
                    let until = end == Reply::Integer(LATER.parse().unwrap());
                    found.insert(key, (String::from_utf8(value).unwrap(), until));
                }
                other => panic!("{other:?}"),
            }
        }
        let mut map = self.map.clone();
        for done in 0..=self.open.len() {
            if map == found {
                self.map = map;
                return;
            }
            if let Some(verb) = self.open.get(done) {
                apply(&mut map, verb);
            }
        }
        let lost: Vec<_> =
            self.map.iter().filter(|(key, kept)| found.get(key) != Some(kept)).collect();
        panic!(
            "writer {}: what is there is no beginning of what it sent; acknowledged and not there: {lost:?}, open: {:?}",
            self.number, self.open
        );
    }
}

fn setup(policy: &str, compacting: bool, place: &Place) -> Setup {
    let often = "compact_from = 0\ncompact_percent = 1\nsegment = \"64KiB\"\n";
    let kv = format!(
        "[kv]\nsocket = \"{}\"\ndir = \"{}\"\nsync = \"{policy}\"\nsync_interval = \"20ms\"\n{}",
        place.outside("run/kv").display(),
        place.outside("kv").display(),
        if compacting { often } else { "compact_percent = 0\n" },
    );
    Setup::default().config(&kv)
}

fn rounds(policy: &str) {
    let rounds: u32 = std::env::var("CRASH_ROUNDS").map_or(3, |n| n.parse().unwrap());
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|number| Writer {
            number,
            map: Map::new(),
            open: Vec::new(),
            turn: 0,
            acknowledged: 0,
        })
        .collect();
    let (mut place, mut sum, mut compacted) = (Place::new(), 0, 0);
    let begun = Instant::now();
    for round in 0..=rounds {
        let compacting = round % 3 == 1;
        let socket = place.outside("run/kv");
        let mut daemon = setup(policy, compacting, &place).start_in(place);
        let mut redis = wait_for("it takes clients", || Resp::connect(&socket).ok());
        sum = check(&mut writers, sum, &mut redis);
        drop(redis);
        if round == rounds {
            assert!(daemon.stop().success());
            break;
        }
        let load = Duration::from_millis(50 + u64::from(round * 37 % 200));
        place = std::thread::scope(|scope| {
            for writer in &mut writers {
                let socket = &socket;
                scope.spawn(move || writer.write(socket));
            }
            // How long it is loaded is no condition of anything.
            std::thread::sleep(load);
            if compacting && compacted == 0 {
                // Once at least, however slow it is here.
                until("it has compacted", || daemon.log().contains("compacted the journal"));
            }
            compacted += usize::from(compacting && daemon.log().contains("compacted the journal"));
            daemon.kill()
        });
    }
    let took = begun.elapsed();
    eprintln!("{policy}: {rounds} rounds in {took:?}, {compacted} with compactions, sum {sum}");
    assert!(compacted > 0, "none was long enough to compact in");
}

/// Checks all writers and the counter that they share; gives what that is now.
fn check(writers: &mut [Writer], before: u64, redis: &mut Resp) -> u64 {
    let (mut least, mut most) = (before, before);
    for writer in writers {
        let open = writer.open.iter().filter(|verb| matches!(verb, Verb::Add)).count() as u64;
        least += writer.acknowledged;
        most += writer.acknowledged + open;
        writer.check(redis);
        writer.open.clear();
        writer.acknowledged = 0;
    }
    let sum = match redis.ask(&["GET", "sum"]) {
        Reply::Null => 0,
        Reply::Bulk(digits) => String::from_utf8(digits).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    };
    assert!((least..=most).contains(&sum), "the sum is {sum}, not in {least}..={most}");
    sum
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_always() {
    rounds("always");
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_interval() {
    rounds("interval");
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_never() {
    rounds("never");
}
