//! Moving an object's bytes somewhere: which part, how, and how far it has come.

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::name::wire_range;
use crate::sink::{Descriptor, Progress, Sink, Writer};
use objmapper_proto::{Mode, Range};
use std::fmt;
use std::io::Write;
use std::ops::RangeBounds;
use std::os::fd::AsFd;

/// Made by [`crate::Client::transfer`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
/// # fn main() { with_daemon(|| {
/// # let mut client = objmapper_client::Client::connect()?;
/// # let mut file = Vec::new();
/// let mut report = |done, total| eprintln!("{done} of {total} bytes");
/// client.transfer("/models/a.gguf").range(4096..).progress(&mut report).copy_to(&mut file)?;
/// # Ok(()) }) }
/// ```
#[must_use = "nothing moves until it is told where to"]
pub struct Transfer<'a> {
    connection: &'a mut Connection,
    uri: &'a str,
    range: Range,
    progress: Option<&'a mut Progress<'a>>,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(connection: &'a mut Connection, uri: &'a str) -> Self {
        Self { connection, uri, range: Range::ALL, progress: None }
    }

    /// Only these bytes, as many of them as there are.
    pub fn range(mut self, range: impl RangeBounds<u64>) -> Self {
        self.range = wire_range(&range);
        self
    }

    /// Calls `report` with the bytes that were moved and the bytes that there will be, a few
    /// times for each MiB. It must not panic: that closes the connection.
    pub fn progress(mut self, report: &'a mut (dyn FnMut(u64, u64) + 'a)) -> Self {
        self.progress = Some(report);
        self
    }

    /// As [`crate::Client::copy_to`].
    pub fn copy_to(self, out: &mut dyn Write) -> Result<u64> {
        let mut sink = Writer::new(out, self.progress);
        run(self.connection, self.uri, Mode::Copy, self.range, &mut sink)
    }

    /// As [`crate::Client::splice_to`].
    pub fn splice_to(self, out: impl AsFd) -> Result<u64> {
        let mut sink = Descriptor::new(out.as_fd(), self.progress).map_err(Error::Output)?;
        run(self.connection, self.uri, Mode::Splice, self.range, &mut sink)
    }
}

fn run(
    connection: &mut Connection,
    uri: &str,
    mode: Mode,
    range: Range,
    sink: &mut dyn Sink,
) -> Result<u64> {
    let arrived = connection.fetch(uri, mode, range, sink)?;
    Ok(arrived.metadata.served())
}

impl fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("uri", &self.uri)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}
