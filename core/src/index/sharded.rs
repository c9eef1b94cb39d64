//! Shards, and which of them a name belongs to.

use std::hash::{BuildHasher, Hasher};

use crossbeam_utils::CachePadded;
use foldhash::quality::RandomState;

/// A name's hash among some shards; valid there only, and never to leave the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub(crate) u64);

/// How names are hashed: keyed per process, so that nobody outside can choose names that collide.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hashing(RandomState);

impl Hashing {
    /// The name's hash.
    #[inline]
    pub(crate) fn of(&self, name: &[u8]) -> Hash {
        let mut hasher = self.0.build_hasher();
        hasher.write(name);
        Hash(hasher.finish())
    }

    /// The same for a name that means something in one space only.
    #[inline]
    pub(crate) fn of_in(&self, space: u64, name: &[u8]) -> Hash {
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(space);
        hasher.write(name);
        Hash(hasher.finish())
    }
}

/// Equal parts, a power of two of them, each with a cache line of its own.
#[derive(Debug)]
pub(crate) struct Sharded<S> {
    parts: Box<[CachePadded<S>]>,
    shift: u32,
}

impl<S> Sharded<S> {
    /// At least `shards` parts, as `part` makes them.
    pub(crate) fn new(shards: usize, part: impl FnMut(usize) -> S) -> Self {
        let shards = shards.clamp(1, 1 << 16).next_power_of_two();
        let parts = (0..shards).map(part).map(CachePadded::new).collect();
        Self { parts, shift: 64 - shards.trailing_zeros() }
    }

    /// The number of the part for a hash.
    #[inline]
    pub(crate) fn number(&self, hash: Hash) -> usize {
        // The table keeps the top seven bits in its tags, and the lowest choose a slot: the
        // shard is chosen by those between. A shift of 64 (one shard) answers 0.
        let at = (hash.0 << 7).checked_shr(self.shift).unwrap_or(0);
        usize::try_from(at).unwrap_or(0)
    }

    /// One part.
    #[inline]
    pub(crate) fn part(&self, number: usize) -> Option<&S> {
        self.parts.get(number).map(|part| &**part)
    }

    /// The part for a hash.
    #[inline]
    pub(crate) fn of(&self, hash: Hash) -> Option<&S> {
        self.part(self.number(hash))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.parts.iter().map(|part| &**part)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }
}
