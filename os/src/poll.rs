//! Readiness of many descriptors at once: epoll, edge-triggered.
//!
//! mio owns the instance and registers; the wait is our own call, because mio lends an instance to
//! one waiter and here a thread may also take what another's instance has ready. The kernel gives
//! each event to one of those who wait.
//!
//! An edge says that something *changed*: after it, read or write until EAGAIN (or until a short
//! receive that stopped at no descriptor), or remember that there is more. Register connections
//! for [`Interest::READABLE`] alone and add WRITABLE only while a reply waits for room; it would
//! wake us for everything the peer reads. Data and the end of the stream can come as one event:
//! with `read_closed`, read until 0.
//!
//! A token is given back as it was; whether it still means the same connection is for the caller
//! to know (a generation inside it). Regular files cannot be polled: EPERM.

use crate::error::{Error, Result};
use crate::{errno, raw};
use mio::unix::SourceFd;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

/// Names a registered descriptor in its events; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub usize);

/// What to be told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(mio::Interest);

impl Interest {
    /// There is something to read, or the peer will send no more. The default for connections.
    pub const READABLE: Self = Self(mio::Interest::READABLE);
    /// There is room to write, after there was none.
    pub const WRITABLE: Self = Self(mio::Interest::WRITABLE);
    /// Both.
    pub const BOTH: Self = Self(mio::Interest::READABLE.add(mio::Interest::WRITABLE));
}

/// Something changed for one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // the kernel's own five bits
pub struct Event {
    /// As it was registered.
    pub token: Token,
    /// Reading will not block: data, a connection, or the end.
    pub readable: bool,
    /// Writing will not block.
    pub writable: bool,
    /// No more will come than what is there to be read now.
    pub read_closed: bool,
    /// The peer reads no more.
    pub write_closed: bool,
    /// The descriptor is in an error state.
    pub error: bool,
}

/// Room for what one wait reports; made once and used again.
pub struct Events(Vec<libc::epoll_event>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Events {
    /// At most `capacity` events at a time; those that do not fit come with the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// What the last wait reported.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.0.iter().map(|event| {
            // By value: the struct is packed.
            let (token, flags) = (event.u64, event.events.cast_signed());
            let all = |bits| flags & bits == bits;
            Event {
                // A usize went in: see `Registry::add`.
                token: Token(usize::try_from(token).unwrap_or(usize::MAX)),
                readable: flags & (libc::EPOLLIN | libc::EPOLLPRI) != 0,
                writable: all(libc::EPOLLOUT),
                read_closed: all(libc::EPOLLHUP) || all(libc::EPOLLIN | libc::EPOLLRDHUP),
                write_closed: all(libc::EPOLLHUP)
                    || all(libc::EPOLLOUT | libc::EPOLLERR)
                    || flags == libc::EPOLLERR,
                error: all(libc::EPOLLERR),
            }
        })
    }

    /// Whether the last wait reported nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An epoll instance. epoll(7)
#[derive(Debug)]
pub struct Poll {
    inner: mio::Poll,
    registry: Registry,
}

impl Poll {
    /// A new one, with nothing registered.
    pub fn new() -> Result<Self> {
        let inner = mio::Poll::new().map_err(at("epoll_create1"))?;
        let registry = inner.registry().try_clone().map_err(at("fcntl"))?;
        Ok(Self { inner, registry: Registry(Arc::new(registry)) })
    }

    /// Waits until something changed or the timeout passed (`None`: for ever; zero: only looks;
    /// else rounded up to whole milliseconds). A signal ends it early, with no events. With several
    /// threads waiting, each event goes to one of them. epoll_wait(2)
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.map_or(-1, whole_milliseconds);
        match raw::epoll_wait(raw::epoll_of(&self.inner), &mut events.0, timeout) {
            Err(error) if error.errno() != errno::EINTR => Err(error),
            _ => Ok(()),
        }
    }

    /// Where descriptors are registered; a clone of it may be used from any thread.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// What an epoll instance watches. Cloning is cheap and shares it. epoll_ctl(2)
#[derive(Debug, Clone)]
pub struct Registry(Arc<mio::Registry>);

impl Registry {
    /// Starts watching. EEXIST if it is watched already, EPERM if it cannot be (a regular file).
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<()> {
        let raw = fd.as_fd().as_raw_fd();
        self.0
            .register(&mut SourceFd(&raw), mio::Token(token.0), interest.0)
            .map_err(at("epoll_ctl(ADD)"))
    }

    /// Changes token or interest, and reports anew what holds already. ENOENT if not watched.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<()> {
        let raw = fd.as_fd().as_raw_fd();
        self.0
            .reregister(&mut SourceFd(&raw), mio::Token(token.0), interest.0)
            .map_err(at("epoll_ctl(MOD)"))
    }

    /// Stops watching. Needed before closing a descriptor that others hold too: the kernel watches
    /// the open file, not the number. ENOENT if not watched.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        let raw = fd.as_fd().as_raw_fd();
        self.0.deregister(&mut SourceFd(&raw)).map_err(at("epoll_ctl(DEL)"))
    }
}

/// Ends another thread's wait. One for each [`Poll`] is enough, and all that mio permits.
#[derive(Debug)]
pub struct Waker(mio::Waker);

impl Waker {
    /// Wakes the poll of this registry with an event of this token. eventfd(2)
    pub fn new(registry: &Registry, token: Token) -> Result<Self> {
        mio::Waker::new(&registry.0, mio::Token(token.0)).map(Self).map_err(at("eventfd"))
    }

    /// Wakes it, now or at its next wait; many calls before that are one event.
    pub fn wake(&self) -> Result<()> {
        self.0.wake().map_err(at("write"))
    }
}

fn whole_milliseconds(timeout: Duration) -> libc::c_int {
    // More than the kernel can count (25 days) is as much as it can.
    libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

fn at(call: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::from_io(call, &error)
}
