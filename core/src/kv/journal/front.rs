//! Records that are not written yet, in memory.

use super::format::RECORD_HEAD;
use super::payload::Chunk;

/// Bytes from which on a record is not copied but handed over.
const LARGE: usize = 256 * 1024;

/// See above.
#[derive(Debug)]
pub(super) struct Front {
    /// In order; each the payload of a large record, or a part of it, or what stands before.
    chunks: Vec<Chunk>,
    /// Where small records go.
    tail: Vec<u8>,
    /// Of all of them.
    pub(super) bytes: u64,
    /// The number of the next record.
    pub(super) next: u64,
}

impl Front {
    /// None, and the next has this number.
    pub(super) const fn new(next: u64) -> Self {
        Self { chunks: Vec::new(), tail: Vec::new(), bytes: 0, next }
    }

    /// One more: its head, and its payload in parts.
    #[inline]
    pub(super) fn push(&mut self, head: &[u8; RECORD_HEAD], parts: Vec<Chunk>, last: Vec<u8>) {
        self.bytes += (head.len() + last.len()) as u64;
        self.tail.extend_from_slice(head);
        if !parts.is_empty() {
            self.bytes += parts.iter().map(Chunk::length).sum::<u64>();
            self.end_tail();
            self.chunks.extend(parts);
        }
        if last.len() < LARGE {
            self.tail.extend_from_slice(&last);
        } else {
            self.end_tail();
            self.chunks.push(Chunk::Bytes(last));
        }
    }

    /// All of them, in order; the last part is bytes. `room` is for those that come.
    pub(super) fn take(&mut self, room: Vec<u8>) -> Vec<Chunk> {
        self.bytes = 0;
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.push(Chunk::Bytes(std::mem::replace(&mut self.tail, room)));
        chunks
    }

    fn end_tail(&mut self) {
        self.chunks.push(Chunk::Bytes(std::mem::take(&mut self.tail)));
    }
}
