//! The floor's own little protocol: lengths and nothing more. Ours is in objmapper-proto.
//!
//! ```text
//!  request   | length u32 | job u8 | name |        length counts job and name
//!  reply     | length u64 | fds u32 | errno u32 |  then length bytes, unless a descriptor came:
//!                                                  then length is the size of its file
//! ```

use serde::Serialize;
use std::ops::Range;

/// How an object is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Job {
    /// By descriptor.
    Fdpass,
    /// Its bytes.
    Copy,
    /// Its bytes, without passing through the server's memory.
    Splice,
}

/// What a request to the floor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloorRequest<'a> {
    pub(crate) job: Job,
    /// Whether the server may keep the file open (for bodies only).
    pub(crate) held: bool,
    /// Relative to the root.
    pub(crate) name: &'a [u8],
}

const HELD: u8 = 0x80;

impl<'a> FloorRequest<'a> {
    /// Appends the request.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.name.len() + 1).unwrap_or(u32::MAX);
        let held = if self.held { HELD } else { 0 };
        out.extend_from_slice(&length.to_le_bytes());
        out.push(self.job as u8 | held);
        out.extend_from_slice(self.name);
    }

    /// The request at the front and the bytes it took; `None` until all of it is there.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (job, name) = rest.get(..length)?.split_first()?;
        let held = job & HELD != 0;
        let job = match job & !HELD {
            0 => Job::Fdpass,
            1 => Job::Copy,
            _ => Job::Splice,
        };
        Some((Self { job, held, name }, 4 + length))
    }
}

/// What the floor answers before any body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloorReply {
    /// Bytes of the body that follows, or the size of the file whose descriptor came.
    pub(crate) length: u64,
    /// Descriptors of this reply: 0 or 1.
    pub(crate) fds: u32,
    /// 0, or why there is neither.
    pub(crate) errno: u32,
}

impl FloorReply {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (length, rest) = bytes.split_at_mut(8);
        let (fds, errno) = rest.split_at_mut(4);
        length.copy_from_slice(&self.length.to_le_bytes());
        fds.copy_from_slice(&self.fds.to_le_bytes());
        errno.copy_from_slice(&self.errno.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (fds, rest) = rest.split_first_chunk()?;
        Some(Self {
            length: u64::from_le_bytes(*length),
            fds: u32::from_le_bytes(*fds),
            errno: u32::from_le_bytes(*rest.first_chunk()?),
        })
    }
}

/// A piece of a longer buffer, as `usize` bounds.
pub(crate) type Span = Range<usize>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_the_wire() {
        let mut bytes = Vec::new();
        for (job, held) in [(Job::Fdpass, false), (Job::Copy, true), (Job::Splice, true)] {
            let request = FloorRequest { job, held, name: b"a/b" };
            bytes.clear();
            request.encode(&mut bytes);
            assert_eq!(FloorRequest::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(FloorRequest::decode(&bytes), Some((request, bytes.len())));
        }
        let reply = FloorReply { length: 1 << 40, fds: 1, errno: 2 };
        assert_eq!(FloorReply::decode(&reply.encode()), Some(reply));
        assert_eq!(FloorReply::decode(&reply.encode()[1..]), None);
    }
}
