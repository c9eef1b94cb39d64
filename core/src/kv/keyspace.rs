//! The keyspace: sixteen databases of keys, each cut into shards with a lock of its own.
//!
//! ```text
//!  keys ─▶ hold: the locks of their shards, in ascending order
//!            │ verbs, in program order ─▶ shards, and what the journal is told
//!            ▼
//!         finish: one record for the journal, numbered while the locks are held
//! ```
//!
//! What must stay true:
//! - locks are taken in ascending order of their numbers, all before the first verb: no cycle of
//!   waiting, and nobody sees a part of what is done under one hold;
//! - who serves others waits for locks [`Wait::Briefly`], and has none of them then if one is missing;
//! - the journal's order of what happened to a key is the order in which it happened.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use objmapper_os::clock;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::bell::Bell;
use super::evict::{self, Memory, Policy};
use super::hold::{Hold, Part};
use super::journal::kept::Kept;
use super::lazy::Lazy;
use super::lock::{Wait, Waiting};
use super::shard::Shard;
use super::value::Sealed;
use super::watches::Over;
use super::{Content, Fault};
use crate::index::Hash;
use crate::index::sharded::{Hashing, Sharded};

/// Databases.
pub const DATABASES: u8 = 16;

/// The longest value in bytes, and the longest key.
pub const LONGEST: u64 = 512 << 20;

/// How a keyspace is cut and what it may take.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Shards of a database; rounded up to a power of two.
    pub shards: usize,
    /// Bytes that a value may have to lie beside its key; a longer one lies in sealed memory.
    pub inline: usize,
    /// Values that may lie in sealed memory, each with a descriptor; more lie in our own.
    pub sealed: usize,
    /// Bytes in all; 0 for no limit.
    pub max_memory: u64,
    /// What goes when there is no room.
    pub policy: Policy,
}

impl Default for Options {
    /// 64 shards: as with the index, more gain nothing with few threads. Inline up to 32 KiB.
    fn default() -> Self {
        Self {
            shards: 64,
            inline: 32 * 1024,
            sealed: 1024,
            max_memory: 0,
            policy: Policy::default(),
        }
    }
}

/// A key of one database, hashed.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    pub(super) name: &'a [u8],
    pub(super) hash: Hash,
    /// Which lock.
    pub(super) part: u32,
}

impl Key<'_> {
    /// Its bytes.
    pub const fn name(&self) -> &[u8] {
        self.name
    }

    /// Whether it is the same one, of the same database.
    pub fn is(&self, other: &Key<'_>) -> bool {
        self.part == other.part && self.name == other.name
    }
}

#[derive(Debug)]
struct Database {
    shards: Sharded<Mutex<Shard>>,
    /// Keys with an expiry, over all shards.
    volatile: AtomicI64,
}

/// See above. Shared by any number of threads.
#[derive(Debug)]
pub struct Keyspace {
    databases: [OnceLock<Database>; DATABASES as usize],
    hashing: Hashing,
    pub(super) options: Options,
    pub(super) memory: Memory,
    pub(super) journal: Option<Kept>,
    pub(super) bell: Bell,
    pub(super) over: Over,
    pub(super) lazy: Lazy,
    pub(super) sealed: AtomicI64,
    /// Held by who makes a copy where there is no journal, which has its own.
    pub(super) copying: Mutex<()>,
}

impl Keyspace {
    /// Empty, in memory only.
    pub fn in_memory(options: Options) -> Self {
        Self {
            databases: Default::default(),
            hashing: Hashing::default(),
            memory: Memory::new(options.max_memory, options.policy),
            options,
            journal: None,
            bell: Bell::default(),
            over: Over::default(),
            lazy: Lazy::default(),
            sealed: AtomicI64::new(0),
            copying: Mutex::default(),
        }
    }

    /// A key of database `db`, which is below [`DATABASES`] (else it is taken modulo that).
    #[inline]
    pub fn key<'a>(&self, db: u8, name: &'a [u8]) -> Key<'a> {
        let db = db % DATABASES;
        let hash = self.hashing.of(name);
        let number = self.database(db).shards.number(hash);
        Key { name, hash, part: part_number(db, number) }
    }

    /// Takes the lock of one key's shard.
    #[inline]
    pub fn hold(&self, key: &Key<'_>, now: i64) -> Hold<'_> {
        let mut parts = SmallVec::new();
        parts.extend(self.lock(key.part));
        Hold::new(self, now, parts)
    }

    /// Takes the locks of all these keys' shards.
    pub fn hold_keys(&self, keys: &[Key<'_>], now: i64) -> Hold<'_> {
        let numbers: SmallVec<[u32; 16]> = keys.iter().map(|key| key.part).collect();
        self.hold_parts(numbers, now)
    }

    /// Takes the locks of these keys' shards, and all locks of some databases.
    pub fn hold_also(&self, keys: &[Key<'_>], databases: &[u8], now: i64) -> Hold<'_> {
        self.hold_parts(self.numbers(keys, databases), now)
    }

    /// [`Self::hold`], waiting so long.
    #[inline]
    pub fn try_hold(&self, key: &Key<'_>, wait: Wait, now: i64) -> Result<Hold<'_>, Fault> {
        let mut parts = SmallVec::new();
        parts.extend(self.try_lock(key.part, &mut Waiting::new(wait))?);
        Ok(Hold::new(self, now, parts))
    }

    /// [`Self::hold_keys`], waiting so long for all of them.
    pub fn try_hold_keys(&self, keys: &[Key<'_>], wait: Wait, now: i64) -> Result<Hold<'_>, Fault> {
        self.try_hold_parts(keys.iter().map(|key| key.part).collect(), wait, now)
    }

    /// [`Self::hold_also`], waiting so long for all of them.
    pub fn try_hold_also(
        &self,
        keys: &[Key<'_>],
        databases: &[u8],
        wait: Wait,
        now: i64,
    ) -> Result<Hold<'_>, Fault> {
        self.try_hold_parts(self.numbers(keys, databases), wait, now)
    }

    /// Which locks these are.
    fn numbers(&self, keys: &[Key<'_>], databases: &[u8]) -> SmallVec<[u32; 16]> {
        let whole = databases.iter().flat_map(|&db| {
            let db = db % DATABASES;
            (0..self.database(db).shards.len()).map(move |shard| part_number(db, shard))
        });
        keys.iter().map(|key| key.part).chain(whole).collect()
    }

    /// The databases that were ever used.
    pub fn databases(&self) -> impl Iterator<Item = u8> + '_ {
        (0..DATABASES)
            .filter(|&db| self.databases.get(usize::from(db)).is_some_and(|d| d.get().is_some()))
    }

    /// Keys of a database and how many have an expiry; each shard exact, the sum not of one moment.
    pub fn size(&self, db: u8) -> (usize, usize) {
        let Some(database) = self.databases.get(usize::from(db)).and_then(OnceLock::get) else {
            return (0, 0);
        };
        database.shards.iter().fold((0, 0), |(keys, volatile), shard| {
            let shard = shard.lock();
            (keys + shard.len(), volatile + shard.volatile())
        })
    }

    /// Shards of a database.
    pub fn shards(&self) -> usize {
        self.database(0).shards.len()
    }

    /// What the memory is like.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// How it was made.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Prepares a value to be kept, before any lock is taken: a long one goes into sealed memory.
    #[inline]
    pub fn content<'a>(&self, bytes: &'a [u8]) -> Result<Content<'a>, Fault> {
        if bytes.len() <= self.options.inline {
            return Ok(Content::Bytes(bytes));
        }
        self.long(bytes)
    }

    #[cold]
    fn long<'a>(&self, bytes: &'a [u8]) -> Result<Content<'a>, Fault> {
        if bytes.len() as u64 > LONGEST {
            return Err(Fault::TooLong { limit: LONGEST });
        }
        if !self.may_seal() {
            return Ok(Content::Heap(bytes));
        }
        match Sealed::new(bytes) {
            Ok(sealed) => self.sealed(sealed),
            // Out of descriptors: it can be kept all the same.
            Err(error) if error.is_resource() => Ok(Content::Heap(bytes)),
            Err(error) => Err(error.into()),
        }
    }

    /// A value in sealed memory, ready for the journal before any lock is taken.
    pub(super) fn sealed<'a>(&self, sealed: Sealed) -> Result<Content<'a>, Fault> {
        if self.journal.is_some() {
            sealed.checksum()?;
        }
        Ok(Content::Sealed(sealed.into()))
    }

    /// Whether one more value may lie in sealed memory.
    pub(super) fn may_seal(&self) -> bool {
        let most = i64::try_from(self.options.sealed).unwrap_or(i64::MAX);
        self.sealed.load(Ordering::Relaxed) < most
    }

    /// Takes one lock alone.
    #[inline]
    pub(super) fn lock(&self, number: u32) -> Option<Part<'_>> {
        Some(Part::new(number, self.shard(number)?.lock()))
    }

    /// The same, if it does not take too long; `None` where there is no such lock.
    #[inline]
    fn try_lock(&self, number: u32, waiting: &mut Waiting) -> Result<Option<Part<'_>>, Fault> {
        let Some(shard) = self.shard(number) else { return Ok(None) };
        let shard = waiting.lock(shard).ok_or(Fault::Locked)?;
        Ok(Some(Part::new(number, shard)))
    }

    #[inline]
    pub(super) fn shard(&self, number: u32) -> Option<&Mutex<Shard>> {
        let (db, shard) = (number >> 16, number & 0xffff);
        self.databases.get(db as usize)?.get()?.shards.part(shard as usize)
    }

    /// Takes the lock of one shard.
    pub fn hold_part(&self, db: u8, shard: usize, now: i64) -> Hold<'_> {
        let mut parts = SmallVec::new();
        parts.extend(self.lock(part_number(db % DATABASES, shard)));
        Hold::new(self, now, parts)
    }

    /// The same, waiting for what is left of this.
    pub(super) fn try_hold_part(
        &self,
        (db, shard): (u8, usize),
        waiting: &mut Waiting,
        now: i64,
    ) -> Result<Hold<'_>, Fault> {
        let mut parts = SmallVec::new();
        parts.extend(self.try_lock(part_number(db % DATABASES, shard), waiting)?);
        Ok(Hold::new(self, now, parts))
    }

    fn hold_parts(&self, mut numbers: SmallVec<[u32; 16]>, now: i64) -> Hold<'_> {
        numbers.sort_unstable();
        numbers.dedup();
        let parts = numbers.into_iter().filter_map(|number| self.lock(number)).collect();
        Hold::new(self, now, parts)
    }

    fn try_hold_parts(
        &self,
        mut numbers: SmallVec<[u32; 16]>,
        wait: Wait,
        now: i64,
    ) -> Result<Hold<'_>, Fault> {
        numbers.sort_unstable();
        numbers.dedup();
        let (mut parts, mut waiting) = (SmallVec::new(), Waiting::new(wait));
        for number in numbers {
            parts.extend(self.try_lock(number, &mut waiting)?);
        }
        Ok(Hold::new(self, now, parts))
    }

    /// Counts how many more records with an expiry, and values in sealed memory, there are.
    pub(super) fn count(&self, number: u32, volatile: i64, sealed: i64) {
        if volatile != 0
            && let Some(database) =
                self.databases.get(number as usize >> 16).and_then(OnceLock::get)
        {
            // In one order with who asks before it sleeps: see `bell`.
            database.volatile.fetch_add(volatile, Ordering::SeqCst);
        }
        if sealed != 0 {
            self.sealed.fetch_add(sealed, Ordering::Relaxed);
        }
    }

    /// Whether any key has an expiry.
    pub fn has_volatile(&self) -> bool {
        let any = |d: &Database| d.volatile.load(Ordering::SeqCst) > 0;
        self.databases.iter().filter_map(OnceLock::get).any(any)
    }

    /// Whether [`Self::tick`] has anything to do, now or when a key's time is up.
    pub fn has_to_tick(&self) -> bool {
        self.has_volatile()
            || self.memory.is_pressed()
            || !self.over.is_empty()
            || self.lazy.is_filled()
    }

    /// Whether somebody ticks from now on: then large values that are removed are freed there.
    pub fn will_tick(&self, somebody: bool) {
        self.lazy.attend(somebody);
    }

    /// Waits until [`Self::has_to_tick`], without a timer; or until [`Self::rouse`] is called. For
    /// one thread, which ticks.
    pub fn wait_to_tick(&self) {
        self.bell.sleep(None, || self.has_to_tick());
    }

    /// Waits for that long, or until [`Self::rouse`] is called.
    pub fn pause(&self, longest: Option<Duration>) {
        self.bell.sleep(longest, || false);
    }

    /// Ends the waiting, this one or the next.
    pub fn rouse(&self) {
        self.bell.ring_aloud();
    }

    /// Allows so many bytes from now on, 0 for any number, and lets that go when there is no room.
    pub fn set_memory(&self, limit: u64, policy: Policy) {
        self.memory.set_policy(policy);
        self.memory.set_limit(limit);
        self.rouse();
    }

    /// The wall clock, by which keys end: milliseconds since 1970.
    #[inline]
    pub fn now() -> i64 {
        clock::realtime_ms()
    }

    /// What eviction knows of a key that is written, by the moment of its hold: one that was there
    /// is used by that, unless uses are not noted, and what is known of it stays.
    #[inline]
    pub(super) fn written(&self, old: Option<u32>, untouched: bool, now: i64) -> u32 {
        let now = if now == super::hold::NO_TIME { Self::now() } else { now };
        let policy = self.memory.tracking();
        match old {
            None => evict::created(policy, now),
            Some(access) if untouched => access,
            Some(access) => evict::touched(policy, access, now),
        }
    }

    #[inline]
    fn database(&self, db: u8) -> &Database {
        static NOWHERE: OnceLock<Database> = OnceLock::new();
        self.databases.get(usize::from(db)).unwrap_or(&NOWHERE).get_or_init(|| {
            let shard = |_| Mutex::new(Shard::new(self.hashing.clone()));
            let shards = Sharded::new(self.options.shards.min(1 << 12), shard);
            Database { shards, volatile: AtomicI64::new(0) }
        })
    }
}

#[inline]
pub(super) fn part_number(db: u8, shard: usize) -> u32 {
    // At most 2^12 shards.
    u32::from(db) << 16 | u32::try_from(shard).unwrap_or(0)
}
