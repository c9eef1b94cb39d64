//! A hold: the locks of some keys' shards, and what is done to the keys meanwhile.
//!
//! What must stay true:
//! - a verb touches only keys whose shard is held; others are as if they were not there;
//! - whatever is changed is told to the journal in the same hold, also what goes by itself: so
//!   replaying needs no clock;
//! - a key whose time is up is removed by whoever meets it, and never seen.

mod batch;
mod moves;
mod patch;
mod whole;

pub use batch::Change;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::evict;
use super::journal::payload::Payload;
use super::journal::writer::NEVER;
use super::keyspace::{Key, Keyspace};
use super::ops;
use super::record::Record;
use super::shard::{At, Fresh, Shard, Waste, Watch};
use super::value::{Large, Value};
use super::{Content, Expiry, Fault};

/// One lock, held.
#[derive(Debug)]
pub(super) struct Part<'k> {
    number: u32,
    shard: MutexGuard<'k, Shard>,
    before: Weight,
    changed: bool,
}

/// What is counted outside of the shard as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight {
    bytes: usize,
    volatile: usize,
    sealed: usize,
}

impl Weight {
    #[inline]
    fn of(shard: &Shard) -> Self {
        Self { bytes: shard.bytes(), volatile: shard.volatile(), sealed: shard.sealed() }
    }
}

impl<'k> Part<'k> {
    #[inline]
    pub(super) fn new(number: u32, shard: MutexGuard<'k, Shard>) -> Self {
        let before = Weight::of(&shard);
        Self { number, shard, before, changed: false }
    }

    #[inline]
    fn db(&self) -> u8 {
        u8::try_from(self.number >> 16).unwrap_or(0)
    }
}

/// A moment at which nothing has ended yet.
pub(super) const NO_TIME: i64 = i64::MIN;

/// See above. Dropping it finishes it.
#[derive(Debug)]
pub struct Hold<'k> {
    keyspace: &'k Keyspace,
    now: i64,
    parts: SmallVec<[Part<'k>; 1]>,
    /// For the journal.
    log: Payload,
    untouched: bool,
    finished: bool,
    /// Freed when the locks are free: so this stands behind them.
    waste: Vec<Waste>,
}

/// Where a key is: which of the parts, which slot.
type Slot = (usize, At);

impl<'k> Hold<'k> {
    #[inline]
    pub(super) fn new(keyspace: &'k Keyspace, now: i64, parts: SmallVec<[Part<'k>; 1]>) -> Self {
        Self {
            keyspace,
            now,
            parts,
            log: Payload::default(),
            untouched: false,
            finished: false,
            waste: Vec::new(),
        }
    }

    /// The moment that all of it happens at, in milliseconds since 1970.
    pub const fn now(&self) -> i64 {
        self.now
    }

    /// Uses of keys are not noted from now on, so that eviction does not see them.
    pub fn touch_nothing(&mut self) {
        self.untouched = true;
    }

    /// Whether the lock of this key's shard is held.
    #[inline]
    pub fn covers(&self, key: &Key<'_>) -> bool {
        self.part(key.part).is_some()
    }

    /// Asks for what these keys lead to to be brought near, since they will be asked for soon: the
    /// waits for memory overlap then, instead of adding up.
    pub fn prefetch(&self, keys: &[Key<'_>]) {
        let shard = |key: &Key<'_>| Some(&self.parts.get(self.part(key.part)?)?.shard);
        for key in keys {
            if let Some(shard) = shard(key) {
                shard.prefetch_bucket(key.hash);
            }
        }
        for key in keys {
            if let Some(shard) = shard(key) {
                shard.prefetch_record(key.hash);
            }
        }
    }

    /// Whose keys.
    pub const fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// The value of a key.
    #[inline]
    pub fn get(&mut self, key: &Key<'_>) -> Option<Value<'_>> {
        self.get_if(key, |_| true).flatten()
    }

    /// The same if that is one that `fits`. Else there is `None` of it, and it was not used.
    #[inline]
    pub fn get_if(
        &mut self,
        key: &Key<'_>,
        fits: impl FnOnce(&Value<'_>) -> bool,
    ) -> Option<Option<Value<'_>>> {
        let found = self.find(key);
        let part = self.part(key.part)?;
        let shard = &mut self.parts.get_mut(part)?.shard;
        let Some((_, at)) = found else {
            shard.misses += 1;
            return None;
        };
        if !shard.value(at).is_some_and(|value| fits(&value)) {
            return Some(None);
        }
        shard.hits += 1;
        if !self.untouched
            && let Some(record) = shard.record_mut(at)
        {
            let policy = self.keyspace.memory.tracking();
            record.set_access(evict::touched(policy, record.access(), self.now));
        }
        Some(shard.value(at))
    }

    /// The same, but not as a use of it.
    pub fn peek(&mut self, key: &Key<'_>) -> Option<Value<'_>> {
        let (part, at) = self.find(key)?;
        self.parts.get(part)?.shard.value(at)
    }

    /// Whether the key is there.
    #[inline]
    pub fn has(&mut self, key: &Key<'_>) -> bool {
        self.find(key).is_some()
    }

    /// Keeps a value under a key, in place of what was there.
    pub fn set(
        &mut self,
        key: &Key<'_>,
        content: Content<'_>,
        expiry: Expiry,
    ) -> Result<(), Fault> {
        self.keyspace.may_write()?;
        self.keep(key, content, expiry)
    }

    /// The same, that writing is allowed having been asked. Fails only if the bytes of sealed
    /// memory have to be read and cannot be.
    pub(super) fn keep(
        &mut self,
        key: &Key<'_>,
        content: Content<'_>,
        expiry: Expiry,
    ) -> Result<(), Fault> {
        let found = self.find(key);
        let Some(part) = self.part(key.part) else { return Ok(()) };
        let Some(Part { shard, changed, .. }) = self.parts.get_mut(part) else { return Ok(()) };
        let at = found.map(|(_, at)| at);
        let old = at.and_then(|at| shard.record(at));
        let expiry = match expiry {
            Expiry::Never => None,
            Expiry::At(when) => Some(when),
            Expiry::Kept => old.and_then(Record::expiry),
        };
        let access = self.keyspace.written(old.map(Record::access), self.untouched, self.now);
        if self.keyspace.journal.is_some() {
            // Before anything is changed: what it needs of sealed memory is known then.
            content.tell(&mut self.log, part_db(key), key.name, expiry)?;
        }
        let inline = self.keyspace.options().inline;
        let fresh = match content {
            Content::Bytes(bytes) => Fresh::Bytes(bytes),
            Content::Heap(bytes) => Fresh::Large(Large::Heap(bytes.to_vec())),
            Content::Owned(bytes) if bytes.len() > inline => Fresh::Large(Large::Heap(bytes)),
            Content::Owned(ref bytes) => Fresh::Bytes(bytes),
            Content::Sealed(sealed) => Fresh::Large(Large::Sealed(sealed)),
        };
        shard.put((key.hash, key.name, at), fresh, expiry, access);
        shard.changed(key.name);
        *changed = true;
        Ok(())
    }

    /// Removes a key; whether it was there.
    pub fn remove(&mut self, key: &Key<'_>) -> bool {
        let Some(place) = self.find(key) else { return false };
        self.remove_at(key, place);
        true
    }

    /// When the key ends, if it does: `None` if it is not there.
    pub fn expiry(&mut self, key: &Key<'_>) -> Option<Option<i64>> {
        let (part, at) = self.find(key)?;
        Some(self.parts.get(part)?.shard.record(at)?.expiry())
    }

    /// Sets when the key ends; whether it is there. A moment that has passed removes it.
    pub fn set_expiry(&mut self, key: &Key<'_>, expiry: Option<i64>) -> bool {
        let Some(place) = self.find(key) else { return false };
        if expiry.is_some_and(|when| when <= self.now) {
            self.remove_at(key, place);
            return true;
        }
        if self.keyspace.journal.is_some() {
            ops::expire(self.log.ops(), part_db(key), key.name, expiry);
        }
        if let Some(Part { shard, changed, .. }) = self.parts.get_mut(place.0) {
            shard.set_expiry((key.hash, place.1), expiry);
            shard.changed(key.name);
            *changed = true;
        }
        true
    }

    /// Removes all keys of a database whose locks are all held; gives how many there were.
    pub fn clear(&mut self, db: u8) -> usize {
        let mut gone = 0;
        for part in self.parts.iter_mut().filter(|part| part.db() == db) {
            gone += part.shard.clear();
            part.changed = true;
        }
        if gone > 0 && self.keyspace.journal.is_some() {
            ops::clear(self.log.ops(), db);
        }
        gone
    }

    /// Marks `watch` when the key changes from now on, or goes.
    pub fn watch(&mut self, key: &Key<'_>, watch: &Watch) {
        self.find(key);
        if let Some(part) = self.part(key.part).and_then(|part| self.parts.get_mut(part)) {
            part.shard.watch(key.name, watch);
        }
    }

    /// No longer.
    pub fn unwatch(&mut self, key: &Key<'_>, watch: &Watch) {
        if let Some(part) = self.part(key.part).and_then(|part| self.parts.get_mut(part)) {
            part.shard.unwatch(key.name, watch);
        }
    }

    /// What eviction knows of a key: 24 bits.
    pub fn access(&mut self, key: &Key<'_>) -> Option<u32> {
        let (part, at) = self.find(key)?;
        Some(self.parts.get(part)?.shard.record(at)?.access())
    }

    /// Bytes that a key takes with its value.
    pub fn footprint(&mut self, key: &Key<'_>) -> Option<usize> {
        let (part, at) = self.find(key)?;
        self.parts.get(part)?.shard.footprint(at)
    }

    /// The journal's position up to which it must be durable before anybody is told what was seen of
    /// this key; `None`: that of [`Self::finish`], since something was changed where it lies.
    #[inline]
    pub fn position(&self, key: &Key<'_>) -> Option<u64> {
        let part = self.parts.get(self.part(key.part)?)?;
        (!part.changed).then_some(part.shard.position)
    }

    /// Ends it: the journal has what was changed, and the locks are free. Gives the journal's
    /// position up to which it must be durable before anybody is told what was seen or done.
    #[inline]
    pub fn finish(mut self) -> u64 {
        self.commit()
    }

    #[inline]
    fn commit(&mut self) -> u64 {
        self.finished = true;
        let mut position = 0;
        if !self.log.is_empty()
            && let Some(journal) = &self.keyspace.journal
        {
            position = journal.append(std::mem::take(&mut self.log));
            // What will never be durable is nobody's business who only reads.
            let changed = self.parts.iter_mut().filter(|part| part.changed && position != NEVER);
            changed.for_each(|part| part.shard.position = position);
        }
        for part in &mut self.parts {
            position = position.max(part.shard.position);
            if !part.shard.waste.is_empty() {
                // Taken with its room, which nobody counts.
                self.waste.extend(std::mem::take(&mut part.shard.waste));
                if self.keyspace.lazy.take(&mut self.waste) {
                    self.keyspace.bell.ring();
                }
            }
            let now = Weight::of(&part.shard);
            if now != part.before {
                let diff = |a: usize, b: usize| a.cast_signed() as i64 - b.cast_signed() as i64;
                self.keyspace.memory.add(diff(now.bytes, part.before.bytes));
                let volatile = diff(now.volatile, part.before.volatile);
                let sealed = diff(now.sealed, part.before.sealed);
                self.keyspace.count(part.number, volatile, sealed);
                if volatile > 0
                    || now.bytes > part.before.bytes && self.keyspace.memory.is_pressed()
                {
                    self.keyspace.bell.ring();
                }
            }
        }
        position
    }

    /// Which of the parts it belongs to.
    #[inline]
    fn part(&self, number: u32) -> Option<usize> {
        match &*self.parts {
            [only] => (only.number == number).then_some(0),
            parts => parts.binary_search_by_key(&number, |part| part.number).ok(),
        }
    }

    #[inline]
    fn find(&mut self, key: &Key<'_>) -> Option<Slot> {
        let part = self.part(key.part)?;
        let shard = &self.parts.get(part)?.shard;
        let at = shard.locate(key.hash, key.name)?;
        let expiry = shard.record(at)?.expiry();
        if expiry.is_some_and(|when| when <= self.now) {
            self.expire_at((part, at));
            return None;
        }
        Some((part, at))
    }

    fn remove_at(&mut self, key: &Key<'_>, (part, at): Slot) {
        if self.keyspace.journal.is_some() {
            ops::remove(self.log.ops(), part_db(key), key.name);
        }
        if let Some(Part { shard, changed, .. }) = self.parts.get_mut(part) {
            shard.remove(at);
            shard.changed(key.name);
            *changed = true;
        }
    }

    #[cold]
    fn expire_at(&mut self, place: Slot) {
        self.drop_at(place);
        if let Some(part) = self.parts.get_mut(place.0) {
            part.shard.expired += 1;
        }
    }

    /// Removes what a slot holds, whatever its name.
    fn drop_at(&mut self, (part, at): Slot) {
        let journal = self.keyspace.journal.is_some();
        let Some(part) = self.parts.get_mut(part) else { return };
        let db = part.db();
        let Some(name) = part.shard.record(at).map(|record| Box::<[u8]>::from(record.name()))
        else {
            return;
        };
        if journal {
            ops::remove(self.log.ops(), db, &name);
        }
        part.shard.remove(at);
        part.shard.changed(&name);
        part.changed = true;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.commit();
        }
    }
}

#[inline]
fn part_db(key: &Key<'_>) -> u8 {
    u8::try_from(key.part >> 16).unwrap_or(0)
}
