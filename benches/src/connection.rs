//! One connection of the load: a burst out, its answers in.
//!
//! Sends one burst at a time and holds what arrives until the burst is answered; then the
//! descriptors are closed, outside the time that is measured. The buffer belongs to the thread; a
//! connection keeps only the head of a frame whose tail has not come.

use anyhow::{Context, Result, bail, ensure};
use objmapper_os::fds::FdQueue;
use objmapper_os::socket::Stream;
use objmapper_proto::{Hello, limits};
use std::path::Path;

use crate::plan::{Dialect, Plan, Unit};
use crate::progress::Progress;
use crate::stop::PATIENCE;

/// Room for the largest frame that must be whole, and for as much again of a body.
pub(crate) const BUFFER: usize = limits::HEADER + limits::REPLY_PAYLOAD;

/// The most that one receive takes: what a socket's send buffer holds, and little enough to stay
/// in a second-level cache.
const RECEIVE: usize = 256 * 1024;

/// What one receive led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing there (a socket that does not block).
    Nothing,
    /// So many requests are answered, and the burst is not.
    Part(usize),
    /// So many requests are answered, and with them the burst.
    Burst(usize),
}

/// A connection and its place in the plan.
#[derive(Debug)]
pub(crate) struct Connection<'p> {
    pub(crate) stream: Stream,
    pub(crate) progress: Progress,
    plan: &'p Plan<'p>,
    /// The burst that is sent next.
    next: usize,
    /// A HELLO must go out before the next burst.
    greet: bool,
    carry: Vec<u8>,
    fds: FdQueue,
}

impl<'p> Connection<'p> {
    /// Connects; `first` is the burst to begin with.
    pub(crate) fn open(socket: &Path, plan: &'p Plan<'p>, first: usize) -> Result<Self> {
        let room = plan.form.pipeline as usize * plan.form.batch as usize;
        Ok(Self {
            stream: connect(socket)?,
            progress: Progress::default(),
            plan,
            next: first,
            greet: plan.dialect == Dialect::Objm,
            carry: Vec::new(),
            fds: FdQueue::with_capacity(room),
        })
    }

    /// Replaces the socket by a new one; between bursts only.
    pub(crate) fn reopen(&mut self, socket: &Path) -> Result<()> {
        self.stream = connect(socket)?;
        self.greet = self.plan.dialect == Dialect::Objm;
        self.carry.clear();
        Ok(())
    }

    /// Sends the next burst, behind a HELLO if the connection is new.
    pub(crate) fn send(&mut self) -> Result<()> {
        let (bytes, _) = self.plan.burst(self.next);
        self.progress.start(self.next);
        self.next += 1;
        if !self.greet {
            return send_all(&self.stream, bytes);
        }
        let mut greeting = Vec::with_capacity(64 + bytes.len());
        Hello::default().encode(1, &mut greeting);
        greeting.extend_from_slice(bytes);
        self.greet = false;
        self.progress.hello_due = true;
        send_all(&self.stream, &greeting)
    }

    /// One receive.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<Received> {
        let kept = self.carry.len();
        if let Some(front) = buffer.get_mut(..kept) {
            front.copy_from_slice(&self.carry);
        }
        let end = buffer.len().min(kept + RECEIVE);
        let room = buffer.get_mut(kept..end).unwrap_or_default();
        let received = match self.stream.recv(room, &mut self.fds) {
            Ok(received) => received,
            Err(error) if error.is_would_block() => return Ok(Received::Nothing),
            Err(error) => return Err(error).context("the server is gone"),
        };
        if received.bytes == 0 {
            bail!("the server has closed the connection");
        }
        ensure!(
            !received.cut,
            "descriptors were lost, {} came and {} are held: the limit on open files (ulimit -n), or more than were asked for",
            received.fds,
            self.fds.len()
        );
        let window = buffer.get(..kept + received.bytes).unwrap_or_default();
        let (used, answered) = self.progress.feed(self.plan, window)?;
        self.carry.clear();
        self.carry.extend_from_slice(window.get(used..).unwrap_or_default());
        if !self.progress.is_done(self.plan) {
            return Ok(Received::Part(answered));
        }
        ensure!(self.carry.is_empty(), "bytes came that nobody asked for");
        Ok(Received::Burst(answered))
    }

    /// The requests that were answered last, so many of them.
    pub(crate) fn last_answered(&self, count: usize) -> &[Unit] {
        self.progress.last_answered(self.plan, count)
    }

    /// Requests of the burst under way that are not answered yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.progress.unanswered(self.plan)
    }

    /// Requests in the burst that was sent last.
    pub(crate) fn requests_per_burst(&self) -> u64 {
        u64::from(self.plan.form.pipeline)
    }

    /// Closes the descriptors of the burst, after a look at their number.
    #[inline]
    pub(crate) fn finish(&mut self) -> Result<()> {
        let outcome = self.progress.check_descriptors(self.plan, self.fds.drain());
        self.fds.clear();
        outcome
    }
}

fn connect(socket: &Path) -> Result<Stream> {
    let stream = Stream::connect(socket, Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn send_all(stream: &Stream, bytes: &[u8]) -> Result<()> {
    let sent = stream.send(bytes, &[], false).context("cannot send the requests")?;
    // All answers to earlier ones are here, so the socket's buffer is empty, and `Plan` keeps a
    // burst below its size.
    ensure!(
        sent == bytes.len(),
        "a burst did not fit into the socket: lower --pipeline or --batch"
    );
    Ok(())
}
