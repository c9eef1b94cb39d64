//! Signals as something to read: blocked for the process, delivered through a descriptor.
//!
//! No handler ever runs. Block before any thread is started, since threads take over the mask of
//! the one that starts them; a thread that does not block them would be killed by them. A child
//! process takes over the mask too (the standard library's `Command` leaves it as it is): a
//! program that expects to die of SIGTERM must unblock it for itself.

use crate::error::{Error, Result};
use crate::raw;
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

/// The signals that objmapper knows a use for. signal(7)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM: stop, after what is under way.
    Terminate,
    /// SIGINT: the same, from a terminal.
    Interrupt,
    /// SIGQUIT: stop at once.
    Quit,
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGUSR1: free for use.
    User1,
    /// SIGUSR2: free for use.
    User2,
    /// SIGCHLD: a child process has ended.
    Child,
}

/// Every signal and its number.
const NUMBERS: [(Signal, Number); 7] = [
    (Signal::Terminate, Number::SIGTERM),
    (Signal::Interrupt, Number::SIGINT),
    (Signal::Quit, Number::SIGQUIT),
    (Signal::Hangup, Number::SIGHUP),
    (Signal::User1, Number::SIGUSR1),
    (Signal::User2, Number::SIGUSR2),
    (Signal::Child, Number::SIGCHLD),
];

impl fmt::Display for Signal {
    /// `SIGTERM`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = NUMBERS.iter().find(|(signal, _)| signal == self).map(|(_, number)| number);
        f.write_str(number.map_or("signal", |number| number.as_str()))
    }
}

/// A descriptor from which blocked signals are read. signalfd(2)
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks these signals in the calling thread, and in all that it starts from now on, and
    /// opens a non-blocking descriptor for them.
    pub fn block(signals: &[Signal]) -> Result<Self> {
        let mut set = SigSet::empty();
        for (signal, number) in NUMBERS {
            if signals.contains(&signal) {
                set.add(number);
            }
        }
        set.thread_block().map_err(Error::from_nix("pthread_sigmask"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).map_err(Error::from_nix("signalfd"))?;
        Ok(Self { fd })
    }

    /// The next signal that has come; `None` if there is none. One of a kind that came several
    /// times before it was read is told once.
    pub fn next(&self) -> Result<Option<Signal>> {
        let Some(info) = self.fd.read_signal().map_err(Error::from_nix("read"))? else {
            return Ok(None);
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Ok(NUMBERS.iter().find(|(_, known)| *known as i32 == number).map(|(signal, _)| *signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends one to this process, as if somebody else had. kill(2)
pub fn to_self(signal: Signal) -> Result<()> {
    let number = NUMBERS.iter().find(|(known, _)| *known == signal).map(|(_, number)| *number);
    nix::sys::signal::kill(nix::unistd::Pid::this(), number).map_err(Error::from_nix("kill"))
}

/// Writing to a peer that has gone gives EPIPE instead of killing the process. Sends of this crate
/// ask for that one by one; [`crate::file::send_file`] cannot, so a daemon calls this at start.
/// Rust programs begin with it ignored, C programs that load a library of ours may not.
pub fn ignore_sigpipe() -> Result<()> {
    raw::ignore_sigpipe()
}
