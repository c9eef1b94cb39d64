//! Input: the buffer that a connection's bytes are read into while it is served.
//!
//! It belongs to whoever serves, one after another; what a turn leaves over moves into the
//! connection. How much is read at once depends on how much the connection's user has left
//! over already.

use std::mem;
use std::os::fd::OwnedFd;

use objmapper_os::fds::{FdQueue, MAX_PER_MESSAGE};
use objmapper_proto::limits;

use crate::connection::Connection;

/// Bytes that one recv asks for, beside an unfinished frame.
const READ: usize = 64 * 1024;

/// The same while the user has so much queued that it should not be more: whole requests
/// of usual length are served all the same. Not tuned.
pub const LITTLE: usize = 4 * 1024;

/// Bytes of the buffer: an unfinished frame, and a read behind it.
const SIZE: usize = READ + limits::HEADER + limits::REQUEST_PAYLOAD;

/// The read buffer: bytes from `start` to `end` are read and not served.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Those that came, from who may bring any.
    fds: FdQueue,
}

/// What a read gave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// As many bytes as it asked for.
    Some,
    /// Fewer: the socket is empty.
    Last,
    /// The end of what the peer sends.
    End,
    /// Nothing: more comes later.
    Empty,
    /// The connection is broken.
    Gone,
    /// Descriptors as well. It stops at them: more may be there.
    Descriptors,
    /// Descriptors, some of which we could not have.
    Lost,
}

impl Default for Input {
    /// Empty.
    fn default() -> Self {
        // Zeroed pages that no large request touches cost nothing.
        let fds = FdQueue::with_capacity(MAX_PER_MESSAGE);
        Self { buffer: vec![0; SIZE], start: 0, end: 0, fds }
    }
}

impl Input {
    /// What was read and is not served.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// So much of it is served.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start >= self.end {
            self.clear();
        }
    }

    /// All of it is.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// The descriptors that came with the last read.
    pub fn descriptors(&mut self) -> impl ExactSizeIterator<Item = OwnedFd> + '_ {
        self.fds.drain()
    }

    /// Starts with what the connection had left over.
    pub fn take_up(&mut self, leftover: &mut Vec<u8>) {
        self.clear();
        if let Some(place) = self.buffer.get_mut(..leftover.len()) {
            place.copy_from_slice(leftover);
            self.end = leftover.len();
            leftover.clear();
        } else {
            // Longer than any frame of ours: a large value. It becomes the buffer.
            self.end = leftover.len();
            self.buffer = mem::take(leftover);
            self.buffer.resize(self.end + READ, 0);
        }
    }

    /// Leaves what was not served with the connection, in little more memory than that.
    pub fn leave(&mut self, leftover: &mut Vec<u8>) {
        let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
        if rest.is_empty() {
            if leftover.capacity() > 0 {
                *leftover = Vec::new();
            }
        } else if self.start == 0 && self.buffer.len() != SIZE {
            // As it was taken up: what is long already is not copied for each piece that comes.
            self.buffer.truncate(self.end);
            *leftover = mem::take(&mut self.buffer);
        } else {
            leftover.extend_from_slice(rest);
        }
        self.clear();
        if self.buffer.len() != SIZE {
            self.buffer = vec![0; SIZE];
        }
    }

    /// Reads behind what there is.
    pub fn read(&mut self, c: &Connection) -> Read {
        // An unfinished frame is mostly at most one request long; with it at the front there
        // is room for a whole read behind it.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let most = if c.queued.may_grow() { READ } else { LITTLE };
        if self.buffer.len() < self.end + most {
            // Of some requests nobody knows how long they will be.
            self.buffer.resize(self.end + most, 0);
        }
        let room = self.buffer.get_mut(self.end..self.end + most).unwrap_or_default();
        let read = if c.closer().is_none() {
            c.link.socket.recv_bytes(room)
        } else {
            match c.link.socket.recv(room, &mut self.fds) {
                // The queue is empty before and has room for any message.
                Ok(received) if received.cut => return Read::Lost,
                Ok(received) if received.fds > 0 => {
                    self.end += received.bytes;
                    return Read::Descriptors;
                }
                other => other.map(|received| received.bytes),
            }
        };
        match read {
            Ok(0) => Read::End,
            Ok(n) => {
                self.end += n;
                if n < most { Read::Last } else { Read::Some }
            }
            Err(error) if error.is_would_block() => Read::Empty,
            Err(_) => Read::Gone,
        }
    }
}
