//! How long a shard's lock is waited for.
//!
//! What must stay true: a worker waits at most `BRIEF`, summed over the locks of one hold; a free lock
//! costs the same with either [`Wait`].

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::shard::Shard;

/// What a batch of ordinary commands takes many times over, and less than most changes of a thread's
/// CPU. Not tuned.
const BRIEF: Duration = Duration::from_micros(100);

/// How long the locks of others are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// As long as it takes.
    #[default]
    Long,
    /// As long as short work takes; then it is [`Fault::Locked`](super::Fault::Locked).
    Briefly,
}

/// What is left of it while several locks are taken.
#[derive(Debug)]
pub(super) struct Waiting {
    wait: Wait,
    until: Option<Instant>,
}

impl Waiting {
    #[inline]
    pub(super) const fn new(wait: Wait) -> Self {
        Self { wait, until: None }
    }

    /// Takes a lock, if that does not take too long.
    #[inline]
    pub(super) fn lock<'s>(&mut self, shard: &'s Mutex<Shard>) -> Option<MutexGuard<'s, Shard>> {
        shard.try_lock().or_else(|| self.wait_for(shard))
    }

    #[cold]
    fn wait_for<'s>(&mut self, shard: &'s Mutex<Shard>) -> Option<MutexGuard<'s, Shard>> {
        match self.wait {
            Wait::Long => Some(shard.lock()),
            Wait::Briefly => {
                let until = *self.until.get_or_insert_with(|| Instant::now() + BRIEF);
                shard.try_lock_until(until)
            }
        }
    }
}
