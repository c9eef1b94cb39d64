//! Those who wait for the disk and leave the syncing to others.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    turn: Mutex<()>,
    told: Condvar,
}

impl Waiters {
    /// What they wait for may have come.
    pub(super) fn tell(&self) {
        // Who is about to wait has it: it looks before that, or is told.
        drop(self.turn.lock());
        self.told.notify_all();
    }

    /// Waits until `look` finds something; gives what it finds at last, which is nothing when the time
    /// is up.
    pub(super) fn wait<T>(
        &self,
        until: Option<Instant>,
        look: impl Fn() -> Option<T>,
    ) -> Option<T> {
        let mut turn = self.turn.lock();
        loop {
            let found = look();
            if found.is_some() {
                return found;
            }
            match until {
                None => self.told.wait(&mut turn),
                Some(until) if self.told.wait_until(&mut turn, until).timed_out() => return look(),
                Some(_) => {}
            }
        }
    }
}
