//! What is done to all keys of the shards that are held, rather than to one.

use smallvec::SmallVec;

use super::{Hold, Part, Weight};
use crate::kv::evict;
use crate::kv::keyspace::part_number;
use crate::kv::record::Record;
use crate::kv::{Fault, Totals, Value};

/// Chains that are looked at by chance for a key.
const TRIES: u64 = 64;

impl Hold<'_> {
    /// Whether a running transaction may still grow: up to twice the limit, since nothing can be evicted
    /// while it holds its locks.
    pub fn may_go_on_growing(&self) -> Result<(), Fault> {
        let memory = &self.keyspace.memory;
        let limit = memory.limit();
        if limit == 0 {
            return Ok(());
        }
        let before: usize = self.parts.iter().map(|part| part.before.bytes).sum();
        let now: usize = self.parts.iter().map(|part| Weight::of(&part.shard).bytes).sum();
        let used = memory.used().saturating_add(now.saturating_sub(before) as u64);
        if used / 2 <= limit { Ok(()) } else { Err(Fault::Full { used, limit }) }
    }

    /// Keys of a database whose locks are all held, and how many of them have an expiry.
    pub fn size(&self, db: u8) -> (usize, usize) {
        let parts = self.parts.iter().filter(|part| part.db() == db);
        parts.fold((0, 0), |(keys, volatile), Part { shard, .. }| {
            (keys + shard.len(), volatile + shard.volatile())
        })
    }

    /// Lets `each` see the keys and values of one shard, some `count` of them, from `cursor` on;
    /// gives how many those were, and where to go on if there are more.
    pub fn pass(
        &mut self,
        (db, shard): (u8, usize),
        cursor: u32,
        count: u32,
        mut each: impl FnMut(&[u8], Value<'_>, Option<i64>),
    ) -> (u32, Option<u32>) {
        let Some(part) = self.part(part_number(db, shard)) else {
            return (0, None);
        };
        let (mut seen, mut cursor) = (0, cursor);
        loop {
            let Some(Part { shard, .. }) = self.parts.get(part) else { return (seen, None) };
            let mut due: SmallVec<[Box<[u8]>; 4]> = SmallVec::new();
            shard.chain(cursor, |at, record| {
                if record.expiry().is_some_and(|when| when <= self.now) {
                    due.push(record.name().into());
                } else if let Some(value) = shard.value(at) {
                    seen += 1;
                    each(record.name(), value, record.expiry());
                }
            });
            let next = shard.after(cursor);
            for name in due {
                self.find(&self.keyspace.key(db, &name));
            }
            let Some(next) = next else { return (seen, None) };
            if seen >= count {
                return (seen, Some(next));
            }
            cursor = next;
        }
    }

    /// A key of one shard, any.
    pub fn random(&mut self, (db, shard): (u8, usize), luck: u64) -> Option<Box<[u8]>> {
        let part = self.part(part_number(db, shard))?;
        let Part { shard, .. } = self.parts.get(part)?;
        let chains = shard.chains();
        let any = |luck: u64| u32::try_from(luck % u64::from(chains.max(1))).unwrap_or(0);
        // Going from one to the next favours keys behind chains that are empty: only if there is
        // hardly any key, so that chance finds none.
        let tries = (1..=TRIES).map(|n| any(evict::mixed(luck.wrapping_add(n))));
        let start = any(luck);
        let walk = (0..chains).map(|step| (start + step) % chains);
        let mut found: SmallVec<[&[u8]; 8]> = SmallVec::new();
        for chain in tries.filter(|_| chains > 0).chain(walk) {
            shard.chain(chain, |at, record| {
                if record.expiry().is_none_or(|when| when > self.now) {
                    found.extend(shard.record(at).map(Record::name));
                }
            });
            if !found.is_empty() {
                break;
            }
        }
        let at = usize::try_from((luck >> 32) % (found.len().max(1) as u64)).unwrap_or(0);
        found.get(at).map(|name| Box::from(*name))
    }

    /// Sums over all shards that are held.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.add_to(&mut sum);
        sum
    }

    pub(in crate::kv) fn add_to(&self, sum: &mut Totals) {
        for Part { shard, .. } in &self.parts {
            sum.hits += shard.hits;
            sum.misses += shard.misses;
            sum.expired += shard.expired;
            sum.evicted += shard.evicted;
            sum.keys += shard.len() as u64;
            sum.volatile += shard.volatile() as u64;
            sum.sealed += shard.sealed() as u64;
        }
    }

    /// Sets the counters of all shards that are held to zero.
    pub fn reset_counters(&mut self) {
        for Part { shard, .. } in &mut self.parts {
            (shard.hits, shard.misses, shard.expired, shard.evicted) = (0, 0, 0, 0);
        }
    }

    /// Removes keys whose time is up, at most `most`; gives how many.
    pub fn expire(&mut self, most: usize) -> usize {
        let mut gone = 0;
        for part in 0..self.parts.len() {
            while gone < most {
                let Some(at) = self.parts.get_mut(part).and_then(|p| p.shard.due(self.now)) else {
                    break;
                };
                self.expire_at((part, at));
                gone += 1;
            }
        }
        gone
    }

    /// Evicts one of some keys that are looked at; whether there was one.
    pub(in crate::kv) fn evict(&mut self, policy: evict::Policy, seed: u64) -> bool {
        let Some((part, at)) = self
            .parts
            .first()
            .and_then(|part| Some((0, evict::choose(&part.shard, policy, seed, self.now)?)))
        else {
            return false;
        };
        self.drop_at((part, at));
        if let Some(part) = self.parts.get_mut(part) {
            part.shard.evicted += 1;
        }
        true
    }
}
