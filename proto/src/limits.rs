//! The wire's maxima, and that they fit each other.
//!
//! A peer may announce less in its HELLO, never more. Each number says why it is
//! what it is.

/// `OBJM`, the first four bytes of a HELLO's payload.
pub const MAGIC: [u8; 4] = *b"OBJM";

/// The only protocol version so far.
pub const VERSION: u16 = 1;

/// Bytes of a frame header.
pub const HEADER: usize = 16;

/// Longest URI in bytes: a Linux path (`PATH_MAX`) fits.
pub const URI: usize = 4096;

/// Largest payload of a request, in bytes: a `GET_MANY` of 60 full-length URIs, or
/// of thousands of ordinary ones.
pub const REQUEST_PAYLOAD: usize = 256 * 1024;

/// Largest payload of a DATA frame, in bytes: other replies can pass after at
/// most this much of a body.
pub const DATA_PAYLOAD: usize = 256 * 1024;

/// Largest payload of any reply, in bytes. A reply that would be larger is cut
/// into several frames.
pub const REPLY_PAYLOAD: usize = 512 * 1024;

/// Smallest reply payload that a client may insist on, in bytes: one item with
/// the longest URI or text.
pub const REPLY_PAYLOAD_MIN: usize = 8 * 1024;

/// Largest inline body in one reply item, in bytes. Longer bodies are streamed.
pub const INLINE: usize = 64 * 1024;

/// Databases of the keyspace.
pub const DATABASES: u8 = 16;

/// Longest key in bytes that can be named; a client of Redis can make longer ones.
pub const KEY: usize = 64 * 1024;

/// URIs in one `GET_MANY`, keys in one request.
pub const MANY: usize = 4096;

/// Entries in one LIST or `KV_SCAN` reply.
pub const LIST: usize = 4096;

/// Bytes of a LIST cursor: a name of the file system (255 bytes), each byte
/// percent-encoded.
pub const CURSOR: usize = 1024;

/// Bytes of a status text.
pub const TEXT: usize = 1024;

/// Bytes that a PING may carry.
pub const PING: usize = 1024;

/// Descriptors in one message: `SCM_MAX_FD` of Linux.
pub const DESCRIPTORS: usize = 253;

/// Requests that a client may have unanswered before the daemon stops reading
/// from it. Not an error to exceed: the socket's own buffers then fill.
pub const PIPELINE: u32 = 1024;

// Their wire types: the casts of these constants elsewhere lose nothing.
const _: () = {
    assert!(URI <= u16::MAX as usize && MANY <= u16::MAX as usize && LIST <= u16::MAX as usize);
    assert!(DESCRIPTORS <= u16::MAX as usize && REPLY_PAYLOAD <= u32::MAX as usize);
};

const _: () = {
    assert!(MANY * 3 + 8 <= REQUEST_PAYLOAD, "a GET_MANY of the shortest URIs fits");
    assert!(URI + 24 <= REQUEST_PAYLOAD, "a GET of the longest URI fits");
    assert!(DATA_PAYLOAD <= REPLY_PAYLOAD);
    assert!(INLINE + TEXT + 64 + 8 <= REPLY_PAYLOAD);
    assert!(URI + TEXT + 64 + 8 <= REPLY_PAYLOAD_MIN);
    assert!(CURSOR + URI + 64 <= REPLY_PAYLOAD_MIN);
};
