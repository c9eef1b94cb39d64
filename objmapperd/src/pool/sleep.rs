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

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Which workers sleep.
#[derive(Debug)]
pub struct Sleepers {
    asleep: Box<[AtomicBool]>,
    count: AtomicUsize,
}

impl Sleepers {
    /// All awake.
    pub fn new(workers: usize) -> Self {
        let asleep = (0..workers).map(|_| AtomicBool::new(false)).collect();
        Self { asleep, count: AtomicUsize::new(0) }
    }

    /// `worker` is about to sleep; it must look for work once more after this.
    pub fn lie_down(&self, worker: usize) {
        if let Some(flag) = self.asleep.get(worker) {
            self.count.fetch_add(1, Ordering::Relaxed);
            flag.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// `worker` is up, whoever woke it.
    pub fn get_up(&self, worker: usize) {
        if let Some(flag) = self.asleep.get(worker)
            && flag.swap(false, Ordering::Relaxed)
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether `worker` sleeps, or was woken by an event and is not up yet.
    pub fn is_asleep(&self, worker: usize) -> bool {
        self.asleep.get(worker).is_some_and(|flag| flag.load(Ordering::Relaxed))
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
        let n = self.asleep.len();
        (0..n).map(|i| (first + i) % n).find(|&worker| {
            let up =
                self.asleep.get(worker).is_some_and(|flag| flag.swap(false, Ordering::Relaxed));
            if up {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            up
        })
    }
}
