//! Replies on their way out: bytes in order, and the descriptors that go with them.
//!
//! What waits here leaves in one message: descriptors of consecutive replies share
//! one SCM_RIGHTS, and whoever fills the outbox flushes it before there are more than
//! one message may carry. Sending is done in [`crate::link`].

use objmapper::Opened;
use objmapper_proto::{Header, Op, Status, limits};
use std::fmt::Display;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Capacity in bytes that is kept from one turn to the next: an ordinary turn's worth.
const KEPT: usize = 256 * 1024;

/// A descriptor that goes out: sending it makes another, so that ours is closed, or kept.
#[derive(Debug)]
pub enum Descriptor {
    /// Opened for this reply.
    Own(Opened),
    /// Goes out to others as well.
    Shared(Arc<Opened>),
}

impl AsFd for Descriptor {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Shared(fd) => fd.as_fd(),
        }
    }
}

/// Replies that have not left yet.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the front that have left.
    sent: usize,
    /// Descriptors that belong to what has not left.
    fds: Vec<Descriptor>,
}

impl Outbox {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Descriptors that wait.
    #[inline]
    pub fn descriptors(&self) -> usize {
        self.fds.len()
    }

    /// Where encoders append.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a descriptor that belongs to the bytes appended since the last flush.
    #[inline]
    pub fn push(&mut self, fd: Descriptor) {
        self.fds.push(fd);
    }

    /// Bytes that it has memory for.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back the memory of one body that was larger than usual.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Appends an ERROR frame.
    pub fn refuse(&mut self, id: u64, status: Status, retry_after_ms: u32, text: &dyn Display) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; limits::HEADER]);
        self.bytes.extend_from_slice(&status.to_u16().to_le_bytes());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&retry_after_ms.to_le_bytes());
        self.write_text(text);
        self.head_frame(at, Op::Error, id, 0);
    }

    /// Appends a text, cut to what the wire allows; returns its length in bytes.
    pub fn write_text(&mut self, text: &dyn Display) -> u16 {
        let at = self.bytes.len();
        // Writing to a Vec cannot fail.
        let _ = write!(self.bytes, "{text}");
        let written = self.bytes.get(at..).unwrap_or_default();
        let whole = std::str::from_utf8(written).unwrap_or_default();
        let length = whole.floor_char_boundary(limits::TEXT);
        self.bytes.truncate(at + length);
        u16::try_from(length).unwrap_or(0)
    }

    /// Writes the header of the frame that began at `at`, with room for it, and ends here.
    #[inline]
    pub fn head_frame(&mut self, at: usize, op: Op, id: u64, fds: u16) {
        let length = u32::try_from(self.bytes.len() - at - limits::HEADER);
        debug_assert!(length.is_ok(), "a frame is far below 4 GiB");
        self.patch(at, &Header::new(op, id, length.unwrap_or(0), fds).encode());
    }

    /// Overwrites bytes that were appended before.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Puts other bytes in the place of these pieces, which are in order: `with` appends them, given
    /// the old ones. Nothing of it has left.
    #[cold]
    pub fn replace(&mut self, pieces: &[Range<usize>], with: impl Fn(&[u8], &mut Vec<u8>)) {
        let (mut bytes, mut at) = (Vec::with_capacity(self.bytes.len()), 0);
        for piece in pieces {
            bytes.extend_from_slice(self.bytes.get(at..piece.start).unwrap_or_default());
            with(self.bytes.get(piece.clone()).unwrap_or_default(), &mut bytes);
            at = piece.end;
        }
        bytes.extend_from_slice(self.bytes.get(at..).unwrap_or_default());
        self.bytes = bytes;
    }

    /// What has to leave next.
    #[inline]
    pub fn waiting(&self) -> (&[u8], &[Descriptor]) {
        (self.bytes.get(self.sent..).unwrap_or_default(), &self.fds)
    }

    /// `n` bytes have left, and with the first of them all descriptors: closing ours
    /// is all that remains (unix(7)).
    #[inline]
    pub fn left(&mut self, n: usize) {
        self.fds.clear();
        self.sent += n;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}
