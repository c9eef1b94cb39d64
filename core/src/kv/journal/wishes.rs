//! What the threads beside are wanted for: to sync, to compact, to end. They sleep otherwise, with no
//! timer while nothing is written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Something was written since the last sync: seen without the lock.
    dirty: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// Whether a sync is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Sync {
    #[default]
    No,
    /// Something was written.
    Later,
    /// Somebody waits for it.
    Now,
}

#[derive(Debug, Default)]
struct State {
    sync: Sync,
    compact: bool,
    stop: bool,
}

impl Wishes {
    /// Something was written.
    #[inline]
    pub(super) fn sync(&self) {
        if !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel) {
            let mut state = self.state.lock();
            state.sync = state.sync.max(Sync::Later);
            self.changed.notify_all();
        }
    }

    /// Somebody waits for the disk.
    pub(super) fn sync_now(&self) {
        self.state.lock().sync = Sync::Now;
        self.changed.notify_all();
    }

    /// A snapshot is worth its while, or asked for.
    pub(super) fn compact(&self) {
        let mut state = self.state.lock();
        if !state.compact {
            state.compact = true;
            self.changed.notify_all();
        }
    }

    /// Whoever waits is to end.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Whether it is time to end.
    pub(super) fn have_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits until something was written, and then until `not_before`, if there is such a time; or
    /// until somebody waits for the disk. False at the end. What is written from then on is a wish
    /// anew.
    pub(super) fn wait_to_sync(&self, not_before: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        let enough = if not_before.is_some() { Sync::Later } else { Sync::Now };
        while state.sync < enough && !state.stop {
            self.changed.wait(&mut state);
        }
        while let Some(not_before) = not_before
            && state.sync < Sync::Now
            && !state.stop
            && !self.changed.wait_until(&mut state, not_before).timed_out()
        {}
        state.sync = Sync::No;
        self.dirty.store(false, Ordering::Release);
        !state.stop
    }

    /// Waits until a snapshot is wanted, not before that moment; or, if `every` is not zero, until so
    /// much time has passed and `is_worth` says so. False at the end.
    pub(super) fn wait_to_compact(
        &self,
        not_before: Instant,
        every: Duration,
        is_worth: impl Fn() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        while !state.stop && !self.changed.wait_until(&mut state, not_before).timed_out() {}
        let mut end = Instant::now() + every;
        while !state.stop && !std::mem::take(&mut state.compact) {
            if every.is_zero() {
                self.changed.wait(&mut state);
            } else if self.changed.wait_until(&mut state, end).timed_out() {
                if is_worth() {
                    return true;
                }
                end = Instant::now() + every;
            }
        }
        !state.stop
    }
}
