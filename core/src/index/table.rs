//! A table of named entries: slots that stay where they are, and a hash table of their numbers.
//!
//! ```text
//!  hash ──▶ number ──▶ slot: entry
//! ```
//!
//! What must stay true:
//! - an entry keeps its slot's number for as long as it lives: so a pass over the numbers meets
//!   everything that was there all the time, whatever comes and goes meanwhile;
//! - each number is in use once, or free, or withheld by whoever took its entry.
//!
//! Not here: locking, bounds, and what an entry is.

use hashbrown::HashTable;

/// What stands in a slot.
pub(crate) trait Named {
    /// What it is found by.
    fn name(&self) -> &[u8];
}

/// Entries by name.
#[derive(Debug)]
pub(crate) struct Table<E> {
    numbers: HashTable<u32>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self { numbers: HashTable::new(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<E: Named> Table<E> {
    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Slots, in use or not: every number is below.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Bytes that the table itself takes, without what its entries point to.
    pub(crate) fn footprint(&self) -> usize {
        self.numbers.allocation_size()
            + self.slots.capacity() * size_of::<Option<E>>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// The entry in a slot.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&E> {
        self.slots.get(at as usize)?.as_ref()
    }

    /// The same, to be changed; its name must stay.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut E> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    /// Where the entry of that name is.
    #[inline]
    pub(crate) fn locate(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let same = |&at: &u32| self.get(at).is_some_and(|entry| entry.name() == name);
        self.numbers.find(hash, same).copied()
    }

    /// Adds an entry whose name is not there yet; gives its number. `rehash` tells the hash of
    /// an entry, for when the table grows.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, rehash: impl Fn(&E) -> u64) -> u32 {
        let at = if let Some(at) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(at as usize) {
                *place = Some(entry);
            }
            at
        } else {
            self.slots.push(Some(entry));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        let slots = &self.slots;
        let rehash = |&at: &u32| slots.get(at as usize).and_then(Option::as_ref).map_or(0, &rehash);
        self.numbers.insert_unique(hash, at, rehash);
        at
    }

    /// Takes an entry out. Its number is withheld until [`Table::release`].
    pub(crate) fn take(&mut self, hash: u64, at: u32) -> Option<E> {
        let entry = self.slots.get_mut(at as usize)?.take()?;
        if let Ok(found) = self.numbers.find_entry(hash, |&other| other == at) {
            found.remove();
        }
        Some(entry)
    }

    /// Lets the number of an entry that was taken be used again.
    pub(crate) fn release(&mut self, at: u32) {
        self.free.push(at);
    }

    /// Empty again, with no memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
