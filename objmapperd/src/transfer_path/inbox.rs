//! The way in: what others hand over, and an eventfd that ends the poll of the thread that
//! takes it.
//!
//! What must stay true (model-checked with loom, see the tests): who finds the inbox empty
//! wakes, and who takes takes everything; so what is in it has a wake-up on its way.

use objmapper_os as os;
use os::poll::Token;

use crate::sync::{Mutex, Poll, Waker};

/// Token of the eventfd.
pub const WAKE: Token = Token(usize::MAX >> 1);

/// Shared by those who send and the one who takes.
pub struct Inbox<T> {
    letters: Mutex<Letters<T>>,
    waker: Waker,
}

struct Letters<T> {
    waiting: Vec<T>,
    stop: bool,
}

impl<T> Inbox<T> {
    /// An empty one, whose taker polls like this.
    pub fn new(poll: &Poll) -> os::Result<Self> {
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok(Self { letters: Mutex::new(Letters { waiting: Vec::new(), stop: false }), waker })
    }

    /// Hands something over.
    pub fn send(&self, letter: T) {
        let mut letters = self.letters.lock();
        let first = letters.waiting.is_empty();
        letters.waiting.push(letter);
        drop(letters);
        if first {
            self.wake();
        }
    }

    /// Asks the taker to end.
    pub fn stop(&self) {
        self.letters.lock().stop = true;
        self.wake();
    }

    /// Everything that was handed over, and whether it is time to end. To be called before
    /// each poll.
    pub fn take(&self) -> (Vec<T>, bool) {
        let mut letters = self.letters.lock();
        (std::mem::take(&mut letters.waiting), letters.stop)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the transfer path");
        }
    }
}
