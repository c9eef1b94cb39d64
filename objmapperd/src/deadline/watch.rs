//! When the sweeper looks: now and then while somebody has a deadline ahead, else it sleeps.
//!
//! What must stay true (model-checked with loom, see the tests): whoever raises the count
//! from nothing wakes the sweeper if it sleeps. It reads the count with the lock held that
//! it falls asleep with; who raises it takes that lock after.

use std::time::Duration;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};

/// Shared by the sweeper and those it watches.
#[derive(Debug)]
pub struct Watch {
    /// Connections with a deadline ahead of them.
    ahead: AtomicUsize,
    sweeper: Mutex<Sweeper>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Sweeper {
    asleep: bool,
    stop: bool,
}

impl Default for Watch {
    /// Nothing ahead.
    fn default() -> Self {
        let (sweeper, wake) = (Mutex::new(Sweeper::default()), Condvar::new());
        Self { ahead: AtomicUsize::new(0), sweeper, wake }
    }
}

impl Watch {
    /// A connection has a deadline now, which had none.
    pub fn one_more(&self) {
        if self.ahead.fetch_add(1, Ordering::SeqCst) == 0 && self.sweeper.lock().asleep {
            self.wake.notify_one();
        }
    }

    /// A connection has none any more.
    pub fn one_less(&self) {
        self.ahead.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many have one.
    pub fn ahead(&self) -> usize {
        self.ahead.load(Ordering::SeqCst)
    }

    /// Lets the sweeper end.
    pub fn stop(&self) {
        self.sweeper.lock().stop = true;
        self.wake.notify_one();
    }

    /// For the sweeper: returns when it is time to look, every so often and only while
    /// there is something ahead; false when it is to end.
    pub fn wait(&self, often: Duration) -> bool {
        let mut sweeper = self.sweeper.lock();
        while !sweeper.stop && self.ahead() == 0 {
            sweeper.asleep = true;
            self.wake.wait(&mut sweeper);
            sweeper.asleep = false;
        }
        if !sweeper.stop {
            self.wake.wait_for(&mut sweeper, often);
        }
        !sweeper.stop
    }
}
