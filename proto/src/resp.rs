//! RESP, the protocol of Redis clients: requests in, replies out; versions 2 and 3.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>. A request is an array of bulk
//! strings, or a line of words. Nothing here nests, and nothing is kept but where things are: so a
//! request can neither recurse nor make anything grow beyond its own bytes.

pub mod decode;
pub mod encode;
pub mod line;

pub use decode::{Args, Caps, Decoder, Malformed, Step, whole};
pub use encode::Encoder;
