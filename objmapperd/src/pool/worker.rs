//! A worker: polls its epoll instance, runs turns, steals when it has none, sleeps
//! when nobody has.
//!
//! Between turns it polls without waiting every so often, so that connections that
//! became ready meanwhile get into the deque, where others can steal them; and looks
//! after its neighbours: see `help_neighbour`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use objmapper_os::clock;
use objmapper_os::poll::Events;

use super::deques::Steal;
use super::lanes::Lanes;
use super::remote::{Neighbours, Remote};
use super::task::Task;
use super::{Home, Loan, Serve, Shared, Turn};
use crate::metrics::WorkerCounters;
use crate::sync::atomic::Ordering;

/// Turns between two polls while there is work: who becomes ready in an empty lane waits for so
/// many at most. A poll takes a thirtieth of a short turn's time.
const TURNS_PER_POLL: usize = 4;

/// A neighbour's queue that is longer than ours by so many is worth stealing from. Not tuned.
const LONGER: usize = 16;

/// Events taken from the kernel at once. Not tuned.
const EVENTS: usize = 256;

/// One in so many polls is timed, turn by turn: two clock readings a turn would be
/// seen in the figures.
const TIMED: u64 = 64;

/// How long a worker sleeps at most while another works, which may lose its CPU with
/// connections waiting: at first, and at most after doubling each time that there was nothing
/// to do. One who watches is enough: a thousand wake-ups a second are 2 % of a CPU.
const WATCH: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(8);

/// In so many turns a worker sees to it once that another watches. One who has less to do
/// than that is not worth a wake-up. Not tuned.
const TURNS_PER_WATCHER: u64 = 64;

/// By time, and by a number of their own so that no two are equal.
type Timers<C> = BTreeMap<(Instant, u64), Arc<Task<C>>>;

pub(super) struct Worker<S: Serve> {
    number: usize,
    shared: Arc<Shared<S::Connection>>,
    events: Events,
    deque: Lanes<S::Connection>,
    neighbours: Neighbours,
    timers: Timers<S::Connection>,
    timer: u64,
    spin: Duration,
    /// When there was something to do last. Only kept where it spins.
    busy: Instant,
    serve: S,
    counters: Arc<WorkerCounters>,
    polls: u64,
    /// When the poll that is being timed returned.
    timed: Option<u64>,
    /// How often the others had found something in all when this one lay down last.
    watched: u64,
    /// How long it sleeps next if it watches.
    nap: Duration,
}

impl<S: Serve> Worker<S> {
    pub(super) fn new(
        number: usize,
        shared: Arc<Shared<S::Connection>>,
        deque: Lanes<S::Connection>,
        spin: Duration,
        serve: S,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        Self {
            number,
            neighbours: Neighbours::new(number, shared.remotes.len()),
            shared,
            events: Events::with_capacity(EVENTS),
            deque,
            timers: Timers::new(),
            timer: 0,
            spin,
            busy: Instant::now(),
            serve,
            counters,
            polls: 0,
            timed: None,
            watched: 0,
            nap: *WATCH.start(),
        }
    }

    pub(super) fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            // Work from outside first, once a round: a worker that always has its own
            // would never look there.
            let mut turns = 0;
            while turns < TURNS_PER_POLL
                && let Some(task) = self.next(turns == 0)
            {
                self.run_task(task);
                turns += 1;
            }
            self.serve.pause(turns == TURNS_PER_POLL);
            if turns == TURNS_PER_POLL {
                self.wait(Some(Duration::ZERO));
                self.queue_ready();
                self.help_neighbour();
            } else if !self.help_neighbour() && !self.spin() {
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
            let mut found = self.deque.take_from(&self.shared.injector);
            for (_, other) in self.others() {
                if found.is_success() {
                    break;
                }
                retry |= found.is_retry();
                found = other.stealer.steal_batch_and_pop(&self.deque);
                if found.is_success() {
                    self.counters.steals.add(1);
                }
            }
            match found {
                Steal::Success(task) => return Some(task),
                Steal::Empty if !retry => return None,
                Steal::Empty | Steal::Retry => {}
            }
        }
    }

    /// The other workers, the next one first.
    fn others(&self) -> impl Iterator<Item = (usize, &Remote<S::Connection>)> {
        let before = self.shared.remotes.iter().enumerate().take(self.number);
        self.shared.remotes.iter().enumerate().skip(self.number + 1).chain(before)
    }

    /// Takes over from a neighbour that does not get to work, or its share of a queue
    /// that is much longer than our own. Whether there is work now.
    fn help_neighbour(&mut self) -> bool {
        if let Some(other) = self.neighbours.next()
            && let Some(remote) = self.shared.remotes.get(other)
        {
            let longer = remote.stealer.len().saturating_sub(self.deque.len());
            if self.neighbours.is_stale(other, remote.polls(), Instant::now()) {
                remote.take_over(&mut self.events, &self.deque);
                self.counters.reliefs.add(1);
            } else if longer > LONGER
                && remote.stealer.steal_batch_with_limit(&self.deque, longer / 2).is_success()
            {
                self.counters.steals.add(1);
            }
        }
        !self.deque.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.shared.injector.is_empty()
            || !self.shared.remotes.iter().all(|remote| remote.stealer.is_empty())
            || self.shared.stopping.load(Ordering::Acquire)
    }

    /// Before sleeping: looks again and again for a moment, since a wake-up costs far more
    /// than a request. Whether that found something.
    fn spin(&mut self) -> bool {
        if self.spin.is_zero() || self.busy.elapsed() > self.spin {
            return false;
        }
        if self.shared.spinning.swap(true, Ordering::Acquire) {
            return false;
        }
        self.counters.spins.add(1);
        let end = Instant::now() + self.spin;
        let found = loop {
            self.wait(Some(Duration::ZERO));
            if !self.events.is_empty() || self.has_work() {
                break true;
            }
            if Instant::now() >= end {
                break false;
            }
            // To whom this CPU is worth more, if there is anybody: the peer, perhaps.
            crate::sync::thread::yield_now();
        };
        self.shared.spinning.store(false, Ordering::Release);
        self.queue_ready();
        found
    }

    fn sleep(&mut self) {
        self.shared.sleepers.lie_down(self.number);
        let timeout = if self.has_work() { Some(Duration::ZERO) } else { self.bedtime() };
        if timeout != Some(Duration::ZERO) {
            self.counters.sleeps.add(1);
        }
        self.wait(timeout);
        // Up before anybody is woken: else it could be this worker itself.
        self.shared.sleepers.get_up(self.number);
        self.queue_ready();
    }

    /// How long to sleep.
    fn bedtime(&mut self) -> Option<Duration> {
        let watch = self.is_to_watch();
        if !watch {
            self.shared.sleepers.fall_asleep(self.number);
        }
        let nap = watch.then_some(self.nap);
        if watch {
            self.nap = (self.nap * 2).min(*WATCH.end());
        }
        self.next_timer().into_iter().chain(nap).min()
    }

    /// Whether anybody works, now or since this was asked last, whom nobody with a lower number
    /// watches.
    fn is_to_watch(&mut self) -> bool {
        let sleepers = &self.shared.sleepers;
        let awake = self.others().any(|(n, _)| !sleepers.is_asleep(n));
        let finds = self.others().fold(0, |sum: u64, (_, other)| sum.wrapping_add(other.finds()));
        let busy = std::mem::replace(&mut self.watched, finds) != finds;
        (awake || busy) && !(0..self.number).any(|n| sleepers.dozes(n))
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
        if let Some(own) = self.shared.remotes.get(self.number) {
            own.poll(&mut self.events, timeout);
        }
        self.polls += 1;
        if !self.spin.is_zero() && !self.events.is_empty() {
            self.busy = Instant::now();
        }
        if self.polls.is_multiple_of(TIMED) && !self.events.is_empty() {
            self.timed = Some(clock::monotonic_ns());
        }
    }

    /// Queues what became ready, and sees to it that others help if it is much.
    fn queue_ready(&mut self) {
        let mut queued = 0;
        if let Some(own) = self.shared.remotes.get(self.number) {
            own.notify(&self.events, |task| {
                self.deque.push(task);
                queued += 1;
            });
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
            if task.has_alarm(number) && task.notify(false) {
                self.deque.push(task);
                queued += 1;
            }
        }
        queued
    }

    fn run_task(&mut self, task: Arc<Task<S::Connection>>) {
        let Some((mut connection, hung_up)) = task.begin() else { return };
        self.nap = *WATCH.start();
        let began = self.timed.map(|ready| {
            let now = clock::monotonic_ns();
            self.counters.wait_ns.add(now - ready);
            self.counters.timed_turns.add(1);
            now
        });
        let Self { serve, shared, events, deque, number, .. } = self;
        let mut others = || look(shared, *number, events, deque);
        let turn = serve.turn(&mut connection, hung_up, &mut others);
        if let Some(began) = began {
            self.counters.work_ns.add(clock::monotonic_ns() - began);
        }
        self.counters.turns.add(1);
        let many = self.counters.turns.value().is_multiple_of(TURNS_PER_WATCHER);
        if many && self.shared.sleepers.all_sleep_but(self.number) {
            self.shared.wake_one(self.number + 1);
        }
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
                // That was a long turn: who became ready meanwhile goes first.
                self.wait(Some(Duration::ZERO));
                self.queue_ready();
                if !self.deque.is_empty() {
                    self.shared.wake_one(self.number + 1);
                }
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

    fn close(&self, task: &Task<S::Connection>, connection: Box<S::Connection>) {
        drop(connection);
        self.shared.retire(task);
    }
}

/// In the middle of a turn: queues what became ready, where others can steal it. Whether anybody
/// waits for a turn here.
fn look<C: AsFd + Send + 'static>(
    shared: &Shared<C>,
    number: usize,
    events: &mut Events,
    deque: &Lanes<C>,
) -> bool {
    if let Some(own) = shared.remotes.get(number) {
        own.poll(events, Some(Duration::ZERO));
        own.notify(events, |task| deque.push(task));
    }
    if shared.sleepers.all_sleep_but(number) {
        // What comes next may take long, and somebody has to watch.
        shared.wake_one(number + 1);
    }
    !deque.is_empty() || !shared.injector.is_empty()
}
