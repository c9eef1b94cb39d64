//! Passes over a database, shard by shard, and what is done to all keys now and then.
//!
//! What must stay true:
//! - a pass holds one shard at a time, so it is no picture of one moment; but what was there all
//!   the time is seen, whatever comes and goes (some of it twice, if much does);
//! - a cursor is where to go on: 0 to begin with, and again when all has been seen.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Totals;
use super::evict::Pressure;
use super::fault::Fault;
use super::hold::Hold;
use super::keyspace::{DATABASES, Keyspace};
use super::lock::{Wait, Waiting};
use super::value::Value;

/// Keys of one shard that may be removed in one hold because their time is up. Not tuned.
const EXPIRED_AT_ONCE: usize = 64;

/// Keys that are evicted at most to make room for one write; the next one goes on.
const EVICTED_AT_ONCE: usize = 4096;

impl Keyspace {
    /// Lets `each` see keys with their values and ends, some `count` of them from `cursor` on; gives
    /// the cursor to go on at, 0 at the end.
    pub fn scan(
        &self,
        db: u8,
        cursor: u64,
        count: u32,
        now: i64,
        mut each: impl FnMut(&[u8], Value<'_>, Option<i64>),
    ) -> u64 {
        let Ok::<_, Infallible>(next) = self.walk(cursor, count, |at, left| {
            let mut hold = self.hold_part(db, at.0, now);
            Ok(hold.pass((db, at.0), at.1, left, &mut each))
        });
        next
    }

    /// The same, waiting so long for all the locks that it takes; some keys may have been seen before
    /// one was missing.
    pub fn try_scan(
        &self,
        (db, cursor, count): (u8, u64, u32),
        wait: Wait,
        now: i64,
        mut each: impl FnMut(&[u8], Value<'_>, Option<i64>),
    ) -> Result<u64, Fault> {
        let mut waiting = Waiting::new(wait);
        self.walk(cursor, count, |at, left| {
            let mut hold = self.try_hold_part((db, at.0), &mut waiting, now)?;
            Ok(hold.pass((db, at.0), at.1, left, &mut each))
        })
    }

    /// The same under a hold of the whole database.
    pub fn scan_held(
        &self,
        hold: &mut Hold<'_>,
        db: u8,
        cursor: u64,
        count: u32,
        mut each: impl FnMut(&[u8], Value<'_>, Option<i64>),
    ) -> u64 {
        let Ok::<_, Infallible>(next) =
            self.walk(cursor, count, |at, left| Ok(hold.pass((db, at.0), at.1, left, &mut each)));
        next
    }

    /// Goes from shard to shard. A cursor is the shard below and its own cursor above, plus
    /// one.
    pub(super) fn walk<E>(
        &self,
        cursor: u64,
        count: u32,
        mut pass: impl FnMut((usize, u32), u32) -> Result<(u32, Option<u32>), E>,
    ) -> Result<u64, E> {
        let shards = self.shards() as u64;
        let bits = shards.trailing_zeros();
        let cursor = cursor.saturating_sub(1);
        let mut shard = cursor & (shards - 1);
        let Ok(mut chain) = u32::try_from(cursor >> bits) else { return Ok(0) };
        let mut left = count.max(1);
        loop {
            let (seen, next) = pass((usize::try_from(shard).unwrap_or(0), chain), left)?;
            if let Some(next) = next {
                return Ok((u64::from(next) << bits | shard) + 1);
            }
            (shard, chain) = (shard + 1, 0);
            if shard == shards {
                return Ok(0);
            }
            left = left.saturating_sub(seen);
            if left == 0 {
                return Ok(shard + 1);
            }
        }
    }

    /// A key of the database, any.
    pub fn random(&self, db: u8, now: i64) -> Option<Box<[u8]>> {
        let key_of = |shard| self.hold_part(db, shard, now).random((db, shard), chance());
        any_of(self.shards(), key_of)
    }

    /// The same under a hold of the whole database.
    pub fn random_held(&self, hold: &mut Hold<'_>, db: u8) -> Option<Box<[u8]>> {
        any_of(self.shards(), |shard| hold.random((db, shard), chance()))
    }

    /// Sums over everything; each shard exact, the sum not of one moment.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for db in self.databases() {
            for shard in 0..self.shards() {
                self.hold_part(db, shard, 0).add_to(&mut sum);
            }
        }
        sum
    }

    /// The same, waiting so long for all locks that it takes.
    pub fn try_totals(&self, wait: Wait) -> Result<Totals, Fault> {
        let (mut sum, mut waiting) = (Totals::default(), Waiting::new(wait));
        for db in self.databases() {
            for shard in 0..self.shards() {
                self.try_hold_part((db, shard), &mut waiting, 0)?.add_to(&mut sum);
            }
        }
        Ok(sum)
    }

    /// Sets the counters of [`Self::totals`] to zero.
    pub fn reset_counters(&self) {
        for db in self.databases() {
            for shard in 0..self.shards() {
                self.hold_part(db, shard, 0).reset_counters();
            }
        }
    }

    /// Makes room for a write, if there is too little, by the policy; [`Fault::Full`] if it cannot.
    /// Waits so long for the locks of what has to go.
    #[inline]
    pub fn make_room(&self, wait: Wait, now: i64) -> Result<(), Fault> {
        if !self.memory.is_over() {
            return Ok(());
        }
        self.evict_until(self.memory.limit(), wait, now)
    }

    #[cold]
    fn evict_until(&self, target: u64, wait: Wait, now: i64) -> Result<(), Fault> {
        let mut waiting = Waiting::new(wait);
        let policy = self.memory.policy();
        let databases: Vec<u8> = self.databases().collect();
        let parts = databases.len() * self.shards();
        let (mut gone, mut in_vain) = (0, 0);
        while self.memory.used() > target && gone < EVICTED_AT_ONCE {
            let luck = chance();
            let at = usize::try_from(luck % parts.max(1) as u64).unwrap_or(0);
            // In vain by chance: then one after the other, so that none is missed.
            let by_chance = in_vain < 16;
            let at = if by_chance { at } else { in_vain % parts.max(1) };
            let db = databases.get(at / self.shards()).copied().unwrap_or(0);
            let at = (db, at % self.shards());
            let mut hold = match self.try_hold_part(at, &mut waiting, now) {
                Ok(hold) => hold,
                // Another will do.
                Err(_) if by_chance => {
                    in_vain += 1;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            if hold.evict(policy, luck) {
                (gone, in_vain) = (gone + 1, 0);
            } else {
                in_vain += 1;
                if in_vain > parts + 16 {
                    let (used, limit) = (self.memory.used(), self.memory.limit());
                    return Err(Fault::Full { used, limit });
                }
            }
        }
        Ok(())
    }

    /// Does what time brings: removes keys whose time is up, and makes room ahead of need. To be
    /// called some ten times a second while [`Self::has_volatile`] or there is pressure; each call
    /// does a bounded amount. Gives whether there is more to do at once.
    pub fn tick(&self, now: i64) -> bool {
        let pressure = self.memory.pressure();
        let rounds = if pressure >= Pressure::Medium { 4 } else { 1 };
        let mut more = false;
        if self.has_volatile() {
            for db in self.databases() {
                for shard in 0..self.shards() {
                    let mut gone = EXPIRED_AT_ONCE;
                    for _ in 0..rounds {
                        gone = self.hold_part(db, shard, now).expire(EXPIRED_AT_ONCE);
                        if gone < EXPIRED_AT_ONCE {
                            break;
                        }
                    }
                    more |= gone == EXPIRED_AT_ONCE;
                }
            }
        }
        if self.memory.is_pressed() {
            // To where pressure is high no longer; if nothing may go, writers are told.
            let _ = self.evict_until(self.memory.limit() / 100 * 84, Wait::Long, now);
        }
        self.unwatch_rest();
        self.lazy.free();
        if let Some(journal) = &self.journal {
            // Nobody waits to be told of it. If it cannot be written, the next change is refused.
            let _ = journal.write_out(journal.appended());
        }
        more
    }

    /// Removes all keys of these databases in one hold; gives how many there were.
    pub fn clear(&self, databases: &[u8], now: i64) -> (usize, u64) {
        let mut hold = self.hold_also(&[], databases, now);
        let gone = databases.iter().map(|&db| hold.clear(db % DATABASES)).sum();
        (gone, hold.finish())
    }
}

/// A key of any shard that has one. Where one shard after the other is asked, a key behind many empty
/// ones would come more often than others.
fn any_of(shards: usize, mut key_of: impl FnMut(usize) -> Option<Box<[u8]>>) -> Option<Box<[u8]>> {
    let any = |count: usize| usize::try_from(chance() % count.max(1) as u64).unwrap_or(0);
    // Where there are many keys this is all.
    key_of(any(shards)).or_else(|| {
        let mut found: Vec<_> = (0..shards).filter_map(key_of).collect();
        (!found.is_empty()).then(|| found.swap_remove(any(found.len())))
    })
}

/// Numbers that look like chance.
fn chance() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    super::evict::mixed(n ^ objmapper_os::clock::monotonic_ns())
}
