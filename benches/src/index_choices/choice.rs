//! The choices: each a map from names to small values that many threads use.
//!
//! All but the core's own are as plain as they can be: no bounds, no counters, no eviction.

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use objmapper::Index;
use objmapper::index::Bounds;
use parking_lot::{Mutex, RwLock};
use std::hash::BuildHasher;
use std::sync::Arc;

/// As large as what the core's index keeps for a name.
pub(super) type Value = [u64; 3];

pub(super) const VALUE: Value = [1, 2, 3];

type Map<K> = hashbrown::HashMap<K, Value, RandomState>;

/// A way to share a map. `thread` is the caller's number.
pub(super) trait Choice: Sync {
    fn find(&self, thread: usize, name: &[u8]) -> Option<Value>;
    fn put(&self, thread: usize, name: &[u8], value: Value);

    /// Puts all of these.
    fn fill(&self, names: &[Vec<u8>]) {
        for name in names {
            self.put(0, name, VALUE);
        }
    }
}

/// Every choice, filled with these names, for so many threads.
pub(super) fn all(names: &[Vec<u8>], threads: usize) -> Vec<(&'static str, Box<dyn Choice>)> {
    let core = |shards| {
        // Four times the room, since shards do not fill evenly: nothing is evicted.
        let bounds = Bounds { entries: names.len() * 4, bytes: 1 << 30, shards };
        Box::new(Index::<Value>::new(bounds))
    };
    let choices: Vec<(&'static str, Box<dyn Choice>)> = vec![
        ("std Mutex + std HashMap", Box::new(Plain::default())),
        ("Mutex + HashMap", Box::new(Locked::default())),
        ("RwLock + HashMap", Box::new(Shared::default())),
        ("16 x RwLock + HashMap", Box::new(Shards::new(16))),
        ("core Index, 1 shard", core(1)),
        ("core Index, 16 shards", core(16)),
        ("core Index, 64 shards", core(64)),
        ("lock-free (papaya)", Box::new(LockFree::default())),
        ("copy on write (arc-swap)", Box::new(Snapshot::default())),
        ("copy per thread", Box::new(PerThread::new(threads))),
    ];
    for (_, choice) in &choices {
        choice.fill(names);
    }
    choices
}

/// What the standard library has: a mutex, and a map with SipHash.
#[derive(Default)]
struct Plain(std::sync::Mutex<std::collections::HashMap<Box<[u8]>, Value>>);

impl Choice for Plain {
    fn find(&self, _: usize, name: &[u8]) -> Option<Value> {
        self.0.lock().ok()?.get(name).copied()
    }

    fn put(&self, _: usize, name: &[u8], value: Value) {
        if let Ok(mut map) = self.0.lock() {
            map.insert(name.into(), value);
        }
    }
}

/// One mutex.
#[derive(Default)]
struct Locked(Mutex<Map<Box<[u8]>>>);

impl Choice for Locked {
    fn find(&self, _: usize, name: &[u8]) -> Option<Value> {
        self.0.lock().get(name).copied()
    }

    fn put(&self, _: usize, name: &[u8], value: Value) {
        self.0.lock().insert(name.into(), value);
    }
}

/// One reader-writer lock.
#[derive(Default)]
struct Shared(RwLock<Map<Box<[u8]>>>);

impl Choice for Shared {
    fn find(&self, _: usize, name: &[u8]) -> Option<Value> {
        self.0.read().get(name).copied()
    }

    fn put(&self, _: usize, name: &[u8], value: Value) {
        self.0.write().insert(name.into(), value);
    }
}

/// Many of those, side by side: the core's way without its bounds, counters and marks.
struct Shards {
    shards: Vec<Shared>,
    hasher: RandomState,
}

impl Shards {
    fn new(count: usize) -> Self {
        let shards = (0..count).map(|_| Shared::default()).collect();
        Self { shards, hasher: RandomState::default() }
    }

    fn shard(&self, name: &[u8]) -> Option<&Shared> {
        let hash = usize::try_from(self.hasher.hash_one(name) >> 32).unwrap_or(0);
        self.shards.get(hash % self.shards.len())
    }
}

impl Choice for Shards {
    fn find(&self, thread: usize, name: &[u8]) -> Option<Value> {
        self.shard(name)?.find(thread, name)
    }

    fn put(&self, thread: usize, name: &[u8], value: Value) {
        if let Some(shard) = self.shard(name) {
            shard.put(thread, name, value);
        }
    }
}

/// What the daemon uses.
impl Choice for Index<Value> {
    fn find(&self, _: usize, name: &[u8]) -> Option<Value> {
        Index::find(self, self.hash(name), name)
    }

    fn put(&self, _: usize, name: &[u8], value: Value) {
        Index::put(self, self.hash(name), name, value, 0);
    }
}

/// Readers take no lock.
#[derive(Default)]
struct LockFree(papaya::HashMap<Box<[u8]>, Value, RandomState>);

impl Choice for LockFree {
    fn find(&self, _: usize, name: &[u8]) -> Option<Value> {
        self.0.pin().get(name).copied()
    }

    fn put(&self, _: usize, name: &[u8], value: Value) {
        self.0.pin().insert(name.into(), value);
    }
}

/// A map that never changes, replaced by a changed copy.
#[derive(Default)]
struct Snapshot(ArcSwap<Map<Arc<[u8]>>>);

impl Choice for Snapshot {
    fn find(&self, _: usize, name: &[u8]) -> Option<Value> {
        self.0.load().get(name).copied()
    }

    fn put(&self, _: usize, name: &[u8], value: Value) {
        self.0.rcu(|map| {
            let mut map = Map::clone(map);
            map.insert(name.into(), value);
            map
        });
    }

    /// One copy instead of one for each name.
    fn fill(&self, names: &[Vec<u8>]) {
        let map = names.iter().map(|name| (Arc::from(name.as_slice()), VALUE)).collect();
        self.0.store(Arc::new(map));
    }
}

/// A map for each thread; a change goes into all of them.
struct PerThread(Vec<Locked>);

impl PerThread {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| Locked::default()).collect())
    }
}

impl Choice for PerThread {
    fn find(&self, thread: usize, name: &[u8]) -> Option<Value> {
        self.0.get(thread % self.0.len())?.find(thread, name)
    }

    fn put(&self, thread: usize, name: &[u8], value: Value) {
        for copy in &self.0 {
            copy.put(thread, name, value);
        }
    }
}
