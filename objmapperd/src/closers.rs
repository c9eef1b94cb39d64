//! Closers: threads that close files whose close(2) may wait for ever, a queue for each mount.
//!
//! A file system that asks a program or another machine may let a close wait, too. Then only
//! the closes of its own mount wait behind it. A thread comes with the first file and goes
//! with the last; where there is none to be had, the next file tries again.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use objmapper::Closer;
use parking_lot::Mutex;

/// Files of all mounts that wait to be closed, those included that are being closed.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// How many files wait to be closed.
pub fn waiting() -> u64 {
    WAITING.load(Ordering::Relaxed)
}

/// Closes files of one mount.
#[derive(Debug, Clone, Default)]
pub struct MountCloser(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    files: Vec<OwnedFd>,
    /// Whether a thread is at it.
    served: bool,
}

impl Closer for MountCloser {
    fn close(&self, file: OwnedFd) {
        WAITING.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.0.lock();
        queue.files.push(file);
        if queue.served {
            return;
        }
        let own = self.clone();
        let thread = thread::Builder::new().name("closer".to_owned());
        match thread.spawn(move || own.close_all()) {
            Ok(_) => queue.served = true,
            Err(error) => tracing::warn!(%error, "no thread to close files with; they wait"),
        }
    }
}

impl MountCloser {
    fn close_all(&self) {
        loop {
            let file = {
                let mut queue = self.0.lock();
                let file = queue.files.pop();
                queue.served = file.is_some();
                file
            };
            let Some(file) = file else { return };
            drop(file);
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
