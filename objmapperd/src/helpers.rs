//! Helpers: threads that may wait for a disk, or for whoever answers for a file system; and that have
//! the time for what takes long with keys.
//!
//! A request that would have to wait (a cold name, a cold page of a small body, a
//! directory, anything on a network or user-space file system) takes its connection here,
//! where it gets a turn like any other, only with patience for the mount that the request
//! is about; replies stay in order because the connection is here, whole. So does a body
//! whose next window is not in memory.
//!
//! A few threads stay. When all of these are busy, more come for those who may have
//! another ([`Admission`] says who), and go when there is nothing to do for them: a mount
//! that hangs keeps its share of threads busy and no more.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::admission::{Account, Admission, Ticket};
use crate::connection::Connection;
use crate::pool::{Loan, Serve, Turn};

/// Threads at most, however many mounts hang. Not tuned: each costs a stack of a few pages.
const MOST: usize = 256;

/// The way to the helpers.
#[derive(Clone)]
pub struct Helpers {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    errands: Admission<Loan<Connection>>,
    /// Starts a thread that stays, or does not.
    starter: Option<Starter>,
    threads: usize,
    /// Threads that wait and have not been woken.
    idle: usize,
    stop: bool,
}

type Starter = Arc<dyn Fn(Stay) -> std::io::Result<JoinHandle<()>> + Send + Sync>;

/// Whether a thread stays when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Always,
    WhileBusy,
}

/// What helpers are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Threads there are.
    pub threads: usize,
    /// Errands that run.
    pub running: usize,
    /// Errands that wait.
    pub waiting: usize,
    /// How long the one has run that has run longest, in milliseconds.
    pub longest_ms: u64,
}

impl Helpers {
    /// Nobody yet. At most `per_mount` threads will wait for one mount, and `long` do what takes long
    /// with keys.
    pub fn new(per_mount: usize, long: usize) -> Self {
        let state = State {
            errands: Admission::new(per_mount, long),
            starter: None,
            threads: 0,
            idle: 0,
            stop: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), more: Condvar::new() }) }
    }

    /// Starts `number` threads that stay. Each serves with an attendant of its own, which
    /// has patience; those of threads that went are used again.
    pub fn start<A: Serve<Connection = Connection>>(
        &self,
        number: usize,
        attendant: impl Fn() -> A + Send + Sync + 'static,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        let shared = self.shared.clone();
        let spare = Arc::new(Mutex::new(Vec::new()));
        let starter: Starter = Arc::new(move |stay| {
            let mut attendant = spare.lock().pop().unwrap_or_else(&attendant);
            let (shared, spare) = (shared.clone(), spare.clone());
            thread::Builder::new().name("helper".to_owned()).spawn(move || {
                shared.serve(&mut attendant, stay);
                spare.lock().push(attendant);
            })
        });
        let mut state = self.shared.state.lock();
        state.starter = Some(starter.clone());
        state.threads = number;
        drop(state);
        (0..number).map(|_| starter(Stay::Always)).collect()
    }

    /// Hands over a connection whose next step has to wait. The queue is as long as there
    /// are connections at most.
    pub fn send(&self, mut loan: Loan<Connection>) {
        let Some(connection) = loan.connection() else { return };
        let account = Account { resource: connection.errand, uid: connection.caller.uid() };
        let mut state = self.shared.state.lock();
        if state.stop {
            return;
        }
        state.errands.push(account, loan);
        if state.idle > 0 {
            // It is counted out here, so that the next errand does not count on it too.
            state.idle -= 1;
            self.shared.more.notify_one();
        } else if state.threads < MOST
            && state.errands.is_ready()
            && let Some(starter) = state.starter.clone()
        {
            state.threads += 1;
            drop(state);
            if let Err(error) = starter(Stay::WhileBusy) {
                self.shared.state.lock().threads -= 1;
                tracing::warn!(%error, "no further helper; requests wait for those there are");
            }
        }
    }

    /// What they are doing.
    pub fn figures(&self) -> Figures {
        let state = self.shared.state.lock();
        let longest = state.errands.oldest().map(|since| since.elapsed().as_millis());
        Figures {
            threads: state.threads,
            running: state.errands.running(),
            waiting: state.errands.waiting(),
            longest_ms: longest.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        }
    }

    /// Whether the threads are to end: what takes long is given up.
    pub fn is_stopping(&self) -> bool {
        self.shared.state.lock().stop
    }

    /// Lets the threads end.
    pub fn stop(&self) {
        let mut state = self.shared.state.lock();
        state.stop = true;
        let starter = state.starter.take();
        let loans: Vec<_> = state.errands.clear().collect();
        drop(state);
        drop((loans, starter));
        self.shared.more.notify_all();
    }
}

impl Shared {
    fn serve(&self, attendant: &mut impl Serve<Connection = Connection>, stay: Stay) {
        while let Some((ticket, mut loan)) = self.next(stay) {
            let hung_up = loan.hung_up();
            if let Some(connection) = loan.connection() {
                // Nobody waits for this thread in particular.
                match attendant.turn(connection, hung_up, &mut || false) {
                    Turn::Leave => {
                        attendant.leave(loan);
                        attendant.pause(false);
                    }
                    turn => loan.give_back(turn),
                }
            }
            self.state.lock().errands.done(ticket);
        }
    }

    fn next(&self, stay: Stay) -> Option<(Ticket, Loan<Connection>)> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(next) = state.errands.next(Instant::now()) {
                return Some(next);
            }
            if stay == Stay::WhileBusy {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            self.more.wait(&mut state);
        }
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.figures().fmt(f)
    }
}
