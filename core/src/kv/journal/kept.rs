//! A journal with the thread that syncs it and the lock on its directory. Dropping it closes it.

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use objmapper_os as os;

use super::recover::Failure;
use super::writer::Journal;

/// See above.
#[derive(Debug)]
pub(crate) struct Kept {
    journal: Arc<Journal>,
    thread: Option<JoinHandle<()>>,
    /// The last to go.
    _lock: Option<OwnedFd>,
}

impl Kept {
    /// Starts the thread: it sleeps while nothing is written, or nobody waits.
    pub(crate) fn new(journal: Journal, lock: Option<OwnedFd>) -> Result<Self, Failure> {
        let journal = Arc::new(journal);
        let own = journal.clone();
        let builder = thread::Builder::new().name("journal".to_owned());
        let thread = builder.spawn(move || own.keep()).map_err(|error| {
            Failure::disk("cannot start a thread")(os::Error::from_io("clone", &error))
        })?;
        Ok(Self { journal, thread: Some(thread), _lock: lock })
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
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Who wants to know closes before.
        let _ = self.journal.close();
    }
}
