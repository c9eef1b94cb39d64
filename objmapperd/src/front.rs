//! The main thread while clients are served: it accepts them, handles signals, starts reloads
//! and reports to the service manager. It serves nobody itself, and waits for nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use objmapper_os as os;
use os::poll::{Events, Interest, Poll, Token, Waker};
use os::signal::{Signal, Signals};

use crate::config::Settings;
use crate::connection::Connection;
use crate::listener::Acceptor;
use crate::mounts::Served;
use crate::pool::Pool;
use crate::reload::{Reloader, Reread};
use crate::service::Daemon;
use crate::supervisor::Supervisor;
use crate::transfer_path::TransferPath;
use crate::watchdog::Watchdog;

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
/// A reload is over.
const RELOAD: Token = Token(2);

/// Something has changed that is shared: seen by whoever asks, and let go of here if nobody does.
const CHANGES: Token = Token(3);

/// The main thread's part.
pub struct Front<'a> {
    supervisor: &'a Supervisor,
    signals: &'a Signals,
    watchdog: Option<Watchdog>,
    readiness: Poll,
    reloader: Reloader,
    daemon: Arc<Daemon>,
    mounts: usize,
}

impl<'a> Front<'a> {
    /// For what is `served` in `daemon`; `reread` gives the settings as they are then.
    pub fn new(
        supervisor: &'a Supervisor,
        signals: &'a Signals,
        daemon: &Arc<Daemon>,
        settings: &Settings,
        served: Served,
        reread: Box<Reread>,
    ) -> os::Result<Self> {
        let readiness = Poll::new()?;
        readiness.registry().add(signals, SIGNALS, Interest::READABLE)?;
        let waker = Waker::new(readiness.registry(), RELOAD)?;
        if let Some(shared) = daemon.store.shared() {
            readiness.registry().add(shared.changes(), CHANGES, Interest::READABLE)?;
        }
        let mounts = served.len();
        let reloader = Reloader::new(daemon.clone(), settings.clone(), served, reread, waker);
        let watchdog = supervisor.watchdog_usec().map(|usec| Watchdog::new(usec, Instant::now()));
        let daemon = daemon.clone();
        Ok(Self { supervisor, signals, watchdog, readiness, reloader, daemon, mounts })
    }

    /// Lets clients in until a signal says that it is enough.
    pub fn accept_until_told(
        &mut self,
        acceptors: &mut [Acceptor],
        pool: &mut Pool<Connection>,
        transfer: &TransferPath,
    ) -> os::Result<()> {
        for acceptor in &*acceptors {
            self.readiness.registry().add(acceptor.listener(), LISTENER, Interest::READABLE)?;
        }
        self.supervisor.ready(self.mounts, None);
        let mut events = Events::with_capacity(8);
        loop {
            for acceptor in &mut *acceptors {
                acceptor.accept(|connection| pool.admit_to(connection.lane(), connection));
            }
            let watch = self.show_life(pool, transfer);
            let timeout =
                watch.into_iter().chain(acceptors.iter().filter_map(Acceptor::next_try)).min();
            self.readiness.wait(&mut events, timeout)?;
            if events.iter().any(|event| event.token == CHANGES) {
                self.daemon.store.observe();
            }
            // All of them: readiness is told once.
            while let Some(signal) = self.signals.next()? {
                if signal != Signal::Hangup {
                    tracing::info!(%signal, "stopping");
                    return Ok(());
                }
                self.reload();
            }
            while let Some((outcome, again)) = self.reloader.finished() {
                if let Ok(mounts) = outcome {
                    self.mounts = mounts;
                }
                self.supervisor.ready(self.mounts, outcome.err().as_deref());
                if again {
                    self.reload();
                }
            }
        }
    }

    /// Tells the service manager that all is well, if it is time to and all is. How long
    /// until the next time, if it wants to know at all.
    pub fn show_life(
        &mut self,
        pool: &Pool<Connection>,
        transfer: &TransferPath,
    ) -> Option<Duration> {
        let (watchdog, now) = (self.watchdog.as_mut()?, Instant::now());
        let threads = pool.progress().chain([transfer.progress()]);
        match watchdog.look(threads, now) {
            Some(stuck) if stuck.is_empty() => self.supervisor.alive(),
            Some(stuck) => {
                let workers = pool.progress().count();
                let name = |&n: &usize| {
                    if n < workers { format!("worker-{n}") } else { "transfer".to_owned() }
                };
                let threads = stuck.iter().map(name).collect::<Vec<_>>().join(", ");
                tracing::error!(%threads, "stuck; not telling the service manager that all is well");
            }
            None => {}
        }
        Some(watchdog.wait(now))
    }

    fn reload(&mut self) {
        if self.reloader.begin() {
            self.supervisor.reloading();
        }
    }
}
