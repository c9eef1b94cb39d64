//! Many requests under way at a time; answers in order, or, where that was agreed on, each as soon as
//! it is whole.
//!
//! ```text
//!  get, stat -> [ queued ] -- flush, next --> [ owed: sent, not answered ] -- next --> answer
//! ```
//!
//! Two sides that both send and never read would wait for each other for ever. This one never
//! waits while sending: what is under way, counted as generously as the kernel counts it, fills
//! at most half of the socket's send buffer. Answers are read only when they are asked for, so
//! memory and descriptors are bounded by what the caller holds, and the daemon waits meanwhile.

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::request::{Answer, Answered, Owed, Request};
use crate::sending;
use objmapper_proto::Mode;
use std::collections::VecDeque;
use std::ops::RangeBounds;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Send buffer to ask for, in bytes: some thousand small requests. Not tuned.
const SEND_BUFFER: usize = 256 * 1024;

/// What the kernel adds to each send, in bytes, rounded up: about 770 were measured for a small one.
const PER_SEND: usize = 1024;

/// What bytes under way are charged with: the kernel rounds buffers up to powers of two.
const fn charge(bytes: usize) -> usize {
    2 * bytes
}

/// Made by [`crate::Client::pipeline`].
///
/// Requests are queued by [`Pipeline::get`], [`Pipeline::stat`] and [`Pipeline::queue`], which give
/// a number for each, and answered by [`Iterator::next`] with that number, in the same order (or,
/// after [`crate::Builder::out_of_order`], each as soon as it is whole); every request gets one
/// result, even when the connection breaks. Requests may be added while answers are read.
/// Dropping a pipeline forgets what was not sent; answers to what was are thrown away later.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
/// # fn main() { with_daemon(|| {
/// use objmapper_client::{Answer, Client, Mode, Object};
/// # let mut client = Client::connect()?;
/// let mut pipeline = client.pipeline()?;
/// for shard in 0..100 {
///     pipeline.get(&format!("/shards/{shard}"), Mode::Auto)?;
/// }
/// for (number, answer) in &mut pipeline {
///     match answer {
///         Ok(Answer::Object(object)) => println!("{number}: {} bytes", object.metadata().size()),
///         Ok(other) => unreachable!("{other:?}: only gets were queued"),
///         Err(error) => eprintln!("{number}: {error}"),
///     }
/// }
/// # Ok(()) }) }
/// ```
#[derive(Debug)]
pub struct Pipeline<'a> {
    connection: &'a mut Connection,
    queued: VecDeque<Queued>,
    /// The frames of what is queued, in order, behind those that were sent.
    bytes: Vec<u8>,
    sent: usize,
    /// What each request under way is charged with, oldest first, and the sum.
    charges: VecDeque<usize>,
    charged: usize,
    window: usize,
}

#[derive(Debug)]
struct Queued {
    request: Owed,
    frame: usize,
    /// What goes with it: a duplicate, since the caller's may be closed by then.
    destination: Option<OwnedFd>,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(connection: &'a mut Connection) -> Result<Self> {
        connection.settle()?;
        let room = connection.with_link(|link| link.grow_send_buffer(SEND_BUFFER))?;
        Ok(Self {
            connection,
            queued: VecDeque::new(),
            bytes: Vec::new(),
            sent: 0,
            charges: VecDeque::new(),
            charged: 0,
            window: room / 2,
        })
    }

    /// Queues a GET; gives its number.
    pub fn get(&mut self, uri: &str, mode: Mode) -> Result<u64> {
        self.queue(Request::get(uri, mode))
    }

    /// Queues a STAT; gives its number.
    pub fn stat(&mut self, uri: &str) -> Result<u64> {
        self.queue(Request::stat(uri))
    }

    /// Queues a request with all that can be said about it; gives its number.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # use objmapper_client::{Answer, Mode, Request};
    /// # let mut client = objmapper_client::Client::connect()?;
    /// # let mut kept: Vec<_> = vec![client.open("/shards/0")?, client.open("/shards/1")?];
    /// // Which of the objects that are kept open are not current any more?
    /// let mut pipeline = client.pipeline()?;
    /// for (shard, opened) in kept.iter().enumerate() {
    ///     let uri = format!("/shards/{shard}");
    ///     let request = Request::get(&uri, Mode::Fdpass).unless(opened.metadata().version());
    ///     pipeline.queue(request)?;
    /// }
    /// for (opened, (_, answer)) in kept.iter_mut().zip(&mut pipeline) {
    ///     if let Answer::Object(objmapper_client::Object::Descriptor(newer)) = answer? {
    ///         *opened = newer;
    ///     }
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn queue(&mut self, request: Request<'_>) -> Result<u64> {
        self.enqueue(request, None)
    }

    /// Queues a request like that of [`crate::Client::send_to`]; gives its number. The answer, when
    /// all bytes are in the destination, is [`Answer::Sent`]. Where answers may overtake bodies,
    /// others come meanwhile.
    ///
    /// The pipeline has a duplicate of the destination until the request is sent: its reader does
    /// not see the end before that, nor before the daemon is done.
    pub fn send_to(
        &mut self,
        uri: &str,
        range: impl RangeBounds<u64>,
        destination: impl AsFd,
    ) -> Result<u64> {
        sending::check(self.connection)?;
        let destination = destination.as_fd().try_clone_to_owned().map_err(Error::Output)?;
        self.enqueue(Request::sent(uri, range), Some(destination))
    }

    fn enqueue(&mut self, request: Request<'_>, destination: Option<OwnedFd>) -> Result<u64> {
        let name = request.name()?;
        let name = name.as_ref().map_or(b"".as_slice(), |name| name.as_uri().as_bytes());
        // In order the flags go without saying, and may not be said.
        let flags = if self.connection.is_out_of_order() { request.order } else { 0 };
        let id = self.connection.next_id();
        let before = self.bytes.len();
        request.wanted.on(name).encode_flagged(id, flags, &mut self.bytes);
        let frame = self.bytes.len() - before;
        let owed = Owed { id, wanted: request.wanted, uri: request.uri.into() };
        self.queued.push_back(Queued { request: owed, frame, destination });
        Ok(id)
    }

    /// How many requests have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.queued.len() + self.connection.owed.len()
    }

    /// Sends what is queued, as far as that can be done without waiting for answers; the rest
    /// follows while answers are read.
    pub fn flush(&mut self) -> Result<()> {
        let (count, length) = self.fitting();
        if count == 0 {
            return Ok(());
        }
        let end = self.sent + length;
        let fds = self.queued.iter().take(count).filter_map(|queued| queued.destination.as_ref());
        let fds: Vec<_> = fds.map(AsFd::as_fd).collect();
        self.connection.send(self.bytes.get(self.sent..end).unwrap_or_default(), &fds)?;
        self.sent = end;
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        for queued in self.queued.drain(..count) {
            self.charges.push_back(charge(queued.frame));
            self.connection.owed.push_back(queued.request);
        }
        // The send's own cost is freed with its last request.
        if let Some(last) = self.charges.back_mut() {
            *last += PER_SEND;
        }
        self.charged += charge(length) + PER_SEND;
        Ok(())
    }

    /// How many of the queued requests may go out now, and their bytes. One always may when
    /// nothing is under way: then the daemon is reading.
    fn fitting(&self) -> (usize, usize) {
        let most = self.connection.agreed().max_pipeline as usize;
        let most_fds = usize::from(self.connection.agreed().max_descriptors);
        let (mut count, mut length, mut fds) = (0, 0, 0);
        for queued in &self.queued {
            let under_way = self.connection.owed.len() + count;
            let charged = self.charged + charge(length + queued.frame) + PER_SEND;
            fds += usize::from(queued.destination.is_some());
            if fds > most_fds || under_way > 0 && (under_way >= most || charged > self.window) {
                break;
            }
            count += 1;
            length += queued.frame;
        }
        (count, length)
    }

    /// Sends more when half of the window is free: not a send for every answer.
    fn refill(&mut self) -> Result<()> {
        if self.charged > self.window / 2 { Ok(()) } else { self.flush() }
    }
}

impl Pipeline<'_> {
    /// The next answer if all of it has arrived, without waiting for any more: for a program that
    /// waits for many things at a time. `None` says that nothing can be had now, or, when
    /// [`Pipeline::unanswered`] is 0, that everything was answered.
    ///
    /// Call it until it gives `None`, then wait until [`Pipeline::socket`] is *readable* (poll(2),
    /// epoll(7), `AsyncFd`; edge-triggered will do), and so on. It is never necessary to wait until
    /// it is writable. How long to wait is for the program to say: the timeout of the client is not
    /// looked at here. Connecting, and everything else in this library, blocks.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # fn wait_until_readable(_: impl std::os::fd::AsFd) { std::thread::yield_now(); }
    /// # let mut client = objmapper_client::Client::connect()?;
    /// let mut pipeline = client.pipeline()?;
    /// pipeline.get("/models/a.gguf", objmapper_client::Mode::Copy)?;
    /// while pipeline.unanswered() > 0 {
    ///     match pipeline.try_next() {
    ///         Some((number, answer)) => println!("{number}: {answer:?}"),
    ///         None => wait_until_readable(pipeline.socket().expect("an answer is on its way")),
    ///     }
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn try_next(&mut self) -> Option<(u64, Result<Answer>)> {
        if let Some(lost) = self.refill_or_lose() {
            return Some(lost);
        }
        let (owed, answered) = self.connection.collect_now()?;
        Some(self.answer(&owed, answered))
    }

    /// The socket on which answers arrive; `None` once the connection is closed. It stays the same
    /// as long as the pipeline lives, so an event loop may register it once, by its number or as a
    /// duplicate ([`BorrowedFd::try_clone_to_owned`]), and go on using the pipeline.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.connection.socket()
    }

    /// Sends more. If that fails and nothing is owed any more, a queued request has its result.
    fn refill_or_lose(&mut self) -> Option<(u64, Result<Answer>)> {
        match self.refill() {
            Err(error) if self.connection.owed.is_empty() => {
                let lost = self.queued.pop_front()?;
                Some((lost.request.id, Err(error)))
            }
            _ => None,
        }
    }

    fn answer(&mut self, owed: &Owed, answered: Answered) -> (u64, Result<Answer>) {
        // An answer says that as many requests have been read as were answered, whichever they are.
        self.charged -= self.charges.pop_front().unwrap_or(0);
        (owed.id, answered.map_err(|error| error.about(&owed.uri)))
    }
}

impl Iterator for Pipeline<'_> {
    type Item = (u64, Result<Answer>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(lost) = self.refill_or_lose() {
            return Some(lost);
        }
        let (owed, answered) = self.connection.collect()?;
        Some(self.answer(&owed, answered))
    }
}
