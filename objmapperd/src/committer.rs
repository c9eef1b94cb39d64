//! The committer: a thread that waits for the disk so that no worker has to.
//!
//! ```text
//!  worker ──loan──▶ all that wait ──▶ one write(2), one fdatasync(2) ──▶ back to the pool, all of them
//! ```
//!
//! A connection whose replies may not leave before the journal is durable stays here meanwhile. While
//! one sync is under way the next batch gathers. The committer sends the replies itself: a change of
//! thread for each would cost twice as much as sending them, and split the next batch. What is more
//! than that (the sync failed, there is more to read) is for a turn.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use objmapper::kv::journal::Journal;
use parking_lot::{Condvar, Mutex};

use crate::connection::{Connection, WaitsFor};
use crate::link::Flushed;
use crate::outbox::Outbox;
use crate::pool::{Loan, Turn};
use crate::unsettled::Unsettled;

/// The way to the committer.
#[derive(Clone, Default)]
pub struct Committer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    loans: Vec<Loan<Connection>>,
    stop: bool,
}

impl Committer {
    /// Starts the thread.
    pub fn start(&self, journal: Arc<Journal>) -> std::io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("committer".to_owned());
        thread.spawn(move || {
            while let Some(loans) = shared.next() {
                // If it fails, each turn finds that out.
                let _ = journal.sync(journal.appended());
                let durable = journal.durable();
                for mut loan in loans {
                    if let Some(connection) = loan.connection() {
                        let turn = reply(connection, durable);
                        loan.give_back(turn);
                    }
                }
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
        if waiting.loans.len() == 1 {
            self.shared.more.notify_one();
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
    fn next(&self) -> Option<Vec<Loan<Connection>>> {
        let mut waiting = self.waiting.lock();
        while waiting.loans.is_empty() {
            if waiting.stop {
                return None;
            }
            self.more.wait(&mut waiting);
        }
        Some(std::mem::take(&mut waiting.loans))
    }
}
