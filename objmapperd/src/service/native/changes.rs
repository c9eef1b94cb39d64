//! `KV_SET`, `KV_DEL`, `KV_BATCH`, `KV_INCR` and `KV_EXPIRE`.

#![allow(clippy::unnecessary_wraps)] // all verbs on one key have one form

use objmapper::kv::{self, Change as Kept, Content, Fault, Hold, Key};
use objmapper_proto::kv::{Batch, Change, Condition, Expiry, Given, Keys, Set};
use smallvec::SmallVec;

use super::{Answer, Asked, Service};
use crate::connection::Connection;

/// What became of a change of one key, as KV_DONE has it.
pub(super) type Outcome = Result<(bool, i64), Fault>;

/// Keeps a value that is ready, if its condition is met.
pub(super) fn set(
    hold: &mut Hold<'_>,
    key: &Key<'_>,
    content: Content<'_>,
    (condition, expiry): (Condition, Expiry),
) -> Outcome {
    let met = is_met(hold, key, condition);
    if met {
        hold.set(key, content, expiry_of(expiry))?;
    }
    Ok((met, 0))
}

pub(super) fn delete(hold: &mut Hold<'_>, key: &Key<'_>) -> Outcome {
    let gone = hold.remove(key);
    Ok((gone, gone.into()))
}

pub(super) fn add(hold: &mut Hold<'_>, key: &Key<'_>, by: i64) -> Outcome {
    hold.add(key, by).map(|sum| (true, sum))
}

/// Tells when a key ends, after it was changed: 0 for a key that does not end by itself. A moment
/// that has passed removes it.
pub(super) fn expire(hold: &mut Hold<'_>, key: &Key<'_>, change: Change) -> Outcome {
    let Some(before) = hold.expiry(key) else { return Ok((false, 0)) };
    let after = match change {
        Change::Tell => before,
        Change::Never => None,
        Change::At(when) => Some(when),
    };
    // Nothing is told to the journal that is so already.
    if after != before {
        hold.set_expiry(key, after);
    }
    Ok((true, after.unwrap_or(0)))
}

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
        let terms = (set.condition, set.expiry);
        self.change(c, asked, set.key, |hold, key| self::set(hold, key, content, terms))
    }

    /// Does it under the lock of this key, and answers what became of it.
    fn change(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        name: &[u8],
        change: impl FnOnce(&mut Hold<'_>, &Key<'_>) -> Outcome,
    ) -> Answer {
        let key = asked.key(name);
        let mut hold = match asked.hold(&key) {
            Ok(hold) => hold,
            Err(fault) => return self.fault(c, asked, &fault, 0),
        };
        let outcome = change(&mut hold, &key);
        let position = hold.finish();
        self.tell_outcome(c, asked.id, &outcome);
        asked.settle(c, position)
    }

    pub(super) fn delete(&self, c: &mut Connection, asked: &Asked<'_>, keys: &Keys<'_>) -> Answer {
        if let Err(fault) = asked.keyspace.may_write() {
            return self.fault(c, asked, &fault, 0);
        }
        let keys: SmallVec<[Key<'_>; 4]> = keys.iter().map(|name| asked.key(name)).collect();
        let mut hold = match asked.hold_all(&keys) {
            Ok(hold) => hold,
            Err(fault) => return self.fault(c, asked, &fault, 0),
        };
        let gone = keys.iter().filter(|key| hold.remove(key)).count();
        let position = hold.finish();
        self.tell_outcome(c, asked.id, &Ok((gone > 0, count(gone))));
        asked.settle(c, position)
    }

    /// All conditions are looked at before the first change: they are about what was before.
    pub(super) fn batch(&self, c: &mut Connection, asked: &Asked<'_>, batch: &Batch<'_>) -> Answer {
        let (mut keys, mut changes) = (Vec::new(), Vec::new());
        let grows = batch.writes().any(|write| write.set.is_some());
        let may = if grows { asked.may_grow() } else { asked.keyspace.may_write() };
        let made_ready = may.and_then(|()| {
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
        let mut hold = match asked.hold_all(&keys) {
            Ok(hold) => hold,
            Err(fault) => return self.fault(c, asked, &fault, 0),
        };
        let mut conditions = batch.writes().zip(&keys);
        let unmet = conditions.position(|(write, key)| !is_met(&mut hold, key, write.condition));
        if let Some(unmet) = unmet {
            let position = hold.finish();
            self.tell_outcome(c, asked.id, &Ok((false, count(unmet))));
            return asked.settle(c, position);
        }
        let made = hold.change(keys.into_iter().zip::<Vec<Kept<'_>>>(changes));
        let position = hold.finish();
        self.tell_outcome(c, asked.id, &made.map(|made| (true, count(made))));
        asked.settle(c, position)
    }

    pub(super) fn add(&self, c: &mut Connection, asked: &Asked<'_>, by: i64, key: &[u8]) -> Answer {
        if let Err(fault) = asked.may_grow() {
            return self.fault(c, asked, &fault, 0);
        }
        self.change(c, asked, key, |hold, key| self::add(hold, key, by))
    }

    pub(super) fn expire(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        change: Change,
        key: &[u8],
    ) -> Answer {
        if change != Change::Tell
            && let Err(fault) = asked.keyspace.may_write()
        {
            return self.fault(c, asked, &fault, 0);
        }
        self.change(c, asked, key, |hold, key| self::expire(hold, key, change))
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
