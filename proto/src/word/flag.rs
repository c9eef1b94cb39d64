//! Flags in the header of a request.
//!
//! A flag that a daemon does not know, or that was not agreed on, makes it refuse that
//! request with `UNSUPPORTED`: so a client may try one and see.

/// The reply must not overtake that to an earlier request. Means something with
/// [`crate::hello::OUT_OF_ORDER`] only, and must not be set without.
pub const ORDERED: u8 = 1;

/// The request's body goes before those of others on this connection. With
/// [`crate::hello::OUT_OF_ORDER`] only.
pub const PRIORITY: u8 = 2;

/// GET and `GET_MANY`: a descriptor whose open file description others have as well will do.
pub const SHARED: u8 = 4;

/// GET only: the payload carries a version, and the object is not sent if it still has it.
pub const IF_NONE_MATCH: u8 = 8;

/// GET in mode splice only: one descriptor belongs to the request, a pipe or a connected stream
/// socket, and the bytes go there. Means something with [`crate::hello::PASS_FDS`] only, and must
/// not be set without.
pub const TO: u8 = 16;

/// `KV_SET` only: the value is in the descriptor that belongs to the request, a sealed memory file.
/// With [`crate::hello::PASS_FDS`] only.
pub const FROM: u8 = 32;
