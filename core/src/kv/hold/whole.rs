//! What is done to all keys of the shards that are held, rather than to one.

use super::{Hold, Part};
use crate::index::table::Named;
use crate::kv::evict;
use crate::kv::keyspace::part_number;
use crate::kv::{Totals, Value};

impl Hold<'_> {
    /// Keys of a database whose locks are all held, and how many of them have an expiry.
    pub fn size(&self, db: u8) -> (usize, usize) {
        let parts = self.parts.iter().filter(|part| part.db() == db);
        parts.fold((0, 0), |(keys, volatile), Part { shard, .. }| {
            (keys + shard.len(), volatile + shard.volatile())
        })
    }

    /// Lets `each` see the keys and values of one shard, from slot `from` on, up to `count`
    /// slots; gives how many slots those were, and the one to go on at if there are more.
    pub fn pass(
        &mut self,
        (db, shard): (u8, usize),
        from: u32,
        count: u32,
        mut each: impl FnMut(&[u8], Value<'_>, Option<i64>),
    ) -> (u32, Option<u32>) {
        let number = part_number(db, shard);
        let slots =
            |hold: &Self, part| hold.parts.get(part).map_or(0, |p: &Part<'_>| p.shard.slots());
        let Some(part) = self.part(number) else { return (0, None) };
        let end = from.saturating_add(count).min(slots(self, part));
        for at in from..end {
            let Some(Part { shard, .. }) = self.parts.get(part) else { break };
            let Some(record) = shard.record(at) else { continue };
            if record.expiry().is_some_and(|when| when <= self.now) {
                self.expire_at((part, at));
            } else if let Some(value) = shard.value(at) {
                each(record.name(), value, record.expiry());
            }
        }
        (end.saturating_sub(from), (end < slots(self, part)).then_some(end))
    }

    /// A key of one shard, any.
    pub fn random(&mut self, (db, shard): (u8, usize), luck: u64) -> Option<Box<[u8]>> {
        let part = self.part(part_number(db, shard))?;
        let slots = self.parts.get(part)?.shard.slots();
        let start = u32::try_from(luck % u64::from(slots.max(1))).unwrap_or(0);
        for step in 0..slots {
            let at = (start + step) % slots;
            let record = self.parts.get(part)?.shard.record(at);
            match record.map(|record| record.expiry().is_some_and(|when| when <= self.now)) {
                Some(true) => self.expire_at((part, at)),
                Some(false) => return record.map(|record| record.name().into()),
                None => {}
            }
        }
        None
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

    pub(in crate::kv) fn reset_counters(&mut self) {
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
