//! A link: a connection's socket, its unsent replies, and its account in the ledger. Workers,
//! helpers and the transfer path all send through it, whichever of them has the connection.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use objmapper_os as os;
use objmapper_proto::limits;
use os::errno;
use os::fds::MAX_PER_MESSAGE;
use os::socket::Stream;

use crate::ledger::Tab;
use crate::outbox::{Descriptor, Outbox};
use crate::seldom;

/// Bytes that may wait before they must be flushed. A socket's default send buffer
/// takes about three times as much.
pub const ENOUGH: usize = 64 * 1024;

/// What became of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything has left.
    All,
    /// The peer has to read first.
    Blocked,
    /// Too many descriptors are open or in flight.
    Full,
    /// The peer is gone.
    Gone,
}

/// One connection's way out.
#[derive(Debug)]
pub struct Link {
    /// Shared with the ledger only, which asks it how much is unread.
    pub socket: Arc<Stream>,
    /// Replies that have not left yet: mostly none.
    pub outbox: Outbox,
    /// Something has left since this was last looked at.
    pub moved: bool,
    tab: Tab,
}

impl Link {
    /// Nothing waits.
    pub fn new(socket: Arc<Stream>, tab: Tab) -> Self {
        Self { socket, outbox: Outbox::default(), moved: false, tab }
    }

    /// Keeps what waits in the socket short: a reply overtakes what has not been sent,
    /// and nothing that has. A frame of `bytes` fits whole behind what there may be when room is
    /// told of (half as much), since the kernel doubles the number. Costs throughput.
    pub fn prefer_latency(&self, bytes: usize) {
        if let Err(error) = self.socket.shrink_send_buffer(bytes) {
            tracing::debug!(%error, "the send buffer stays as it is");
        }
    }

    /// Whether descriptors are on their way that the peer has not taken.
    pub fn owes(&self) -> bool {
        self.tab.owes()
    }

    /// Whether one more descriptor may be opened for this peer; it is charged from now on.
    #[inline]
    pub fn reserve(&mut self) -> bool {
        self.tab.held() > self.outbox.descriptors() || self.tab.hold().is_ok()
    }

    /// Sends what waits, in as few messages as the kernel takes.
    #[inline]
    pub fn flush(&mut self) -> Flushed {
        while !self.outbox.is_empty() {
            let (bytes, fds) = self.outbox.waiting();
            let sent = if fds.is_empty() {
                self.socket.send(bytes, &[], false)
            } else {
                self.tab.sending(fds.len());
                let sent = lend(fds, |fds| self.socket.send(bytes, fds, false));
                match sent {
                    Ok(_) => self.tab.sent(fds.len()),
                    Err(_) => self.tab.undo(fds.len()),
                }
                sent
            };
            match sent {
                Ok(n) => {
                    self.outbox.left(n);
                    self.moved = true;
                }
                Err(error) => return judge(&error),
            }
        }
        // One that was reserved and not needed.
        if self.tab.held() > 0 {
            self.tab.give_back();
        }
        Flushed::All
    }
}

fn judge(error: &os::Error) -> Flushed {
    match error.errno() {
        errno::EAGAIN => Flushed::Blocked,
        // The ledger keeps us below the kernel's limit, but others of our user count
        // too. Out of memory for the message: as if it were full.
        errno::ETOOMANYREFS | errno::ENOMEM | errno::ENOBUFS => Flushed::Full,
        errno::EPIPE | errno::ECONNRESET => Flushed::Gone,
        errno::EPERM => {
            tracing::debug!(%error, "a client asks for descriptors and refuses them; closing");
            Flushed::Gone
        }
        _ => {
            seldom!(WARN, %error, "cannot send; closing");
            Flushed::Gone
        }
    }
}

const _: () = assert!(limits::DESCRIPTORS == MAX_PER_MESSAGE, "the wire and the kernel agree");

/// Lends descriptors as the kernel's interface wants them, without an allocation.
fn lend<T>(fds: &[Descriptor], send: impl FnOnce(&[BorrowedFd<'_>]) -> T) -> T {
    const FEW: usize = 8;
    fn in_room<const N: usize, T>(
        fds: &[Descriptor],
        first: BorrowedFd<'_>,
        send: impl FnOnce(&[BorrowedFd<'_>]) -> T,
    ) -> T {
        let mut room = [first; N];
        room.iter_mut().zip(fds).for_each(|(slot, fd)| *slot = fd.as_fd());
        send(room.get(..fds.len()).unwrap_or_default())
    }
    match fds.first() {
        None => send(&[]),
        Some(first) if fds.len() <= FEW => in_room::<FEW, T>(fds, first.as_fd(), send),
        Some(first) => in_room::<MAX_PER_MESSAGE, T>(fds, first.as_fd(), send),
    }
}
