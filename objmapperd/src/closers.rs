//! Closers: threads that call close(2) where it may block for ever, one queue for each mount or user.
//!
//! A file system that asks a program or another machine may make close wait. So may the last
//! reference to a socket with SO_LINGER that a client sent, or to a connection that has such a
//! socket unread in its queue. Only closes in the same queue wait behind it. A queue's thread starts
//! with its first file and ends after its last; if none can be started, the next file tries again.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use objmapper::Closer;
use objmapper_os::socket::Stream;
use parking_lot::Mutex;

/// Files of all queues that wait to be closed, those included that are being closed.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// Files of one queue that may wait: with so many, nothing more is opened that would join
/// them. A mount whose closes hang so holds this many descriptors and no more. Not tuned.
pub const MOST: usize = 256;

/// How many files wait to be closed.
pub fn waiting() -> u64 {
    WAITING.load(Ordering::Relaxed)
}

/// Closes what one party has, such as a mount.
#[derive(Debug, Clone, Default)]
pub struct CloseQueue(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    files: Vec<Last>,
    /// Whether a thread is at it.
    served: bool,
}

/// A queue for each user, for what they passed: one's closes do not wait for another's.
#[derive(Debug, Default)]
pub struct Closers(Mutex<HashMap<u32, CloseQueue>>);

impl Closers {
    /// This user's.
    pub fn of(&self, uid: u32) -> CloseQueue {
        let mut queues = self.0.lock();
        if !queues.contains_key(&uid) {
            // A thread that is at work has its queue as well.
            queues.retain(|_, q| Arc::strong_count(&q.0) > 1 || !q.0.lock().files.is_empty());
        }
        queues.entry(uid).or_default().clone()
    }
}

/// The last reference, or soon.
#[derive(Debug)]
#[allow(dead_code)] // held to be dropped
enum Last {
    File(OwnedFd),
    Socket(Arc<Stream>),
}

impl Closer for CloseQueue {
    fn close(&self, file: OwnedFd) {
        self.push(Last::File(file));
    }

    fn has_room(&self) -> bool {
        self.0.lock().files.len() < MOST
    }
}

impl CloseQueue {
    fn push(&self, last: Last) {
        WAITING.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.0.lock();
        queue.files.push(last);
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

/// A socket that is closed by a queue's thread: dropped after all others who have it.
#[derive(Debug)]
pub struct ClosedElsewhere {
    queue: CloseQueue,
    socket: Option<Arc<Stream>>,
}

impl ClosedElsewhere {
    /// From now on.
    pub const fn new(queue: CloseQueue, socket: Arc<Stream>) -> Self {
        Self { queue, socket: Some(socket) }
    }

    /// Where it is closed, and what comes over it.
    pub const fn queue(&self) -> &CloseQueue {
        &self.queue
    }
}

impl Drop for ClosedElsewhere {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.queue.push(Last::Socket(socket));
        }
    }
}
