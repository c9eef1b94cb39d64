//! Unix stream sockets that carry descriptors: listening, connecting, sending, receiving. TCP
//! sockets too, as far as listening and bytes go.
//!
//! A name is a path, or an abstract name if it begins with `@` (write `./@x` for a file of that
//! name). Every descriptor made or received here is close-on-exec, every send is without SIGPIPE,
//! and EINTR is retried inside. What the bytes mean, and how many descriptors belong to which of
//! them, is not known here.

mod address;
mod bind;
mod stream;

mod listener;

pub use bind::BindOptions;
pub use listener::Listener;
pub use stream::{Received, Stream};

use crate::errno;
use crate::error::Result;
use crate::raw::{self, Pass};
use std::os::fd::BorrowedFd;

/// From now on nobody can send descriptors to this socket: the peer's send fails with EPERM. An
/// accepted socket has the setting that its listener had at the moment of the client's connect(2),
/// so set it before the path is known. `Ok(false)` where the kernel cannot (before Linux 6.16).
/// `SO_PASSRIGHTS` in socket(7)
pub fn refuse_descriptors(fd: BorrowedFd<'_>) -> Result<bool> {
    pass_rights(fd, false)
}

/// The opposite of [`refuse_descriptors`], for an accepted socket whose peer may send some.
pub fn admit_descriptors(fd: BorrowedFd<'_>) -> Result<bool> {
    pass_rights(fd, true)
}

fn pass_rights(fd: BorrowedFd<'_>, on: bool) -> Result<bool> {
    match raw::pass(fd, Pass::Rights, on) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == errno::ENOPROTOOPT => Ok(false),
        Err(error) => Err(error.with_detail("SO_PASSRIGHTS")),
    }
}

/// Turns off what a socket from elsewhere may have been set to bring with each message: we read
/// none of it, and a process descriptor that nobody reads would be leaked.
fn refuse_extras(fd: BorrowedFd<'_>) {
    for option in [Pass::Cred, Pass::Pidfd, Pass::Sec] {
        // Fails only where the kernel does not know the option, and then it is off.
        let _ = raw::pass(fd, option, false);
    }
}
