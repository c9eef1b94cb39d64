//! The committer: a thread that waits for the disk so that no worker has to.
//!
//! ```text
//!  worker ──loan──▶ all that wait ──▶ one write(2), one fdatasync(2) ──▶ back to the pool, all of them
//! ```
//!
//! A connection whose replies may not leave before the journal is durable stays here meanwhile.
//! *Group commit*: a sync costs the same for one as for all, so it does not begin with the first
//! who comes, but when no worker has a turn left to run (nobody else can come then), when as many
//! wait as the last sync had, or after a few polls of workers that have no end of turns. While one
//! sync is under way the next batch gathers. The committer sends the replies itself: a change of
//! thread for each would cost twice as much as sending them. What is more than that (the sync
//! failed, there is more to read) is for a turn; all of those are queued at once, behind the sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use objmapper::kv::journal::Journal;
use parking_lot::{Condvar, Mutex};

use crate::connection::{Connection, WaitsFor};
use crate::link::Flushed;
use crate::outbox::Outbox;
use crate::pool::{Loan, Returns, Turn};
use crate::unsettled::Unsettled;

/// Polls of busy workers for which those who came are kept waiting for others: some 30 short turns.
/// Not tuned.
const POLLS: u32 = 8;

/// The way to the committer.
#[derive(Clone, Default)]
pub struct Committer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
    /// 0: nobody is kept waiting for others. Else one more than the polls of busy workers
    /// since the first was. Changed with `waiting` locked, but for counting.
    gathering: AtomicU32,
}

#[derive(Default)]
struct Waiting {
    loans: Vec<Loan<Connection>>,
    /// How many the last sync was for.
    last: usize,
    /// No more need to come before the next sync.
    ready: bool,
    stop: bool,
}

impl Committer {
    /// Starts the thread.
    pub fn start(&self, journal: Arc<Journal>) -> std::io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("committer".to_owned());
        thread.spawn(move || {
            let (mut loans, mut returns) = (Vec::new(), Returns::default());
            while shared.next(&mut loans) {
                // If it fails, each turn finds that out.
                let _ = journal.sync(journal.appended());
                let durable = journal.durable();
                for mut loan in loans.drain(..) {
                    if let Some(connection) = loan.connection() {
                        let turn = reply(connection, durable);
                        returns.add(loan, turn);
                    }
                }
                returns.queue();
            }
        })
    }

    /// Hands over a connection whose replies wait for the journal.
    pub fn send(&self, loan: Loan<Connection>) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.stop {
            return;
        }
        waiting.loans.push(loan);
        if waiting.ready {
            return;
        }
        if waiting.loans.len() >= waiting.last {
            self.shared.begin(&mut waiting);
        } else if waiting.loans.len() == 1 {
            self.shared.gathering.store(1, Ordering::Relaxed);
        }
    }

    /// A worker polls; `busy`: it has more turns to run.
    #[inline]
    pub fn pause(&self, busy: bool) {
        if self.shared.gathering.load(Ordering::Relaxed) > 0 {
            self.shared.pause(busy);
        }
    }

    /// Ends the thread; who waits is closed.
    pub fn stop(&self) {
        let mut waiting = self.shared.waiting.lock();
        waiting.stop = true;
        let loans = std::mem::take(&mut waiting.loans);
        drop(waiting);
        self.shared.more.notify_one();
        drop(loans);
    }
}

/// Sends the replies that waited; how the turn would have ended that they are of.
fn reply(c: &mut Connection, durable: u64) -> Turn {
    if c.unsettled.position() > durable {
        return Turn::Again;
    }
    c.unsettled = Unsettled::default();
    c.waits_for = WaitsFor::Nothing;
    match c.link.flush() {
        Flushed::All => {
            c.has_sent();
            // The connection keeps no room for what it has not.
            c.link.outbox = Outbox::default();
            c.queued.set(c.leftover.len());
            let done = c.drained && c.leftover.is_empty() && c.bodies.is_empty();
            if done && !c.session.closing {
                c.expect_more(false);
                return Turn::Wait;
            }
            Turn::Again
        }
        Flushed::Blocked => {
            c.expect_reading();
            Turn::Blocked
        }
        Flushed::Full | Flushed::Gone => Turn::Again,
    }
}

impl Shared {
    /// Waits until a sync is to be made, and takes those that it is for. False when it is time to end.
    fn next(&self, loans: &mut Vec<Loan<Connection>>) -> bool {
        let mut waiting = self.waiting.lock();
        while !waiting.ready {
            if waiting.stop {
                return false;
            }
            self.more.wait(&mut waiting);
        }
        waiting.ready = false;
        std::mem::swap(&mut waiting.loans, loans);
        waiting.last = loans.len();
        !waiting.stop
    }

    /// Lets the next sync begin.
    fn begin(&self, waiting: &mut Waiting) {
        waiting.ready = true;
        self.gathering.store(0, Ordering::Relaxed);
        self.more.notify_one();
    }

    #[cold]
    fn pause(&self, busy: bool) {
        if busy && self.gathering.fetch_add(1, Ordering::Relaxed) < POLLS {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.loans.is_empty() || waiting.ready {
            // The count came late.
            self.gathering.store(0, Ordering::Relaxed);
        } else {
            self.begin(&mut waiting);
        }
    }
}
