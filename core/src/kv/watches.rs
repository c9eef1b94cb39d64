//! Watches end without waiting for the locks of their keys.
//!
//! A client that parts may have watched thousands of keys, and somebody may hold their locks for long:
//! what cannot be removed at once is left to [`Keyspace::tick`].

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::keyspace::{Key, Keyspace};
use super::lock::{Wait, Waiting};
use super::shard::Watch;

/// Which lock, which key, whose watch.
type Left = (u32, Box<[u8]>, Watch);

/// Watches that have ended but are still registered in a shard.
#[derive(Debug, Default)]
pub(super) struct Over {
    watches: Mutex<Vec<Left>>,
    any: AtomicBool,
}

impl Over {
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::SeqCst)
    }
}

impl Keyspace {
    /// No longer marks `watch` when the key changes: at once, or after the next [`Self::tick`] if
    /// somebody holds the key's lock.
    pub fn unwatch(&self, key: &Key<'_>, watch: &Watch) {
        let Some(shard) = self.shard(key.part) else { return };
        if let Some(mut shard) = shard.try_lock() {
            return shard.unwatch(key.name, watch);
        }
        self.over.watches.lock().push((key.part, key.name.into(), watch.clone()));
        // In one order with who asks before it sleeps: see `bell`.
        self.over.any.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    /// Removes those whose locks were held.
    pub(super) fn unwatch_rest(&self) {
        if !self.over.any.swap(false, Ordering::SeqCst) {
            return;
        }
        let rest = std::mem::take(&mut *self.over.watches.lock());
        for (number, name, watch) in rest {
            let shard = self.shard(number).and_then(|shard| Waiting::new(Wait::Long).lock(shard));
            if let Some(mut shard) = shard {
                shard.unwatch(&name, &watch);
            }
        }
    }
}
