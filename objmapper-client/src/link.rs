//! The socket, and what has arrived on it that nobody has taken yet.
//!
//! ```text
//!  socket -> [ buf: taken | start .. buffered .. end | room ]  -> frames, pieces of a body
//!         -> [ fds: oldest first ]                             -> the frames that declare them
//! ```
//!
//! Descriptors arrive with or before the last byte of the frame that they belong to, perhaps
//! together with earlier frames: they wait in a queue and each frame takes as many as its header
//! says. Whatever goes wrong here leaves the stream at an unknown place: the caller drops the link,
//! and with it everything that waits. Not here: what the frames mean.

use crate::error::{Error, Result};
use objmapper_os::fds::FdQueue;
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{Frame, Header, Violation};
use objmapper_proto::limits;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Room for one ordinary receive, in bytes: the answers to a whole pipeline of small requests.
/// Larger frames make it grow, up to the largest frame. Not tuned.
const ROOM: usize = 16 * 1024;

/// Descriptors that may wait: those of one GET_MANY whose frame is still incomplete, and those of
/// the message behind it. More than that are a breach of the protocol.
const WAITING: usize = limits::MANY + limits::DESCRIPTORS;

/// How much one receive may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Whatever there is.
    Far,
    /// Only the bytes that are needed now: those behind them shall stay in the socket.
    Exact,
}

#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    timeout: Option<Duration>,
    waits: bool,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    fds: FdQueue,
}

impl Link {
    /// Over a socket that blocks.
    pub(crate) fn new(stream: Stream) -> Self {
        let fds = FdQueue::with_capacity(WAITING);
        Self { stream, timeout: None, waits: true, buf: vec![0; ROOM], start: 0, end: 0, fds }
    }

    /// Whether a receive waits for as long as the timeout allows, or not at all. In either case
    /// [`Error::Timeout`] says that nothing has come, and what came before it is still there.
    pub(crate) fn set_waiting(&mut self, waits: bool) -> Result<()> {
        if self.waits != waits {
            self.stream.set_nonblocking(!waits)?;
            self.waits = waits;
        }
        Ok(())
    }

    /// How long a blocking call waits.
    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.stream.set_read_timeout(timeout)?;
        self.stream.set_write_timeout(timeout)?;
        self.timeout = timeout;
        Ok(())
    }

    /// Runs `work`, in which a receive waits for as long as it takes.
    pub(crate) fn patiently<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.stream.set_read_timeout(None)?;
        let result = work(self);
        self.stream.set_read_timeout(self.timeout)?;
        result
    }

    /// Sends all of `bytes`, and `fds` with the first of them. That the daemon has gone is not told
    /// here: what it said before it went is still to be read, and the next receive tells.
    pub(crate) fn send(&self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) -> Result<()> {
        while !bytes.is_empty() {
            match self.stream.send(bytes, fds, false) {
                Ok(sent) => {
                    bytes = bytes.get(sent..).unwrap_or_default();
                    fds = &[];
                }
                Err(error) if error.is_would_block() => return Err(Error::Timeout),
                Err(error) if error.is_disconnected() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes the send buffer larger, if the system allows; gives what it is then, in bytes as the
    /// kernel counts them (its own overhead included).
    pub(crate) fn grow_send_buffer(&self, bytes: usize) -> Result<usize> {
        Ok(self.stream.grow_send_buffer(bytes)?)
    }

    /// The header of the next frame, which stays where it is.
    pub(crate) fn header(&mut self, reach: Reach) -> Result<Header> {
        self.fill(limits::HEADER, reach)?;
        let Some(header) = Header::decode(self.buffered()) else {
            return Err(Error::bad("reply", "it has no header")); // 16 bytes are there
        };
        if header.flags != 0 {
            return Err(Error::bad("reply", "it has flags that were not agreed on"));
        }
        let length = header.length as usize;
        if length > limits::REPLY_PAYLOAD {
            let max = limits::REPLY_PAYLOAD;
            return Err(Violation::FrameTooLarge { length, max }.into());
        }
        Ok(header)
    }

    /// The next frame, whole, and the descriptors that wait.
    pub(crate) fn frame(&mut self, reach: Reach) -> Result<(Frame<'_>, &mut FdQueue)> {
        let header = self.header(reach)?;
        let total = limits::HEADER + header.length as usize;
        self.fill(total, reach)?;
        let from = self.start;
        self.start += total;
        let payload = self.buf.get(from + limits::HEADER..from + total).unwrap_or_default();
        Ok((Frame { header, payload }, &mut self.fds))
    }

    /// Steps over the header that [`Link::header`] showed.
    pub(crate) fn skip_header(&mut self) {
        self.take(limits::HEADER);
    }

    /// Takes what is buffered, at most `max` bytes of it.
    pub(crate) fn take(&mut self, max: usize) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from.saturating_add(max));
        self.buf.get(from..self.start).unwrap_or_default()
    }

    /// Takes at least one byte and at most `max`, waiting for it.
    pub(crate) fn chunk(&mut self, max: usize) -> Result<&[u8]> {
        if self.start == self.end {
            self.reserve(max.min(limits::DATA_PAYLOAD));
            self.fill(1, Reach::Far)?;
        }
        Ok(self.take(max))
    }

    /// Receives straight into `room`, past the buffer, which must be empty.
    pub(crate) fn receive_into(&mut self, room: &mut [u8]) -> Result<usize> {
        debug_assert_eq!(self.start, self.end, "bytes in the buffer come first");
        receive(&self.stream, room, &mut self.fds)
    }

    /// Between two answers nothing may wait that no frame will claim. (Bytes may: the reason for
    /// which the daemon is about to end the connection.)
    pub(crate) fn check_idle(&self) -> Result<()> {
        if self.start == self.end && !self.fds.is_empty() {
            return Err(Error::Protocol(Violation::Descriptors {
                declared: 0,
                arrived: self.fds.len(),
                why: "no frame declares them",
            }));
        }
        Ok(())
    }

    /// Whether nothing more can be asked here.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.stream.has_hung_up().unwrap_or(true)
    }

    fn buffered(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    /// Receives until at least `want` bytes are buffered.
    fn fill(&mut self, want: usize, reach: Reach) -> Result<()> {
        if self.end - self.start < want {
            self.reserve(want);
        }
        while self.end - self.start < want {
            let limit = match reach {
                Reach::Far => self.buf.len(),
                Reach::Exact => self.start + want,
            };
            let room = self.buf.get_mut(self.end..limit).unwrap_or_default();
            self.end += receive(&self.stream, room, &mut self.fds)?;
        }
        Ok(())
    }

    /// Makes room for `want` bytes from `start` on.
    fn reserve(&mut self, want: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buf.len() - self.start >= want {
            return;
        }
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buf.len() < want {
            self.buf.resize(want, 0);
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn receive(stream: &Stream, room: &mut [u8], fds: &mut FdQueue) -> Result<usize> {
    debug_assert!(!room.is_empty(), "an empty buffer looks like the end of the stream");
    let received = stream.recv(room, fds).map_err(|error| {
        if error.is_would_block() {
            Error::Timeout
        } else if error.is_disconnected() {
            gone()
        } else {
            error.into()
        }
    })?;
    match received {
        received if received.cut && fds.room() == 0 => {
            Err(Error::Protocol(Violation::Descriptors {
                declared: 0,
                arrived: fds.len(),
                why: "more are waiting than any frame may declare",
            }))
        }
        received if received.cut => Err(Error::DescriptorsLost),
        received if received.bytes == 0 => Err(gone()),
        received => Ok(received.bytes),
    }
}

pub(crate) fn gone() -> Error {
    Error::closed("objmapperd closed it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_proto::frame::Op;

    fn linked() -> (Link, Stream) {
        let (ours, theirs) = Stream::pair().unwrap();
        (Link::new(ours), theirs)
    }

    fn frame(id: u64, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let mut bytes = Header::new(Op::Pong, id, length, 0).encode().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn how_the_stream_is_cut_changes_nothing() {
        let (mut link, peer) = linked();
        let mut bytes = frame(1, b"one");
        bytes.extend(frame(2, &vec![7; 2 * ROOM]));
        bytes.extend(frame(3, b""));
        let writer = std::thread::spawn(move || {
            for piece in bytes.chunks(1009) {
                assert_eq!(peer.send(piece, &[], false).unwrap(), piece.len());
            }
        });
        for (id, length) in [(1, 3), (2, 2 * ROOM), (3, 0)] {
            let (frame, _) = link.frame(Reach::Far).unwrap();
            assert_eq!((frame.header.id, frame.payload.len()), (id, length));
        }
        writer.join().unwrap();
        assert!(matches!(link.frame(Reach::Far), Err(Error::Closed { .. })));
    }

    #[test]
    fn exact_leaves_the_rest_in_the_socket() {
        let (mut link, peer) = linked();
        peer.send(&frame(1, b"body"), &[], false).unwrap();
        assert_eq!(link.header(Reach::Exact).unwrap().length, 4);
        link.skip_header();
        assert_eq!(link.take(100), b"");
        let mut room = [0; 100];
        assert_eq!(link.receive_into(&mut room).unwrap(), 4);
    }

    #[test]
    fn a_chunk_never_passes_its_bound() {
        let (mut link, peer) = linked();
        peer.send(b"abcdef", &[], false).unwrap();
        assert_eq!(link.chunk(4).unwrap(), b"abcd");
        assert_eq!(link.chunk(4).unwrap(), b"ef");
    }
}
