//! When to end: at a signal, or when the time that a whole command may take is over.
//!
//! Loops ask [`Stop::now`] once per burst; every blocking receive has [`PATIENCE`] as its timeout.
//! So a command ends soon after it was told to, and what it owns is dropped in good order.

use anyhow::{Context, Result, bail};
use objmapper_os::poll::{Events, Interest, Poll, Token};
use objmapper_os::signal::{Signal, Signals};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest that a server may take for one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Shared by everything that loops.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    told: Arc<AtomicBool>,
    limit: Instant,
}

impl Stop {
    /// Watches SIGINT and SIGTERM from now on. Call before the first thread is started.
    pub(crate) fn install(limit: Duration) -> Result<Self> {
        let signals = Signals::block(&[Signal::Interrupt, Signal::Terminate])?;
        let poll = Poll::new()?;
        poll.registry().add(&signals, Token(0), Interest::READABLE)?;
        let told = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&told);
        // Never joined: it sleeps until a signal comes or the process ends.
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut events = Events::with_capacity(1);
                while poll.wait(&mut events, None).is_ok() {
                    if matches!(signals.next(), Ok(Some(_))) {
                        flag.store(true, Ordering::Relaxed);
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { told, limit: Instant::now() + limit })
    }

    /// Whether to end. Cheap; asked once per burst.
    pub(crate) fn now(&self, at: Instant) -> bool {
        self.told.load(Ordering::Relaxed) || at >= self.limit
    }

    /// An error if it is time to end: for the places between two rounds.
    pub(crate) fn check(&self) -> Result<()> {
        if self.told.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if Instant::now() >= self.limit {
            bail!("the time limit is over: ask for less, or raise --time-limit");
        }
        Ok(())
    }
}
