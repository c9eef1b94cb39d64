//! What the daemon answers.
//!
//! Most answers carry an [`ObjectHead`], 64 bytes that say what the object is and
//! in which form it comes; GET and STAT answer with one, `GET_MANY` with as many as
//! there are URIs, spread over as many frames as it takes.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

mod kv;
mod listing;
mod object;

use crate::bytes::{Reader, len32};
use crate::frame::{Frame, Header, Op, Violation};
use crate::limits;
use crate::word::status::Status;

pub use kv::{Held, KvCompacted, KvDone, KvEntries, KvEntry};
pub use listing::{Entries, Entry};
pub use object::{Item, ObjectHead, Objects};

/// Text from a peer; what is not UTF-8 is dropped from the first such byte on.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            bytes.get(..e.valid_up_to()).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
        }
    }
}

/// Cuts a text to what fits on the wire, at a character's border.
pub fn clip(text: &str) -> &str {
    let end = text.floor_char_boundary(limits::TEXT);
    text.get(..end).unwrap_or(text)
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
    /// Counters, or how the keyspace is: lines of `name value`.
    Stats(&'a str),
    /// Answers CLOSE: so many replies are still to come.
    CloseAck(u32),
    /// Answers FLUSH: so many open file descriptions were let go of.
    Flushed(u32),
    /// Answers changes of keys.
    KvDone(KvDone),
    /// Answers `KV_MGET` and `KV_SCAN`.
    KvEntries(KvEntries<'a>),
    /// Answers `KV_COMPACT`.
    KvCompacted(KvCompacted),
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
            Some(Op::Flushed) => {
                let n = p.try_into().map(u32::from_le_bytes);
                n.map(Self::Flushed).map_err(|_| bad("FLUSHED"))
            }
            Some(Op::KvDone) => KvDone::decode(p).map(Self::KvDone).ok_or(bad("KV_DONE")),
            Some(Op::KvEntries) => {
                KvEntries::decode(p).map(Self::KvEntries).ok_or(bad("KV_ENTRIES"))
            }
            Some(Op::KvCompacted) => {
                KvCompacted::decode(p).map(Self::KvCompacted).ok_or(bad("KV_COMPACTED"))
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
            Self::Objects(objects) => objects.encode(id, fds, out),
            Self::Data(bytes) => plain(Op::Data, id, bytes, out),
            Self::End(end) => end.encode(id, out),
            Self::Entries(entries) => entries.encode(id, out),
            Self::Pong(bytes) => plain(Op::Pong, id, bytes, out),
            Self::Stats(lines) => plain(Op::StatsText, id, lines.as_bytes(), out),
            Self::CloseAck(n) => plain(Op::CloseAck, id, &n.to_le_bytes(), out),
            Self::Flushed(n) => plain(Op::Flushed, id, &n.to_le_bytes(), out),
            Self::KvDone(done) => done.encode(id, out),
            Self::KvEntries(entries) => entries.encode(id, out),
            Self::KvCompacted(compacted) => compacted.encode(id, out),
            Self::Error(error) => error.encode(id, out),
        }
    }
}

fn plain(op: Op, id: u64, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&Header::new(op, id, len32(payload), 0).encode());
    out.extend_from_slice(payload);
}
