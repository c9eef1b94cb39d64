//! Readiness, for the models. The kernel is the real one; it is asked without waiting and
//! by one thread at a time. Who has to wait is woken when something was done that may have
//! made an event, and asks again. A timeout passes in models that say so; in others what goes
//! on with its help alone is a deadlock.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loom::sync::{Condvar, Mutex, MutexGuard};
use objmapper_os as os;
use os::poll::{Events, Interest, Token};

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel {
        inside: Mutex::new(()),
        events: Condvar::new(),
        time_passes: AtomicBool::new(false),
    };
}

struct Kernel {
    inside: Mutex<()>,
    events: Condvar,
    time_passes: AtomicBool,
}

impl Kernel {
    #[allow(clippy::unwrap_used)] // poisoned when the model has failed already
    fn enter(&self) -> MutexGuard<'_, ()> {
        self.inside.lock().unwrap()
    }
}

/// Asks the kernel for something that may make an event.
pub fn call<T>(call: impl FnOnce() -> T) -> T {
    let inside = KERNEL.enter();
    let done = call();
    KERNEL.events.notify_all();
    drop(inside);
    done
}

/// From now on a timeout has passed as soon as others have had their turn.
pub fn let_time_pass() {
    KERNEL.time_passes.store(true, Ordering::Relaxed);
}

/// An epoll instance.
pub struct Poll {
    poll: os::poll::Poll,
    registry: Registry,
}

impl Poll {
    /// As the real one.
    pub fn new() -> os::Result<Self> {
        let poll = os::poll::Poll::new()?;
        let registry = Registry(poll.registry().clone());
        Ok(Self { poll, registry })
    }

    /// As the real one.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// As the real one, but for timeouts: see above.
    #[allow(clippy::unwrap_used)]
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> os::Result<()> {
        let mut inside = KERNEL.enter();
        loop {
            self.poll.wait(events, Some(Duration::ZERO))?;
            if !events.is_empty() || timeout == Some(Duration::ZERO) {
                return Ok(());
            }
            if timeout.is_some() && KERNEL.time_passes.load(Ordering::Relaxed) {
                drop(inside);
                loom::thread::yield_now();
                return Ok(());
            }
            inside = KERNEL.events.wait(inside).unwrap();
        }
    }
}

/// What it watches.
pub struct Registry(os::poll::Registry);

impl Registry {
    /// As the real one.
    pub fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> os::Result<()> {
        call(|| self.0.add(fd, token, interest))
    }

    /// As the real one.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> os::Result<()> {
        call(|| self.0.modify(fd, token, interest))
    }

    /// As the real one.
    pub fn remove(&self, fd: impl AsFd) -> os::Result<()> {
        call(|| self.0.remove(fd))
    }
}

/// An eventfd.
pub struct Waker(os::poll::Waker);

impl Waker {
    /// As the real one.
    pub fn new(registry: &Registry, token: Token) -> os::Result<Self> {
        os::poll::Waker::new(&registry.0, token).map(Self)
    }

    /// As the real one.
    pub fn wake(&self) -> os::Result<()> {
        call(|| self.0.wake())
    }
}
