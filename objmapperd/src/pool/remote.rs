//! A worker as others reach it: its deque's other end, its epoll instance, and what that
//! watches.
//!
//! A worker that lost its CPU cannot see what becomes ready in its epoll instance. So the
//! instance is no private thing: a neighbour that finds it not looked at for a while takes
//! what is ready there ([`Neighbours`]). The kernel gives an event to one taker only, and a
//! task is queued once whoever notifies it, so nothing is served twice.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use objmapper_os as os;
use os::poll::{Events, Interest, Token};

use super::deques::Steal;
use super::lanes::{Lanes, Stealers};
use super::slots::Slots;
use super::task::Task;
use crate::sync::{Mutex, Poll, Waker};

/// Token of the eventfd; a slot would have to be used two thousand million times and be
/// number 4294967295 to get it.
const WAKE: Token = Token(usize::MAX >> 1);

/// A worker that has not polled for so long may have lost its CPU, or is busy with long
/// turns: some two rounds of turns. Not tuned.
#[cfg(not(loom))]
const STALE: Duration = Duration::from_micros(300);
/// No time passes in a model: whoever has not polled between two looks counts as stale.
#[cfg(loom)]
const STALE: Duration = Duration::ZERO;

/// What others can reach of a worker.
pub(super) struct Remote<C> {
    pub(super) stealer: Stealers<C>,
    poll: Poll,
    waker: Waker,
    /// Who has their home here. Locked for a moment: once for each poll that found
    /// something, once for a connection's beginning and its end.
    slots: Mutex<Slots<Arc<Task<C>>>>,
    /// How often the worker itself has polled. (Counts for judging by, where any value will do:
    /// the models have no need to try older ones.)
    polls: AtomicU64,
    /// How often that found something.
    finds: AtomicU64,
}

impl<C: AsFd> Remote<C> {
    pub(super) fn new(stealer: Stealers<C>) -> os::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (polls, finds) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { stealer, poll, waker, slots: Mutex::default(), polls, finds })
    }

    /// Takes a connection in, for a lane of the worker with this number. Its readiness at
    /// this moment is reported as the first edge.
    pub(super) fn admit(&self, connection: Box<C>, home: (usize, usize)) -> os::Result<()> {
        let registry = self.poll.registry();
        let mut slots = self.slots.lock();
        slots.add(|token| {
            registry.add(connection.as_fd(), Token(token), Interest::READABLE)?;
            Ok(Arc::new(Task::new(connection, home, token)))
        })?;
        Ok(())
    }

    pub(super) fn watch(&self, task: &Task<C>, fd: &C, interest: Interest) -> os::Result<()> {
        self.poll.registry().modify(fd, Token(task.token), interest)
    }

    pub(super) fn retire(&self, task: &Task<C>) {
        // Let go of the lock before the task.
        let gone = self.slots.lock().remove(task.token);
        drop(gone);
    }

    /// Lets go of every connection.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.slots.lock());
        drop(gone);
    }

    /// All that have their home here.
    pub(super) fn tasks(&self) -> Vec<Arc<Task<C>>> {
        self.slots.lock().iter().cloned().collect()
    }

    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake a worker");
        }
    }

    /// Waits for events: for the worker itself.
    pub(super) fn poll(&self, events: &mut Events, timeout: Option<Duration>) {
        if let Err(error) = self.poll.wait(events, timeout) {
            tracing::error!(%error, "cannot poll");
        }
        // One writer.
        let add = |count: &AtomicU64| {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        add(&self.polls);
        if !events.is_empty() {
            add(&self.finds);
        }
    }

    /// How often the worker has polled and found something.
    pub(super) fn finds(&self) -> u64 {
        self.finds.load(Ordering::Relaxed)
    }

    /// For a neighbour: takes what is queued and what is ready in the epoll instance.
    pub(super) fn take_over(&self, events: &mut Events, deque: &Lanes<C>) {
        while !matches!(self.stealer.steal_batch(deque), Steal::Empty) {}
        if let Err(error) = self.poll.wait(events, Some(Duration::ZERO)) {
            tracing::error!(%error, "cannot poll");
        }
        if events.iter().any(|event| event.token == WAKE) {
            // That was for the worker.
            self.wake();
        }
        self.notify(events, |task| deque.push(task));
    }

    /// How often the worker has polled.
    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Notifies the tasks that became ready; those that must be queued go to `queue`.
    pub(super) fn notify(&self, events: &Events, mut queue: impl FnMut(Arc<Task<C>>)) {
        if events.is_empty() {
            return;
        }
        let slots = self.slots.lock();
        for event in events.iter().filter(|event| event.token != WAKE) {
            let hung_up = event.read_closed || event.write_closed || event.error;
            if let Some(task) = slots.at(event.token.0)
                && task.notify(hung_up)
            {
                queue(task.clone());
            }
        }
    }
}

/// What a worker remembers of the others.
pub(super) struct Neighbours {
    number: usize,
    next: usize,
    seen: Box<[Seen]>,
}

/// A count of polls, and when it was first seen.
#[derive(Clone, Copy)]
struct Seen {
    polls: u64,
    since: Instant,
}

impl Neighbours {
    pub(super) fn new(number: usize, workers: usize) -> Self {
        let never = Seen { polls: u64::MAX, since: Instant::now() };
        Self { number, next: number, seen: vec![never; workers].into() }
    }

    /// The one whose turn it is; none if there are no others.
    pub(super) fn next(&mut self) -> Option<usize> {
        let workers = self.seen.len().max(1);
        let step = |n| (n + 1) % workers;
        self.next = step(self.next);
        if self.next == self.number {
            self.next = step(self.next);
        }
        (self.next != self.number).then_some(self.next)
    }

    /// Whether this one, which has polled so often by now, has not for a while. One that
    /// sleeps has not either: it may have been woken and not have got a CPU. So that an
    /// idle one is not looked at all the time, it is stale once in that while.
    pub(super) fn is_stale(&mut self, other: usize, polls: u64, now: Instant) -> bool {
        let Some(seen) = self.seen.get_mut(other) else { return false };
        let stood_still = polls == seen.polls;
        if stood_still && now.duration_since(seen.since) < STALE {
            return false;
        }
        *seen = Seen { polls, since: now };
        stood_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use os::socket::Stream;

    type Queue = Lanes<Stream>;

    #[test]
    fn who_does_not_poll_is_stale_once_in_a_while() {
        let mut neighbours = Neighbours::new(1, 2);
        let start = Instant::now();
        let mut stale = |polls, now| neighbours.is_stale(0, polls, now);
        assert!(!stale(5, start), "seen for the first time");
        assert!(!stale(5, start + STALE / 2), "not for long");
        assert!(stale(5, start + STALE));
        assert!(!stale(5, start + STALE + STALE / 2), "just looked at");
        assert!(stale(5, start + STALE * 2));
        assert!(!stale(6, start + STALE * 3), "it has polled");
        assert!(!stale(7, start + STALE * 5), "and again");
    }

    #[test]
    fn everybody_but_oneself_has_a_turn() {
        let mut neighbours = Neighbours::new(1, 3);
        let turns: Vec<_> = (0..4).map(|_| neighbours.next()).collect();
        assert_eq!(turns, [Some(2), Some(0), Some(2), Some(0)]);
        assert_eq!(Neighbours::new(0, 1).next(), None);
    }

    #[test]
    fn what_waits_for_a_worker_is_taken_over_and_its_wake_up_stays() {
        let queues: [Queue; 2] = [Lanes::new(), Lanes::new()];
        let remote = Remote::new(queues[0].stealers()).unwrap();
        let (ours, theirs) = Stream::pair().unwrap();
        remote.admit(Box::new(ours), (0, 0)).unwrap();
        let mut events = Events::with_capacity(8);

        theirs.send(b"x", &[], false).unwrap();
        remote.wake();
        remote.take_over(&mut events, &queues[1]);
        assert_eq!(queues[1].len(), 1, "what was ready in its epoll instance");
        queues[0].push(queues[1].pop().unwrap());
        remote.take_over(&mut events, &queues[1]);
        assert_eq!((queues[0].len(), queues[1].len()), (0, 1), "what it had queued");

        remote.poll(&mut events, Some(Duration::ZERO));
        assert_eq!(events.iter().next().map(|event| event.token), Some(WAKE));
    }
}
