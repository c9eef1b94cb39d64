//! What threads do for a journal, beside those that write it: they sync, begin segments and compact,
//! and others wait for that.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::SyncPolicy;
use super::writer::Journal;
use crate::kv::fault::Fault;

impl Journal {
    /// Waits until everything up to `position` is durable, whatever the policy; not longer than
    /// `until`, if there is such a time, nor for a journal that has ended. Gives whether it is. The
    /// sync is made by the thread of [`Journal::keep`], so that a disk that hangs holds nobody.
    pub(crate) fn wait_until_durable(
        &self,
        position: u64,
        until: Option<Instant>,
    ) -> Result<bool, Fault> {
        if position <= self.durable() {
            return Ok(true);
        }
        self.wishes.sync_now();
        let look = || match self.check() {
            _ if position <= self.durable() => Some(Ok(true)),
            Ok(()) => self.wishes.have_stopped().then_some(Ok(false)),
            Err(fault) => Some(Err(fault)),
        };
        self.waiters.wait(until, look).unwrap_or(Ok(false))
    }

    /// Asks for a snapshot, from whoever waits in [`Journal::wait_to_compact`].
    pub fn wish_for_compaction(&self) {
        self.wishes.compact();
    }

    /// Waits until a snapshot is to be taken, not before that moment; false when it is time to end.
    /// For a thread that calls [`crate::kv::Keyspace::compact`] then.
    pub fn wait_to_compact(&self, not_before: Instant) -> bool {
        let before = self.written.load(Ordering::Relaxed);
        // Nothing new: the next snapshot would be the same.
        let is_worth = || self.written.load(Ordering::Relaxed) > before;
        self.wishes.wait_to_compact(not_before, self.options().compact_every, is_worth)
    }

    /// Syncs every interval while there is something new, if the policy has one, and when somebody
    /// waits for it, and begins the next segment when one is full, until it is told to stop. For a
    /// thread of its own.
    pub fn keep(&self) {
        self.attended.store(true, Ordering::Relaxed);
        self.keep_until_stopped();
        self.attended.store(false, Ordering::Relaxed);
    }

    fn keep_until_stopped(&self) {
        let interval = match self.options().sync {
            SyncPolicy::Interval(interval) => Some(interval),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        let mut last = Instant::now();
        while self.wishes.wait_to_sync(interval.and_then(|interval| last.checked_add(interval))) {
            last = Instant::now();
            // What is left of a full segment to sync, while others wait to write, is little then.
            if self.sync(self.appended()).and_then(|()| self.begin_next_if_full()).is_err() {
                return;
            }
        }
    }

    /// Whether a snapshot, or a backup, is being written.
    pub fn is_copied(&self) -> bool {
        self.snapshots.is_locked()
    }

    /// Whether it is told to stop: nothing long is to be begun, or gone on with.
    pub fn has_stopped(&self) -> bool {
        self.wishes.have_stopped()
    }

    /// Lets those go who wait in [`Journal::keep`], [`Journal::wait_to_compact`] and
    /// [`crate::kv::Keyspace::wait_until_durable`].
    pub fn stop(&self) {
        self.wishes.stop();
        self.waiters.tell();
    }
}
