//! The verbs of the keyspace: what a client asks of keys, one op each.
//!
//! Those about some keys begin with the number of their database; those about all of them have no
//! payload. Keys are any bytes, up to [`limits::KEY`]; lists of them are in wire form, walked without a
//! copy.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

mod lists;

use super::BadRequest;
use crate::bytes::{Reader, Record, len32};
use crate::frame::{Header, Op};
use crate::limits;
use crate::word::flag;
use crate::word::mode::Mode;
use lists::counted;

pub use lists::{Batch, Keys, Scan, Write, behind};

/// Something that is asked of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kv<'a> {
    /// Which, below [`limits::DATABASES`]; of no meaning for what is about all of them.
    pub db: u8,
    /// What.
    pub verb: Verb<'a>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb<'a> {
    /// `KV_GET`: the value, as an object.
    Get {
        /// How it is wanted.
        mode: Mode,
        /// Whose.
        key: &'a [u8],
    },
    /// `KV_SET`
    Set(Set<'a>),
    /// `KV_DEL`
    Delete(Keys<'a>),
    /// `KV_MGET`
    GetMany(Keys<'a>),
    /// `KV_BATCH`
    Batch(Batch<'a>),
    /// `KV_INCR`: add to the integer that the value spells.
    Add {
        /// How much.
        by: i64,
        /// To which.
        key: &'a [u8],
    },
    /// `KV_EXPIRE`
    Expire {
        /// What to do about it.
        change: Change,
        /// Of which.
        key: &'a [u8],
    },
    /// `KV_SCAN`
    Scan(Scan<'a>),
    /// `KV_BACKUP`: all keys of all databases.
    Backup,
    /// `KV_COMPACT`: a snapshot in the place of the journal so far.
    Compact,
    /// `KV_STATUS`: figures, as lines of text.
    Status,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// If the key is not there.
    Absent,
    /// If it is.
    Present,
}

/// When a key ends that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// Not by itself.
    #[default]
    Never,
    /// As before.
    Kept,
    /// Milliseconds since 1970.
    At(i64),
}

/// What `KV_EXPIRE` does. In any case the answer tells when the key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Tell,
    /// The key ends then: milliseconds since 1970.
    At(i64),
    /// The key does not end by itself.
    Never,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// Which.
    pub key: &'a [u8],
    /// Its value: these bytes, or those of the descriptor that belongs to the request.
    pub value: Given<'a>,
    /// When it ends.
    pub expiry: Expiry,
    /// Whether it is done.
    pub condition: Condition,
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given<'a> {
    /// Here.
    Bytes(&'a [u8]),
    /// In the sealed memory file that belongs to the request.
    Passed,
}

/// The flags of a set, as they stand beside it.
mod bit {
    pub(super) const ABSENT: u8 = 1;
    pub(super) const PRESENT: u8 = 2;
    pub(super) const KEEP: u8 = 4;
    pub(super) const EXPIRES: u8 = 8;
    pub(super) const VALUES: u8 = 1;
    pub(super) const AFTER: u8 = 2;
    pub(super) const UNTIL: u8 = 4;
}

impl Condition {
    fn of(bits: u8) -> Option<Self> {
        match bits & (bit::ABSENT | bit::PRESENT) {
            0 => Some(Self::Always),
            bit::ABSENT => Some(Self::Absent),
            bit::PRESENT => Some(Self::Present),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Always => 0,
            Self::Absent => bit::ABSENT,
            Self::Present => bit::PRESENT,
        }
    }
}

impl Expiry {
    fn of(bits: u8, when: i64) -> Option<Self> {
        match bits & (bit::KEEP | bit::EXPIRES) {
            0 => Some(Self::Never),
            bit::KEEP => Some(Self::Kept),
            bit::EXPIRES => Some(Self::At(when)),
            _ => None,
        }
    }

    const fn parts(self) -> (u8, i64) {
        match self {
            Self::Never => (0, 0),
            Self::Kept => (bit::KEEP, 0),
            Self::At(when) => (bit::EXPIRES, when),
        }
    }
}

/// A key of a length that may be.
fn sound(key: &[u8]) -> Option<&[u8]> {
    (key.len() <= limits::KEY).then_some(key)
}

/// The bits of a set.
fn terms(bits: u8, when: i64) -> Option<(Condition, Expiry)> {
    let known = bit::ABSENT | bit::PRESENT | bit::KEEP | bit::EXPIRES;
    (bits & !known == 0).then_some((Condition::of(bits)?, Expiry::of(bits, when)?))
}

impl<'a> Kv<'a> {
    /// All keys of all databases.
    pub const BACKUP: Self = Self { db: 0, verb: Verb::Backup };
    /// The journal, made short.
    pub const COMPACT: Self = Self { db: 0, verb: Verb::Compact };
    /// How all of it is.
    pub const STATUS: Self = Self { db: 0, verb: Verb::Status };

    /// Reads the request of this op.
    pub(super) fn decode(op: Op, flags: u8, payload: &'a [u8]) -> Result<Self, BadRequest> {
        let of_all = match op {
            Op::KvBackup => Some((Self::BACKUP, "KV_BACKUP")),
            Op::KvCompact => Some((Self::COMPACT, "KV_COMPACT")),
            Op::KvStatus => Some((Self::STATUS, "KV_STATUS")),
            _ => None,
        };
        if let Some((kv, name)) = of_all {
            let form = BadRequest::Form(name, "it has no payload");
            return if payload.is_empty() { Ok(kv) } else { Err(form) };
        }
        let mut r = Reader::new(payload);
        let db = r.u8().unwrap_or(0);
        if db >= limits::DATABASES {
            return Err(BadRequest::Form("KV request", "databases are 0 to 15"));
        }
        let (name, why) = match op {
            Op::KvGet => {
                return Self::get(payload).unwrap_or(Err(BadRequest::Form(
                    "KV_GET",
                    "8 bytes and a key of at most 65536 are expected",
                )));
            }
            Op::KvSet => (
                "KV_SET",
                "16 bytes with a key_length and flags that agree, a key of at \
                most 65536 bytes, and a value (none with FROM) are expected",
            ),
            Op::KvDel => {
                ("KV_DEL", "8 bytes and 1 to 4096 keys, each behind its length, are expected")
            }
            Op::KvMget => {
                ("KV_MGET", "8 bytes and 1 to 4096 keys, each behind its length, are expected")
            }
            Op::KvBatch => ("KV_BATCH", "8 bytes and 1 to 4096 changes are expected"),
            Op::KvIncr => ("KV_INCR", "16 bytes and a key of at most 65536 are expected"),
            Op::KvExpire => (
                "KV_EXPIRE",
                "16 bytes with an action of 0 to 2 and a key of at most \
                65536 are expected",
            ),
            _ => (
                "KV_SCAN",
                "16 bytes with a limit of 1 to 4096, and two keys of the lengths they \
                name are expected",
            ),
        };
        let verb = match op {
            Op::KvSet => Set::decode(r, flags & flag::FROM != 0).map(Verb::Set),
            Op::KvDel => Keys::decode(r).map(Verb::Delete),
            Op::KvMget => Keys::decode(r).map(Verb::GetMany),
            Op::KvBatch => Batch::decode(r).map(Verb::Batch),
            Op::KvIncr => add(r),
            Op::KvExpire => expire(r),
            _ => Scan::decode(r).map(Verb::Scan),
        };
        verb.map(|verb| Self { db, verb }).ok_or(BadRequest::Form(name, why))
    }

    fn get(payload: &'a [u8]) -> Option<Result<Self, BadRequest>> {
        let mut r = Reader::new(payload);
        let [db, mode, ..] = r.array::<8>()?;
        let key = sound(r.rest())?;
        let Some(mode) = Mode::from_u8(mode) else {
            return Some(Err(BadRequest::NoSuchMode(mode)));
        };
        Some(Ok(Self { db, verb: Verb::Get { mode, key } }))
    }

    /// Appends the frame.
    pub(super) fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let db = self.db;
        match self.verb {
            Verb::Get { mode, key } => {
                frame(Op::KvGet, id, &[&[db, mode as u8, 0, 0, 0, 0, 0, 0], key], out);
            }
            Verb::Set(set) => set.encode(db, id, out),
            Verb::Delete(keys) => counted(Op::KvDel, (db, keys.count, keys.raw), id, out),
            Verb::GetMany(keys) => counted(Op::KvMget, (db, keys.count, keys.raw), id, out),
            Verb::Batch(batch) => counted(Op::KvBatch, (db, batch.count, batch.raw), id, out),
            Verb::Add { by, key } => {
                let fixed: [u8; 16] =
                    Record::new().put([db]).put([0; 7]).put(by.to_le_bytes()).done();
                frame(Op::KvIncr, id, &[&fixed, key], out);
            }
            Verb::Expire { change, key } => {
                let (action, when) = match change {
                    Change::Tell => (0, 0),
                    Change::At(when) => (1, when),
                    Change::Never => (2, 0),
                };
                let fixed: [u8; 16] =
                    Record::new().put([db, action]).put([0; 6]).put(when.to_le_bytes()).done();
                frame(Op::KvExpire, id, &[&fixed, key], out);
            }
            Verb::Scan(scan) => scan.encode(db, id, out),
            Verb::Backup => frame(Op::KvBackup, id, &[], out),
            Verb::Compact => frame(Op::KvCompact, id, &[], out),
            Verb::Status => frame(Op::KvStatus, id, &[], out),
        }
    }

    /// Whether a descriptor belongs to it.
    pub const fn is_passed(&self) -> bool {
        matches!(self.verb, Verb::Set(Set { value: Given::Passed, .. }))
    }
}

/// A frame of these pieces.
fn frame(op: Op, id: u64, pieces: &[&[u8]], out: &mut Vec<u8>) {
    let length = pieces.iter().map(|piece| len32(piece)).sum();
    out.extend_from_slice(&Header::new(op, id, length, 0).encode());
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

fn add(mut r: Reader<'_>) -> Option<Verb<'_>> {
    r.array::<7>()?;
    Some(Verb::Add { by: r.i64()?, key: sound(r.rest())? })
}

fn expire(mut r: Reader<'_>) -> Option<Verb<'_>> {
    let action = r.u8()?;
    r.array::<6>()?;
    let when = r.i64()?;
    let change = match action {
        0 => Change::Tell,
        1 => Change::At(when),
        2 => Change::Never,
        _ => return None,
    };
    Some(Verb::Expire { change, key: sound(r.rest())? })
}

impl<'a> Set<'a> {
    /// In any case, for ever.
    pub const fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        let (value, expiry) = (Given::Bytes(value), Expiry::Never);
        Self { key, value, expiry, condition: Condition::Always }
    }

    fn decode(mut r: Reader<'a>, passed: bool) -> Option<Self> {
        let bits = r.u8()?;
        r.u16()?;
        let key_length = r.u32()?;
        let (condition, expiry) = terms(bits, r.i64()?)?;
        let key = sound(r.take(key_length as usize)?)?;
        let value = match (passed, r.rest()) {
            (false, bytes) => Given::Bytes(bytes),
            (true, []) => Given::Passed,
            (true, _) => return None,
        };
        Some(Self { key, value, expiry, condition })
    }

    fn encode(&self, db: u8, id: u64, out: &mut Vec<u8>) {
        let (value, passed) = match self.value {
            Given::Bytes(bytes) => (bytes, false),
            Given::Passed => (&[][..], true),
        };
        let (bits, when) = self.expiry.parts();
        let fixed: [u8; 16] = Record::new()
            .put([db, self.condition.bits() | bits, 0, 0])
            .put(len32(self.key).to_le_bytes())
            .put(when.to_le_bytes())
            .done();
        let length = len32(&fixed) + len32(self.key) + len32(value);
        let flags = if passed { flag::FROM } else { 0 };
        let header = Header { flags, ..Header::new(Op::KvSet, id, length, u16::from(passed)) };
        out.extend_from_slice(&header.encode());
        for piece in [&fixed, self.key, value] {
            out.extend_from_slice(piece);
        }
    }
}

const _: () = assert!(limits::KEY + Write::FIXED + 8 < limits::REQUEST_PAYLOAD);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused() {
        for bits in [3, 12, 16, 255] {
            assert_eq!(terms(bits, 0), None, "{bits}");
        }
        assert_eq!(terms(9, 7), Some((Condition::Absent, Expiry::At(7))));
        assert_eq!(Keys::new(b""), None);
    }
}
