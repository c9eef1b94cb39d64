//! The bell: wakes whoever does what time brings, and costs nothing while nobody waits for it.
//!
//! What must stay true: who waits says so before the last look at what there is to do, and who
//! makes something to do looks afterwards whether anybody waits. Both in one order for all
//! (`SeqCst`), so that one of the two sees the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    /// There may be something to do.
    #[inline]
    pub(super) fn ring(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            self.ring_aloud();
        }
    }

    /// The same, kept for who sleeps next if nobody does.
    #[cold]
    pub(super) fn ring_aloud(&self) {
        *self.rung.lock() = true;
        self.wake.notify_all();
    }

    /// Sleeps until it is rung, or for that long, or until `is_due` holds, which is looked at when
    /// it was rung only.
    pub(super) fn sleep(&self, longest: Option<Duration>, is_due: impl Fn() -> bool) {
        let end = longest.and_then(|longest| Instant::now().checked_add(longest));
        let mut rung = self.rung.lock();
        self.asleep.store(true, Ordering::SeqCst);
        while !*rung && !is_due() {
            match end {
                None => self.wake.wait(&mut rung),
                Some(end) if self.wake.wait_until(&mut rung, end).timed_out() => break,
                Some(_) => {}
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
        *rung = false;
    }
}
