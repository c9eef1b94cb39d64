//! A shard of one database: records, the large values among them, and what ends when.
//!
//! What must stay true:
//! - `bytes` is what all that is kept here takes, to the byte of what was asked of the allocator;
//! - every record with an expiry stands in `ends` under that expiry and its key's hash; what
//!   stands there besides is stale, and found to be when its time comes;
//! - whoever watches a key is marked when it is changed or removed.
//!
//! Not here: locking, the journal, and what commands mean.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::record::Record;
use super::value::{Large, Stored, Value};
use crate::index::Hash;
use crate::index::sharded::Hashing;
use crate::index::table::{self, Table};

/// Told when what it watches has changed.
pub type Watch = Arc<AtomicBool>;

/// Where a record is, until another is added or removed.
pub(super) type At = table::At;

/// What is to be kept under a key.
#[derive(Debug)]
pub(super) enum Fresh<'a> {
    /// Beside it.
    Bytes(&'a [u8]),
    /// Apart from it.
    Large(Large),
}

/// What was removed, and takes long to free.
#[derive(Debug)]
pub(super) enum Waste {
    /// One value.
    Large(Large),
    /// All there was.
    All(#[allow(dead_code)] Table<Record, 3>, #[allow(dead_code)] Vec<Option<Large>>),
}

impl Waste {
    /// Bytes of a large value; what was all there was is freed by who removes it, which is long anyway.
    pub(super) fn footprint(&self) -> usize {
        match self {
            Self::Large(large) => large.footprint(),
            Self::All(..) => 0,
        }
    }
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Shard {
    hashing: Hashing,
    table: Table<Record, 3>,
    large: Vec<Option<Large>>,
    free: Vec<u32>,
    /// When, and the hash of the key.
    ends: BinaryHeap<Reverse<(i64, u64)>>,
    /// Records with an expiry.
    volatile: usize,
    /// Bytes of records and large values.
    content: usize,
    watches: HashMap<Box<[u8]>, Vec<Watch>>,
    sealed: usize,
    /// To be freed by whoever holds the lock, afterwards.
    pub(super) waste: Vec<Waste>,
    /// Keys that were asked for and found.
    pub(super) hits: u64,
    /// And not found.
    pub(super) misses: u64,
    /// Keys whose time was up.
    pub(super) expired: u64,
    /// Keys that had to go.
    pub(super) evicted: u64,
    /// How far the journal was written when something here changed last.
    pub(super) position: u64,
}

impl Shard {
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { hashing, ..Self::default() }
    }

    /// Keys.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Keys that have an expiry.
    pub(super) fn volatile(&self) -> usize {
        self.volatile
    }

    /// Values in sealed memory.
    pub(super) fn sealed(&self) -> usize {
        self.sealed
    }

    /// Bytes that the entry in a slot takes.
    pub(super) fn footprint(&self, at: At) -> Option<usize> {
        let record = self.table.get(at)?;
        let large = match record.value() {
            Stored::Bytes(_) => 0,
            Stored::Large(number) => self.large.get(number as usize)?.as_ref()?.footprint(),
        };
        Some(record.footprint() + size_of::<Option<Record>>() + large)
    }

    /// Whether the value in a slot lies apart from its key.
    pub(super) fn is_large(&self, at: At) -> bool {
        matches!(self.table.get(at).map(Record::value), Some(Stored::Large(_)))
    }

    /// Bytes that all of it takes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.content
            + self.table.footprint()
            + self.large.capacity() * size_of::<Option<Large>>()
            + self.free.capacity() * size_of::<u32>()
            + self.ends.capacity() * size_of::<Reverse<(i64, u64)>>()
    }

    /// Chains of records, for passes.
    pub(super) fn chains(&self) -> u32 {
        self.table.chains()
    }

    /// Lets `each` see the records of one chain.
    pub(super) fn chain(&self, cursor: u32, each: impl FnMut(At, &Record)) {
        self.table.chain(cursor, each);
    }

    /// Where a pass goes on.
    pub(super) fn after(&self, cursor: u32) -> Option<u32> {
        self.table.after(cursor)
    }

    /// Asks for a key's bucket to be brought near.
    #[inline]
    pub(super) fn prefetch_bucket(&self, hash: Hash) {
        self.table.prefetch(hash.0);
    }

    /// Asks for what is probably a key's record to be brought near; its bucket should be.
    #[inline]
    pub(super) fn prefetch_record(&self, hash: Hash) {
        if let Some(record) = self.table.guess(hash.0) {
            record.prefetch();
        }
    }

    /// The slot of a key, also if its time is up.
    #[inline]
    pub(super) fn locate(&self, hash: Hash, key: &[u8]) -> Option<At> {
        self.table.find(hash.0, |record| record.name() == key)
    }

    /// The record in a slot.
    #[inline]
    pub(super) fn record(&self, at: At) -> Option<&Record> {
        self.table.get(at)
    }

    /// The same, to be changed in place.
    #[inline]
    pub(super) fn record_mut(&mut self, at: At) -> Option<&mut Record> {
        self.table.get_mut(at)
    }

    /// The value in a slot.
    #[inline]
    pub(super) fn value(&self, at: At) -> Option<Value<'_>> {
        match self.table.get(at)?.value() {
            Stored::Bytes(bytes) => Some(Value::Bytes(bytes)),
            Stored::Large(number) => match self.large.get(number as usize)?.as_ref()? {
                Large::Heap(bytes) => Some(Value::Bytes(bytes)),
                Large::Sealed(sealed) => Some(Value::Sealed(sealed)),
            },
        }
    }

    /// The large value in a slot, to be changed; its footprint may change.
    pub(super) fn change_large(&mut self, at: At, change: impl FnOnce(&mut Large)) -> bool {
        let Some(Stored::Large(number)) = self.table.get(at).map(Record::value) else {
            return false;
        };
        let Some(Some(large)) = self.large.get_mut(number as usize) else { return false };
        let (before, sealed) = (large.footprint(), matches!(large, Large::Sealed(_)));
        change(large);
        self.sealed += usize::from(matches!(large, Large::Sealed(_)));
        self.sealed -= usize::from(sealed);
        self.content = self.content + large.footprint() - before;
        true
    }

    /// Keeps a value under a key; gives its slot. `at` is where the key is already, if it is.
    pub(super) fn put(
        &mut self,
        (hash, key, at): (Hash, &[u8], Option<At>),
        fresh: Fresh<'_>,
        expiry: Option<i64>,
        access: u32,
    ) -> At {
        if let (Some(at), Fresh::Bytes(bytes)) = (at, &fresh)
            && self.overwrite((hash, at), bytes, expiry, access)
        {
            return at;
        }
        let record = match fresh {
            Fresh::Bytes(bytes) => Record::new(key, Stored::Bytes(bytes), expiry, access),
            Fresh::Large(large) => {
                self.content += large.footprint();
                let number = self.number(large);
                Record::new(key, Stored::Large(number), expiry, access)
            }
        };
        self.content += record.footprint();
        self.volatile += usize::from(expiry.is_some());
        let at = if let Some(at) = at {
            if let Some(place) = self.table.get_mut(at) {
                let old = std::mem::replace(place, record);
                self.forget(&old);
            }
            at
        } else {
            let hashing = &self.hashing;
            self.table.insert(hash.0, record, |record| hashing.of(record.name()).0)
        };
        if let Some(when) = expiry {
            self.ends_at(when, hash);
        }
        at
    }

    /// The same where nothing but bytes changes: no allocation.
    #[inline]
    fn overwrite(
        &mut self,
        (hash, at): (Hash, At),
        bytes: &[u8],
        expiry: Option<i64>,
        access: u32,
    ) -> bool {
        let Some(record) = self.table.get_mut(at) else { return false };
        let old = record.expiry();
        if old.is_some() != expiry.is_some() {
            return false;
        }
        match record.bytes_mut() {
            Some(place) if place.len() == bytes.len() => place.copy_from_slice(bytes),
            _ => return false,
        }
        record.set_access(access);
        if let Some(when) = expiry
            && old != expiry
        {
            record.set_expiry(when);
            self.ends_at(when, hash);
        }
        true
    }

    /// Sets, changes or takes away the expiry in a slot.
    pub(super) fn set_expiry(&mut self, (hash, at): (Hash, At), expiry: Option<i64>) {
        let Some(record) = self.table.get_mut(at) else { return };
        let old = record.expiry();
        if old == expiry {
            return;
        }
        if let Some(when) = expiry {
            if !record.set_expiry(when) {
                let fresh = Record::new(record.name(), record.value(), expiry, record.access());
                self.content = self.content + fresh.footprint() - record.footprint();
                *record = fresh;
                self.volatile += 1;
            }
            self.ends_at(when, hash);
        } else {
            let fresh = Record::new(record.name(), record.value(), None, record.access());
            self.content = self.content + fresh.footprint() - record.footprint();
            *record = fresh;
            self.volatile -= 1;
        }
    }

    /// Removes the entry in a slot.
    pub(super) fn remove(&mut self, at: At) {
        let hashing = &self.hashing;
        if let Some(record) = self.table.remove(at, |record| hashing.of(record.name()).0) {
            self.forget(&record);
        }
    }

    /// Removes everything; gives how much there was.
    pub(super) fn clear(&mut self) -> usize {
        let gone = self.table.len();
        for watched in self.watches.keys() {
            if self.locate(self.hashing.of(watched), watched).is_some() {
                for watch in self.watches.get(watched).into_iter().flatten() {
                    watch.store(true, Ordering::Release);
                }
            }
        }
        (self.content, self.volatile, self.sealed) = (0, 0, 0);
        let (records, large) = (std::mem::take(&mut self.table), std::mem::take(&mut self.large));
        self.waste.push(Waste::All(records, large));
        self.reset();
        gone
    }

    /// The slot whose time is up first, if it is by `now`. What is stale on the way is dropped.
    pub(super) fn due(&mut self, now: i64) -> Option<At> {
        while let Some(&Reverse((when, hash))) = self.ends.peek() {
            if let Some(at) = self.table.find(hash, |record| record.expiry() == Some(when)) {
                return (when <= now).then_some(at);
            }
            self.ends.pop();
        }
        None
    }

    /// Marks `watch` when the key is changed or removed.
    pub(super) fn watch(&mut self, key: &[u8], watch: &Watch) {
        self.watches.entry(key.into()).or_default().push(watch.clone());
    }

    /// No longer.
    pub(super) fn unwatch(&mut self, key: &[u8], watch: &Watch) {
        if let Some(watches) = self.watches.get_mut(key) {
            watches.retain(|other| !Arc::ptr_eq(other, watch));
            if watches.is_empty() {
                self.watches.remove(key);
            }
        }
    }

    /// Marks whoever watches the key.
    #[inline]
    pub(super) fn changed(&self, key: &[u8]) {
        if !self.watches.is_empty() {
            for watch in self.watches.get(key).into_iter().flatten() {
                watch.store(true, Ordering::Release);
            }
        }
    }

    fn reset(&mut self) {
        self.table.clear();
        self.large = Vec::new();
        self.free = Vec::new();
        self.ends = BinaryHeap::new();
    }

    /// Gives back what a record took that is no longer in the table.
    fn forget(&mut self, record: &Record) {
        self.content -= record.footprint();
        self.volatile -= usize::from(record.expiry().is_some());
        if let Stored::Large(number) = record.value()
            && let Some(large) = self.large.get_mut(number as usize).and_then(Option::take)
        {
            self.content -= large.footprint();
            self.sealed -= usize::from(matches!(large, Large::Sealed(_)));
            self.free.push(number);
            self.waste.push(Waste::Large(large));
        }
    }

    fn number(&mut self, large: Large) -> u32 {
        self.sealed += usize::from(matches!(large, Large::Sealed(_)));
        if let Some(number) = self.free.pop() {
            if let Some(place) = self.large.get_mut(number as usize) {
                *place = Some(large);
            }
            return number;
        }
        self.large.push(Some(large));
        u32::try_from(self.large.len() - 1).unwrap_or(u32::MAX)
    }

    fn ends_at(&mut self, when: i64, hash: Hash) {
        // Each record stands there once for each expiry it was given: half may be stale.
        if self.ends.len() > 2 * self.volatile + 64 {
            let table = &self.table;
            self.ends.retain(|&Reverse((when, hash))| {
                table.find(hash, |record| record.expiry() == Some(when)).is_some()
            });
            self.ends.shrink_to(2 * self.volatile + 64);
        }
        self.ends.push(Reverse((when, hash.0)));
    }
}
