//! Descriptors that have arrived and wait to be taken: a bounded queue.
//!
//! Each is owned and close-on-exec; what does not fit is the caller's to close, and dropping the
//! queue closes the rest. One allocation at birth, none later, none at all for a limit of 0.

use crate::error::{Error, Result};
use rustix::fs::{Dir, Mode, OFlags};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// The most descriptors that one message can carry (the kernel's `SCM_MAX_FD`); with more, sending
/// fails with EINVAL. unix(7)
pub const MAX_PER_MESSAGE: usize = 253;

/// First in, first out, at most as many as its limit.
#[derive(Debug)]
pub struct FdQueue {
    held: VecDeque<OwnedFd>,
    limit: usize,
}

impl FdQueue {
    /// Empty, with room for `limit` descriptors.
    pub fn with_capacity(limit: usize) -> Self {
        Self { held: VecDeque::with_capacity(limit), limit }
    }

    /// Adds one at the end; gives it back if the queue is full.
    pub fn push(&mut self, fd: OwnedFd) -> std::result::Result<(), OwnedFd> {
        if self.held.len() >= self.limit {
            return Err(fd);
        }
        self.held.push_back(fd);
        Ok(())
    }

    /// Takes the oldest.
    pub fn pop_front(&mut self) -> Option<OwnedFd> {
        self.held.pop_front()
    }

    /// How many are waiting.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many more would fit.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.held.len())
    }

    /// Takes all, oldest first; those that the caller does not consume are closed.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = OwnedFd> + '_ {
        self.held.drain(..)
    }

    /// Closes all.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

/// How many descriptors this process has open: the entries of `/proc/self/fd`, less the one that
/// is needed to count them. For tests and for a gauge; it costs a system call per 100 or so.
pub fn count_open() -> Result<usize> {
    let named = |errno| Error::on("open")(errno).with_detail("/proc/self/fd");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/proc/self/fd", flags, Mode::empty()).map_err(named)?;
    let mut count = 0_usize;
    for entry in Dir::new(fd).map_err(Error::on("getdents64"))? {
        let entry = entry.map_err(Error::on("getdents64"))?;
        count += usize::from(!matches!(entry.file_name().to_bytes(), b"." | b".."));
    }
    Ok(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn any() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn keeps_the_order_and_the_limit() {
        let mut queue = FdQueue::with_capacity(2);
        let (first, second) = (any(), any());
        let numbers = [first.as_raw_fd(), second.as_raw_fd()];
        queue.push(first).unwrap();
        queue.push(second).unwrap();
        assert_eq!(queue.room(), 0);
        assert!(queue.push(any()).is_err());
        let out: Vec<_> = queue.drain().map(|fd| fd.as_raw_fd()).collect();
        assert_eq!(out, numbers);
        assert!(queue.is_empty() && queue.pop_front().is_none());
    }

    #[test]
    fn a_queue_of_nothing_takes_nothing() {
        let mut queue = FdQueue::with_capacity(0);
        assert!(queue.push(any()).is_err());
        assert_eq!(queue.len(), 0);
    }
}
