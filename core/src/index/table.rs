//! A table of entries by hash: buckets of one cache line, and chains where one is not enough.
//!
//! ```text
//!  hash ─▶ bucket: [entry entry entry | tags | next]──▶ bucket …
//! ```
//!
//! To find an entry takes two reads that may miss the caches, its bucket and itself, and the first
//! can be asked for ahead of time ([`Table::prefetch`]).
//!
//! What must stay true:
//! - an entry is in the chain of the bucket that the low bits of its hash name;
//! - the number of buckets is a power of two, and changes by doubling or halving: so a pass in the
//!   order of [`Table::after`] meets everything that was there all the time, whatever comes and
//!   goes meanwhile (the low bits are counted up from their highest, so that what a bucket is split
//!   into, or merged from, lies together; Redis' SCAN has it from P. Noordhuis).
//!
//! Not here: locking, bounds, and what an entry is.

use objmapper_os as os;

/// Buckets of a table that is not empty, at least.
const FEWEST: usize = 4;

/// Entries, `N` of which share a cache line with their tags: choose it so that a bucket has 64
/// bytes.
#[derive(Debug)]
pub(crate) struct Table<E, const N: usize> {
    buckets: Vec<Bucket<E, N>>,
    len: usize,
    chained: usize,
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket<E, const N: usize> {
    entries: [Option<E>; N],
    /// The top bits of the entries' hashes.
    tags: [u8; N],
    next: Option<Box<Self>>,
}

/// Where an entry is, until another is added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    bucket: u32,
    /// Buckets down the chain.
    depth: u16,
    slot: u8,
}

impl<E, const N: usize> Default for Bucket<E, N> {
    fn default() -> Self {
        Self { entries: [const { None }; N], tags: [0; N], next: None }
    }
}

impl<E, const N: usize> Default for Table<E, N> {
    fn default() -> Self {
        Self { buckets: Vec::new(), len: 0, chained: 0 }
    }
}

impl<E, const N: usize> Table<E, N> {
    /// Entries.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that the table itself takes, without what its entries point to.
    #[inline]
    pub(crate) const fn footprint(&self) -> usize {
        (self.buckets.capacity() + self.chained) * size_of::<Bucket<E, N>>()
    }

    /// Asks for the bucket of a hash to be brought near: soon it will be looked at.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash)) {
            os::memory::prefetch(bucket);
        }
    }

    /// The first entry that may be the one of that hash, its bucket having been looked at only.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<&E> {
        let bucket = self.buckets.get(self.home(hash))?;
        let tags = bucket.tags.iter().zip(&bucket.entries);
        tags.filter(|(tag, _)| **tag == tag_of(hash)).find_map(|(_, entry)| entry.as_ref())
    }

    /// The entry in a place.
    #[inline]
    pub(crate) fn get(&self, at: At) -> Option<&E> {
        let mut bucket = self.buckets.get(at.bucket as usize)?;
        for _ in 0..at.depth {
            bucket = bucket.next.as_deref()?;
        }
        bucket.entries.get(usize::from(at.slot))?.as_ref()
    }

    /// The same, to be changed; its hash must stay.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: At) -> Option<&mut E> {
        self.slot_mut(at)?.as_mut()
    }

    /// Where the entry of that hash is that `is` recognises.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(&E) -> bool) -> Option<At> {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let mut bucket = self.buckets.get(home)?;
        let mut depth = 0;
        loop {
            for (slot, (entry, known)) in bucket.entries.iter().zip(bucket.tags).enumerate() {
                if known == tag && entry.as_ref().is_some_and(&is) {
                    return Some(At::new(home, depth, slot));
                }
            }
            bucket = bucket.next.as_deref()?;
            depth += 1;
        }
    }

    /// Adds an entry that is not there yet. `hash_of` tells the hash of an entry, for when the
    /// table grows.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) -> At {
        // Three quarters full: every fifth or sixth chain has a second bucket then.
        if self.len >= self.buckets.len() * N * 3 / 4 {
            self.resize((self.buckets.len() * 2).max(FEWEST), &hash_of);
        }
        self.len += 1;
        self.place(hash, entry)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, at: At, hash_of: impl Fn(&E) -> u64) -> Option<E> {
        let entry = self.slot_mut(at)?.take()?;
        self.len -= 1;
        if at.depth > 0 {
            self.trim(at.bucket as usize);
        }
        if self.buckets.len() > 16 && self.len < self.buckets.len() * N / 16 {
            self.resize(self.buckets.len() / 2, &hash_of);
        }
        Some(entry)
    }

    /// Lets `each` see the entries of one chain, which a pass is at.
    pub(crate) fn chain(&self, cursor: u32, mut each: impl FnMut(At, &E)) {
        let home = cursor as usize & self.mask();
        let (mut bucket, mut depth) = (self.buckets.get(home), 0);
        while let Some(one) = bucket {
            for (slot, entry) in one.entries.iter().enumerate() {
                if let Some(entry) = entry {
                    each(At::new(home, depth, slot), entry);
                }
            }
            (bucket, depth) = (one.next.as_deref(), depth + 1);
        }
    }

    /// Where a pass goes on after the chain that it was at; `None` at its end.
    pub(crate) fn after(&self, cursor: u32) -> Option<u32> {
        let unused = !u32::try_from(self.mask()).unwrap_or(u32::MAX);
        let next = (cursor | unused).reverse_bits().wrapping_add(1).reverse_bits();
        (next != 0).then_some(next)
    }

    /// Chains there are.
    pub(crate) fn chains(&self) -> u32 {
        u32::try_from(self.buckets.len()).unwrap_or(u32::MAX)
    }

    /// Empty again, with no memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len().saturating_sub(1)
    }

    #[allow(clippy::cast_possible_truncation)] // the low bits are what is wanted
    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask()
    }

    #[inline]
    fn slot_mut(&mut self, at: At) -> Option<&mut Option<E>> {
        let mut bucket = self.buckets.get_mut(at.bucket as usize)?;
        for _ in 0..at.depth {
            bucket = bucket.next.as_deref_mut()?;
        }
        bucket.entries.get_mut(usize::from(at.slot))
    }

    /// Puts an entry into the first free slot of its chain.
    fn place(&mut self, hash: u64, entry: E) -> At {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let mut at = At::new(home, 0, 0);
        let Some(mut bucket) = self.buckets.get_mut(home) else { return at };
        loop {
            let free = bucket.entries.iter().position(Option::is_none);
            if let Some(slot) = free {
                at.slot = u8::try_from(slot).unwrap_or(0);
                if let (Some(place), Some(known)) =
                    (bucket.entries.get_mut(slot), bucket.tags.get_mut(slot))
                {
                    (*place, *known) = (Some(entry), tag);
                }
                return at;
            }
            if bucket.next.is_none() {
                self.chained += 1;
            }
            bucket = bucket.next.get_or_insert_default();
            at.depth += 1;
        }
    }

    /// Gives back what is empty at the end of a chain.
    fn trim(&mut self, home: usize) {
        fn trim<E, const N: usize>(bucket: &mut Bucket<E, N>) -> usize {
            let Some(next) = &mut bucket.next else { return 0 };
            let gone = trim(next);
            if next.next.is_none() && next.entries.iter().all(Option::is_none) {
                bucket.next = None;
                return gone + 1;
            }
            gone
        }
        if let Some(bucket) = self.buckets.get_mut(home) {
            self.chained -= trim(bucket);
        }
    }

    fn resize(&mut self, buckets: usize, hash_of: &impl Fn(&E) -> u64) {
        let mut fresh = Vec::with_capacity(buckets);
        fresh.resize_with(buckets, Bucket::default);
        let old = std::mem::replace(&mut self.buckets, fresh);
        self.chained = 0;
        for bucket in old {
            let mut bucket = Some(Box::new(bucket));
            while let Some(mut one) = bucket {
                for entry in one.entries.iter_mut().filter_map(Option::take) {
                    self.place(hash_of(&entry), entry);
                }
                bucket = one.next.take();
            }
        }
    }
}

impl At {
    #[inline]
    fn new(bucket: usize, depth: u16, slot: usize) -> Self {
        // At most 2^32 buckets of a few slots; a chain as long as this is not reached.
        let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
        Self { bucket, depth, slot: u8::try_from(slot).unwrap_or(u8::MAX) }
    }
}

#[inline]
const fn tag_of(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    type Small = Table<u32, 5>;

    /// Few bits, so that chains are long.
    fn hash(n: u32) -> u64 {
        u64::from(n % 61).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn find(table: &Small, n: u32) -> Option<At> {
        table.find(hash(n), |known| *known == n)
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!(size_of::<Bucket<u32, 5>>(), 64);
        assert_eq!(size_of::<Bucket<Box<[u8]>, 3>>(), 64);
    }

    proptest! {
        #[test]
        fn knows_what_was_added_and_not_removed(steps in proptest::collection::vec((any::<bool>(), 0_u32..300), 0..600)) {
            let (mut table, mut model) = (Small::default(), HashSet::new());
            for (add, n) in steps {
                match (add, find(&table, n)) {
                    (true, None) => {
                        let at = table.insert(hash(n), n, |n| hash(*n));
                        prop_assert_eq!(table.get(at), Some(&n));
                        model.insert(n);
                    }
                    (false, Some(at)) => {
                        prop_assert_eq!(table.remove(at, |n| hash(*n)), Some(n));
                        model.remove(&n);
                    }
                    (_, found) => prop_assert_eq!(found.is_some(), model.contains(&n)),
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for n in 0..300 {
                prop_assert_eq!(find(&table, n).is_some(), model.contains(&n));
            }
        }

        /// Whatever is added and removed between two steps of a pass.
        #[test]
        fn a_pass_meets_all_that_stays(growth in proptest::collection::vec((any::<bool>(), 1_u32..200), 1..40)) {
            let mut table = Small::default();
            let spread = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for n in 0..100 {
                table.insert(spread(n), n, |n| spread(*n));
            }
            let (mut seen, mut cursor, mut next, mut others) = (HashMap::new(), Some(0), 1000, Vec::new());
            let mut growth = growth.into_iter().cycle();
            while let Some(at) = cursor {
                table.chain(at, |_, n| *seen.entry(*n).or_insert(0) += 1);
                cursor = table.after(at);
                let (grow, count) = growth.next().unwrap();
                for _ in 0..count {
                    if grow && others.len() < 3000 {
                        table.insert(spread(next), next, |n| spread(*n));
                        others.push(next);
                        next += 1;
                    } else if let Some(n) = others.pop() {
                        let at = table.find(spread(n), |known| *known == n).unwrap();
                        table.remove(at, |n| spread(*n));
                    }
                }
            }
            prop_assert!((0..100).all(|n| seen.contains_key(&n)));
        }
    }

    #[test]
    fn memory_is_given_back() {
        let mut table = Small::default();
        for n in 0..10_000 {
            table.insert(hash(n), n, |n| hash(*n));
        }
        let full = table.footprint();
        for n in 0..9_990 {
            let at = find(&table, n).unwrap();
            table.remove(at, |n| hash(*n));
        }
        assert!(table.footprint() * 50 < full, "{} of {full}", table.footprint());
        assert_eq!(table.chained, table.footprint() / 64 - table.buckets.capacity());
    }
}
