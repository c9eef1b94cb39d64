//! What the daemon answers.
//!
//! Most answers carry an [`ObjectHead`], 64 bytes that say what the object is and
//! in which form it comes; GET and STAT answer with one, `GET_MANY` with as many as
//! there are URIs, spread over as many frames as it takes.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

use crate::bytes::{Reader, Record, len16, len32};
use crate::frame::{Frame, Header, Op, Violation};
use crate::limits;
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
    fn decode(r: &mut Reader<'a>) -> Option<Self> {
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
        out.extend_from_slice(&self.head.encode(len16(self.text.as_bytes()), len32(self.inline)));
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(self.inline);
    }

    fn length(&self) -> usize {
        ObjectHead::SIZE + self.text.len() + self.inline.len()
    }
}

/// Text from a peer; what is not UTF-8 is dropped from the first such byte on.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            bytes.get(..e.valid_up_to()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
        }
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

    fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let first = r.u32()?;
        let count = r.u16()?;
        let flags = r.u16()?;
        let objects = Self::new(first, flags & 1 != 0, r.rest())?;
        (objects.count == count).then_some(objects)
    }
}

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

    fn decode(r: &mut Reader<'a>) -> Option<Self> {
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

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let length = Self::FIXED as u32 + len32(self.cursor) + len32(self.raw);
        out.extend_from_slice(&Header::new(Op::Entries, id, length, 0).encode());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&len16(self.cursor).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.cursor);
        out.extend_from_slice(self.raw);
    }

    fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let count = r.u16()?;
        let cursor_length = r.u16()?;
        r.u32()?;
        let cursor = r.take(usize::from(cursor_length))?;
        let entries = Self::new(cursor, r.rest())?;
        (entries.count == count).then_some(entries)
    }
}

/// A request was refused; with id 0, the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReply<'a> {
    /// What kind of no.
    pub status: Status,
    /// Milliseconds after which trying again may help; 0 if nothing is known.
    pub retry_after_ms: u32,
    /// What to do about it.
    pub text: &'a str,
}

impl<'a> ErrorReply<'a> {
    const FIXED: usize = 8;

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let length = Self::FIXED as u32 + len32(self.text.as_bytes());
        out.extend_from_slice(&Header::new(Op::Error, id, length, 0).encode());
        out.extend_from_slice(&self.status.to_u16().to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
        out.extend_from_slice(self.text.as_bytes());
    }

    fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let status = Status::from_wire(r.u16()?);
        r.u16()?;
        Some(Self { status, retry_after_ms: r.u32()?, text: text(r.rest()) })
    }
}

/// The end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End<'a> {
    /// [`Status::Ok`], or why the bytes sent so far must not be used.
    pub status: Status,
    /// Bytes of body that were sent.
    pub length: u64,
    /// What to do about a failure.
    pub text: &'a str,
}

impl<'a> End<'a> {
    const FIXED: usize = 16;

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let length = Self::FIXED as u32 + len32(self.text.as_bytes());
        out.extend_from_slice(&Header::new(Op::End, id, length, 0).encode());
        out.extend_from_slice(&self.status.to_u16().to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(self.text.as_bytes());
    }

    fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(payload);
        let status = Status::from_wire(r.u16()?);
        r.array::<6>()?;
        Some(Self { status, length: r.u64()?, text: text(r.rest()) })
    }
}

/// Any reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Answers GET and STAT.
    Object(Item<'a>),
    /// Part of the answer to `GET_MANY`.
    Objects(Objects<'a>),
    /// A piece of a body.
    Data(&'a [u8]),
    /// The end of a body.
    End(End<'a>),
    /// A page of a listing.
    Entries(Entries<'a>),
    /// The bytes of a PING.
    Pong(&'a [u8]),
    /// Counters: lines of `name value`.
    Stats(&'a str),
    /// Answers CLOSE: so many replies are still to come.
    CloseAck(u32),
    /// A refusal.
    Error(ErrorReply<'a>),
}

impl<'a> Reply<'a> {
    /// Reads the reply in a frame.
    pub fn decode(frame: Frame<'a>) -> Result<Self, Violation> {
        let p = frame.payload;
        let bad = |what| Violation::BadFrame {
            what,
            why: "its payload does not have the form of the op",
        };
        match Op::from_u8(frame.header.op) {
            Some(Op::Object) => {
                let mut r = Reader::new(p);
                let item = Item::decode(&mut r).filter(|_| r.is_empty());
                item.map(Self::Object).ok_or(bad("OBJECT"))
            }
            Some(Op::Objects) => Objects::decode(p).map(Self::Objects).ok_or(bad("OBJECTS")),
            Some(Op::Data) => Ok(Self::Data(p)),
            Some(Op::End) => End::decode(p).map(Self::End).ok_or(bad("END")),
            Some(Op::Entries) => Entries::decode(p).map(Self::Entries).ok_or(bad("ENTRIES")),
            Some(Op::Pong) => Ok(Self::Pong(p)),
            Some(Op::StatsText) => Ok(Self::Stats(text(p))),
            Some(Op::CloseAck) => {
                let n = p.try_into().map(u32::from_le_bytes);
                n.map(Self::CloseAck).map_err(|_| bad("CLOSE_ACK"))
            }
            Some(Op::Error) => ErrorReply::decode(p).map(Self::Error).ok_or(bad("ERROR")),
            _ => Err(Violation::BadFrame { what: "reply", why: "the op is no reply of version 1" }),
        }
    }

    /// Appends the frame; `fds` descriptors go with it.
    pub fn encode(&self, id: u64, fds: u16, out: &mut Vec<u8>) {
        match *self {
            Self::Object(item) => {
                let length = u32::try_from(item.length()).unwrap_or(u32::MAX);
                out.extend_from_slice(&Header::new(Op::Object, id, length, fds).encode());
                item.encode(out);
            }
            Self::Objects(objects) => {
                let length = Objects::FIXED as u32 + len32(objects.items);
                out.extend_from_slice(&Header::new(Op::Objects, id, length, fds).encode());
                out.extend_from_slice(&Objects::fixed(objects.first, objects.last, objects.count));
                out.extend_from_slice(objects.items);
            }
            Self::Data(bytes) => plain(Op::Data, id, bytes, out),
            Self::End(end) => end.encode(id, out),
            Self::Entries(entries) => entries.encode(id, out),
            Self::Pong(bytes) => plain(Op::Pong, id, bytes, out),
            Self::Stats(lines) => plain(Op::StatsText, id, lines.as_bytes(), out),
            Self::CloseAck(n) => plain(Op::CloseAck, id, &n.to_le_bytes(), out),
            Self::Error(error) => error.encode(id, out),
        }
    }
}

fn plain(op: Op, id: u64, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&Header::new(op, id, len32(payload), 0).encode());
    out.extend_from_slice(payload);
}

/// Cuts a text to what fits on the wire, at a character's border.
pub fn clip(text: &str) -> &str {
    let end = text.floor_char_boundary(limits::TEXT);
    text.get(..end).unwrap_or(text)
}
