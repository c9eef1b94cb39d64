//! Who sleeps, and whom to wake.
//!
//! A worker that found nothing to do announces that it sleeps, looks once more, and
//! only then waits in its epoll instance. Whoever adds work adds it first, and looks
//! for sleepers after. Both sides put a sequentially consistent fence between their
//! two steps, so at least one sees the other: work is never left with everybody
//! asleep. (Checked with loom, see the tests.)
//!
//! The pairs: the giver stores into a deque (its `push` ends with a relaxed store of its
//! end), fence, loads `count`; the sleeper stores its flag and `count`, fence, loads the
//! deques' ends. `count` is raised before the flag, so it may lead, never lag.
//!
//! A sleeper dozes, and looks up now and then to see how the others get on, or it sleeps until
//! it is woken. Who does which, and when somebody has to doze, is decided in `worker`.

use crate::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};

const AWAKE: u8 = 0;
const DOZES: u8 = 1;
const SLEEPS: u8 = 2;

/// Which workers sleep.
#[derive(Debug)]
pub struct Sleepers {
    states: Box<[AtomicU8]>,
    count: AtomicUsize,
}

impl Sleepers {
    /// All awake.
    pub fn new(workers: usize) -> Self {
        let states = (0..workers).map(|_| AtomicU8::new(AWAKE)).collect();
        Self { states, count: AtomicUsize::new(0) }
    }

    /// `worker` is about to sleep; it must look for work once more after this.
    pub fn lie_down(&self, worker: usize) {
        if let Some(state) = self.states.get(worker) {
            self.count.fetch_add(1, Ordering::Relaxed);
            // Not a store: loom has one order for changes only where all of them are swaps.
            state.swap(DOZES, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// `worker`, which has lain down, will sleep until it is woken, if it is not being woken
    /// already.
    pub fn fall_asleep(&self, worker: usize) {
        if let Some(state) = self.states.get(worker) {
            let relaxed = Ordering::Relaxed;
            // Fails if somebody has picked it.
            let _ = state.compare_exchange(DOZES, SLEEPS, relaxed, relaxed);
        }
    }

    /// `worker` is up, whoever woke it.
    pub fn get_up(&self, worker: usize) {
        if let Some(state) = self.states.get(worker)
            && state.swap(AWAKE, Ordering::Relaxed) != AWAKE
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether `worker` sleeps, or was woken by an event and is not up yet.
    pub fn is_asleep(&self, worker: usize) -> bool {
        self.state(worker) != AWAKE
    }

    /// Whether `worker` has lain down and looks up again soon.
    pub fn dozes(&self, worker: usize) -> bool {
        self.state(worker) == DOZES
    }

    /// Whether all others sleep until they are woken, and there are others.
    pub fn all_sleep_but(&self, worker: usize) -> bool {
        let mut others = (0..self.states.len()).filter(|&other| other != worker).peekable();
        others.peek().is_some() && others.all(|other| self.state(other) == SLEEPS)
    }

    fn state(&self, worker: usize) -> u8 {
        self.states.get(worker).map_or(AWAKE, |state| state.load(Ordering::Relaxed))
    }

    /// After work was added: a sleeper to be woken, which now counts as awake.
    /// Prefers `first`.
    #[inline]
    pub fn pick(&self, first: usize) -> Option<usize> {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.search(first)
    }

    fn search(&self, first: usize) -> Option<usize> {
        let n = self.states.len();
        (0..n).map(|i| (first + i) % n).find(|&worker| {
            let state = self.states.get(worker).map(|state| state.swap(AWAKE, Ordering::Relaxed));
            let up = state.is_some_and(|state| state != AWAKE);
            if up {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            up
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_dozes_watches_and_who_sleeps_does_not() {
        let sleepers = Sleepers::new(2);
        assert!(!sleepers.all_sleep_but(0), "the other is awake");
        sleepers.lie_down(1);
        assert!(sleepers.dozes(1) && !sleepers.all_sleep_but(0));
        sleepers.fall_asleep(1);
        assert!(sleepers.is_asleep(1) && !sleepers.dozes(1) && sleepers.all_sleep_but(0));
        assert_eq!(sleepers.pick(0), Some(1), "either can be woken");
        sleepers.fall_asleep(1);
        assert!(!sleepers.is_asleep(1), "who was picked does not fall asleep again");
        assert!(!Sleepers::new(1).all_sleep_but(0), "there are no others");
    }
}
