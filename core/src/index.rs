//! The index: names to what is known of them, sharded, bounded, exact.
//!
//! ```text
//!  name ──hash──┬─ some bits ─▶ shard (reader-writer lock)
//!               └─ others ────▶ slot in the shard's table
//!
//!  shard:  small queue ──asked for again──▶ main queue
//!             │                               │ not asked for since its last turn
//!             ▼                               ▼
//!          forgotten (its hash is remembered) forgotten
//! ```
//!
//! What must stay true:
//! - one hash picks shard and slot; a hit takes the shard's lock for reading,
//!   allocates nothing and writes nothing but its hit mark and the shard's counter;
//! - never more than the allowed entries and bytes;
//! - a scan of names passes through the small queue and cannot push out what is
//!   asked for again (the S3-FIFO policy: Yang et al., SOSP 2023);
//! - the hash is keyed per process and never leaves it.

mod shard;
pub(crate) mod sharded;
pub(crate) mod table;

use parking_lot::RwLock;
use shard::Shard;
pub use sharded::Hash;
use sharded::{Hashing, Sharded};
use std::sync::atomic::{AtomicU64, Ordering};

/// How large an index may become, and how it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries in all.
    pub entries: usize,
    /// Bytes of names and values in all.
    pub bytes: usize,
    /// Shards; rounded up to a power of two.
    pub shards: usize,
}

impl Default for Bounds {
    /// 65536 names, 64 MiB. 16 shards: `objmapper-bench --mode index` shows no gain beyond.
    fn default() -> Self {
        Self { entries: 65536, bytes: 64 << 20, shards: 16 }
    }
}

/// What an index has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Names that were found.
    pub hits: u64,
    /// Names that were not.
    pub misses: u64,
    /// Entries there are now.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Entries that had to go.
    pub evictions: u64,
}

#[derive(Debug)]
struct Cell<V> {
    shard: RwLock<Shard<V>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Names to values. `V` is small and cheap to clone: a hit hands out a copy, so
/// that no lock is held while it is used.
#[derive(Debug)]
pub struct Index<V> {
    cells: Sharded<Cell<V>>,
    hashing: Hashing,
}

impl<V: Clone> Index<V> {
    /// Empty.
    pub fn new(bounds: Bounds) -> Self {
        let shards = bounds.shards.clamp(1, 1 << 16).next_power_of_two();
        let entries = bounds.entries / shards;
        let bytes = bounds.bytes / shards;
        let cell = |_| Cell {
            shard: RwLock::new(Shard::new(entries, bytes)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        Self { cells: Sharded::new(shards, cell), hashing: Hashing::default() }
    }

    /// The name's hash, to be used for both looking up and adding.
    #[inline]
    pub fn hash(&self, name: &[u8]) -> Hash {
        self.hashing.of(name)
    }

    /// The same for a name that means something in one space only: equal names of different
    /// spaces are hardly ever taken for each other. Whoever must be sure keeps the space with
    /// the value.
    #[inline]
    pub fn hash_in(&self, space: u64, name: &[u8]) -> Hash {
        self.hashing.of_in(space, name)
    }

    /// What is known of `name`.
    #[inline]
    pub fn find(&self, hash: Hash, name: &[u8]) -> Option<V> {
        let cell = self.cells.of(hash)?;
        let found = cell.shard.read().find(hash.0, name);
        let counter = if found.is_some() { &cell.hits } else { &cell.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Adds or replaces what is known of `name`, making room if need be. `weight`
    /// is what the value takes beside the name and its slot, in bytes.
    pub fn put(&self, hash: Hash, name: &[u8], value: V, weight: usize) {
        if let Some(cell) = self.cells.of(hash) {
            cell.shard.write().put(hash.0, name, value, weight);
        }
    }

    /// Forgets `name`.
    pub fn remove(&self, hash: Hash, name: &[u8]) -> Option<V> {
        self.cells.of(hash)?.shard.write().remove(hash.0, name)
    }

    /// Forgets all of which `keep` is false, given name and value; gives how many. A pass over
    /// all entries.
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &V) -> bool) -> usize {
        self.cells.iter().map(|cell| cell.shard.write().retain(&mut keep)).sum()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for cell in self.cells.iter() {
            cell.shard.write().clear();
        }
    }

    /// Sums over all shards; each shard exact, the sum not of one moment.
    pub fn counters(&self) -> Counters {
        self.cells.iter().fold(Counters::default(), |sum, cell| {
            let shard = cell.shard.read();
            Counters {
                hits: sum.hits + cell.hits.load(Ordering::Relaxed),
                misses: sum.misses + cell.misses.load(Ordering::Relaxed),
                entries: sum.entries + shard.len() as u64,
                bytes: sum.bytes + shard.bytes() as u64,
                evictions: sum.evictions + shard.evictions(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn put(index: &Index<u32>, name: &str, value: u32) {
        index.put(index.hash(name.as_bytes()), name.as_bytes(), value, 0);
    }

    fn find(index: &Index<u32>, name: &str) -> Option<u32> {
        index.find(index.hash(name.as_bytes()), name.as_bytes())
    }

    #[test]
    fn stays_within_its_bounds_and_counts_exactly() {
        let index = Index::new(Bounds { entries: 64, bytes: 1 << 20, shards: 4 });
        for n in 0..10_000 {
            put(&index, &format!("/{n}"), n);
        }
        let c = index.counters();
        assert!(c.entries <= 64, "{c:?}");
        assert_eq!(c.entries + c.evictions, 10_000);
    }

    #[test]
    fn bytes_bound_as_well() {
        let index = Index::new(Bounds { entries: 1 << 20, bytes: 10_000, shards: 1 });
        for n in 0..1000 {
            put(&index, &format!("/{n:0>100}"), n);
        }
        assert!(index.counters().bytes <= 10_000);
        put(&index, &"x".repeat(20_000), 1);
        assert_eq!(find(&index, &"x".repeat(20_000)), None, "too large to be kept at all");
    }

    #[test]
    fn a_scan_cannot_push_out_what_is_hot() {
        let index = Index::new(Bounds { entries: 1000, bytes: 1 << 20, shards: 4 });
        let hot: Vec<String> = (0..200).map(|n| format!("/hot/{n}")).collect();
        for name in &hot {
            put(&index, name, 1);
            find(&index, name);
        }
        for n in 0..100_000 {
            put(&index, &format!("/scan/{n}"), n);
            if n % 500 == 0 {
                assert!(hot.iter().filter(|name| find(&index, name).is_some()).count() > 0);
            }
        }
        let kept = hot.iter().filter(|name| find(&index, name).is_some()).count();
        assert!(kept >= 190, "{kept} of 200 hot names survived a scan of 100000");
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let mut shard = Shard::new(1000, 1 << 20);
        for n in 0..10_000_u64 {
            shard.put(n, b"/x", n, 0);
            assert_eq!(shard.remove(n, b"/x"), Some(n));
        }
        assert_eq!((shard.len(), shard.bytes()), (0, 0));
        assert!(shard.slots() < 100, "{} slots", shard.slots());
    }

    #[test]
    fn one_shard_works() {
        let index = Index::new(Bounds { entries: 8, bytes: 1 << 10, shards: 1 });
        put(&index, "/a", 1);
        assert_eq!(find(&index, "/a"), Some(1));
    }

    #[test]
    fn what_is_not_retained_is_gone_and_the_rest_stays() {
        let index = Index::new(Bounds { entries: 100, bytes: 1 << 20, shards: 2 });
        for n in 0..40 {
            put(&index, &format!("/{n}"), n);
        }
        assert_eq!(index.retain(|name, n| name != b"/7" && n % 2 == 1), 21);
        assert_eq!(index.counters().entries, 19);
        assert_eq!(
            (find(&index, "/6"), find(&index, "/7"), find(&index, "/9")),
            (None, None, Some(9))
        );
        let spaces = [1, 2].map(|space| index.hash_in(space, b"/a"));
        index.put(spaces[0], b"/a", 1, 0);
        assert_eq!((index.find(spaces[0], b"/a"), index.find(spaces[1], b"/a")), (Some(1), None));
    }

    proptest! {
        /// Against a plain map: what the index knows is true, though it may know less.
        #[test]
        fn never_tells_anything_wrong(
            steps in proptest::collection::vec((0_u8..3, 0_u32..40, any::<u32>()), 0..300),
            shards in 1_usize..5,
        ) {
            let index = Index::new(Bounds { entries: 16, bytes: 4096, shards });
            let mut model = HashMap::new();
            for (op, key, value) in steps {
                let name = format!("/{key}");
                let hash = index.hash(name.as_bytes());
                match op {
                    0 => { put(&index, &name, value); model.insert(name, value); }
                    1 => { index.remove(hash, name.as_bytes()); model.remove(&name); }
                    _ => if let Some(found) = find(&index, &name) {
                        prop_assert_eq!(Some(&found), model.get(&name));
                    },
                }
                let c = index.counters();
                prop_assert!(c.entries <= 16 + shards as u64 && c.bytes <= 4096 + 4 * shards as u64);
            }
        }
    }
}
