//! What the floor sends: replies in one buffer, their descriptors beside it.
//!
//! Consecutive replies leave in one message, with all their descriptors. A small body is read into
//! the same buffer; a large one goes out behind it by sendfile.

use anyhow::{Result, ensure};
use objmapper_os::fds::MAX_PER_MESSAGE;
use objmapper_os::socket::Stream;
use objmapper_os::{Error, file};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::answer::Opened;
use crate::wire::{FloorReply, Job};

/// Up to here a body is read and sent together with its reply; above, sendfile is cheaper. The two
/// meet between 16 and 64 KiB.
const READ_MAX: u64 = 32 * 1024;

/// Bytes that may wait for the next flush.
const ENOUGH: usize = 64 * 1024;

pub(super) struct Out {
    /// Replies that have not been sent.
    bytes: Vec<u8>,
    /// Their descriptors, in order.
    fds: Vec<OwnedFd>,
}

impl Out {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(2 * ENOUGH), fds: Vec::with_capacity(MAX_PER_MESSAGE) }
    }

    pub(super) fn refuse(&mut self, stream: &Stream, error: &Error) -> Result<()> {
        let errno = error.errno().unsigned_abs();
        self.reply(stream, FloorReply { length: 0, fds: 0, errno })
    }

    pub(super) fn descriptor(&mut self, stream: &Stream, fd: OwnedFd, size: u64) -> Result<()> {
        if self.fds.len() == MAX_PER_MESSAGE {
            self.flush(stream)?;
        }
        self.fds.push(fd);
        self.reply(stream, FloorReply { length: size, fds: 1, errno: 0 })
    }

    pub(super) fn body(&mut self, stream: &Stream, opened: &Opened, job: Job) -> Result<()> {
        let (file, size) = (opened.0.as_fd(), opened.1);
        self.reply(stream, FloorReply { length: size, fds: 0, errno: 0 })?;
        if job == Job::Copy && size <= READ_MAX {
            let before = self.bytes.len();
            let length = usize::try_from(size)?;
            file::read_at_append(file, &mut self.bytes, length, 0, false)?;
            ensure!(self.bytes.len() == before + length, "the file has shrunk");
            return Ok(());
        }
        self.flush(stream)?;
        let mut offset = 0;
        while offset < size {
            let sent = file::send_file(stream, file, offset, usize::try_from(size - offset)?)?;
            ensure!(sent > 0, "the file has shrunk");
            offset += sent as u64;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, stream: &Stream) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let sent = match self.fds.as_slice() {
            [] => stream.send(&self.bytes, &[], false)?,
            [one] => stream.send(&self.bytes, &[one.as_fd()], false)?,
            [first, ..] => {
                let mut table: [BorrowedFd<'_>; MAX_PER_MESSAGE] = [first.as_fd(); _];
                for (place, fd) in table.iter_mut().zip(&self.fds) {
                    *place = fd.as_fd();
                }
                stream.send(&self.bytes, table.get(..self.fds.len()).unwrap_or_default(), false)?
            }
        };
        self.fds.clear();
        let mut rest = self.bytes.get(sent..).unwrap_or_default();
        while !rest.is_empty() {
            let sent = stream.send(rest, &[], false)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.bytes.clear();
        Ok(())
    }

    pub(super) fn discard(&mut self) {
        self.bytes.clear();
        self.fds.clear();
    }

    fn reply(&mut self, stream: &Stream, reply: FloorReply) -> Result<()> {
        if self.bytes.len() >= ENOUGH {
            self.flush(stream)?;
        }
        self.bytes.extend_from_slice(&reply.encode());
        Ok(())
    }
}
