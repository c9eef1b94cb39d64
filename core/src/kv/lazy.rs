//! Large values that were removed, until they are freed by whoever ticks: giving the kernel many pages
//! back takes long, and who removes a value serves others too.
//!
//! What must stay true: where nobody ticks, nothing waits; and what waits is bounded. As much again may
//! be about to be freed, so memory is above what is counted by twice that at most.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::shard::Waste;

/// Bytes that are freed at once by who removes them. Not tuned.
const LITTLE: usize = 1 << 20;

/// Bytes that may wait: those of the longest value.
const MOST: usize = 512 << 20;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Lazy {
    /// Somebody ticks.
    attended: AtomicBool,
    /// There is something.
    filled: AtomicBool,
    waiting: Mutex<(Vec<Waste>, usize)>,
}

impl Lazy {
    /// From now on somebody ticks, or nobody does any more.
    pub(super) fn attend(&self, attended: bool) {
        self.attended.store(attended, Ordering::SeqCst);
        if !attended {
            self.free();
        }
    }

    /// Takes what is long to free out of these; gives whether there is any.
    pub(super) fn take(&self, waste: &mut Vec<Waste>) -> bool {
        let is_long = |waste: &mut Waste| waste.footprint() > LITTLE;
        if !self.attended.load(Ordering::Relaxed) || !waste.iter_mut().any(is_long) {
            return false;
        }
        let mut waiting = self.waiting.lock();
        let (kept, bytes) = &mut *waiting;
        let fits = |waste: &mut Waste| {
            let fits = is_long(waste) && *bytes + waste.footprint() <= MOST;
            if fits {
                *bytes += waste.footprint();
            }
            fits
        };
        kept.extend(waste.extract_if(.., fits));
        self.filled.store(!kept.is_empty(), Ordering::SeqCst);
        !kept.is_empty()
    }

    /// Whether there is something to free.
    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::SeqCst)
    }

    /// Frees it.
    pub(super) fn free(&self) {
        let mut waiting = self.waiting.lock();
        let (waste, _) = std::mem::take(&mut *waiting);
        self.filled.store(false, Ordering::SeqCst);
        drop(waiting);
        drop(waste);
    }
}
