//! OBJM, the wire protocol of objmapper, as plain data.
//!
//! What is said, never how it travels: no socket, no clock, no descriptor (only
//! counts of them) and no I/O. Every byte that a peer sent is parsed here and
//! nowhere else. The specification is `PROTOCOL.md` beside this crate; `golden/`
//! holds byte vectors that these tests, and other implementations, read.
//!
//! What must stay true:
//! - any input gives a value or an error, never a panic, and nothing is
//!   allocated while decoding: requests and replies borrow from the buffer;
//! - `decode(encode(x)) == x`;
//! - how a stream is cut into reads changes nothing.
//!
//! The modules form a ladder: each uses only those before it.

#![forbid(unsafe_code)]

pub mod limits;
pub mod socket;
pub mod word;

mod bytes;
pub mod frame;
pub mod hello;
pub mod reply;
pub mod request;

pub mod resp;

pub use frame::{Frame, Header, Op, Violation};
pub use hello::{Hello, HelloAck};
pub use reply::{
    Entries, Entry, ErrorReply, Item, KvDone, KvEntries, KvEntry, ObjectHead, Objects, Reply,
};
pub use request::kv::{self, Kv};
pub use request::{BadRequest, Get, GetMany, List, Request};
pub use word::mode::Mode;
pub use word::object::{Delivery, Kind, Range, Reason, Version};
pub use word::status::Status;
pub use word::uri::{Uri, UriBuf, UriError};
