//! Pipes as the place where the kernel moves bytes without copying them.
//!
//! splice(2) needs a pipe on one side at least. Whether it waits is for both sides to say:
//! a non-blocking pipe makes the other side non-blocking for the call as well, so that EAGAIN
//! no longer tells which of them is not ready. [`is_blocking_pipe`] sorts those out beforehand.

use crate::error::{Error, Result};
use rustix::fs::{FileType, OFlags};
use rustix::io::retry_on_intr;
use rustix::pipe::SpliceFlags;
use std::os::fd::BorrowedFd;

/// Whether this is a pipe or FIFO, and calls on it wait. fstat(2), fcntl(2)
pub fn is_blocking_pipe(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).map_err(Error::on("fstat"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Ok(false);
    }
    let flags = rustix::fs::fcntl_getfl(fd).map_err(Error::on("fcntl"))?;
    Ok(!flags.contains(OFlags::NONBLOCK))
}

/// Moves up to `length` bytes; gives how many. 0 is the end of what comes in.
///
/// One side must be a pipe (EINVAL); neither position is given, so a file is read or written where
/// its own stands. From a socket it takes bytes only: descriptors that came with them are closed
/// without a word. EAGAIN if a side is not ready: non-blocking, or a socket whose read timeout
/// passed. A pipe that nobody reads any more is EPIPE *and* SIGPIPE: see
/// [`crate::signal::ignore_sigpipe`]. splice(2)
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> Result<usize> {
    retry_on_intr(|| rustix::pipe::splice(from, None, to, None, length, SpliceFlags::MOVE))
        .map_err(Error::on("splice"))
}
