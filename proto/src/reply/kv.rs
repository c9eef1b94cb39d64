//! What the daemon answers about keys: that a change is made, values, pages of keys, that the
//! journal is short.
//!
//! `KV_GET` alone is answered by an object's head, since it can come in every form that an object
//! can.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

use crate::bytes::{Reader, Record, len32};
use crate::frame::{Header, Op};

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvDone {
    /// It was made; else a condition was not met, or the key is not there, and nothing was.
    pub done: bool,
    /// What the verb counts.
    pub number: i64,
}

/// What `KV_COMPACT` has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCompacted {
    /// Bytes of the journal before: the last snapshot and the records since.
    pub before: u64,
    /// Bytes of the snapshot that has taken their place.
    pub after: u64,
}

/// In which form a value stands in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Held {
    /// The key is not there.
    Nothing = 0,
    /// The bytes are here.
    Inline = 1,
    /// They were not asked for, or do not fit: see the size.
    LeftOut = 2,
}

/// One key of a list, or the value of one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvEntry<'a> {
    /// In which form.
    pub held: Held,
    /// When it ends, if it does by itself: milliseconds since 1970.
    pub expiry: Option<i64>,
    /// Bytes of the value.
    pub size: u64,
    /// Which; empty where the request said it.
    pub key: &'a [u8],
    /// The value, if it is here.
    pub value: &'a [u8],
}

/// Answers `KV_MGET` (in the order of the request, without keys) and `KV_SCAN` (in the order of the
/// keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvEntries<'a> {
    /// There is more behind the last of them.
    pub more: bool,
    count: u16,
    raw: &'a [u8],
}

impl KvDone {
    pub(super) fn encode(self, id: u64, out: &mut Vec<u8>) {
        let payload: [u8; 16] = Record::new()
            .put([u8::from(self.done); 1])
            .put([0; 7])
            .put(self.number.to_le_bytes())
            .done();
        out.extend_from_slice(&Header::new(Op::KvDone, id, len32(&payload), 0).encode());
        out.extend_from_slice(&payload);
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let done = match r.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        r.array::<7>()?;
        let number = r.i64()?;
        r.is_empty().then_some(Self { done, number })
    }
}

impl KvCompacted {
    pub(super) fn encode(self, id: u64, out: &mut Vec<u8>) {
        let payload: [u8; 16] =
            Record::new().put(self.before.to_le_bytes()).put(self.after.to_le_bytes()).done();
        out.extend_from_slice(&Header::new(Op::KvCompacted, id, len32(&payload), 0).encode());
        out.extend_from_slice(&payload);
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let compacted = Self { before: r.u64()?, after: r.u64()? };
        r.is_empty().then_some(compacted)
    }
}

impl<'a> KvEntry<'a> {
    /// Bytes before key and value.
    pub const FIXED: usize = 32;
    const EXPIRES: u8 = 1;

    /// Of a key that is not there.
    pub const NOTHING: Self =
        Self { held: Held::Nothing, expiry: None, size: 0, key: &[], value: &[] };

    /// What stands before key and value.
    pub fn fixed(&self) -> [u8; KvEntry::FIXED] {
        let flags = if self.expiry.is_some() { Self::EXPIRES } else { 0 };
        Record::new()
            .put([self.held as u8, flags, 0, 0])
            .put(len32(self.key).to_le_bytes())
            .put(self.size.to_le_bytes())
            .put(self.expiry.unwrap_or(0).to_le_bytes())
            .put(len32(self.value).to_le_bytes())
            .put([0; 4])
            .done()
    }

    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fixed());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }

    /// Bytes of the whole.
    pub const fn length(&self) -> usize {
        Self::FIXED + self.key.len() + self.value.len()
    }

    fn decode(r: &mut Reader<'a>) -> Option<Self> {
        let held = match r.u8()? {
            0 => Held::Nothing,
            1 => Held::Inline,
            2 => Held::LeftOut,
            _ => return None,
        };
        let flags = r.u8()?;
        r.u16()?;
        let key_length = r.u32()?;
        let size = r.u64()?;
        let when = r.i64()?;
        let value_length = r.u32()?;
        r.u32()?;
        let key = r.take(key_length as usize)?;
        let value = r.take(value_length as usize)?;
        let fits = value.len() as u64 == if held == Held::Inline { size } else { 0 };
        let expiry = (flags & Self::EXPIRES != 0).then_some(when);
        fits.then_some(Self { held, expiry, size, key, value })
    }
}

impl<'a> KvEntries<'a> {
    /// Bytes before the entries.
    pub const FIXED: usize = 8;

    /// Entries in wire form (see [`KvEntry::encode`]).
    pub fn new(more: bool, raw: &'a [u8]) -> Option<Self> {
        let mut count = 0_u16;
        let mut r = Reader::new(raw);
        while !r.is_empty() {
            KvEntry::decode(&mut r)?;
            count = count.checked_add(1)?;
        }
        Some(Self { more, count, raw })
    }

    /// What stands before the entries, for an encoder that fills it in when these are written.
    pub fn fixed(more: bool, count: u16) -> [u8; KvEntries::FIXED] {
        Record::new().put(count.to_le_bytes()).put([u8::from(more), 0]).put([0; 4]).done()
    }

    /// How many.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// In order.
    pub fn entries(&self) -> impl Iterator<Item = KvEntry<'a>> + use<'a> {
        let mut r = Reader::new(self.raw);
        std::iter::from_fn(move || KvEntry::decode(&mut r))
    }

    pub(super) fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let length = Self::FIXED as u32 + len32(self.raw);
        out.extend_from_slice(&Header::new(Op::KvEntries, id, length, 0).encode());
        out.extend_from_slice(&Self::fixed(self.more, self.count));
        out.extend_from_slice(self.raw);
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let count = r.u16()?;
        let more = r.u8()? & 1 != 0;
        r.array::<5>()?;
        Self::new(more, r.rest()).filter(|entries| entries.count == count)
    }
}
