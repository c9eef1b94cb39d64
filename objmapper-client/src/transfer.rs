//! Moving an object's bytes somewhere: which part, how, and how far it has come.

use crate::answer::Arrived;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::sink::{Descriptor, Progress, Sink, Writer};
use objmapper_proto::{Mode, Version};
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
    /// The mode is that of where the bytes go.
    asked: Request<'a>,
    progress: Option<&'a mut Progress<'a>>,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(connection: &'a mut Connection, uri: &'a str) -> Self {
        Self { connection, asked: Request::get(uri, Mode::Copy), progress: None }
    }

    /// Only these bytes, as many of them as there are.
    pub fn range(mut self, range: impl RangeBounds<u64>) -> Self {
        self.asked = self.asked.range(range);
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
        Ok(run(self.connection, self.asked, Mode::Copy, &mut sink)?.metadata.served())
    }

    /// As [`crate::Client::splice_to`].
    pub fn splice_to(self, out: impl AsFd) -> Result<u64> {
        let mut sink = Descriptor::new(out.as_fd(), self.progress).map_err(Error::Output)?;
        Ok(run(self.connection, self.asked, Mode::Splice, &mut sink)?.metadata.served())
    }

    /// As [`Transfer::copy_to`], unless the object still is that version: then `None`, and nothing
    /// was written.
    pub fn copy_to_unless(self, version: Version, out: &mut dyn Write) -> Result<Option<u64>> {
        let mut sink = Writer::new(out, self.progress);
        let arrived = run(self.connection, self.asked.unless(version), Mode::Copy, &mut sink)?;
        Ok((!arrived.not_modified).then(|| arrived.metadata.served()))
    }

    /// As [`Transfer::splice_to`], unless the object still is that version: then `None`, and
    /// nothing was written.
    pub fn splice_to_unless(self, version: Version, out: impl AsFd) -> Result<Option<u64>> {
        let mut sink = Descriptor::new(out.as_fd(), self.progress).map_err(Error::Output)?;
        let arrived = run(self.connection, self.asked.unless(version), Mode::Splice, &mut sink)?;
        Ok((!arrived.not_modified).then(|| arrived.metadata.served()))
    }
}

fn run(
    connection: &mut Connection,
    asked: Request<'_>,
    mode: Mode,
    sink: &mut dyn Sink,
) -> Result<Arrived> {
    connection.fetch(&asked.by(mode), sink)
}

impl fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("asked", &self.asked).finish_non_exhaustive()
    }
}
