//! The pool: workers that serve whatever connection is ready, and steal from each other.
//!
//! ```text
//!            epoll of worker 0        epoll of worker 1
//!                  │ ready                  │ ready
//!                  ▼                        ▼
//!            ┌─ deque 0 ─┐  ◀── steal ─▶ ┌─ deque 1 ─┐     injector ◀── transfer path,
//!            └────┬──────┘               └────┬──────┘         │        helpers
//!                 ▼  turn                     ▼  turn ◀────────┘
//! ```
//!
//! A ready connection is a [`task::Task`]. It stays in the epoll instance of the
//! worker it was admitted to, its *home*; what is stolen is a turn, not the
//! connection. A turn serves a bounded batch of requests, so that two workers serve
//! ten thousand busy connections without starving one.
//!
//! What a turn does is behind [`Serve`]: this module knows readiness, queues and
//! ownership, and nothing of protocols. Another scheduling model would offer the same
//! [`Serve`] and [`Turn`]; [`Loan`], the way back, is still tied to this one.

pub mod sleep;
pub mod slots;
pub mod task;
pub mod worker;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_deque::{Injector, Stealer, Worker as Deque};
use objmapper_os as os;
use os::poll::{Interest, Poll, Registry, Token, Waker};
use parking_lot::Mutex;

use crate::metrics::WorkerCounters;
use sleep::Sleepers;
use task::Task;
use worker::Worker;

/// What a turn is about.
pub trait Serve: Send + 'static {
    /// A connection; its descriptor is what epoll watches.
    type Connection: AsFd + Send + 'static;

    /// Serves a bounded batch. `hung_up`: the peer has, so read until the end.
    fn turn(&mut self, connection: &mut Self::Connection, hung_up: bool) -> Turn;

    /// Takes a connection that left by [`Turn::Leave`].
    fn leave(&mut self, loan: Loan<Self::Connection>);
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing more to do until the peer sends something.
    Wait,
    /// More to do; others first.
    Again,
    /// Replies are waiting for the peer to read.
    Blocked,
    /// Try again after this time.
    Later(Duration),
    /// The connection goes elsewhere for a while.
    Leave,
    /// The connection is over.
    Close,
}

/// Letters to a worker.
enum Mail<C> {
    /// Watch and serve this one.
    Admit(Box<C>),
    /// This one is gone.
    Retire(usize),
    /// Give every connection a turn.
    Rouse,
    /// Stop.
    Stop,
}

/// What others can reach of a worker.
struct Desk<C> {
    stealer: Stealer<Arc<Task<C>>>,
    registry: Registry,
    waker: Waker,
    mail: Mutex<Vec<Mail<C>>>,
    has_mail: AtomicBool,
}

/// What all workers share.
pub(crate) struct Shared<C> {
    injector: Injector<Arc<Task<C>>>,
    desks: Box<[Desk<C>]>,
    sleepers: Sleepers,
}

impl<C: AsFd + Send + 'static> Shared<C> {
    fn desk(&self, worker: usize) -> Option<&Desk<C>> {
        self.desks.get(worker)
    }

    fn post(&self, worker: usize, mail: Mail<C>, wake: bool) {
        let Some(desk) = self.desk(worker) else { return };
        desk.mail.lock().push(mail);
        desk.has_mail.store(true, Ordering::Release);
        if wake {
            self.wake(worker);
        }
    }

    fn wake(&self, worker: usize) {
        if let Some(desk) = self.desk(worker)
            && let Err(error) = desk.waker.wake()
        {
            tracing::error!(%error, worker, "cannot wake a worker");
        }
    }

    /// Wakes one sleeper, if there is one.
    fn wake_one(&self, first: usize) {
        if let Some(worker) = self.sleepers.pick(first) {
            self.wake(worker);
        }
    }

    /// Queues a task from outside the workers.
    fn inject(&self, task: Arc<Task<C>>) {
        let home = task.home;
        self.injector.push(task);
        self.wake_one(home);
    }

    /// Watches for room to write as well, or no more. Asks the kernel only when that
    /// is a change; readiness at that moment is reported anew.
    fn watch(&self, task: &Task<C>, connection: &C, writable: bool) -> os::Result<()> {
        if !task.arm(writable) {
            return Ok(());
        }
        let interest = if writable { Interest::BOTH } else { Interest::READABLE };
        match self.desk(task.home) {
            Some(desk) => desk.registry.modify(connection, Token(task.token), interest),
            None => Ok(()),
        }
    }
}

/// A connection away from the pool, with its way back. Dropping it ends the connection.
pub struct Loan<C: AsFd + Send + 'static> {
    shared: Arc<Shared<C>>,
    task: Arc<Task<C>>,
    connection: Option<Box<C>>,
}

impl<C: AsFd + Send + 'static> Loan<C> {
    fn new(shared: Arc<Shared<C>>, task: Arc<Task<C>>, connection: Box<C>) -> Self {
        Self { shared, task, connection: Some(connection) }
    }

    /// The connection; `None` never while the loan lives.
    pub fn connection(&mut self) -> Option<&mut C> {
        self.connection.as_deref_mut()
    }

    /// Whether the peer has hung up, or half so.
    pub fn hung_up(&self) -> bool {
        self.task.hung_up()
    }

    /// Gives the connection back as a turn that ended like this would.
    pub fn give_back(mut self, turn: Turn) {
        let Some(connection) = self.connection.take() else { return };
        let watched = self.shared.watch(&self.task, &connection, turn == Turn::Blocked);
        let queue = match turn {
            Turn::Leave | Turn::Close => return self.end(connection),
            _ if watched.is_err() => return self.end(connection),
            // There is no worker at hand whose timers could be used.
            // And no further edge will tell of an end of stream that was seen already.
            Turn::Again | Turn::Later(_) | Turn::Wait
                if turn != Turn::Wait || self.task.hung_up() =>
            {
                self.task.requeue(connection);
                true
            }
            _ => self.task.finish(connection),
        };
        if queue {
            self.shared.inject(self.task.clone());
        }
    }

    fn end(mut self, connection: Box<C>) {
        self.connection = Some(connection);
    }
}

impl<C: AsFd + Send + 'static> Drop for Loan<C> {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            self.shared.post(self.task.home, Mail::Retire(self.task.token), false);
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
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl<C: AsFd + Send + 'static> Pool<C> {
    /// Starts `workers` workers, each with what `serve` makes for it and counting
    /// into what it is given.
    pub fn start<S: Serve<Connection = C>>(
        workers: usize,
        mut serve: impl FnMut(usize) -> (S, Arc<WorkerCounters>),
    ) -> Result<Self, StartError> {
        let mut halves = Vec::new();
        let mut desks = Vec::new();
        for _ in 0..workers {
            let poll = Poll::new()?;
            // Oldest first: a connection that always has more to do goes to the back.
            let deque = Deque::new_fifo();
            desks.push(Desk {
                stealer: deque.stealer(),
                registry: poll.registry().clone(),
                waker: Waker::new(poll.registry(), worker::WAKE)?,
                mail: Mutex::new(Vec::new()),
                has_mail: AtomicBool::new(false),
            });
            halves.push((poll, deque));
        }
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            desks: desks.into(),
            sleepers: Sleepers::new(workers),
        });
        let mut pool = Self { shared: shared.clone(), threads: Vec::new(), next: 0 };
        for (number, (poll, deque)) in halves.into_iter().enumerate() {
            let (serve, counters) = serve(number);
            let worker = Worker::new(number, shared.clone(), poll, deque, serve, counters);
            let name = format!("worker-{number}");
            pool.threads.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        Ok(pool)
    }

    /// Gives a new connection to the worker whose turn it is.
    pub fn admit(&mut self, connection: Box<C>) {
        self.next = (self.next + 1) % self.shared.desks.len().max(1);
        self.shared.post(self.next, Mail::Admit(connection), true);
    }

    /// Gives every connection a turn, whether or not its peer sent something.
    pub fn rouse(&self) {
        for worker in 0..self.shared.desks.len() {
            self.shared.post(worker, Mail::Rouse, true);
        }
    }

    /// Stops all workers after the turn they are in, and closes every connection.
    pub fn stop(self) {
        for worker in 0..self.shared.desks.len() {
            self.shared.post(worker, Mail::Stop, true);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
    }
}
