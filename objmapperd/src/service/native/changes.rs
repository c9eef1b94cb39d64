//! `KV_SET`, `KV_DEL`, `KV_BATCH`, `KV_INCR` and `KV_EXPIRE`.

use objmapper::kv::{self, Change as Kept, Content, Hold, Key, Keyspace};
use objmapper_proto::kv::{Batch, Change, Condition, Expiry, Given, Keys, Set};
use smallvec::SmallVec;

use super::{Answer, Asked, Service};
use crate::connection::Connection;

impl Service {
    pub(super) fn set(&self, c: &mut Connection, asked: &Asked<'_>, set: &Set<'_>) -> Answer {
        let Given::Bytes(bytes) = set.value else { return self.set_passed(c, asked, set) };
        match asked.may_grow().and_then(|()| asked.keyspace.content(bytes)) {
            Ok(content) => self.keep(c, asked, set, content),
            Err(fault) => self.fault(c, asked, &fault, 0),
        }
    }

    /// Keeps a value that is ready, if its condition is met.
    pub(super) fn keep(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        set: &Set<'_>,
        content: Content<'_>,
    ) -> Answer {
        let key = asked.key(set.key);
        let mut hold = asked.keyspace.hold(&key, Keyspace::now());
        let met = is_met(&mut hold, &key, set.condition);
        let kept = if met { hold.set(&key, content, expiry_of(set.expiry)) } else { Ok(()) };
        let position = hold.finish();
        match kept {
            Ok(()) => Self::done(c, asked, (met, 0), position),
            Err(fault) => self.fault(c, asked, &fault, position),
        }
    }

    pub(super) fn delete(&self, c: &mut Connection, asked: &Asked<'_>, keys: &Keys<'_>) -> Answer {
        if let Err(fault) = asked.keyspace.may_write() {
            return self.fault(c, asked, &fault, 0);
        }
        let keys: SmallVec<[Key<'_>; 4]> = keys.iter().map(|name| asked.key(name)).collect();
        let mut hold = asked.keyspace.hold_keys(&keys, Keyspace::now());
        let gone = keys.iter().filter(|key| hold.remove(key)).count();
        let position = hold.finish();
        Self::done(c, asked, (gone > 0, count(gone)), position)
    }

    /// All conditions are looked at before the first change: they are about what was before.
    pub(super) fn batch(&self, c: &mut Connection, asked: &Asked<'_>, batch: &Batch<'_>) -> Answer {
        let (mut keys, mut changes) = (Vec::new(), Vec::new());
        let made_ready = asked.may_grow().and_then(|()| {
            for write in batch.writes() {
                keys.push(asked.key(write.key));
                changes.push(match write.set {
                    Some((bytes, expiry)) => {
                        Some((asked.keyspace.content(bytes)?, expiry_of(expiry)))
                    }
                    None => None,
                });
            }
            Ok(())
        });
        if let Err(fault) = made_ready {
            return self.fault(c, asked, &fault, 0);
        }
        let mut hold = asked.keyspace.hold_keys(&keys, Keyspace::now());
        let mut conditions = batch.writes().zip(&keys);
        let unmet = conditions.position(|(write, key)| !is_met(&mut hold, key, write.condition));
        if let Some(unmet) = unmet {
            let position = hold.finish();
            return Self::done(c, asked, (false, count(unmet)), position);
        }
        let made = hold.change(keys.into_iter().zip::<Vec<Kept<'_>>>(changes));
        let position = hold.finish();
        match made {
            Ok(made) => Self::done(c, asked, (true, count(made)), position),
            Err(fault) => self.fault(c, asked, &fault, position),
        }
    }

    pub(super) fn add(&self, c: &mut Connection, asked: &Asked<'_>, by: i64, key: &[u8]) -> Answer {
        if let Err(fault) = asked.may_grow() {
            return self.fault(c, asked, &fault, 0);
        }
        let key = asked.key(key);
        let mut hold = asked.keyspace.hold(&key, Keyspace::now());
        let sum = hold.add(&key, by);
        let position = hold.finish();
        match sum {
            Ok(sum) => Self::done(c, asked, (true, sum), position),
            Err(fault) => self.fault(c, asked, &fault, position),
        }
    }

    /// Tells when a key ends, after it was changed: 0 for a key that does not end by itself. A moment
    /// that has passed removes it.
    pub(super) fn expire(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        change: Change,
        key: &[u8],
    ) -> Answer {
        let wanted = match change {
            Change::Tell => None,
            Change::Never => Some(None),
            Change::At(when) => Some(Some(when)),
        };
        if wanted.is_some()
            && let Err(fault) = asked.keyspace.may_write()
        {
            return self.fault(c, asked, &fault, 0);
        }
        let key = asked.key(key);
        let mut hold = asked.keyspace.hold(&key, Keyspace::now());
        let before = hold.expiry(&key);
        let after = match (before, wanted) {
            // Nothing is told to the journal that is so already.
            (Some(before), Some(wanted)) if before != wanted => {
                hold.set_expiry(&key, wanted);
                wanted
            }
            (Some(before), _) => before,
            (None, _) => None,
        };
        let position = hold.finish();
        Self::done(c, asked, (before.is_some(), after.unwrap_or(0)), position)
    }
}

fn is_met(hold: &mut Hold<'_>, key: &Key<'_>, condition: Condition) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => !hold.has(key),
        Condition::Present => hold.has(key),
    }
}

fn expiry_of(expiry: Expiry) -> kv::Expiry {
    match expiry {
        Expiry::Never => kv::Expiry::Never,
        Expiry::Kept => kv::Expiry::Kept,
        Expiry::At(when) => kv::Expiry::At(when),
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
