//! From requests to the core's verbs to replies: one table for each door.
//!
//! Not here: reading, sending, scheduling. A service is given a request that was
//! decoded and puts its reply into the connection's outbox.

mod many;
mod objects;
mod place;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_utils::CachePadded;
use objmapper::{Patience, Store};

use crate::closers;
use crate::helpers::Helpers;
use crate::ledger::Ledger;
use crate::link::Flushed;
use crate::metrics::{self, AnswerCounters, Metrics};

/// What all services share.
#[derive(Debug)]
pub struct House {
    /// Names to objects.
    pub store: Store,
    /// Descriptors in flight.
    pub ledger: Arc<Ledger>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Whether the kernel keeps clients from sending descriptors; else we look.
    pub refuses_descriptors: bool,
    /// Who waits for disks.
    pub helpers: Helpers,
    /// The daemon is stopping: answer what was asked, then part.
    pub draining: AtomicBool,
}

impl House {
    /// The counters, as STATS tells them.
    pub fn stats(&self) -> String {
        let mut out = String::with_capacity(2048);
        self.metrics.write(&mut out);
        let index = self.store.index_counters();
        let (in_flight, limit, refusals, debts) = self.ledger.figures();
        let helpers = self.helpers.figures();
        let lines = [
            ("helpers.threads", helpers.threads as u64),
            ("helpers.running", helpers.running as u64),
            ("helpers.waiting", helpers.waiting as u64),
            ("helpers.longest_ms", helpers.longest_ms),
            ("helpers.closing", closers::waiting()),
            ("index.hits", index.hits),
            ("index.misses", index.misses),
            ("index.entries", index.entries),
            ("index.bytes", index.bytes),
            ("index.evictions", index.evictions),
            ("descriptors.in_flight_at_most", in_flight as u64),
            ("descriptors.limit", limit as u64),
            ("descriptors.waits", refusals),
            ("descriptors.closed_connections_that_owe", debts as u64),
        ];
        for (name, value) in lines {
            metrics::line(&mut out, name, value);
        }
        out
    }
}

/// Somebody who answers: with whose patience, into which counters.
#[derive(Debug)]
pub struct Service {
    /// What is served.
    pub house: Arc<House>,
    /// Whether this thread may wait for a disk.
    pub patience: Patience,
    /// Where this thread counts.
    pub counters: Arc<CachePadded<AnswerCounters>>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its reply is in the outbox.
    Done,
    /// Its reply's head is in the outbox and its body is the connection's now.
    Body,
    /// So far; the same request goes on when this part's body, or turn, is over.
    Part,
    /// It would have to wait for a disk: ask again with patience.
    Cold,
    /// The outbox must empty first, and cannot.
    Stuck(Flushed),
}
