//! The seam: what a scheduling model offers to those who serve, and they to it.
//!
//! [`Serve`] runs a turn of a connection and says by [`Turn`] how it ended. A connection
//! that leaves goes as a [`Loan`], which knows the way back through [`Home`]. Nothing here
//! says how turns are scheduled; the work-stealing workers beside are one way.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use objmapper_os as os;

use super::task::Task;

/// What a turn is about.
pub trait Serve: Send + 'static {
    /// A connection; its descriptor is what epoll watches.
    type Connection: AsFd + Send + 'static;

    /// Serves a bounded batch. `hung_up`: the peer has, so read until the end. `others` looks
    /// whether anybody waits for a turn, which is not for nothing.
    fn turn(
        &mut self,
        connection: &mut Self::Connection,
        hung_up: bool,
        others: &mut dyn FnMut() -> bool,
    ) -> Turn;

    /// Takes a connection that left by [`Turn::Leave`].
    fn leave(&mut self, loan: Loan<Self::Connection>);

    /// Called at each poll. `busy`: more turns wait; else there is none to be run now.
    fn pause(&mut self, busy: bool) {
        let _ = busy;
    }
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

/// Where connections come back to.
pub trait Home<C>: Send + Sync {
    /// Watches for room to write as well, or no more. Asks the kernel only when that
    /// is a change; readiness at that moment is reported anew.
    fn watch(&self, task: &Task<C>, connection: &C, writable: bool) -> os::Result<()>;

    /// Queues a task from outside the workers.
    fn inject(&self, task: Arc<Task<C>>);

    /// Queues tasks from outside the workers, and wakes one of these for all.
    fn inject_all(&self, tasks: &mut Vec<Arc<Task<C>>>);

    /// The connection of this task is gone.
    fn retire(&self, task: &Task<C>);
}

/// A connection away from its home, with its way back. Dropping it ends the connection.
pub struct Loan<C> {
    home: Arc<dyn Home<C>>,
    task: Arc<Task<C>>,
    connection: Option<Box<C>>,
}

impl<C> Loan<C> {
    /// A connection that leaves; `task` is its own, and running.
    pub fn new(home: Arc<dyn Home<C>>, task: Arc<Task<C>>, connection: Box<C>) -> Self {
        Self { home, task, connection: Some(connection) }
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
        if self.put_back(turn) {
            self.home.inject(self.task.clone());
        }
    }

    /// Puts the connection into its seat. Whether its task must be queued.
    fn put_back(&mut self, turn: Turn) -> bool {
        if matches!(turn, Turn::Leave | Turn::Close) {
            return false;
        }
        let Some(connection) = self.connection.take() else { return false };
        if self.home.watch(&self.task, &connection, turn == Turn::Blocked).is_err() {
            self.connection = Some(connection);
            return false;
        }
        // There is no worker at hand whose timers could be used. And no further edge will
        // tell of an end of stream that was seen already.
        let at_once = matches!(turn, Turn::Again | Turn::Later(_))
            || turn == Turn::Wait && self.task.hung_up();
        if at_once {
            self.task.requeue(connection);
            true
        } else {
            self.task.finish(connection)
        }
    }
}

/// Connections of one pool that come back together: one worker is woken for all of them.
pub struct Returns<C> {
    home: Option<Arc<dyn Home<C>>>,
    queued: Vec<Arc<Task<C>>>,
}

impl<C> Default for Returns<C> {
    fn default() -> Self {
        Self { home: None, queued: Vec::new() }
    }
}

impl<C> Returns<C> {
    /// As [`Loan::give_back`], but a task that has to be queued waits for [`Self::queue`].
    pub fn add(&mut self, mut loan: Loan<C>, turn: Turn) {
        if loan.put_back(turn) {
            self.queued.push(loan.task.clone());
            self.home.get_or_insert_with(|| loan.home.clone());
        }
    }

    /// Queues all that have to be.
    pub fn queue(&mut self) {
        if let Some(home) = &self.home {
            home.inject_all(&mut self.queued);
        }
    }
}

impl<C> Drop for Loan<C> {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            self.home.retire(&self.task);
        }
    }
}
