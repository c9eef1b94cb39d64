//! A task: one connection's seat in the pool, and who may sit there.
//!
//! ```text
//!           notify                begin
//!   IDLE ────────────▶ QUEUED ────────────▶ RUNNING ──notify──▶ NOTIFIED
//!    ▲                   ▲                   │   │                 │
//!    │                   └──────requeue──────┘   │                 │
//!    └──────────────────finish───────────────────┘                 │
//!                        ▲                                         │
//!                        └──────────────finish─────────────────────┘
//! ```
//!
//! What must stay true (model-checked with loom, see the tests):
//! - the connection is on one thread at a time: only `begin` takes it out, and only
//!   whoever moved the task to QUEUED may put it into a queue, once;
//! - no notification is lost: one that comes while the task runs makes `finish` say
//!   that it must be queued again.
//!
//! Running is not tied to workers: the transfer path and the helpers run a task just
//! as well while they hold its connection.

use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;
/// What the states above take of the byte.
const STATE: u8 = 3;
/// The peer has hung up, or half so: a short read is not the end of what it sent.
/// Never cleared.
const HUNG_UP: u8 = 0x80;

/// One connection's seat.
#[derive(Debug)]
pub struct Task<C> {
    state: AtomicU8,
    seat: Seat<C>,
    /// The worker whose epoll instance watches the connection.
    pub home: usize,
    /// The lane of that worker's queue in which it waits for its turns.
    pub lane: usize,
    /// The name under which it does.
    pub token: usize,
    /// Whether epoll watches for room to write too. Only whoever runs the task looks.
    armed: AtomicBool,
    /// The latest timer that is set for it; older ones that are still under way count
    /// for nothing.
    alarm: AtomicU64,
}

impl<C> Task<C> {
    /// A task at rest, of a worker and one of its lanes.
    pub fn new(connection: Box<C>, (home, lane): (usize, usize), token: usize) -> Self {
        Self {
            state: AtomicU8::new(IDLE),
            seat: Seat::new(connection),
            home,
            lane,
            token,
            armed: AtomicBool::new(false),
            alarm: AtomicU64::new(0),
        }
    }

    /// Something happened to the connection. Returns whether the caller must queue
    /// the task.
    #[must_use]
    pub fn notify(&self, hung_up: bool) -> bool {
        let flag = if hung_up { HUNG_UP } else { 0 };
        let next = |state| match state {
            IDLE => QUEUED,
            RUNNING => NOTIFIED,
            other => other,
        };
        self.step(|old| next(old & STATE) | old & HUNG_UP | flag) & STATE == IDLE
    }

    /// Takes the connection out of a queued task, and whether its peer has hung up.
    /// `None` if the task was not queued: a mistake that costs nothing.
    pub fn begin(&self) -> Option<(Box<C>, bool)> {
        let old =
            self.step(|old| if old & STATE == QUEUED { old & HUNG_UP | RUNNING } else { old });
        if old & STATE != QUEUED {
            return None;
        }
        self.seat.take().map(|connection| (connection, old & HUNG_UP != 0))
    }

    /// Puts the connection back. Returns whether the caller must queue the task,
    /// because something happened meanwhile.
    #[must_use]
    pub fn finish(&self, connection: Box<C>) -> bool {
        self.seat.put(connection);
        let next = |state| if state == NOTIFIED { QUEUED } else { IDLE };
        self.step(|old| next(old & STATE) | old & HUNG_UP) & STATE == NOTIFIED
    }

    /// Puts the connection back with work left to do: the caller must queue the task.
    pub fn requeue(&self, connection: Box<C>) {
        self.seat.put(connection);
        self.step(|old| QUEUED | old & HUNG_UP);
    }

    /// Sets which timer counts.
    pub fn set_alarm(&self, number: u64) {
        self.alarm.store(number, Ordering::Relaxed);
    }

    /// Whether this timer counts.
    pub fn has_alarm(&self, number: u64) -> bool {
        self.alarm.load(Ordering::Relaxed) == number
    }

    /// Whether the peer has hung up, or half so.
    pub fn hung_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) & HUNG_UP != 0
    }

    /// Sets whether epoll watches for room to write too; returns whether that is new.
    /// For whoever runs the task.
    #[must_use]
    pub fn arm(&self, armed: bool) -> bool {
        let changed = self.armed.load(Ordering::Relaxed) != armed;
        if changed {
            self.armed.store(armed, Ordering::Relaxed);
        }
        changed
    }

    fn step(&self, next: impl Fn(u8) -> u8) -> u8 {
        let mut old = self.state.load(Ordering::Relaxed);
        loop {
            // AcqRel: what one owner wrote to the connection is there for the next.
            let swapped = self.state.compare_exchange_weak(
                old,
                next(old),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(old) => return old,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(not(loom))]
use seat::Seat;
#[cfg(not(loom))]
mod seat {
    use crossbeam_utils::atomic::AtomicCell;

    /// Where the connection sits while nobody runs it: one word, taken by one swap.
    pub(super) struct Seat<C>(AtomicCell<Option<Box<C>>>);

    impl<C> std::fmt::Debug for Seat<C> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Seat").finish_non_exhaustive()
        }
    }

    impl<C> Seat<C> {
        pub(super) fn new(connection: Box<C>) -> Self {
            Self(AtomicCell::new(Some(connection)))
        }

        pub(super) fn take(&self) -> Option<Box<C>> {
            self.0.take()
        }

        pub(super) fn put(&self, connection: Box<C>) {
            self.0.store(Some(connection));
        }
    }
}

#[cfg(loom)]
use seat::Seat;
#[cfg(loom)]
mod seat {
    use loom::cell::UnsafeCell;

    /// For the model: loom itself reports two threads at the seat at once.
    #[derive(Debug)]
    pub(super) struct Seat<C>(UnsafeCell<Option<Box<C>>>);

    // SAFETY: exactly what the model checks: the state lets one thread at a time touch the cell.
    #[allow(unsafe_code)]
    unsafe impl<C: Send> Sync for Seat<C> {}

    #[allow(unsafe_code)]
    impl<C> Seat<C> {
        pub(super) fn new(connection: Box<C>) -> Self {
            Self(UnsafeCell::new(Some(connection)))
        }

        pub(super) fn take(&self) -> Option<Box<C>> {
            // SAFETY: loom panics if another access is under way.
            self.0.with_mut(|seat| unsafe { (*seat).take() })
        }

        pub(super) fn put(&self, connection: Box<C>) {
            // SAFETY: loom panics if another access is under way.
            self.0.with_mut(|seat| unsafe { *seat = Some(connection) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_notification_queues_an_idle_task_once() {
        let task = Task::new(Box::new(7), (0, 0), 0);
        assert!(task.notify(false));
        assert!(!task.notify(false));
        assert_eq!(task.begin(), Some((Box::new(7), false)));
        assert_eq!(task.begin(), None);
        assert!(!task.finish(Box::new(7)));
    }

    #[test]
    fn a_notification_while_running_queues_it_again() {
        let task = Task::new(Box::new(7), (0, 0), 0);
        assert!(task.notify(false));
        let (seven, _) = task.begin().unwrap();
        assert!(!task.notify(true));
        assert!(task.finish(seven));
        assert_eq!(task.begin(), Some((Box::new(7), true)), "and the hang-up is remembered");
    }

    #[test]
    fn requeued_means_queued() {
        let task = Task::new(Box::new(7), (0, 0), 0);
        assert!(task.notify(false));
        let (seven, _) = task.begin().unwrap();
        task.requeue(seven);
        assert!(!task.notify(false));
        assert!(task.begin().is_some());
    }
}
