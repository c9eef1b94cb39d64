//! The real daemon in a machine whose power is cut, again and again: under `always` everything that it
//! acknowledged is there after the next start, under `interval` all but what is younger than the interval
//! and one sync; with compaction in a third of the rounds, and some cuts while it recovers.
//!
//! A process that is killed leaves the kernel's page cache behind, and a sync that is missing does not
//! show. So here the kernel dies, too: it is a User-Mode Linux, an ordinary process without privileges,
//! and its disk is a file. Clients in the machine tell what was sent and what was acknowledged over a
//! serial line, and whoever reads that outlives the power cut.
//!
//! ```text
//! apt-get install user-mode-linux e2fsprogs     # or OBJMAPPER_UML=/path/to/linux.uml
//! POWER_CUTS=20 cargo test --release -p objmapperd --test power_cuts -- --nocapture
//! ```
//!
//! Without a kernel (or where it cannot run) the tests are skipped, and say so. The checker is that of
//! `crash_loop`: `support::writers`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod inside;
mod machine;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use std::{env, fs};

use machine::{Machine, Tools};
use support::writers::{Found, Value, WRITERS, Writers};
use support::{PATIENCE, skip};

/// What the machine ticks in, in milliseconds: how long something is ago is counted in its own ticks,
/// which stop when all of it does.
const TICK: u64 = 10;

/// `sync_interval`, in ticks.
const INTERVAL: u64 = 10;

/// What one sync may take beside, in ticks.
const SYNC: u64 = 20;

/// What is known outside of the machine.
struct Log {
    policy: &'static str,
    writers: Writers,
    ticks: u64,
    /// By writer: when what is not promised was acknowledged.
    acknowledged: [VecDeque<u64>; WRITERS],
    /// What is being told of a check.
    found: Found,
    /// Whether it was told whole, and checked.
    checked: bool,
    compacted: u64,
    /// All that was acknowledged, and how much of that was lost.
    count: usize,
    lost: usize,
    /// How long before the cut the first one that was lost was acknowledged, at most.
    oldest: u64,
}

impl Log {
    fn new(policy: &'static str) -> Self {
        Self {
            policy,
            writers: Writers::new(),
            ticks: 0,
            acknowledged: Default::default(),
            found: Found::default(),
            checked: false,
            compacted: 0,
            count: 0,
            lost: 0,
            oldest: 0,
        }
    }

    /// What the machine says, word by word as in `inside`.
    fn take(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap();
        let place = |at: usize| usize::try_from(number(at)).unwrap();
        match words[0] {
            "up" | "starting" => {}
            "tick" => self.tick(),
            "sent" => drop(self.writers.all[place(1)].pipeline()),
            "done" => {
                self.count += 1;
                self.acknowledged[place(1)].push_back(self.ticks);
                if self.policy == "always" {
                    self.promise(place(1));
                }
            }
            "key" => {
                let value = Value { turn: number(3), long: place(4) };
                let key = u32::try_from(number(2)).unwrap();
                self.found.maps[place(1)].insert(key, (value, number(5) == 1));
            }
            "sum" => self.found.sum = number(1),
            "found" => self.check(),
            "compacted" => self.compacted += 1,
            _ => panic!("the machine says: {line}"),
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        for writer in 0..WRITERS {
            let old = |&&at: &&u64| at + INTERVAL + SYNC < self.ticks;
            let old = self.acknowledged[writer].iter().take_while(old).count();
            for _ in 0..old * usize::from(self.policy == "interval") {
                self.promise(writer);
            }
        }
    }

    fn promise(&mut self, writer: usize) {
        self.acknowledged[writer].pop_front().unwrap();
        self.writers.all[writer].promise(1);
    }

    fn check(&mut self) {
        let done = self.writers.check(std::mem::take(&mut self.found));
        for (times, done) in self.acknowledged.iter_mut().zip(done) {
            self.lost += times.len().saturating_sub(done);
            if let Some(first) = times.get(done) {
                self.oldest = self.oldest.max(self.ticks - first + 1);
            }
            times.clear();
        }
        self.checked = true;
    }
}

/// Below `n`, by chance.
fn chance(n: u64) -> u64 {
    RandomState::new().build_hasher().finish() % n
}

/// The daemon's configuration and the writers' turns, where the machine looks for them.
fn prepare(dir: &Path, policy: &str, compacting: bool, writers: &Writers) {
    let often = "compact_from = 0\ncompact_percent = 1\nsegment = \"64KiB\"\n";
    let mut config = inside::config(policy, INTERVAL * TICK);
    config += if compacting { often } else { "compact_percent = 0\n" };
    fs::write(dir.join(inside::CONFIG), config).unwrap();
    let mut turns = String::new();
    for writer in &writers.all {
        writeln!(turns, "{}", writer.turn()).unwrap();
    }
    fs::write(dir.join(inside::TURNS), turns).unwrap();
}

/// So many cuts under this policy. `None` where no machine can be had.
fn cuts(policy: &'static str, cuts: u32) -> Option<Log> {
    // One after the other: what an old write is counts on the machine's own time only so far.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let tools = Tools::find().map_err(|why| skip(&why)).ok()?;
    let dir = tempfile::tempdir().unwrap();
    tools.make_disk(dir.path());
    let (mut log, mut compacted, begun) = (Log::new(policy), 0, Instant::now());
    for round in 0..=cuts {
        prepare(dir.path(), policy, round % 3 == 1, &log.writers);
        log.checked = false;
        let before = log.compacted;
        let mut machine = Machine::boot(&tools, dir.path());
        match machine.line(PATIENCE) {
            Ok(up) if up == "up" => {}
            other if round == 0 => {
                skip(&format!("no machine comes up ({other:?}): {}", machine.console()));
                return None;
            }
            other => panic!("it does not come up again ({other:?}): {}", machine.console()),
        }
        // Some lose their power while they recover, the last one when all is checked.
        let early = round % 6 == 5 && round < cuts;
        let ready = |log: &Log, line: &str| if early { line == "starting" } else { log.checked };
        loop {
            let line = machine.line(PATIENCE);
            let line =
                line.unwrap_or_else(|why| panic!("nothing comes ({why}): {}", machine.console()));
            log.take(&line);
            if ready(&log, &line) {
                break;
            }
        }
        let more = match round {
            _ if early => chance(300),
            last if last == cuts => 0,
            _ => 20 + chance(1500),
        };
        let end = Instant::now() + Duration::from_millis(more);
        loop {
            match machine.line(end.saturating_duration_since(Instant::now())) {
                Ok(line) => log.take(&line),
                Err(RecvTimeoutError::Timeout) => break,
                Err(why) => panic!("it went down by itself ({why}): {}", machine.console()),
            }
        }
        for line in machine.cut() {
            log.take(&line);
        }
        compacted += u32::from(log.compacted > before);
    }
    eprintln!(
        "{policy}: {cuts} cuts in {:.0?}, {compacted} rounds with {} compactions, {} requests acknowledged, \
         {} of them lost, the oldest {} ms before the cut; sum {}",
        begun.elapsed(),
        log.compacted,
        log.count,
        log.lost,
        log.oldest * TICK,
        log.writers.sum,
    );
    assert!(log.count > 0, "nothing was written");
    assert!(cuts < 2 || log.compacted > 0, "none was long enough to compact in");
    Some(log)
}

fn wanted() -> u32 {
    env::var("POWER_CUTS").map_or(3, |n| n.parse().unwrap())
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged_always() {
    if let Some(log) = cuts("always", wanted()) {
        assert_eq!(log.lost, 0);
    }
}

#[test]
fn a_power_cut_loses_nothing_old_interval() {
    cuts("interval", wanted());
}

/// That the cord works: what nobody syncs is lost.
#[test]
fn a_power_cut_shows_what_is_not_synced() {
    if let Some(log) = cuts("never", 1) {
        assert!(log.lost > 0, "nothing was lost: is that a power cut?");
    }
}

/// What runs in the machine, as its first process.
#[test]
#[ignore = "is for the machine of the other tests"]
fn inside() {
    if env::var_os(inside::HERE).is_some() {
        inside::run();
    }
}
