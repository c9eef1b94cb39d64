//! The pool: workers that serve whatever connection is ready, and steal from each other.
//!
//! ```text
//!            epoll of worker 0        epoll of worker 1
//!                  │ ready ─ ─ ─ ─ ─ ─ ┐    │ ready
//!                  ▼                   ▼    ▼
//!            ┌─ deque 0 ─┐  ◀── steal ─▶ ┌─ deque 1 ─┐     injector ◀── transfer path,
//!            └────┬──────┘               └────┬──────┘         │        helpers
//!                 ▼  turn                     ▼  turn ◀────────┘
//! ```
//!
//! A ready connection is a [`task::Task`]. It stays in the epoll instance of the
//! worker it was admitted to, its *home*; what is stolen is a turn, not the
//! connection. A turn serves a bounded batch of requests, so that two workers serve
//! ten thousand busy connections without starving one. Connections of different kinds
//! queue in lanes of their own (`lanes`). Where a worker is kept from its
//! CPU, a neighbour takes what its epoll instance has ready as well (`remote`).
//!
//! What a turn does is behind [`Serve`]: this module knows readiness, queues and
//! ownership, and nothing of protocols. What another scheduling model would offer is in
//! [`seam`].

mod deques;
mod lanes;
mod remote;
pub mod seam;
pub mod sleep;
pub mod slots;
pub mod task;
mod worker;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use objmapper_os as os;
use os::poll::Interest;

use crate::metrics::WorkerCounters;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, JoinHandle};
use deques::Injector;
use lanes::Lanes;
use remote::Remote;
pub use seam::{Home, Loan, Returns, Serve, Turn};
use sleep::Sleepers;
use task::Task;
use worker::Worker;

/// What all workers share.
struct Shared<C> {
    injector: Injector<Arc<Task<C>>>,
    remotes: Box<[Remote<C>]>,
    sleepers: Sleepers,
    /// Somebody looks for work without sleeping: one is enough.
    spinning: AtomicBool,
    stopping: AtomicBool,
}

impl<C: AsFd + Send + 'static> Shared<C> {
    /// Wakes one sleeper, if there is one.
    fn wake_one(&self, first: usize) {
        if let Some(worker) = self.sleepers.pick(first)
            && let Some(remote) = self.remotes.get(worker)
        {
            remote.wake();
        }
    }
}

impl<C: AsFd + Send + 'static> Home<C> for Shared<C> {
    fn watch(&self, task: &Task<C>, connection: &C, writable: bool) -> os::Result<()> {
        if !task.arm(writable) {
            return Ok(());
        }
        let interest = if writable { Interest::BOTH } else { Interest::READABLE };
        match self.remotes.get(task.home) {
            Some(home) => home.watch(task, connection, interest),
            None => Ok(()),
        }
    }

    fn inject(&self, task: Arc<Task<C>>) {
        let home = task.home;
        self.injector.push(task);
        self.wake_one(home);
    }

    fn inject_all(&self, tasks: &mut Vec<Arc<Task<C>>>) {
        let Some(home) = tasks.first().map(|task| task.home) else { return };
        tasks.drain(..).for_each(|task| self.injector.push(task));
        self.wake_one(home);
    }

    fn retire(&self, task: &Task<C>) {
        if let Some(home) = self.remotes.get(task.home) {
            home.retire(task);
        }
    }
}

/// The running workers.
pub struct Pool<C: AsFd + Send + 'static> {
    shared: Arc<Shared<C>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

/// The workers could not be started, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No epoll instance or no eventfd.
    #[error(transparent)]
    Os(#[from] os::Error),
    /// No thread.
    #[error("cannot start a thread: {}", os::error::text(.0))]
    Thread(#[from] std::io::Error),
}

impl<C: AsFd + Send + 'static> Pool<C> {
    /// Starts `workers` workers, each with what `serve` makes for it and counting
    /// into what it is given. One that served no longer than `spin` ago looks for more
    /// for as long before it sleeps, if no other does.
    pub fn start<S: Serve<Connection = C>>(
        workers: usize,
        spin: Duration,
        mut serve: impl FnMut(usize) -> (S, Arc<WorkerCounters>),
    ) -> Result<Self, StartError> {
        let deques: Vec<_> = (0..workers.max(1)).map(|_| Lanes::new()).collect();
        let remotes =
            deques.iter().map(|d| Remote::new(d.stealers())).collect::<os::Result<_>>()?;
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            remotes,
            sleepers: Sleepers::new(deques.len()),
            spinning: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let mut pool = Self { shared: shared.clone(), threads: Vec::new(), next: 0 };
        for (number, deque) in deques.into_iter().enumerate() {
            let (serve, counters) = serve(number);
            let worker = Worker::new(number, shared.clone(), deque, spin, serve, counters);
            let name = format!("worker-{number}");
            pool.threads.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        Ok(pool)
    }

    /// Gives a new connection to the worker whose turn it is, in the first lane.
    pub fn admit(&mut self, connection: Box<C>) {
        self.admit_to(0, connection);
    }

    /// The same, in a lane that has turns of its own.
    pub fn admit_to(&mut self, lane: usize, connection: Box<C>) {
        self.next = (self.next + 1) % self.shared.remotes.len().max(1);
        if let Some(home) = self.shared.remotes.get(self.next)
            && let Err(error) = home.admit(connection, (self.next, lane))
        {
            tracing::warn!(%error, "cannot watch a new connection; it is closed");
        }
    }

    /// Gives every connection a turn, whether or not its peer sent something.
    pub fn rouse(&self) {
        for task in self.shared.remotes.iter().flat_map(Remote::tasks) {
            if task.notify(false) {
                self.shared.inject(task);
            }
        }
    }

    /// How often each worker has looked for events, and whether it sleeps now: one that
    /// does neither is stuck in a turn.
    pub fn progress(&self) -> impl Iterator<Item = (u64, bool)> + '_ {
        let asleep = |worker| self.shared.sleepers.is_asleep(worker);
        self.shared.remotes.iter().enumerate().map(move |(n, r)| (r.polls(), asleep(n)))
    }

    /// Stops all workers after the turn they are in, and closes every connection.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.remotes.iter().for_each(Remote::wake);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
        self.shared.remotes.iter().for_each(Remote::clear);
    }
}
