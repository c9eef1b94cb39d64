//! A pipe or a stream socket that somebody else gave us to write into.
//!
//! They hold the same open file description and do with it what they like meanwhile, clearing
//! `O_NONBLOCK` included: so each call here says by itself that it must not wait for room. It may
//! wait all the same, for as long as *they* like: who reads from a pipe into memory that is not
//! there (user-space file systems, userfaultfd(2)) holds the pipe's lock meanwhile, and a TCP
//! socket's likewise. Call these functions where a thread may be lost for a while; only
//! [`is_writable`] does not take those locks.
//!
//! A pipe is not opened again by way of `/proc/self/fd`, for a description of our own: that fails
//! for another user's (EACCES, its mode is 0600), and makes a writing end out of a reading one.

use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::retry_on_intr;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SendFlags, SocketType};
use rustix::pipe::{PipeFlags, SpliceFlags};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pipe or FIFO, open for writing.
    Pipe,
    /// A connected stream socket: Unix, TCP.
    Socket,
}

/// What this is, or in a few words why nothing can be moved there. May wait for ever: whose file
/// it is, is not known before. fstat(2), `F_GETFL` in fcntl(2), getpeername(2)
pub fn kind(fd: BorrowedFd<'_>) -> Result<std::result::Result<Kind, &'static str>> {
    let flags = rustix::fs::fcntl_getfl(fd).map_err(Error::on("fcntl"))?;
    if flags.contains(OFlags::PATH) {
        return Ok(Err("it was opened with O_PATH"));
    }
    let stat = rustix::fs::fstat(fd).map_err(Error::on("fstat"))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo if flags & OFlags::RWMODE == OFlags::RDONLY => {
            Err("it is the reading end of a pipe")
        }
        FileType::Fifo => Ok(Kind::Pipe),
        FileType::Socket => return socket(fd),
        FileType::RegularFile => Err("it is a regular file: copy from a descriptor instead"),
        FileType::Directory => Err("it is a directory"),
        _ => Err("it is neither a pipe nor a socket"),
    })
}

fn socket(fd: BorrowedFd<'_>) -> Result<std::result::Result<Kind, &'static str>> {
    let asked = Error::on("getsockopt");
    if sockopt::socket_type(fd).map_err(&asked)? != SocketType::STREAM {
        return Ok(Err("it is not a stream socket"));
    }
    let domain = sockopt::socket_domain(fd).map_err(&asked)?;
    if ![AddressFamily::UNIX, AddressFamily::INET, AddressFamily::INET6].contains(&domain) {
        return Ok(Err("it is neither a Unix nor an internet socket"));
    }
    if sockopt::socket_acceptconn(fd).map_err(&asked)? {
        return Ok(Err("it is a listening socket"));
    }
    if rustix::net::getpeername(fd).is_err() {
        return Ok(Err("it is a socket that is not connected"));
    }
    Ok(Ok(Kind::Socket))
}

/// Moves up to `count` bytes of the file from `offset` into the pipe, without copying them; gives
/// how many. 0 is the end of the file. EAGAIN if the pipe is full, EPIPE (and SIGPIPE: see
/// [`crate::signal::ignore_sigpipe`]) if nobody reads from it. May wait for a disk. As with
/// [`crate::file::send_file`], what is in the pipe is no snapshot. splice(2)
pub fn splice_file(
    pipe: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> Result<usize> {
    retry_on_intr(|| {
        let mut position = offset;
        rustix::pipe::splice(file, Some(&mut position), pipe, None, count, MOVE)
    })
    .map_err(Error::on("splice"))
}

/// Neither waits for room in the pipe, whatever its own flags say.
const MOVE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Writes bytes; gives how many, at least one. EAGAIN if there is no room, EPIPE if nobody reads.
pub fn write(to: BorrowedFd<'_>, kind: Kind, bytes: &[u8]) -> Result<usize> {
    match kind {
        Kind::Pipe => write_pipe(to, bytes),
        Kind::Socket => {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            retry_on_intr(|| rustix::net::send(to, bytes, flags)).map_err(Error::on("send"))
        }
    }
}

/// By way of a pipe of our own: write(2) goes by the other's flags, splice(2) by ours.
fn write_pipe(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    let (out, into) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(Error::on("pipe2"))?;
    let staged = retry_on_intr(|| rustix::io::write(&into, bytes)).map_err(Error::on("write"))?;
    retry_on_intr(|| rustix::pipe::splice(&out, None, to, None, staged, MOVE))
        .map_err(Error::on("splice"))
}

/// Whether a write would do something: there is room, or it would fail. Waits for that as long as
/// `patience` says, and for nothing else. poll(2)
pub fn is_writable(fd: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    retry_on_intr(|| poll(&mut fds, Some(&timeout))).map_err(Error::on("poll"))?;
    let [fd] = &fds;
    Ok(!fd.revents().is_empty())
}
