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
        if matches!(turn, Turn::Leave | Turn::Close) {
            return;
        }
        let Some(connection) = self.connection.take() else { return };
        if self.home.watch(&self.task, &connection, turn == Turn::Blocked).is_err() {
            self.connection = Some(connection);
            return;
        }
        // There is no worker at hand whose timers could be used. And no further edge will
        // tell of an end of stream that was seen already.
        let at_once = matches!(turn, Turn::Again | Turn::Later(_))
            || turn == Turn::Wait && self.task.hung_up();
        let queue = if at_once {
            self.task.requeue(connection);
            true
        } else {
            self.task.finish(connection)
        };
        if queue {
            self.home.inject(self.task.clone());
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
