//! Reading a journal without doing what it says: whether it can be done, and how many keys there
//! would be.
//!
//! Values may be more than there is memory, and keys as well: of a key only a hash is kept, some 10
//! to 20 bytes. Two keys with one hash count as one; that such two are among a hundred million has a
//! chance of 1 in 4000.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::{fast, quality};

use super::keyspace::{DATABASES, LONGEST};
use super::ops::{self, Op};

/// Whether a record can be done again.
pub(super) fn makes_sense(payload: &[u8]) -> bool {
    ops::decode(payload).all(|op| op.as_ref().is_some_and(is_possible))
}

/// Whether an operation is within the limits of a keyspace.
pub(super) fn is_possible((db, op): &(u8, Op<'_>)) -> bool {
    let end = match op {
        Op::Set { value, .. } => Some(value.len() as u64),
        Op::Write { offset, bytes, .. } => offset.checked_add(bytes.len() as u64),
        Op::Remove { .. } | Op::Expire { .. } | Op::Clear => Some(0),
    };
    *db < DATABASES && end.is_some_and(|end| end <= LONGEST)
}

/// The keys that there are after the records so far.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Of each key that is there, with its database.
    keys: HashSet<(u8, u64), fast::RandomState>,
    hasher: quality::RandomState,
}

impl Census {
    /// One record more; false, and nothing of it counts, if it makes no sense.
    pub(super) fn record(&mut self, payload: &[u8]) -> bool {
        if !makes_sense(payload) {
            return false;
        }
        for (db, op) in ops::decode(payload).flatten() {
            match op {
                Op::Set { key, .. } | Op::Write { key, .. } => {
                    self.keys.insert((db, self.hasher.hash_one(key)));
                }
                Op::Remove { key } => {
                    self.keys.remove(&(db, self.hasher.hash_one(key)));
                }
                Op::Clear => self.keys.retain(|(other, _)| *other != db),
                Op::Expire { .. } => {}
            }
        }
        true
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.keys.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_and_go() {
        let mut census = Census::default();
        let mut after = |say: &dyn Fn(&mut Vec<u8>)| {
            let mut record = Vec::new();
            say(&mut record);
            (census.record(&record), census.count())
        };
        let set = |out: &mut Vec<u8>, db, key: &[u8]| ops::set(out, db, key, b"x", None);
        assert_eq!(
            after(&|out| [b"a", b"b", b"a"].iter().for_each(|key| set(out, 0, *key))),
            (true, 2)
        );
        assert_eq!(after(&|out| set(out, 15, b"a")), (true, 3), "another database");
        assert_eq!(after(&|out| ops::write(out, 1, b"w", 5, b"x")), (true, 4));
        assert_eq!(
            after(&|out| ops::expire(out, 0, b"a", Some(1))),
            (true, 4),
            "nobody removed it"
        );
        assert_eq!(after(&|out| ops::remove(out, 0, b"b")), (true, 3));
        assert_eq!(after(&|out| ops::remove(out, 0, b"none")), (true, 3));
        assert_eq!(after(&|out| ops::clear(out, 0)), (true, 2));
        let nonsense = |out: &mut Vec<u8>| [0, DATABASES].iter().for_each(|&db| set(out, db, b"n"));
        assert_eq!(after(&nonsense), (false, 2));
        assert_eq!(after(&|out| out.push(9)), (false, 2));
    }
}
