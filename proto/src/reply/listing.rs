//! Pages of names.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

use crate::bytes::{Reader, Record, len16, len32};
use crate::frame::{Header, Op};
use crate::word::object::Kind;

/// One name of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// A file, or a prefix whose name ends with `/`.
    pub kind: Kind,
    /// Size in bytes; 0 for a prefix.
    pub size: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// What to append to the listed prefix (with one `/` between) for its URI.
    pub name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Bytes before the name.
    pub const FIXED: usize = 24;

    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fixed = Record::<{ Entry::FIXED }>::new()
            .put([self.kind as u8, 0])
            .put(len16(self.name).to_le_bytes())
            .put([0; 4])
            .put(self.size.to_le_bytes())
            .put(self.mtime_ns.to_le_bytes())
            .done();
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.name);
    }

    pub(super) fn decode(r: &mut Reader<'a>) -> Option<Self> {
        let kind = Kind::from_u8(r.u8()?)?;
        r.u8()?;
        let length = r.u16()?;
        r.u32()?;
        let size = r.u64()?;
        let mtime_ns = r.i64()?;
        Some(Self { kind, size, mtime_ns, name: r.take(usize::from(length))? })
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a> {
    /// Empty on the last page; otherwise to be sent with the request for the next.
    pub cursor: &'a [u8],
    count: u16,
    raw: &'a [u8],
}

impl<'a> Entries<'a> {
    /// Bytes before cursor and entries.
    pub const FIXED: usize = 8;

    /// `entries` in wire form (see [`Entry::encode`]).
    pub fn new(cursor: &'a [u8], entries: &'a [u8]) -> Option<Self> {
        let mut count = 0_u16;
        let mut r = Reader::new(entries);
        while !r.is_empty() {
            Entry::decode(&mut r)?;
            count = count.checked_add(1)?;
        }
        Some(Self { cursor, count, raw: entries })
    }

    /// How many entries.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The entries in order of their names' bytes.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut r = Reader::new(self.raw);
        std::iter::from_fn(move || Entry::decode(&mut r))
    }

    pub(super) fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let length = Self::FIXED as u32 + len32(self.cursor) + len32(self.raw);
        out.extend_from_slice(&Header::new(Op::Entries, id, length, 0).encode());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&len16(self.cursor).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.cursor);
        out.extend_from_slice(self.raw);
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let count = r.u16()?;
        let cursor_length = r.u16()?;
        r.u32()?;
        let cursor = r.take(usize::from(cursor_length))?;
        let entries = Self::new(cursor, r.rest())?;
        (entries.count == count).then_some(entries)
    }
}
