//! Objects as they are answered: the head that every one has, and the frames of a
//! `GET_MANY`.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

use super::{clip, text};
use crate::bytes::{Reader, Record, len16, len32};
use crate::frame::{Header, Op};
use crate::word::object::{Delivery, Kind, Range, Reason, Version};
use crate::word::status::Status;

/// What an object is and how it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHead {
    /// Outcome; everything below means something only with [`Status::Ok`].
    pub status: Status,
    /// Where its bytes are kept.
    pub kind: Kind,
    /// In which form it comes.
    pub delivery: Delivery,
    /// Why in that form.
    pub reason: Reason,
    /// [`ObjectHead::IMMUTABLE`], [`ObjectHead::CHECKED`], [`ObjectHead::SHARED`].
    pub flags: u8,
    /// Size of the whole object in bytes.
    pub size: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Changes whenever the content may have changed.
    pub version: Version,
    /// The bytes that are served.
    pub range: Range,
    /// `F_SEAL_*` bits of a memory file; 0 otherwise.
    pub seals: u32,
}

impl ObjectHead {
    /// Bytes on the wire.
    pub const SIZE: usize = 64;
    /// The backing cannot change: the bytes are those of `version`.
    pub const IMMUTABLE: u8 = 1;
    /// The backing can change; its identity is checked around the copy.
    pub const CHECKED: u8 = 2;
    /// The descriptor's open file description is shared with other receivers.
    pub const SHARED: u8 = 4;

    /// The head of an item that failed.
    pub const fn failed(status: Status) -> Self {
        Self {
            status,
            kind: Kind::None,
            delivery: Delivery::None,
            reason: Reason::Asked,
            flags: 0,
            size: 0,
            mtime_ns: 0,
            version: Version(0),
            range: Range { offset: 0, length: 0 },
            seals: 0,
        }
    }

    /// As it goes over the wire, followed by `text_length` bytes of text and
    /// `inline_length` bytes of body.
    #[inline]
    pub fn encode(&self, text_length: u16, inline_length: u32) -> [u8; Self::SIZE] {
        Record::new()
            .put(self.status.to_u16().to_le_bytes())
            .put([self.kind as u8, self.delivery as u8, self.reason as u8, self.flags])
            .put(text_length.to_le_bytes())
            .put(self.size.to_le_bytes())
            .put(self.mtime_ns.to_le_bytes())
            .put(self.version.0.to_le_bytes())
            .put(self.range.offset.to_le_bytes())
            .put(self.range.length.to_le_bytes())
            .put(self.seals.to_le_bytes())
            .put(inline_length.to_le_bytes())
            .done()
    }
}

/// One answer: a head, the text of a refusal, the bytes of an inline body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// What it is.
    pub head: ObjectHead,
    /// What to do about a refusal; empty otherwise.
    pub text: &'a str,
    /// The body, if it comes inline.
    pub inline: &'a [u8],
}

impl<'a> Item<'a> {
    pub(super) fn decode(r: &mut Reader<'a>) -> Option<Self> {
        let status = Status::from_wire(r.u16()?);
        let kind = Kind::from_u8(r.u8()?)?;
        let delivery = Delivery::from_u8(r.u8()?)?;
        let reason = Reason::from_u8(r.u8()?)?;
        let flags = r.u8()?;
        let text_length = r.u16()?;
        let size = r.u64()?;
        let mtime_ns = r.i64()?;
        let version = Version(r.u128()?);
        let range = Range { offset: r.u64()?, length: r.u64()? };
        let seals = r.u32()?;
        let inline_length = r.u32()?;
        let text = text(r.take(usize::from(text_length))?);
        let inline = r.take(inline_length as usize)?;
        let head = ObjectHead {
            status,
            kind,
            delivery,
            reason,
            flags,
            size,
            mtime_ns,
            version,
            range,
            seals,
        };
        Some(Self { head, text, inline })
    }

    /// Appends the item as it stands in OBJECT and OBJECTS.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = clip(self.text).as_bytes();
        out.extend_from_slice(&self.head.encode(len16(text), len32(self.inline)));
        out.extend_from_slice(text);
        out.extend_from_slice(self.inline);
    }

    pub(super) fn length(&self) -> usize {
        ObjectHead::SIZE + clip(self.text).len() + self.inline.len()
    }
}

/// Part of the answer to a `GET_MANY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objects<'a> {
    /// Position in the request of the first item here.
    pub first: u32,
    /// Whether this is the last part. (A body that its last item announces still follows.)
    pub last: bool,
    count: u16,
    items: &'a [u8],
}

impl<'a> Objects<'a> {
    /// Bytes before the items.
    pub const FIXED: usize = 8;

    /// `items` in wire form (see [`Item::encode`]).
    pub fn new(first: u32, last: bool, items: &'a [u8]) -> Option<Self> {
        let mut count = 0_u16;
        let mut r = Reader::new(items);
        while !r.is_empty() {
            Item::decode(&mut r)?;
            count = count.checked_add(1)?;
        }
        Some(Self { first, last, count, items })
    }

    /// The fixed part, for an encoder that fills it in when the items are written.
    pub fn fixed(first: u32, last: bool, count: u16) -> [u8; Objects::FIXED] {
        Record::new()
            .put(first.to_le_bytes())
            .put(count.to_le_bytes())
            .put(u16::from(last).to_le_bytes())
            .done()
    }

    /// How many items.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The items in order.
    pub fn items(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let mut r = Reader::new(self.items);
        std::iter::from_fn(move || Item::decode(&mut r))
    }

    pub(super) fn encode(&self, id: u64, fds: u16, out: &mut Vec<u8>) {
        let length = len32(self.items) + Self::FIXED as u32;
        out.extend_from_slice(&Header::new(Op::Objects, id, length, fds).encode());
        out.extend_from_slice(&Self::fixed(self.first, self.last, self.count));
        out.extend_from_slice(self.items);
    }

    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let first = r.u32()?;
        let count = r.u16()?;
        let flags = r.u16()?;
        let objects = Self::new(first, flags & 1 != 0, r.rest())?;
        (objects.count == count).then_some(objects)
    }
}
