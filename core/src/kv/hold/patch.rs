//! Writing into a value, of which the rest stays.

use super::{Hold, Part, part_db};
use crate::kv::keyspace::{Key, LONGEST};
use crate::kv::record::Record;
use crate::kv::shard::Fresh;
use crate::kv::value::{Large, Value};
use crate::kv::{Fault, ops};

impl Hold<'_> {
    /// Writes bytes into the value from `offset` on, zeros where there is nothing before; the
    /// expiry stays. Gives the length that the value has then.
    pub fn write_at(&mut self, key: &Key<'_>, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        self.keyspace.may_write()?;
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= LONGEST);
        let end = end.ok_or(Fault::TooLong { limit: LONGEST })?;
        let found = self.find(key);
        let Some(part) = self.part(key.part) else { return Ok(0) };
        let inline = self.keyspace.options().inline;
        let Some(Part { shard, changed, .. }) = self.parts.get_mut(part) else { return Ok(0) };
        let at = found.map(|(_, at)| at);
        let old = at.and_then(|at| shard.value(at));
        let before = old.map_or(0, |value| value.len());
        let length = end.max(before);
        let access = at.and_then(|at| shard.record(at)).map(Record::access);
        let access = self.keyspace.written(access, self.untouched, self.now);
        let (from, to) = (to_usize(offset), to_usize(end));
        let grown = |mut whole: Vec<u8>| {
            if whole.len() < to {
                whole.resize(to, 0);
            }
            if let Some(place) = whole.get_mut(from..to) {
                place.copy_from_slice(bytes);
            }
            whole
        };
        match old {
            Some(Value::Bytes(_)) if at.is_some_and(|at| shard.is_large(at)) => {
                let grow = |large: &mut Large| {
                    if let Large::Heap(whole) = large {
                        *whole = grown(std::mem::take(whole));
                    }
                };
                if let Some(at) = at
                    && shard.change_large(at, grow)
                    && let Some(record) = shard.record_mut(at)
                {
                    record.set_access(access);
                }
            }
            _ => {
                let whole = match old {
                    Some(value) => grown(value.bytes()?.into_owned()),
                    None => grown(Vec::new()),
                };
                let record = at.and_then(|at| shard.record(at));
                let expiry = record.and_then(Record::expiry);
                let fresh = if whole.len() <= inline {
                    Fresh::Bytes(&whole)
                } else {
                    Fresh::Large(Large::Heap(whole))
                };
                shard.put((key.hash, key.name, at), fresh, expiry, access);
            }
        }
        shard.changed(key.name);
        *changed = true;
        if self.keyspace.journal.is_some() {
            ops::write(self.log.ops(), part_db(key), key.name, offset, bytes);
        }
        Ok(length)
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
