//! Where the bytes of a body go.
//!
//! A sink is given whole pieces (an inline body), or told to pull the payload of a DATA frame out
//! of the link, some of it at a time: part may be buffered already, the rest is still in the socket.
//! It never decides how much: the announced length and the frames' lengths are checked before it
//! is asked. A pull that fails has taken nothing, so that one which must not wait may be repeated.

use crate::error::{Error, Result};
use crate::link::{Link, Reach, gone};
use objmapper_os as os;
use objmapper_os::pipe;
use objmapper_proto::limits;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Where the bytes of a body go.
pub(crate) trait Sink {
    /// A body of `length` bytes is announced; nothing of it has arrived.
    fn begin(&mut self, length: u64) -> Result<()>;

    /// Takes these bytes.
    fn bytes(&mut self, bytes: &[u8]) -> Result<()>;

    /// Takes some of the next `max` bytes of the link, and says how many: at least one.
    fn pull(&mut self, link: &mut Link, max: usize) -> Result<usize> {
        let chunk = link.chunk(max)?;
        self.bytes(chunk)?;
        Ok(chunk.len())
    }

    /// Whether the body can still be begun again: what was taken of it has gone nowhere.
    fn can_begin_again(&self) -> bool;

    /// Whether bytes of a body are better left in the socket until they are pulled.
    fn reach(&self) -> Reach {
        Reach::Far
    }
}

/// Nobody wants them.
pub(crate) struct Discard;

impl Sink for Discard {
    fn begin(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn bytes(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn can_begin_again(&self) -> bool {
        true
    }
}

/// Into memory, which is taken as bytes arrive and never for a length that is only announced.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    /// So many of them have arrived; behind them is room that was cleared once.
    end: usize,
}

impl Memory {
    /// What has arrived.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes
    }

    fn reserve(&mut self, length: usize) -> Result<()> {
        let no_memory = |_| os::Error::new("malloc", os::errno::ENOMEM).into();
        let room = (self.end + length).saturating_sub(self.bytes.len());
        self.bytes.try_reserve(room).map_err(no_memory)
    }
}

impl Sink for Memory {
    fn begin(&mut self, length: u64) -> Result<()> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.bytes.clear();
        self.end = 0;
        self.reserve(length.min(limits::DATA_PAYLOAD))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(bytes.len())?;
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(bytes);
        self.end = self.bytes.len();
        Ok(())
    }

    fn pull(&mut self, link: &mut Link, max: usize) -> Result<usize> {
        let buffered = link.take(max);
        if !buffered.is_empty() {
            self.bytes(buffered)?;
            return Ok(buffered.len());
        }
        self.reserve(max)?;
        if self.bytes.len() < self.end + max {
            self.bytes.resize(self.end + max, 0);
        }
        let room = self.bytes.get_mut(self.end..self.end + max).unwrap_or_default();
        let received = link.receive_into(room)?;
        self.end += received;
        Ok(received)
    }

    fn can_begin_again(&self) -> bool {
        true
    }

    fn reach(&self) -> Reach {
        Reach::Exact
    }
}

/// Called with the bytes that were moved and the bytes that there will be.
pub(crate) type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Counts what was moved.
struct Meter<'p> {
    done: u64,
    total: u64,
    progress: Option<&'p mut Progress<'p>>,
}

impl Meter<'_> {
    fn begin(&mut self, total: u64) {
        (self.done, self.total) = (0, total);
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if let Some(progress) = &mut self.progress {
            progress(self.done, self.total);
        }
    }
}

/// Into anything that can be written to.
pub(crate) struct Writer<'o, 'p> {
    out: &'o mut dyn Write,
    meter: Meter<'p>,
}

impl<'o, 'p> Writer<'o, 'p> {
    pub(crate) fn new(out: &'o mut dyn Write, progress: Option<&'p mut Progress<'p>>) -> Self {
        Self { out, meter: Meter { done: 0, total: 0, progress } }
    }
}

impl Sink for Writer<'_, '_> {
    fn begin(&mut self, length: u64) -> Result<()> {
        self.meter.begin(length);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Output)?;
        self.meter.add(bytes.len());
        Ok(())
    }

    fn can_begin_again(&self) -> bool {
        self.meter.done == 0
    }
}

/// Into a descriptor: into a pipe by splice(2), so that the bytes never come into this process;
/// into anything else by reading and writing.
pub(crate) struct Descriptor<'o, 'p> {
    out: BorrowedFd<'o>,
    file: File,
    splices: bool,
    meter: Meter<'p>,
}

impl<'o, 'p> Descriptor<'o, 'p> {
    pub(crate) fn new(
        out: BorrowedFd<'o>,
        progress: Option<&'p mut Progress<'p>>,
    ) -> io::Result<Self> {
        let file = File::from(out.try_clone_to_owned()?);
        let splices = pipe::is_blocking_pipe(out)?;
        Ok(Self { out, file, splices, meter: Meter { done: 0, total: 0, progress } })
    }
}

impl Sink for Descriptor<'_, '_> {
    fn begin(&mut self, length: u64) -> Result<()> {
        self.meter.begin(length);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::Output)?;
        self.meter.add(bytes.len());
        Ok(())
    }

    fn pull(&mut self, link: &mut Link, max: usize) -> Result<usize> {
        let buffered = if self.splices { link.take(max) } else { link.chunk(max)? };
        if !buffered.is_empty() {
            self.bytes(buffered)?;
            return Ok(buffered.len());
        }
        let moved = splice(link.as_fd(), self.out, max)?;
        self.meter.add(moved);
        Ok(moved)
    }

    fn can_begin_again(&self) -> bool {
        self.meter.done == 0
    }

    fn reach(&self) -> Reach {
        if self.splices { Reach::Exact } else { Reach::Far }
    }
}

/// One splice(2), whose errors are sorted by the side that they come from.
fn splice(socket: BorrowedFd<'_>, out: BorrowedFd<'_>, length: usize) -> Result<usize> {
    match pipe::splice(socket, out, length) {
        Ok(0) => Err(gone()),
        Ok(moved) => Ok(moved),
        Err(error) if error.is_would_block() => Err(Error::Timeout),
        Err(error) if error.errno() == os::errno::ECONNRESET => Err(gone()),
        Err(error) => Err(Error::Output(error.into())),
    }
}
