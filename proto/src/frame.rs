//! Frames: what a stream of bytes is cut into.
//!
//! ```text
//!  0        4     5      6      8                16
//!  | length | op  | flags| fds  | id             | payload (length bytes)
//!    u32      u8    u8     u16    u64
//! ```
//!
//! All numbers are little-endian. `length` counts the payload only. `fds` is the
//! number of descriptors that belong to this frame; they arrive with or before
//! the frame's last byte. A frame that cannot be cut off cleanly is a
//! [`Violation`] and ends its connection, since nobody knows where the next one
//! begins.

use crate::bytes::Reader;
use crate::limits;
use crate::word::status::Status;

/// What a frame is. Requests are below 0x80, replies above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// First frame of a client.
    Hello = 0x01,
    /// One object, in the mode that the client wants.
    Get = 0x02,
    /// Many objects, one status each.
    GetMany = 0x03,
    /// Metadata of one object.
    Stat = 0x04,
    /// Names below a prefix, page by page.
    List = 0x05,
    /// Is anybody there.
    Ping = 0x06,
    /// The daemon's counters.
    Stats = 0x07,
    /// No more requests; drain.
    Close = 0x08,
    /// Let go of shared open file descriptions below a prefix.
    Flush = 0x09,
    /// The value of a key.
    KvGet = 0x20,
    /// A key gets a value.
    KvSet = 0x21,
    /// Keys go.
    KvDel = 0x22,
    /// The values of many keys, of one moment.
    KvMget = 0x23,
    /// Many changes, all or none.
    KvBatch = 0x24,
    /// Add to a number.
    KvIncr = 0x25,
    /// When a key ends.
    KvExpire = 0x26,
    /// Keys in order, page by page.
    KvScan = 0x27,
    /// All keys of all databases, in a file.
    KvBackup = 0x28,
    /// The journal is made as short as it can be.
    KvCompact = 0x29,
    /// How the keyspace is, for whoever runs it.
    KvStatus = 0x2a,
    /// Answers [`Op::Hello`].
    HelloAck = 0x81,
    /// Answers [`Op::Get`], [`Op::Stat`], [`Op::KvGet`] and [`Op::KvBackup`].
    Object = 0x82,
    /// Answers part of a [`Op::GetMany`].
    Objects = 0x83,
    /// A piece of a body.
    Data = 0x84,
    /// The end of a body, with its status.
    End = 0x85,
    /// Answers [`Op::List`].
    Entries = 0x86,
    /// Answers [`Op::Ping`].
    Pong = 0x87,
    /// Answers [`Op::Stats`] and [`Op::KvStatus`].
    StatsText = 0x88,
    /// Answers [`Op::Close`].
    CloseAck = 0x89,
    /// Answers [`Op::Flush`].
    Flushed = 0x8a,
    /// A request was refused, or (id 0) the connection ends.
    Error = 0x8f,
    /// Answers the changes of keys.
    KvDone = 0xa0,
    /// Answers [`Op::KvMget`] and [`Op::KvScan`].
    KvEntries = 0xa1,
    /// Answers [`Op::KvCompact`].
    KvCompacted = 0xa2,
}

/// Ops with a number and no meaning yet; a request with one of them is answered
/// `UNSUPPORTED`. PUT, CREATE, COMMIT, ABORT, DELETE, WATCH, UNWATCH are
/// 0x10..=0x16, further KV verbs 0x2b..=0x2f; EVENT, LEASE and SEGMENTS 0x90..=0x92.
pub const RESERVED_REQUESTS: [std::ops::RangeInclusive<u8>; 2] = [0x10..=0x16, 0x2b..=0x2f];

impl Op {
    /// The op with this number, if version 1 defines it.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0x01 => Self::Hello,
            0x02 => Self::Get,
            0x03 => Self::GetMany,
            0x04 => Self::Stat,
            0x05 => Self::List,
            0x06 => Self::Ping,
            0x07 => Self::Stats,
            0x08 => Self::Close,
            0x09 => Self::Flush,
            0x20 => Self::KvGet,
            0x21 => Self::KvSet,
            0x22 => Self::KvDel,
            0x23 => Self::KvMget,
            0x24 => Self::KvBatch,
            0x25 => Self::KvIncr,
            0x26 => Self::KvExpire,
            0x27 => Self::KvScan,
            0x28 => Self::KvBackup,
            0x29 => Self::KvCompact,
            0x2a => Self::KvStatus,
            0x81 => Self::HelloAck,
            0x82 => Self::Object,
            0x83 => Self::Objects,
            0x84 => Self::Data,
            0x85 => Self::End,
            0x86 => Self::Entries,
            0x87 => Self::Pong,
            0x88 => Self::StatsText,
            0x89 => Self::CloseAck,
            0x8a => Self::Flushed,
            0x8f => Self::Error,
            0xa0 => Self::KvDone,
            0xa1 => Self::KvEntries,
            0xa2 => Self::KvCompacted,
            _ => return None,
        })
    }
}

/// The first 16 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload that follow.
    pub length: u32,
    /// Number of the op, see [`Op`].
    pub op: u8,
    /// Of a request: 0, or a sum of [`crate::word::flag`]. Of a reply: 0.
    pub flags: u8,
    /// Descriptors that belong to this frame.
    pub fds: u16,
    /// Chosen by the client, echoed in every reply; 0 is kept for the connection itself.
    pub id: u64,
}

impl Header {
    /// Where the byte with the flags stands.
    pub(crate) const FLAGS: usize = 5;

    /// Header of a frame with this op and id.
    #[inline]
    pub const fn new(op: Op, id: u64, length: u32, fds: u16) -> Self {
        Self { length, op: op as u8, flags: 0, fds, id }
    }

    /// Whether it is one of the verbs of the keyspace, those without a meaning yet among them.
    #[inline]
    pub const fn is_kv(&self) -> bool {
        self.op & 0xf0 == 0x20
    }

    /// As it goes over the wire.
    #[inline]
    pub const fn encode(&self) -> [u8; limits::HEADER] {
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        let [f0, f1] = self.fds.to_le_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.to_le_bytes();
        [l0, l1, l2, l3, self.op, self.flags, f0, f1, i0, i1, i2, i3, i4, i5, i6, i7]
    }

    /// Reads a header; `None` while fewer than 16 bytes are there.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes.first_chunk::<{ limits::HEADER }>()?);
        Some(Self { length: r.u32()?, op: r.u8()?, flags: r.u8()?, fds: r.u16()?, id: r.u64()? })
    }
}

/// One whole frame, borrowed from a read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Exactly `header.length` bytes.
    pub payload: &'a [u8],
}

/// What [`split`] found at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole frame, and how many bytes of the buffer it took.
    Whole(Frame<'a>, usize),
    /// Not yet: the frame is complete when the buffer holds this many bytes.
    Partial(usize),
}

/// Cuts the first frame off `buf`.
///
/// `max_payload` is what the reader announced in its HELLO or HELLO_ACK.
#[inline]
pub fn split(buf: &[u8], max_payload: usize) -> Result<Split<'_>, Violation> {
    let Some(header) = Header::decode(buf) else {
        return Ok(Split::Partial(limits::HEADER));
    };
    let length = header.length as usize;
    if length > max_payload {
        return Err(Violation::FrameTooLarge { length, max: max_payload });
    }
    let total = limits::HEADER + length;
    match buf.get(limits::HEADER..total) {
        Some(payload) => Ok(Split::Whole(Frame { header, payload }, total)),
        None => Ok(Split::Partial(total)),
    }
}

/// The peer broke the protocol. The connection ends; the text goes out with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first four bytes are not `OBJM`.
    #[error("this is not OBJM: the first frame must be a HELLO whose payload begins with \"OBJM\"")]
    BadMagic,
    /// No version in common.
    #[error(
        "this side speaks OBJM version {ours} only, the peer offers {min} to {max}: use a matching library"
    )]
    BadVersion {
        /// Lowest version that the peer offered.
        min: u16,
        /// Highest version that the peer offered.
        max: u16,
        /// Ours.
        ours: u16,
    },
    /// A frame is longer than announced limits allow.
    #[error(
        "a frame of {length} bytes is over this side's limit of {max}: split the request (the limit is in the HELLO_ACK)"
    )]
    FrameTooLarge {
        /// What the header said.
        length: usize,
        /// The reader's limit.
        max: usize,
    },
    /// A frame whose inside does not fit its own numbers, where no answer could go.
    #[error("malformed {what} frame: {why}")]
    BadFrame {
        /// Name of the frame.
        what: &'static str,
        /// What does not fit.
        why: &'static str,
    },
    /// Something else came before HELLO, or a second HELLO came.
    #[error("HELLO must be the first frame, and come once")]
    HelloExpected,
    /// A request has another number of descriptors than its frame declares.
    #[error("the number of descriptors that a frame declares is {declared}, not {due}: {why}")]
    Declared {
        /// What the header says.
        declared: u16,
        /// What the request has.
        due: u16,
        /// Why.
        why: &'static str,
    },
    /// Descriptors came that nobody asked for, or fewer than declared.
    #[error("a frame declares {declared} descriptors and {arrived} arrived: {why}")]
    Descriptors {
        /// What the header says.
        declared: usize,
        /// What came with the message.
        arrived: usize,
        /// Why that is wrong.
        why: &'static str,
    },
}

impl Violation {
    /// The status that tells the peer.
    pub const fn status(&self) -> Status {
        match self {
            Self::BadMagic => Status::BadMagic,
            Self::BadVersion { .. } => Status::BadVersion,
            Self::FrameTooLarge { .. } => Status::FrameTooLarge,
            Self::BadFrame { .. } => Status::BadFrame,
            Self::HelloExpected => Status::HelloExpected,
            Self::Declared { .. } | Self::Descriptors { .. } => Status::UnexpectedDescriptor,
        }
    }
}
