//! A worker: polls its epoll instance, runs turns, steals when it has none, sleeps
//! when nobody has.
//!
//! Between turns it polls without waiting every so often, so that connections that
//! became ready meanwhile get into the deque, where others can steal them: nobody
//! sees into another's epoll instance.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_deque::{Steal, Worker as Deque};
use objmapper_os as os;
use os::clock;
use os::poll::{Events, Interest, Poll, Token};

use super::slots::Slots;
use super::task::Task;
use super::{Loan, Mail, Serve, Shared, Turn};
use crate::metrics::WorkerCounters;

/// Token of the eventfd; a slot would have to be used two thousand million times and be
/// number 4294967295 to get it.
pub(super) const WAKE: Token = Token(usize::MAX >> 1);

/// Turns between two polls while there is work. Not tuned.
const TURNS_PER_POLL: usize = 16;

/// Events taken from the kernel at once. Not tuned.
const EVENTS: usize = 256;

/// One in so many polls is timed, turn by turn: two clock readings a turn would be
/// seen in the figures.
const TIMED: u64 = 64;

/// By time, and by a number of their own so that no two are equal.
type Timers<C> = BTreeMap<(Instant, u64), Arc<Task<C>>>;

pub(crate) struct Worker<S: Serve> {
    number: usize,
    shared: Arc<Shared<S::Connection>>,
    poll: Poll,
    events: Events,
    deque: Deque<Arc<Task<S::Connection>>>,
    slots: Slots<Watched<S::Connection>>,
    timers: Timers<S::Connection>,
    timer: u64,
    serve: S,
    counters: Arc<WorkerCounters>,
    polls: u64,
    /// When the poll that is being timed returned.
    timed: Option<u64>,
    stopping: bool,
}

/// A task that has its home here.
struct Watched<C> {
    task: Arc<Task<C>>,
}

impl<S: Serve> Worker<S> {
    pub(super) fn new(
        number: usize,
        shared: Arc<Shared<S::Connection>>,
        poll: Poll,
        deque: Deque<Arc<Task<S::Connection>>>,
        serve: S,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        Self {
            number,
            shared,
            poll,
            events: Events::with_capacity(EVENTS),
            deque,
            slots: Slots::default(),
            timers: Timers::new(),
            timer: 0,
            serve,
            counters,
            polls: 0,
            timed: None,
            stopping: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.stopping {
            // Work from outside first, once a round: a worker that always has its own
            // would never look there.
            let mut turns = 0;
            while turns < TURNS_PER_POLL
                && let Some(task) = self.next(turns == 0)
            {
                self.run_task(task);
                turns += 1;
            }
            if turns == TURNS_PER_POLL {
                self.wait(Some(Duration::ZERO));
                self.queue_ready();
            } else {
                self.sleep();
            }
        }
    }

    /// The next task: own, then from outside, then somebody else's.
    fn next(&mut self, outside_first: bool) -> Option<Arc<Task<S::Connection>>> {
        if outside_first
            && !self.shared.injector.is_empty()
            && let Steal::Success(task) = self.shared.injector.steal()
        {
            return Some(task);
        }
        if let Some(task) = self.deque.pop() {
            return Some(task);
        }
        let task = self.steal()?;
        // Where there was one there may be more, and another sleeper could help.
        if !self.deque.is_empty() {
            self.shared.wake_one(self.number + 1);
        }
        Some(task)
    }

    fn steal(&self) -> Option<Arc<Task<S::Connection>>> {
        loop {
            let mut retry = false;
            let mut found = self.shared.injector.steal_batch_and_pop(&self.deque);
            let n = self.shared.desks.len();
            for other in (1..n).map(|i| (self.number + i) % n) {
                if found.is_success() {
                    break;
                }
                retry |= found.is_retry();
                if let Some(desk) = self.shared.desk(other) {
                    found = desk.stealer.steal_batch_and_pop(&self.deque);
                    if found.is_success() {
                        self.counters.steals.add(1);
                    }
                }
            }
            match found {
                Steal::Success(task) => return Some(task),
                Steal::Empty if !retry => return None,
                Steal::Empty | Steal::Retry => {}
            }
        }
    }

    fn has_work(&self) -> bool {
        let idle = |desk: &super::Desk<_>| desk.stealer.is_empty();
        !self.shared.injector.is_empty() || !self.shared.desks.iter().all(idle)
    }

    fn sleep(&mut self) {
        self.shared.sleepers.lie_down(self.number);
        let timeout = if self.has_work() { Some(Duration::ZERO) } else { self.next_timer() };
        if timeout != Some(Duration::ZERO) {
            self.counters.sleeps.add(1);
        }
        self.wait(timeout);
        // Up before anybody is woken: else it could be this worker itself.
        self.shared.sleepers.get_up(self.number);
        self.queue_ready();
    }

    fn next_timer(&self) -> Option<Duration> {
        let ((due, _), _) = self.timers.first_key_value()?;
        // Rounded up: epoll counts milliseconds, and waking early would mean spinning.
        Some(due.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Polls.
    fn wait(&mut self, timeout: Option<Duration>) {
        if let Some(since) = self.timed.take() {
            self.counters.total_ns.add(clock::monotonic_ns() - since);
        }
        if let Err(error) = self.poll.wait(&mut self.events, timeout) {
            tracing::error!(%error, worker = self.number, "cannot poll");
        }
        self.polls += 1;
        if self.polls.is_multiple_of(TIMED) && !self.events.is_empty() {
            self.timed = Some(clock::monotonic_ns());
        }
    }

    /// Queues what became ready, and sees to it that others help if it is much.
    fn queue_ready(&mut self) {
        let mut queued = 0;
        for event in self.events.iter().filter(|event| event.token != WAKE) {
            let hung_up = event.read_closed || event.write_closed || event.error;
            if let Some(Watched { task }) = self.slots.at(event.token.0)
                && task.notify(hung_up)
            {
                self.deque.push(task.clone());
                queued += 1;
            }
        }
        if self.shared.desk(self.number).is_some_and(|d| d.has_mail.load(Ordering::Acquire)) {
            queued += self.read_mail();
        }
        if !self.timers.is_empty() {
            queued += self.fire_timers();
        }
        // Also one new task behind others that always have more to do.
        if queued > 0 && self.deque.len() > 1 {
            self.shared.wake_one(self.number + 1);
        }
    }

    fn fire_timers(&mut self) -> usize {
        let now = Instant::now();
        let mut queued = 0;
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let number = first.key().1;
            let task = first.remove();
            queued += usize::from(task.has_alarm(number) && self.queue_if_idle(&task));
        }
        queued
    }

    fn queue_if_idle(&self, task: &Arc<Task<S::Connection>>) -> bool {
        let queue = task.notify(false);
        if queue {
            self.deque.push(task.clone());
        }
        queue
    }

    fn read_mail(&mut self) -> usize {
        let Some(desk) = self.shared.desk(self.number) else { return 0 };
        desk.has_mail.store(false, Ordering::Release);
        let letters = std::mem::take(&mut *desk.mail.lock());
        let mut queued = 0;
        for letter in letters {
            match letter {
                Mail::Admit(connection) => self.admit(connection),
                Mail::Retire(token) => drop(self.slots.remove(token)),
                Mail::Rouse => {
                    queued += self.slots.iter().filter(|w| self.queue_if_idle(&w.task)).count();
                }
                Mail::Stop => self.stopping = true,
            }
        }
        queued
    }

    fn admit(&mut self, connection: Box<S::Connection>) {
        let (home, registry) = (self.number, self.poll.registry());
        let watched = self.slots.add(|token| {
            // Level of readiness at this moment is reported as the first edge.
            registry.add(connection.as_fd(), Token(token), Interest::READABLE)?;
            Ok::<_, os::Error>(Watched { task: Arc::new(Task::new(connection, home, token)) })
        });
        if let Err(error) = watched {
            tracing::warn!(%error, "cannot watch a new connection; it is closed");
        }
    }

    fn run_task(&mut self, task: Arc<Task<S::Connection>>) {
        let Some((mut connection, hung_up)) = task.begin() else { return };
        let began = self.timed.map(|ready| {
            let now = clock::monotonic_ns();
            self.counters.wait_ns.add(now - ready);
            self.counters.timed_turns.add(1);
            now
        });
        let turn = self.serve.turn(&mut connection, hung_up);
        if let Some(began) = began {
            self.counters.work_ns.add(clock::monotonic_ns() - began);
        }
        self.counters.turns.add(1);
        self.settle(task, connection, turn);
    }

    fn settle(
        &mut self,
        task: Arc<Task<S::Connection>>,
        connection: Box<S::Connection>,
        turn: Turn,
    ) {
        let blocked = turn == Turn::Blocked;
        if turn != Turn::Close && self.shared.watch(&task, &connection, blocked).is_err() {
            return self.close(&task, connection);
        }
        match turn {
            Turn::Wait => {
                if task.finish(connection) {
                    self.deque.push(task);
                }
            }
            Turn::Again => {
                task.requeue(connection);
                self.deque.push(task);
            }
            Turn::Blocked => {
                self.counters.parks.add(1);
                if task.finish(connection) {
                    self.deque.push(task);
                }
            }
            Turn::Leave => self.serve.leave(Loan::new(self.shared.clone(), task, connection)),
            Turn::Later(delay) => {
                self.counters.parks.add(1);
                self.timer += 1;
                task.set_alarm(self.timer);
                self.timers.insert((Instant::now() + delay, self.timer), task.clone());
                if task.finish(connection) {
                    self.deque.push(task);
                }
            }
            Turn::Close => self.close(&task, connection),
        }
    }

    fn close(&mut self, task: &Task<S::Connection>, connection: Box<S::Connection>) {
        drop(connection);
        if task.home == self.number {
            self.slots.remove(task.token);
        } else {
            self.shared.post(task.home, Mail::Retire(task.token), false);
        }
    }
}
