//! A destination: a descriptor that a client passed for a body to be moved into, from the
//! moment that it arrives to the moment that it is closed.
//!
//! ```text
//!  recv ─▶ Arrivals ─▶ the frame that declares it ─▶ Forward (crate::forward) ─▶ closed
//! ```
//!
//! It is a stranger's. What must stay true:
//! - it counts as a body of its sender's from its arrival, so that nobody has more of them here
//!   than bodies;
//! - nothing is done with it, not even looking what it is, but by a helper that may be lost
//!   over it; and the transfer path's epoll instance;
//! - it is closed by a helper, or by the queue of its sender's ([`crate::closers`]).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use objmapper::{Closer, Opened};
use objmapper_proto::Violation;

use crate::budget::{Budget, Permit};
use crate::closers::CloseQueue;
use crate::session::PER_MESSAGE;

/// Descriptors that may wait for their frames: those of a frame that is not whole yet, and one
/// more message.
const WAITING: usize = 2 * PER_MESSAGE as usize;

/// A descriptor to write into.
#[derive(Debug)]
pub struct Destination {
    fd: Opened,
    /// A body's.
    _permit: Permit,
}

impl Destination {
    /// Closes it here and now, which may take for ever.
    pub fn close(self) {
        drop(OwnedFd::from(self.fd));
    }
}

impl AsFd for Destination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One that came, or why it was not kept.
pub type Arrival = Result<Destination, Box<str>>;

/// Descriptors that came and whose frames are not answered yet, in their order: mostly none.
#[derive(Debug, Default)]
pub struct Arrivals {
    waiting: VecDeque<Arrival>,
    /// That of the frame at the front of the input.
    front: Option<Arrival>,
}

impl Arrivals {
    /// Takes in what a message brought.
    pub fn take_in(
        &mut self,
        fds: impl ExactSizeIterator<Item = OwnedFd>,
        (bodies, uid): (&Arc<Budget>, u32),
        closer: &CloseQueue,
    ) -> Result<(), Violation> {
        let arrived = self.waiting.len() + fds.len();
        let closer: Arc<dyn Closer> = Arc::new(closer.clone());
        for fd in fds {
            let fd = Opened::may_hang(fd, closer.clone());
            if arrived > WAITING {
                continue;
            }
            self.waiting.push_back(match bodies.take(uid) {
                Ok(permit) if closer.has_room() => Ok(Destination { fd, _permit: permit }),
                Ok(_) => {
                    Err("what this user passed before cannot be closed: something holds it".into())
                }
                Err(over) => Err(over.to_string().into()),
            });
        }
        if arrived > WAITING {
            let why = "more came than may wait for their frames";
            return Err(Violation::Descriptors { declared: 0, arrived, why });
        }
        Ok(())
    }

    /// The frame at the front of the input declares so many: one of its own, or none.
    pub fn belong(&mut self, declared: u16) -> Result<(), Violation> {
        if declared > 0 && self.front.is_none() {
            self.front = self.waiting.pop_front();
            if self.front.is_none() {
                let why = "they come with or before the last byte of their frame";
                return Err(Violation::Descriptors { declared: declared.into(), arrived: 0, why });
            }
        }
        Ok(())
    }

    /// Nothing is left to be read: none may be left over.
    pub fn expect_none(&self) -> Result<(), Violation> {
        let arrived = self.waiting.len();
        let why = "no frame declares them";
        if arrived == 0 {
            Ok(())
        } else {
            Err(Violation::Descriptors { declared: 0, arrived, why })
        }
    }

    /// Why that of the frame at the front was not kept.
    pub fn refusal(&self) -> Option<&str> {
        self.front.as_ref()?.as_ref().err().map(AsRef::as_ref)
    }

    /// Whether the frame at the front has one.
    pub const fn is_expected(&self) -> bool {
        matches!(self.front, Some(Ok(_)))
    }

    /// That of the frame at the front.
    pub fn take(&mut self) -> Option<Destination> {
        self.front.take()?.ok()
    }

    /// The frame at the front is answered; what of it is still here nobody needs.
    pub fn answered(&mut self) {
        self.front = None;
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = VecDeque::new();
        }
    }
}
