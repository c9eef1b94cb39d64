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

use crossbeam_deque::{Steal, Stealer, Worker as Deque};
use objmapper_os as os;
use os::poll::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;

use super::slots::Slots;
use super::task::Task;

/// Token of the eventfd; a slot would have to be used two thousand million times and be
/// number 4294967295 to get it.
const WAKE: Token = Token(usize::MAX >> 1);

/// A worker that has not polled for so long may have lost its CPU, or is busy with long
/// turns: some two rounds of turns. Not tuned.
const STALE: Duration = Duration::from_micros(300);

/// What others can reach of a worker.
pub(super) struct Remote<C> {
    pub(super) stealer: Stealer<Arc<Task<C>>>,
    poll: Poll,
    waker: Waker,
    /// Who has their home here. Locked for a moment: once for each poll that found
    /// something, once for a connection's beginning and its end.
    slots: Mutex<Slots<Arc<Task<C>>>>,
    /// How often the worker itself has polled.
    polls: AtomicU64,
}

impl<C: AsFd> Remote<C> {
    pub(super) fn new(stealer: Stealer<Arc<Task<C>>>) -> os::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok(Self { stealer, poll, waker, slots: Mutex::default(), polls: AtomicU64::new(0) })
    }

    /// Takes a connection in, for the worker with this number. Its readiness at this
    /// moment is reported as the first edge.
    pub(super) fn admit(&self, connection: Box<C>, home: usize) -> os::Result<()> {
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
        self.polls.store(self.polls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Looks for events: for a neighbour.
    fn look(&self, events: &mut Events) {
        if let Err(error) = self.poll.wait(events, Some(Duration::ZERO)) {
            tracing::error!(%error, "cannot poll");
        }
        if events.iter().any(|event| event.token == WAKE) {
            // That was for the worker.
            self.wake();
        }
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

    /// Takes over from one neighbour, the next in turn, if it is stale: what it has
    /// queued, and what is ready in its epoll instance. One that sleeps is stale as well:
    /// it may have been woken and not have got a CPU. So each is looked at no more often
    /// than that. Returns whether it was.
    pub(super) fn relieve_next<C: AsFd>(
        &mut self,
        remotes: &[Remote<C>],
        events: &mut Events,
        deque: &Deque<Arc<Task<C>>>,
        now: Instant,
    ) -> bool {
        self.next = (self.next + 1) % remotes.len().max(1);
        if self.next == self.number {
            self.next = (self.next + 1) % remotes.len().max(1);
        }
        let (Some(remote), Some(seen)) = (remotes.get(self.next), self.seen.get_mut(self.next))
        else {
            return false;
        };
        let polls = remote.polls();
        if polls == seen.polls && now.duration_since(seen.since) < STALE {
            return false;
        }
        let stale = polls == seen.polls && self.next != self.number;
        *seen = Seen { polls, since: now };
        if stale {
            while !matches!(remote.stealer.steal_batch(deque), Steal::Empty) {}
            remote.look(events);
            remote.notify(events, |task| deque.push(task));
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use os::socket::Stream;

    type Queue = Deque<Arc<Task<Stream>>>;

    /// Two workers; number 0 has a connection, and what its peer writes to.
    fn two() -> ([Remote<Stream>; 2], [Queue; 2], Stream) {
        let deques = [Deque::new_fifo(), Deque::new_fifo()];
        let remotes = deques.each_ref().map(|deque| Remote::new(deque.stealer()).unwrap());
        let (ours, theirs) = Stream::pair().unwrap();
        remotes[0].admit(Box::new(ours), 0).unwrap();
        (remotes, deques, theirs)
    }

    #[test]
    fn a_neighbour_that_does_not_poll_is_relieved() {
        let (remotes, deques, peer) = two();
        let mut events = Events::with_capacity(8);
        let mut neighbours = Neighbours::new(1, 2);
        let start = Instant::now();
        let mut relieve = |now| neighbours.relieve_next(&remotes, &mut events, &deques[1], now);
        peer.send(b"x", &[], false).unwrap();
        assert!(!relieve(start), "seen for the first time");
        assert!(!relieve(start + STALE / 2), "not for long");
        assert!(relieve(start + STALE));
        assert_eq!(deques[1].len(), 1, "what was ready in its epoll instance");
        assert!(!relieve(start + STALE + STALE / 2), "just looked at");

        deques[0].push(deques[1].pop().unwrap());
        assert!(relieve(start + STALE * 2));
        assert_eq!((deques[0].len(), deques[1].len()), (0, 1), "what it had queued");
    }

    #[test]
    fn a_neighbour_that_polls_is_left_alone_and_gets_its_letters() {
        let (remotes, deques, peer) = two();
        let mut events = Events::with_capacity(8);
        let mut neighbours = Neighbours::new(1, 2);
        let start = Instant::now();
        for n in 1..4 {
            let now = start + STALE * n;
            assert!(!neighbours.relieve_next(&remotes, &mut events, &deques[1], now));
            remotes[0].poll(&mut events, Some(Duration::ZERO));
        }
        peer.send(b"x", &[], false).unwrap();
        remotes[0].wake();
        let now = start + STALE * 4;
        neighbours.relieve_next(&remotes, &mut events, &deques[1], now);
        assert!(neighbours.relieve_next(&remotes, &mut events, &deques[1], now + STALE));
        assert_eq!(deques[1].len(), 1);
        remotes[0].poll(&mut events, Some(Duration::ZERO));
        assert_eq!(events.iter().next().map(|event| event.token), Some(WAKE), "woken all the same");
    }
}
