//! The committer: a thread that waits for the disk so that no worker has to.
//!
//! ```text
//!  worker ──loan──▶ all that wait ──▶ one write(2), one fdatasync(2) ──▶ back to the pool, all of them
//! ```
//!
//! A connection whose replies may not leave before the journal is durable stays here meanwhile. While
//! one sync is under way the next batch gathers. Whether it succeeded is found out by the turn that
//! sends the replies: it asks the journal.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use objmapper::kv::Keyspace;
use parking_lot::{Condvar, Mutex};

use crate::connection::Connection;
use crate::pool::{Loan, Turn};

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
    pub fn start(&self, keyspace: Arc<Keyspace>) -> std::io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("committer".to_owned());
        thread.spawn(move || {
            while let Some(loans) = shared.next() {
                // Who waited asks again, and tells its peer.
                let _ = keyspace.sync();
                loans.into_iter().for_each(|loan| loan.give_back(Turn::Again));
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
