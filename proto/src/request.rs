//! What a client asks.
//!
//! A request whose frame is sound but whose inside is not (an unknown op, a mode
//! that does not exist, lengths that do not add up) is a [`BadRequest`]: it is
//! answered with an error and the connection goes on.

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

pub mod kv;

use crate::bytes::{Reader, len16, len32};
use crate::frame::{Frame, Header, Op};
use crate::limits;
use crate::word::flag;
use crate::word::mode::Mode;
use crate::word::object::{Range, Version};
use crate::word::status::Status;

/// GET: one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Get<'a> {
    /// How it is wanted.
    pub mode: Mode,
    /// Which bytes; with a descriptor, advice only.
    pub range: Range,
    /// Its name, not yet normalised.
    pub uri: &'a [u8],
    /// Not if it is still this version: then the answer is `NOT_MODIFIED`.
    pub unless: Option<Version>,
    /// A descriptor may be one that others share.
    pub shared: bool,
    /// One descriptor belongs to it, and the bytes go there. Mode splice only.
    pub to: bool,
}

/// `GET_MANY`: many objects in one request, a status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetMany<'a> {
    /// How they are wanted.
    pub mode: Mode,
    /// Descriptors may be ones that others share.
    pub shared: bool,
    count: u16,
    uris: &'a [u8],
}

/// LIST: names below a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    /// At most so many entries, 1 to [`limits::LIST`].
    pub limit: u32,
    /// Names below this one, not yet normalised.
    pub prefix: &'a [u8],
    /// Empty, or the cursor of the page before.
    pub cursor: &'a [u8],
}

/// A request after HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// One object.
    Get(Get<'a>),
    /// Many objects.
    GetMany(GetMany<'a>),
    /// Metadata of one object, by name.
    Stat(&'a [u8]),
    /// Names below a prefix.
    List(List<'a>),
    /// Echo these bytes.
    Ping(&'a [u8]),
    /// Counters.
    Stats,
    /// No more requests.
    Close,
    /// Let go of shared open file descriptions at or below this name.
    Flush(&'a [u8]),
    /// Something about keys.
    Kv(kv::Kv<'a>),
}

/// A sound frame with a request that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The op has no meaning here.
    #[error("operation 0x{0:02x} is not offered by this daemon")]
    NoSuchOp(u8),
    /// A flag that was not agreed on.
    #[error("flags 0x{0:02x} were not agreed on: send 0")]
    Flags(u8),
    /// A mode that does not exist.
    #[error("mode {0} does not exist: use 0 auto, 1 fdpass, 2 copy or 3 splice")]
    NoSuchMode(u8),
    /// The payload does not have the form of the op.
    #[error("malformed {0}: {1}")]
    Form(&'static str, &'static str),
}

impl BadRequest {
    /// The status that tells the client.
    pub const fn status(&self) -> Status {
        match self {
            Self::NoSuchOp(_) | Self::Flags(_) | Self::NoSuchMode(_) => Status::Unsupported,
            Self::Form(..) => Status::BadRequest,
        }
    }
}

impl<'a> Request<'a> {
    /// Reads the request in a frame.
    #[inline]
    pub fn decode(frame: Frame<'a>) -> Result<Self, BadRequest> {
        let Header { op, flags, .. } = frame.header;
        let op_known = Op::from_u8(op);
        let allowed = match op_known {
            Some(Op::Get) => flag::IF_NONE_MATCH | flag::SHARED | flag::TO,
            Some(Op::GetMany) => flag::SHARED,
            Some(Op::KvSet) => flag::FROM,
            _ => 0,
        };
        if flags & !allowed != 0 {
            return Err(BadRequest::Flags(flags & !allowed));
        }
        let p = frame.payload;
        match op_known {
            Some(Op::Get) => Get::decode(p, flags).map(Self::Get),
            Some(Op::GetMany) => GetMany::decode(p, flags).map(Self::GetMany),
            Some(Op::Stat) => Ok(Self::Stat(p)),
            Some(Op::Flush) => Ok(Self::Flush(p)),
            Some(Op::List) => List::decode(p).map(Self::List),
            Some(Op::Ping) if p.len() > limits::PING => {
                Err(BadRequest::Form("PING", "it carries at most 1024 bytes"))
            }
            Some(Op::Ping) => Ok(Self::Ping(p)),
            Some(Op::Stats) if p.is_empty() => Ok(Self::Stats),
            Some(Op::Close) if p.is_empty() => Ok(Self::Close),
            Some(
                op @ (Op::KvGet
                | Op::KvSet
                | Op::KvDel
                | Op::KvMget
                | Op::KvBatch
                | Op::KvIncr
                | Op::KvExpire
                | Op::KvScan
                | Op::KvBackup
                | Op::KvCompact
                | Op::KvStatus),
            ) => kv::Kv::decode(op, flags, p).map(Self::Kv),
            Some(Op::Stats | Op::Close) => {
                Err(BadRequest::Form("STATS or CLOSE", "it has no payload"))
            }
            _ => Err(BadRequest::NoSuchOp(op)),
        }
    }

    /// Appends the frame, with these header flags beside those that the request has itself; see
    /// [`flag`].
    pub fn encode_flagged(&self, id: u64, flags: u8, out: &mut Vec<u8>) {
        let at = out.len() + Header::FLAGS;
        self.encode(id, out);
        if let Some(byte) = out.get_mut(at) {
            *byte |= flags;
        }
    }

    /// Appends the frame.
    pub fn encode(&self, id: u64, out: &mut Vec<u8>) {
        match *self {
            Self::Get(get) => get.encode(id, out),
            Self::GetMany(many) => many.encode(id, out),
            Self::Stat(uri) => plain(Op::Stat, id, uri, out),
            Self::List(list) => list.encode(id, out),
            Self::Ping(bytes) => plain(Op::Ping, id, bytes, out),
            Self::Stats => plain(Op::Stats, id, &[], out),
            Self::Close => plain(Op::Close, id, &[], out),
            Self::Flush(prefix) => plain(Op::Flush, id, prefix, out),
            Self::Kv(kv) => kv.encode(id, out),
        }
    }
}

fn plain(op: Op, id: u64, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&Header::new(op, id, len32(payload), 0).encode());
    out.extend_from_slice(payload);
}

/// A name over the wire's limit is cut so that its length can be written; what is left
/// is still over the limit, and refused for it.
fn clipped(name: &[u8]) -> &[u8] {
    name.get(..=limits::URI).unwrap_or(name)
}

impl<'a> Get<'a> {
    const FIXED: usize = 24;
    const VERSION: usize = 16;

    /// A GET without conditions.
    pub const fn new(mode: Mode, range: Range, uri: &'a [u8]) -> Self {
        Self { mode, range, uri, unless: None, shared: false, to: false }
    }

    #[inline]
    fn decode(payload: &'a [u8], flags: u8) -> Result<Self, BadRequest> {
        Self::fields(payload, flags).unwrap_or(Err(BadRequest::Form(
            "GET",
            "24 bytes (40 with IF_NONE_MATCH) and a URI of the length they name are expected",
        )))
    }

    #[inline]
    fn fields(payload: &'a [u8], flags: u8) -> Option<Result<Self, BadRequest>> {
        let mut r = Reader::new(payload);
        let mode = r.u8()?;
        r.u8()?;
        let uri_length = r.u16()?;
        r.u32()?;
        let range = Range { offset: r.u64()?, length: r.u64()? };
        let unless = if flags & flag::IF_NONE_MATCH == 0 {
            None
        } else {
            Some(Version(u128::from_le_bytes(r.array()?)))
        };
        let uri = r.take(usize::from(uri_length))?;
        if !r.is_empty() {
            return None;
        }
        let Some(mode) = Mode::from_u8(mode) else {
            return Some(Err(BadRequest::NoSuchMode(mode)));
        };
        let (shared, to) = (flags & flag::SHARED != 0, flags & flag::TO != 0);
        if to && mode != Mode::Splice {
            return Some(Err(BadRequest::Form("GET", "TO goes with the mode splice only")));
        }
        Some(Ok(Self { mode, range, uri, unless, shared, to }))
    }

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let uri = clipped(self.uri);
        let version = if self.unless.is_some() { Self::VERSION } else { 0 };
        let length = (Self::FIXED + version) as u32 + len32(uri);
        let flags = if self.unless.is_some() { flag::IF_NONE_MATCH } else { 0 }
            | if self.shared { flag::SHARED } else { 0 }
            | if self.to { flag::TO } else { 0 };
        let header = Header { flags, ..Header::new(Op::Get, id, length, u16::from(self.to)) };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&[self.mode as u8, 0]);
        out.extend_from_slice(&len16(uri).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.range.offset.to_le_bytes());
        out.extend_from_slice(&self.range.length.to_le_bytes());
        if let Some(Version(version)) = self.unless {
            out.extend_from_slice(&version.to_le_bytes());
        }
        out.extend_from_slice(uri);
    }
}

impl<'a> GetMany<'a> {
    const FORM: BadRequest = BadRequest::Form(
        "GET_MANY",
        "8 bytes and 1 to 4096 URIs, each behind its length, are expected",
    );

    /// URIs already in wire form (see [`GetMany::push_uri`]), `count` of them.
    pub fn new(mode: Mode, uris: &'a [u8]) -> Result<Self, BadRequest> {
        let mut count = 0_u16;
        let mut r = Reader::new(uris);
        while !r.is_empty() {
            let uri = r.u16().and_then(|n| r.take(usize::from(n)));
            if uri.is_none() || usize::from(count) == limits::MANY {
                return Err(Self::FORM);
            }
            count += 1;
        }
        if count == 0 { Err(Self::FORM) } else { Ok(Self { mode, shared: false, count, uris }) }
    }

    /// The same; `shared` says whether descriptors may be ones that others share.
    #[must_use]
    pub const fn sharing(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Appends one URI to a list that [`GetMany::new`] takes.
    pub fn push_uri(list: &mut Vec<u8>, uri: &[u8]) {
        let uri = clipped(uri);
        list.extend_from_slice(&len16(uri).to_le_bytes());
        list.extend_from_slice(uri);
    }

    /// How many URIs.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The URIs in order.
    pub fn uris(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut r = Reader::new(self.uris);
        std::iter::from_fn(move || {
            let n = r.u16()?;
            r.take(usize::from(n))
        })
    }

    fn decode(payload: &'a [u8], flags: u8) -> Result<Self, BadRequest> {
        let mut r = Reader::new(payload);
        let fixed = (|| {
            let mode = r.u8()?;
            r.u8()?;
            let count = r.u16()?;
            r.u32()?;
            Some((mode, count))
        })();
        let (mode, count) = fixed.ok_or(Self::FORM)?;
        let mode = Mode::from_u8(mode).ok_or(BadRequest::NoSuchMode(mode))?;
        let shared = flags & flag::SHARED != 0;
        let many = Self::new(mode, r.rest())?.sharing(shared);
        if many.count == count { Ok(many) } else { Err(Self::FORM) }
    }

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let flags = if self.shared { flag::SHARED } else { 0 };
        let header = Header { flags, ..Header::new(Op::GetMany, id, 8 + len32(self.uris), 0) };
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&[self.mode as u8, 0]);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.uris);
    }
}

impl<'a> List<'a> {
    const FORM: BadRequest = BadRequest::Form(
        "LIST",
        "8 bytes with a limit of 1 to 4096, a prefix and a cursor of the lengths they name are expected",
    );

    fn decode(payload: &'a [u8]) -> Result<Self, BadRequest> {
        let mut r = Reader::new(payload);
        let list = (|| {
            let limit = r.u32()?;
            let prefix_length = r.u16()?;
            let cursor_length = r.u16()?;
            let prefix = r.take(usize::from(prefix_length))?;
            let cursor = r.take(usize::from(cursor_length))?;
            r.is_empty().then_some(Self { limit, prefix, cursor })
        })()
        .ok_or(Self::FORM)?;
        let fits =
            (1..=limits::LIST as u32).contains(&list.limit) && list.cursor.len() <= limits::CURSOR;
        if fits { Ok(list) } else { Err(Self::FORM) }
    }

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let (prefix, cursor) = (clipped(self.prefix), clipped(self.cursor));
        let length = 8 + len32(prefix) + len32(cursor);
        out.extend_from_slice(&Header::new(Op::List, id, length, 0).encode());
        out.extend_from_slice(&self.limit.to_le_bytes());
        out.extend_from_slice(&len16(prefix).to_le_bytes());
        out.extend_from_slice(&len16(cursor).to_le_bytes());
        out.extend_from_slice(prefix);
        out.extend_from_slice(cursor);
    }
}
