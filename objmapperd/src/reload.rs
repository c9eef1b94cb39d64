//! SIGHUP: other mounts and rules, while everybody stays connected.
//!
//! ```text
//!  signal ─▶ a thread of its own: read ─▶ open every mount ─▶ swap ─▶ close what is left
//!                                  └─────── or keep the old ones, and say why
//! ```
//!
//! A thread of its own, since reading the settings and opening directories may wait for
//! a disk or a file server that does not answer, and the main thread has clients to let
//! in. It lives as long as the reload. There is one at a time; who asks meanwhile gets
//! another one after it.
//!
//! What must stay true:
//! - the new table is complete before it takes the old one's place, and a table is
//!   replaced whole: a request sees one or the other;
//! - whatever goes wrong, what was served goes on being served.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use objmapper_os::poll::Waker;
use parking_lot::Mutex;

use crate::config::{Loaded, Settings};
use crate::mounts::Served;
use crate::service::Daemon;

/// Reads and checks the settings again. The error is for people, a line for each thing.
pub type Reread = dyn Fn() -> anyhow::Result<Loaded> + Send + Sync;

/// How a reload ended: the number of mounts that are served now, or why it is the old
/// ones, in a line.
pub type Outcome = Result<usize, String>;

/// Reloads, one at a time.
pub struct Reloader {
    work: Arc<Work>,
    sender: Sender<Outcome>,
    outcomes: Receiver<Outcome>,
    running: Option<JoinHandle<()>>,
    again: bool,
}

/// What a reload has to do with.
struct Work {
    daemon: Arc<Daemon>,
    /// Of the start: what they say beside mounts holds until the next one.
    settings: Settings,
    reread: Box<Reread>,
    served: Mutex<Served>,
    waker: Waker,
}

impl Reloader {
    /// For what is `served` in `daemon`; `waker` wakes whoever is to ask for outcomes.
    pub fn new(
        daemon: Arc<Daemon>,
        settings: Settings,
        served: Served,
        reread: Box<Reread>,
        waker: Waker,
    ) -> Self {
        let (sender, outcomes) = channel();
        let work = Work { daemon, settings, reread, served: Mutex::new(served), waker };
        Self { work: Arc::new(work), sender, outcomes, running: None, again: false }
    }

    /// Begins one. Whether it has begun; if one is under way it is done after that.
    pub fn begin(&mut self) -> bool {
        if self.running.is_some() {
            self.again = true;
            return false;
        }
        let (work, sender) = (self.work.clone(), self.sender.clone());
        let job = move || {
            let outcome = work.run();
            // Nobody listens any more if the daemon is stopping.
            let _ = sender.send(outcome);
            if let Err(error) = work.waker.wake() {
                tracing::error!(%error, "cannot tell that the reload is over");
            }
        };
        match thread::Builder::new().name("reload".to_owned()).spawn(job) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => {
                let _ = self.sender.send(Err(complain(&anyhow::Error::new(error))));
            }
        }
        true
    }

    /// How one ended, if one has; and whether another was asked for meanwhile.
    pub fn finished(&mut self) -> Option<(Outcome, bool)> {
        let outcome = self.outcomes.try_recv().ok()?;
        if let Some(thread) = self.running.take()
            && thread.join().is_err()
        {
            tracing::error!("the reload ended in a panic");
        }
        Some((outcome, std::mem::take(&mut self.again)))
    }
}

impl Work {
    fn run(&self) -> Outcome {
        tracing::info!("reading the settings again");
        self.replace().map_err(|error| complain(&error))
    }

    fn replace(&self) -> anyhow::Result<usize> {
        let Loaded { settings, warnings, .. } = (self.reread)()?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let mut served = self.served.lock();
        let (new, mounts) = served.renew(&settings.mounts)?;
        let fixed = self.settings.changes_for_a_restart(&settings);
        if !fixed.is_empty() {
            let names = fixed.join(", ");
            tracing::warn!(settings = %names, "changed settings take effect at the next start");
        }
        self.daemon.store.swap(mounts);
        new.log_changes_since(&served);
        let count = new.len();
        // Closes what is served no more, unless a request is still at it.
        *served = new;
        tracing::info!(mounts = count, "reloaded");
        Ok(count)
    }
}

/// Tells the log, and gives the line for the service manager.
fn complain(error: &anyhow::Error) -> String {
    tracing::error!("not reloaded; mounts and rules stay as they were");
    let text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\nbecause: ");
    for line in text.lines() {
        tracing::error!("{}", line.trim());
    }
    format!("not reloaded: {text}")
}
