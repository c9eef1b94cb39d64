//! A connected socket: bytes and descriptors out, bytes and descriptors in.
//!
//! One call is one system call, nothing is buffered, nothing is allocated. Three laws of the
//! kernel shape the interface (each is a test in `tests/kernel_rights.rs`):
//!
//! - Descriptors travel with the first byte of their send. If that send was partial, they are
//!   gone: send the rest of the bytes without them.
//! - A receive may begin with earlier plain bytes, ends within the send that brought descriptors,
//!   and never brings two sends' descriptors.
//! - Reading without room for descriptors closes them silently: [`Stream::recv_bytes`] is for
//!   connections on which none can come.

use super::{address, refuse_extras};
use crate::errno;
use crate::error::{Error, Result};
use crate::fds::{FdQueue, MAX_PER_MESSAGE};
use crate::raw;
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, FdFlags, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Room for the descriptors of one message, in bytes; on the stack, not initialised.
const CONTROL_ROOM: usize = cmsg_space!(ScmRights(MAX_PER_MESSAGE));

/// Beyond this the kernel's doubled `int` would overflow, in bytes.
const LARGEST_BUFFER: usize = (i32::MAX / 2) as usize;

/// A connected stream socket: of Unix, or of TCP if a listener of that accepted it, and then
/// nothing but bytes can be sent or received. unix(7), tcp(7)
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
}

/// What one receive brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes put into the buffer; 0 is the end of the stream (or an empty buffer).
    pub bytes: usize,
    /// Descriptors put into the queue.
    pub fds: usize,
    /// Descriptors were lost on the way: the queue was full, or this process may not have more.
    pub cut: bool,
}

/// What can be done with a socket without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// A receive gives something: bytes, the end, or an error.
    pub input: bool,
    /// The peer has read so much that no more than a quarter of the send buffer waits for it, or
    /// it has gone. A send may succeed long before; this is when epoll(7) tells of room.
    pub room: bool,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Connects to a path, or to an abstract name if it begins with `@`; the result blocks.
    ///
    /// A full backlog makes it wait, for `timeout` at most: ETIMEDOUT. Without a timeout it waits
    /// until there is room. ECONNREFUSED if nobody listens, ENOENT if there is no such path,
    /// ENOTSOCK if it is a file of another kind, EACCES if it may not be written. connect(2)
    pub fn connect(path: &Path, timeout: Option<Duration>) -> Result<Self> {
        let told = |errno: i32| Error::new("connect", errno).with_detail(path.to_string_lossy());
        let name = address::of(path)?;
        let socket = new_socket()?;
        let deadline = timeout.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            // The kernel bounds the wait for the backlog by the send timeout.
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                set_timeout(&socket, Timeout::Send, Some(left.max(Duration::from_micros(1))))?;
            }
            match rustix::net::connect(&socket, &name) {
                Ok(()) => break,
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => return Err(told(errno::ETIMEDOUT)),
                Err(Errno::CONNREFUSED) if is_other_file(path) => {
                    return Err(told(errno::ENOTSOCK));
                }
                Err(errno) => return Err(told(errno.raw_os_error())),
            }
        }
        if deadline.is_some() {
            set_timeout(&socket, Timeout::Send, None)?;
        }
        Ok(Self { socket })
    }

    /// Two sockets connected to each other; both block. socketpair(2)
    pub fn pair() -> Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .map_err(Error::on("socketpair"))?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// Takes a connected socket from elsewhere and sets close-on-exec; whether it blocks stays as
    /// it is. EINVAL, with the reason, if it is not a connected Unix stream socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Self> {
        let no = |text: &str| Error::new("getsockopt", errno::EINVAL).with_detail(text);
        let asked = Error::on("getsockopt");
        if sockopt::socket_domain(&socket).map_err(&asked)? != AddressFamily::UNIX {
            return Err(no("not a Unix socket"));
        }
        if sockopt::socket_type(&socket).map_err(&asked)? != SocketType::STREAM {
            return Err(no("not a stream socket"));
        }
        if rustix::net::getpeername(&socket).is_err() {
            return Err(no("not connected"));
        }
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(Error::on("fcntl"))?;
        refuse_extras(socket.as_fd());
        Ok(Self { socket })
    }

    /// Where the peer is, if the socket is one of TCP and still connected. getpeername(2)
    pub fn peer_address(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getpeername(&self.socket).ok()??).ok()
    }

    /// The descriptor, for handing the connection over.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Sends `bytes`, and `fds` with the first of them; gives the number of bytes sent, which may
    /// be fewer than asked: the descriptors have then left already. `more` says that
    /// another send follows at once (Linux does nothing with it on Unix sockets so far).
    ///
    /// EINVAL for more than [`MAX_PER_MESSAGE`] descriptors, or for descriptors without a byte to
    /// carry them; EAGAIN (non-blocking) and then nothing was sent; ETOOMANYREFS when this user
    /// has too many descriptors under way; EPERM when the peer refuses descriptors; EPIPE without
    /// a signal when it has gone. sendmsg(2)
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], more: bool) -> Result<usize> {
        let flags = SendFlags::NOSIGNAL | if more { SendFlags::MORE } else { SendFlags::empty() };
        if fds.is_empty() {
            return retry_on_intr(|| rustix::net::send(&self.socket, bytes, flags))
                .map_err(Error::on("send"));
        }
        check_rights(bytes, fds)?;
        let mut room = [MaybeUninit::uninit(); CONTROL_ROOM];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Error::new("sendmsg", errno::EINVAL));
        }
        let bytes = [IoSlice::new(bytes)];
        retry_on_intr(|| rustix::net::sendmsg(&self.socket, &bytes, &mut control, flags))
            .map_err(Error::on("sendmsg"))
    }

    /// Receives what there is: bytes into `buf`, descriptors into the queue, all close-on-exec.
    ///
    /// A descriptor that does not fit the queue, or that this process is not allowed to have, is
    /// closed and `cut` is set; the bytes arrive all the same, so compare the count with what the
    /// peer announced. EAGAIN if there is nothing (non-blocking, or the read timeout passed);
    /// ECONNRESET if the peer closed with our bytes unread. recvmsg(2)
    pub fn recv(&self, buf: &mut [u8], fds: &mut FdQueue) -> Result<Received> {
        let mut room = [MaybeUninit::uninit(); CONTROL_ROOM];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut bytes = [IoSliceMut::new(buf)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let message =
            retry_on_intr(|| rustix::net::recvmsg(&self.socket, &mut bytes, &mut control, flags))
                .map_err(Error::on("recvmsg"))?;
        let mut received = Received {
            bytes: message.bytes,
            fds: 0,
            cut: message.flags.contains(ReturnFlags::CTRUNC),
        };
        for part in control.drain() {
            let RecvAncillaryMessage::ScmRights(rights) = part else { continue };
            for fd in rights {
                match fds.push(fd) {
                    Ok(()) => received.fds += 1,
                    Err(unwanted) => {
                        drop(unwanted);
                        received.cut = true;
                    }
                }
            }
        }
        Ok(received)
    }

    /// Receives bytes only; descriptors that come with them are closed by the kernel without a
    /// word. 0 is the end of the stream. Errors as for [`Stream::recv`]. recv(2)
    pub fn recv_bytes(&self, buf: &mut [u8]) -> Result<usize> {
        retry_on_intr(|| rustix::net::recv(&self.socket, &mut *buf, RecvFlags::empty()))
            .map(|(bytes, _)| bytes)
            .map_err(Error::on("recv"))
    }

    /// Whether calls that cannot proceed say EAGAIN instead of waiting.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.socket).map_err(Error::on("fcntl"))?;
        let mut wanted = flags;
        wanted.set(OFlags::NONBLOCK, on);
        if wanted == flags {
            return Ok(());
        }
        rustix::fs::fcntl_setfl(&self.socket, wanted).map_err(Error::on("fcntl"))
    }

    /// The longest that a blocking receive waits before it says EAGAIN; `None` is for ever, and
    /// zero is EINVAL. `SO_RCVTIMEO` in socket(7)
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        set_timeout(&self.socket, Timeout::Recv, timeout)
    }

    /// The longest that a blocking send waits before it says EAGAIN; `None` is for ever, and zero
    /// is EINVAL. `SO_SNDTIMEO` in socket(7)
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        set_timeout(&self.socket, Timeout::Send, timeout)
    }

    /// Makes room for `bytes` more or less: the kernel counts its own overhead too and so doubles
    /// the number. Beyond `net.core.wmem_max` only with CAP_NET_ADMIN, else as far as that. A
    /// larger buffer stays. Gives what the kernel then says, in its doubled count. `SO_SNDBUF` in socket(7)
    pub fn grow_send_buffer(&self, bytes: usize) -> Result<usize> {
        grow(
            || sockopt::socket_send_buffer_size(&self.socket),
            |bytes| sockopt::set_socket_send_buffer_size_force(&self.socket, bytes),
            |bytes| sockopt::set_socket_send_buffer_size(&self.socket, bytes),
            bytes,
        )
    }

    /// Lets no more than some `bytes` wait for the peer; what waits already stays. The kernel
    /// doubles the number, and has a least of its own. `SO_SNDBUF` in socket(7)
    pub fn shrink_send_buffer(&self, bytes: usize) -> Result<()> {
        let now =
            sockopt::socket_send_buffer_size(&self.socket).map_err(Error::on("getsockopt"))?;
        if now <= bytes.saturating_mul(2) {
            return Ok(());
        }
        sockopt::set_socket_send_buffer_size(&self.socket, bytes).map_err(Error::on("setsockopt"))
    }

    /// As [`Stream::grow_send_buffer`], for `SO_RCVBUF`. A Unix stream charges what is under way
    /// to the *sender's* buffer: this one has no effect on how much the peer can send.
    pub fn grow_recv_buffer(&self, bytes: usize) -> Result<usize> {
        grow(
            || sockopt::socket_recv_buffer_size(&self.socket),
            |bytes| sockopt::set_socket_recv_buffer_size_force(&self.socket, bytes),
            |bytes| sockopt::set_socket_recv_buffer_size(&self.socket, bytes),
            bytes,
        )
    }

    /// What the peer has not read of that which we sent, in the kernel's count: 0 means it has
    /// read everything, and so has every descriptor; a small send counts for more than its bytes.
    /// `SIOCOUTQ` in unix(7)
    pub fn unread(&self) -> Result<usize> {
        raw::unread(self.as_fd()).map(|bytes| usize::try_from(bytes).unwrap_or(0))
    }

    /// Tells the peer that no more bytes will come; receiving goes on. shutdown(2)
    pub fn shutdown_write(&self) -> Result<()> {
        rustix::net::shutdown(&self.socket, Shutdown::Write).map_err(Error::on("shutdown"))
    }

    /// Takes no more bytes: the peer's sends fail with EPIPE, what it sent before can still be
    /// received, and then the end. Sending goes on. shutdown(2)
    pub fn shutdown_read(&self) -> Result<()> {
        rustix::net::shutdown(&self.socket, Shutdown::Read).map_err(Error::on("shutdown"))
    }

    /// Ends both directions: the peer reads what was sent, and then the end; what it sends fails.
    /// The descriptor stays, to be asked about. shutdown(2)
    pub fn shutdown(&self) -> Result<()> {
        rustix::net::shutdown(&self.socket, Shutdown::Both).map_err(Error::on("shutdown"))
    }

    /// Whether the peer has closed its end, so that nothing can be sent to it any more. One that
    /// only said "no more bytes from me" has not hung up. What it sent before may still be read.
    pub fn has_hung_up(&self) -> Result<bool> {
        Ok(self.now(PollFlags::empty())?.intersects(PollFlags::HUP | PollFlags::ERR))
    }

    /// Whether a receive would give something: bytes, the end, or an error. poll(2)
    pub fn has_input(&self) -> Result<bool> {
        Ok(self.readiness()?.input)
    }

    /// What can be done now. poll(2)
    pub fn readiness(&self) -> Result<Readiness> {
        let over = PollFlags::HUP | PollFlags::ERR;
        let found = self.now(PollFlags::IN | PollFlags::OUT)?;
        Ok(Readiness {
            input: found.intersects(PollFlags::IN | over),
            room: found.intersects(PollFlags::OUT | over),
        })
    }

    fn now(&self, asked: PollFlags) -> Result<PollFlags> {
        let mut fds = [PollFd::new(&self.socket, asked)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        retry_on_intr(|| poll(&mut fds, Some(&now))).map_err(Error::on("poll"))?;
        let [fd] = &fds;
        Ok(fd.revents())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn new_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(Error::on("socket"))
}

/// The kernel refuses any other file as it refuses a socket at which nobody listens. unix(7)
fn is_other_file(path: &Path) -> bool {
    address::abstract_name(path).is_none()
        && rustix::fs::stat(path)
            .is_ok_and(|there| FileType::from_raw_mode(there.st_mode) != FileType::Socket)
}

fn set_timeout(socket: &OwnedFd, which: Timeout, timeout: Option<Duration>) -> Result<()> {
    sockopt::set_socket_timeout(socket, which, timeout).map_err(Error::on("setsockopt"))
}

fn check_rights(bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    if fds.len() > MAX_PER_MESSAGE {
        let text = format!("{} descriptors in one message, not {MAX_PER_MESSAGE}", fds.len());
        return Err(Error::new("sendmsg", errno::EINVAL).with_detail(text));
    }
    if bytes.is_empty() {
        return Err(Error::new("sendmsg", errno::EINVAL)
            .with_detail("descriptors need a byte to travel with"));
    }
    Ok(())
}

fn grow(
    size: impl Fn() -> rustix::io::Result<usize>,
    force: impl Fn(usize) -> rustix::io::Result<()>,
    ask: impl Fn(usize) -> rustix::io::Result<()>,
    bytes: usize,
) -> Result<usize> {
    let bytes = bytes.min(LARGEST_BUFFER);
    let before = size().map_err(Error::on("getsockopt"))?;
    if before >= bytes.saturating_mul(2) {
        return Ok(before);
    }
    match force(bytes) {
        Err(Errno::PERM) => ask(bytes),
        other => other,
    }
    .map_err(Error::on("setsockopt"))?;
    size().map_err(Error::on("getsockopt"))
}
