//! From requests to the core's verbs to replies: one table for each protocol.
//!
//! Not here: reading, sending, scheduling. A service is given a request that was
//! decoded and puts its reply into the connection's outbox.

pub mod batch;
mod effort;
pub mod keys;
mod many;
pub mod native;
mod objects;
mod place;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_utils::CachePadded;
use objmapper::kv::Wait;
use objmapper::{Caller, Patience, Rules, Store, Verbs};
use objmapper_os::peer;

use crate::budget::Budget;
use crate::closers::{self, Closers};
use crate::config::Stats;
use crate::deadline::Deadlines;
use crate::helpers::Helpers;
use crate::ledger::Ledger;
use crate::link::Flushed;
use crate::metrics::{self, AnswerCounters, Metrics};
use keys::KeyService;

/// What all services share.
#[derive(Debug)]
pub struct Daemon {
    /// Names to objects.
    pub store: Store,
    /// Who answers those that speak RESP.
    pub key_service: KeyService,
    /// Bytes of a stream that a worker sends itself.
    pub in_place: u64,
    /// Descriptors in flight.
    pub ledger: Arc<Ledger>,
    /// What else can be used up.
    pub budgets: Budgets,
    /// Who may pass descriptors.
    pub destinations: Rules,
    /// What clients passed is closed here.
    pub closers: Closers,
    /// What peers have to do, and until when.
    pub deadlines: Arc<Deadlines>,
    /// Who may ask for the figures.
    pub stats_for: Stats,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Who waits for disks.
    pub helpers: Helpers,
    /// The daemon is stopping: answer what was asked, then part.
    pub draining: AtomicBool,
}

/// What all connections share, and one user may have a part of.
#[derive(Debug)]
pub struct Budgets {
    /// Connections that are open.
    pub connections: Arc<Budget>,
    /// Bodies under way.
    pub bodies: Arc<Budget>,
    /// Bytes kept for connections that nobody serves.
    pub queued: Arc<Budget>,
}

impl Daemon {
    /// Whether it is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether they may pass descriptors.
    pub fn may_pass(&self, caller: &Caller) -> bool {
        self.destinations.allowed(caller.uid(), |gid| caller.is_in_group(gid)) != Verbs::NONE
    }

    /// Whether this user may ask for the figures.
    pub fn may_have_stats(&self, uid: u32) -> bool {
        self.stats_for == Stats::Any || uid == 0 || uid == peer::own_uid()
    }

    /// The counters, as STATS tells them.
    pub fn stats(&self) -> String {
        let mut out = String::with_capacity(4096);
        let index = self.store.index_counters();
        let shared = self.store.shared_counters();
        let (in_flight, limit, refusals, debts) = self.ledger.figures();
        let Budgets { connections, bodies, queued } = &self.budgets;
        metrics::line(&mut out, "connections.open", connections.used() as u64);
        self.metrics.write(&mut out);
        let helpers = self.helpers.figures();
        let lines = [
            ("helpers.threads", helpers.threads as u64),
            ("helpers.running", helpers.running as u64),
            ("helpers.waiting", helpers.waiting as u64),
            ("helpers.longest_ms", helpers.longest_ms),
            ("helpers.closing", closers::waiting()),
            ("connections.over_share", connections.refusals()),
            ("connections.timed_out", self.deadlines.missed()),
            ("bodies.under_way", bodies.used() as u64),
            ("bodies.limit", bodies.limit() as u64),
            ("queued.bytes", queued.used() as u64),
            ("queued.limit", queued.limit() as u64),
            ("index.hits", index.hits),
            ("index.misses", index.misses),
            ("index.entries", index.entries),
            ("index.bytes", index.bytes),
            ("index.evictions", index.evictions),
            ("shared.hits", shared.hits),
            ("shared.misses", shared.misses),
            ("shared.evictions", shared.evictions),
            ("shared.invalidations", shared.invalidations),
            ("shared.overflows", shared.overflows),
            ("shared.no_watch", shared.no_watch),
            ("shared.descriptors", shared.descriptors),
            ("shared.watches", shared.watches),
            ("descriptors.in_flight_at_most", in_flight as u64),
            ("descriptors.limit", limit as u64),
            ("descriptors.waits", refusals),
            ("descriptors.closed_connections_that_owe", debts as u64),
        ];
        for (name, value) in lines {
            metrics::line(&mut out, name, value);
        }
        self.key_service.write_figures(Wait::Briefly, &mut out);
        out
    }
}

/// Somebody who answers: with whose patience, into which counters.
#[derive(Debug)]
pub struct Service {
    /// What is served.
    pub daemon: Arc<Daemon>,
    /// Whether this thread may wait for a disk.
    pub patience: Patience,
    /// Where this thread counts.
    pub counters: Arc<CachePadded<AnswerCounters>>,
    /// Whether shared descriptions are current for the requests that were read last.
    observed: Cell<bool>,
}

impl Service {
    /// Answers for this daemon.
    pub fn new(daemon: Arc<Daemon>, patience: Patience) -> Self {
        let counters = daemon.metrics.answers();
        Self { daemon, patience, counters, observed: Cell::new(false) }
    }

    /// Who answers those that speak RESP.
    #[inline]
    pub fn key_service(&self) -> &KeyService {
        &self.daemon.key_service
    }

    /// Other requests have arrived: what changed before may be what they ask about.
    #[inline]
    pub fn begin(&self) {
        self.observed.set(false);
    }

    /// Makes shared descriptions current, once for the requests that were read together.
    #[inline]
    fn observe(&self) {
        if !self.observed.replace(true) {
            self.daemon.store.observe();
        }
    }
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
    /// What waits in the outbox, or what it would tell, has to be durable first: ask again.
    Unsettled,
    /// The outbox must empty first, and cannot.
    Stuck(Flushed),
}
