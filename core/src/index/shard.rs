//! One shard: a table of slots and the two queues that decide what must go.
//!
//! Not here: locking, and the choice of the shard.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};

use super::table::Table;

/// Marks stop counting here: how often something was asked for matters less than that it was.
const HOT: u8 = 3;

/// The part of a shard's entries that a name must survive before it counts as worth keeping.
const SMALL_SHARE: usize = 10;

#[derive(Debug)]
struct Slot<V> {
    hash: u64,
    name: Box<[u8]>,
    value: V,
    weight: usize,
    marks: AtomicU8,
    main: bool,
}

/// What a slot takes beside its name and value: its place in table, slab and queue.
const fn overhead<V>() -> usize {
    size_of::<Option<Slot<V>>>() + 2 * size_of::<u32>() + size_of::<u64>()
}

#[derive(Debug)]
pub(super) struct Shard<V> {
    table: Table<u32, 5>,
    slots: Vec<Option<Slot<V>>>,
    free: Vec<u32>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: Box<[u32]>,
    max_entries: usize,
    max_bytes: usize,
    bytes: usize,
    evictions: u64,
}

impl<V: Clone> Shard<V> {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        let max_entries = max_entries.clamp(1, u32::MAX as usize);
        Self {
            table: Table::default(),
            slots: Vec::new(),
            free: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: vec![0; max_entries.next_power_of_two()].into_boxed_slice(),
            max_entries,
            max_bytes,
            bytes: 0,
            evictions: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, name: &[u8]) -> Option<V> {
        let slot = self.slot(self.locate(hash, name)?)?;
        let marks = slot.marks.load(Ordering::Relaxed);
        if marks < HOT {
            slot.marks.store(marks + 1, Ordering::Relaxed);
        }
        Some(slot.value.clone())
    }

    pub(super) fn put(&mut self, hash: u64, name: &[u8], value: V, weight: usize) {
        let weight = overhead::<V>() + name.len() + weight;
        if weight > self.max_bytes {
            self.remove(hash, name);
            return;
        }
        if let Some(at) = self.locate(hash, name) {
            self.replace(at, value, weight);
        } else {
            self.make_room(1, weight);
            let main = self.was_here(hash);
            self.add(Slot {
                hash,
                name: name.into(),
                value,
                weight,
                marks: AtomicU8::new(0),
                main,
            });
        }
        self.make_room(0, 0);
    }

    pub(super) fn remove(&mut self, hash: u64, name: &[u8]) -> Option<V> {
        let at = self.locate(hash, name)?;
        // Its queue keeps a stale number until that number's turn comes, or `tidy`.
        self.take(at).map(|slot| slot.value)
    }

    pub(super) fn retain(&mut self, keep: &mut impl FnMut(&[u8], &V) -> bool) -> usize {
        let mut goes = |slot: &Slot<V>| !keep(&slot.name, &slot.value);
        let before = self.len();
        for at in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            if self.slot(at).is_some_and(&mut goes) {
                self.take(at);
            }
        }
        before - self.len()
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.slots.clear();
        self.free.clear();
        self.small.clear();
        self.main.clear();
        self.bytes = 0;
    }

    #[inline]
    fn slot(&self, at: u32) -> Option<&Slot<V>> {
        self.slots.get(at as usize)?.as_ref()
    }

    #[inline]
    fn locate(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let is = |&at: &u32| self.slot(at).is_some_and(|s| s.hash == hash && *s.name == *name);
        self.table.get(self.table.find(hash, is)?).copied()
    }

    fn replace(&mut self, at: u32, value: V, weight: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(at as usize) {
            self.bytes = self.bytes + weight - slot.weight;
            slot.value = value;
            slot.weight = weight;
        }
    }

    fn add(&mut self, slot: Slot<V>) {
        self.tidy();
        self.bytes += slot.weight;
        let (hash, main) = (slot.hash, slot.main);
        let at = if let Some(at) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(at as usize) {
                *place = Some(slot);
            }
            at
        } else {
            self.slots.push(Some(slot));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        let slots = &self.slots;
        self.table.insert(hash, at, |&at| hash_of(slots, at));
        if main { &mut self.main } else { &mut self.small }.push_back(at);
    }

    /// Takes a slot out of table and slab. Its number becomes free only when it has
    /// left its queue too (see [`Shard::evict`]), so that no queue names a slot twice.
    fn take(&mut self, at: u32) -> Option<Slot<V>> {
        let slots = &self.slots;
        let found = self.table.find(self.slot(at)?.hash, |&other| other == at);
        found.and_then(|found| self.table.remove(found, |&at| hash_of(slots, at)));
        let slot = self.slots.get_mut(at as usize)?.take()?;
        self.bytes -= slot.weight;
        Some(slot)
    }

    /// Drops stale numbers from the queues before they outnumber the living ones.
    fn tidy(&mut self) {
        if self.small.len() + self.main.len() <= 2 * self.table.len() + 16 {
            return;
        }
        for queue in [&mut self.small, &mut self.main] {
            queue.retain(|&at| {
                let alive = matches!(self.slots.get(at as usize), Some(Some(_)));
                if !alive {
                    self.free.push(at);
                }
                alive
            });
        }
    }

    /// Ends: every step frees a slot, drops a stale number, or takes one of at most
    /// [`HOT`] marks.
    fn make_room(&mut self, entries: usize, bytes: usize) {
        while self.table.len() + entries > self.max_entries || self.bytes + bytes > self.max_bytes {
            if !self.evict() {
                return;
            }
        }
    }

    /// Lets one number leave its queue. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let small_share = (self.max_entries / SMALL_SHARE).max(1);
        let from_small = self.small.len() >= small_share || self.main.is_empty();
        let queue = if from_small { &mut self.small } else { &mut self.main };
        let Some(at) = queue.pop_front() else { return false };
        match self.slots.get_mut(at as usize) {
            Some(Some(slot)) if slot.marks.load(Ordering::Relaxed) > 0 => {
                // Asked for since: to main, or once more round it with a mark less.
                *slot.marks.get_mut() -= 1;
                slot.main = true;
                self.main.push_back(at);
            }
            _ => {
                if let Some(slot) = self.take(at) {
                    self.evictions += 1;
                    if from_small {
                        self.remember(slot.hash);
                    }
                }
                self.free.push(at);
            }
        }
        true
    }

    /// Remembers that a name left the small queue, in a table that forgets by overwriting.
    fn remember(&mut self, hash: u64) {
        if let Some((place, print)) = self.ghost(hash) {
            *place = print;
        }
    }

    /// Whether the name left the small queue not long ago: then it has earned its place.
    fn was_here(&mut self, hash: u64) -> bool {
        self.ghost(hash).is_some_and(|(place, print)| *place == print)
    }

    #[allow(clippy::cast_possible_truncation)] // any 32 bits of a hash will do
    fn ghost(&mut self, hash: u64) -> Option<(&mut u32, u32)> {
        let at = hash as usize & (self.ghosts.len() - 1);
        self.ghosts.get_mut(at).map(|place| (place, (hash >> 24) as u32 | 1))
    }
}

fn hash_of<V>(slots: &[Option<Slot<V>>], at: u32) -> u64 {
    slots.get(at as usize).and_then(Option::as_ref).map_or(0, |slot| slot.hash)
}
