//! A journal with the thread that syncs it and the lock on its directory. Dropping it closes it.

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use objmapper_os as os;
use parking_lot::Mutex;

use super::SyncPolicy;
use super::recover::Failure;
use super::writer::Journal;

/// See above.
#[derive(Debug)]
pub(crate) struct Kept {
    journal: Arc<Journal>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The last to go.
    _lock: Option<OwnedFd>,
}

impl Kept {
    /// Starts the thread, unless whoever writes waits for the disk: it sleeps while nothing is written.
    pub(crate) fn new(journal: Journal, lock: Option<OwnedFd>) -> Result<Self, Failure> {
        let kept = Self { journal: Arc::new(journal), thread: Mutex::default(), _lock: lock };
        if kept.journal.options().sync != SyncPolicy::Always {
            kept.attend().map_err(Failure::disk("cannot start a thread"))?;
        }
        Ok(kept)
    }

    /// Starts the thread, if there is none: for those who wait for the disk and do not sync.
    pub(crate) fn attend(&self) -> os::Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let journal = self.journal.clone();
            let builder = thread::Builder::new().name("journal".to_owned());
            let started = builder.spawn(move || journal.keep());
            *thread = Some(started.map_err(|error| os::Error::from_io("clone", &error))?);
        }
        Ok(())
    }
}

impl Deref for Kept {
    type Target = Arc<Journal>;

    #[inline]
    fn deref(&self) -> &Arc<Journal> {
        &self.journal
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.journal.stop();
        if let Some(thread) = self.thread.get_mut().take() {
            let _ = thread.join();
        }
        // Who wants to know closes before.
        let _ = self.journal.close();
    }
}
