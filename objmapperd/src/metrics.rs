//! Counters: each written by one thread, read by anybody.
//!
//! Each thread has a block of its own and counts with a plain load and store, without an
//! atomic read-modify-write; STATS adds the blocks up. Names are `area.what`, with the
//! unit as a suffix unless it is a count; docs/operating.md explains each.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use objmapper_proto::{Mode, Status};
use parking_lot::Mutex;

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, for the one thread that owns the counter.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// What it says.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[$doc])* pub $field: Counter,)* }

        impl $name {
            /// Names, in the order of [`Self::values`].
            const NAMES: &'static [&'static str] = &[$($text,)*];

            fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$field.value(),)*].into_iter()
            }
        }
    };
}

counters! {
    /// What a worker of the pool counts.
    WorkerCounters {
        /// Turns run.
        turns: "pool.turns",
        /// Tasks taken from another worker.
        steals: "pool.steals",
        /// Times that a worker took over from one that had not polled for a while.
        reliefs: "pool.reliefs",
        /// Turns that ended waiting for the peer to read, or for a limit.
        parks: "pool.parks",
        /// Times that a worker had nothing to do.
        sleeps: "pool.sleeps",
        /// Times that a worker looked for more for a moment before it slept.
        spins: "pool.spins",
        /// Turns that were timed.
        timed_turns: "sched.wait_count",
        /// From readiness to service, in timed turns.
        wait_ns: "sched.wait_ns_sum",
        /// In timed turns.
        work_ns: "sched.work_ns",
        /// From one poll's return to the next poll, where the turns between were timed.
        total_ns: "sched.total_ns",
    }
}

counters! {
    /// What whoever answers requests counts.
    AnswerCounters {
        /// Requests for a descriptor.
        fdpass: "requests.fdpass",
        /// Requests for the bytes.
        copy: "requests.copy",
        /// Requests for the bytes, moved by the kernel.
        splice: "requests.splice",
        /// Requests that leave the form to us.
        auto: "requests.auto",
        /// Requests for metadata.
        stat: "requests.stat",
        /// Requests for names.
        list: "requests.list",
        /// Requests about keys, in our own protocol.
        keys: "requests.keys",
        /// Everything else.
        other: "requests.other",
        /// Commands of those who speak RESP.
        commands: "requests.commands",
        /// Of these, answered with an error.
        errors: "replies.command_errors",
        /// Descriptors sent.
        descriptors: "replies.descriptors",
        /// Objects that were not sent because the client has that version.
        not_modified: "replies.not_modified",
        /// Bytes of bodies sent in place or streamed.
        body_bytes: "replies.body_bytes",
        /// Refusals that the client has to do something about.
        refused: "replies.refused",
        /// Refusals for want of something.
        busy: "replies.busy",
        /// Faults of the kernel or a file system.
        faults: "replies.faults",
        /// Connections that broke the protocol.
        violations: "connections.violations",
        /// Requests that went to a helper because they would have had to wait.
        errands: "pool.errands",
        /// Of these, requests about keys that may take long.
        long: "pool.long",
        /// Of these, requests about keys that somebody else held for long.
        locked: "pool.locked",
        /// Bodies that were streamed.
        transfers: "transfer.bodies",
        /// Those of them that a worker sent.
        in_place: "transfer.in_place",
        /// Times that a body had to wait for a disk.
        cold: "transfer.cold",
        /// Bodies that ended because the object changed.
        changed: "transfer.changed",
    }
}

impl AnswerCounters {
    /// The counter of requests in this mode.
    #[inline]
    pub fn of(&self, mode: Mode) -> &Counter {
        match mode {
            Mode::Auto => &self.auto,
            Mode::Fdpass => &self.fdpass,
            Mode::Copy => &self.copy,
            Mode::Splice => &self.splice,
        }
    }

    /// Counts a refusal.
    pub fn refusal(&self, status: Status) {
        match status {
            Status::Busy => self.busy.add(1),
            Status::Io => self.faults.add(1),
            Status::Changed => self.changed.add(1),
            _ => self.refused.add(1),
        }
    }
}

/// All blocks.
#[derive(Debug, Default)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    answers: Mutex<Vec<Arc<CachePadded<AnswerCounters>>>>,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections turned away at a limit.
    pub turned_away: AtomicU64,
}

impl Metrics {
    /// A block for a worker.
    pub fn worker(&self) -> Arc<WorkerCounters> {
        let block = Arc::new(WorkerCounters::default());
        self.workers.lock().push(block.clone());
        block
    }

    /// A block for somebody who answers.
    pub fn answers(&self) -> Arc<CachePadded<AnswerCounters>> {
        let block = Arc::new(CachePadded::new(AnswerCounters::default()));
        self.answers.lock().push(block.clone());
        block
    }

    /// Commands that were answered to those who speak RESP, and how many with an error.
    pub fn commands(&self) -> (u64, u64) {
        let blocks = self.answers.lock();
        blocks.iter().fold((0, 0), |(commands, errors), block| {
            (commands + block.commands.value(), errors + block.errors.value())
        })
    }

    /// Lines of `name value`.
    pub fn write(&self, out: &mut String) {
        line(out, "connections.accepted", self.accepted.load(Ordering::Relaxed));
        line(out, "connections.turned_away", self.turned_away.load(Ordering::Relaxed));
        let workers = self.workers.lock();
        line(out, "pool.workers", workers.len() as u64);
        sum(out, WorkerCounters::NAMES, workers.iter().map(|b| b.values()));
        sum(out, AnswerCounters::NAMES, self.answers.lock().iter().map(|b| b.values()));
    }
}

fn sum(out: &mut String, names: &[&str], blocks: impl Iterator<Item = impl Iterator<Item = u64>>) {
    let mut sums = vec![0; names.len()];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
    }
    names.iter().zip(sums).for_each(|(name, value)| line(out, name, value));
}

/// Appends one line.
pub fn line(out: &mut String, name: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name} {value}");
}
