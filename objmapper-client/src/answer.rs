//! Reading the answer to one request, and believing none of it unchecked.
//!
//! Checked here: the frame answers the oldest request; it is of a kind that the request can have;
//! it declares as many descriptors as its items deliver, and they are there; an object comes in a
//! form that was asked for, and is shared with others only if that was allowed; a body has the
//! length that was announced; a range is the one that was asked for, cut at the object's end.
//!
//! A refusal leaves the link between two answers. Every other error leaves it somewhere inside
//! one: see [`Error::ends_connection`].

use crate::error::{Error, Result};
use crate::link::{Link, Reach};
use crate::metadata::Metadata;
use crate::opened::{Object, Opened};
use crate::request::{Answer, PING, Wanted};
use crate::sink::{Memory, Sink};
use objmapper_os::fds::FdQueue;
use objmapper_proto::frame::{Frame, Op, Violation};
use objmapper_proto::word::status::Class;
use objmapper_proto::{Delivery, Header, Item, Mode, ObjectHead, Objects, Reply, Status, limits};
use std::os::fd::OwnedFd;

/// Whether an object may come in this form.
fn allows(wanted: Wanted, delivery: Delivery) -> bool {
    let bytes = matches!(delivery, Delivery::Inline | Delivery::Stream);
    let descriptor = delivery == Delivery::Descriptor;
    match wanted {
        Wanted::Pong => false,
        Wanted::Metadata => delivery == Delivery::None,
        Wanted::Sent { .. } => delivery == Delivery::Destination,
        Wanted::Object { mode: Mode::Fdpass, .. } => descriptor,
        Wanted::Object { mode: Mode::Copy | Mode::Splice, .. } => bytes,
        Wanted::Object { mode: Mode::Auto, .. } => bytes || descriptor,
    }
}

/// An object whose bytes, if they came, have gone into the sink.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) metadata: Metadata,
    pub(crate) fd: Option<OwnedFd>,
    /// Nothing came but the metadata: it still is the version that was named.
    pub(crate) not_modified: bool,
}

impl Arrived {
    /// As the caller gets it, with the bytes that went into memory.
    pub(crate) fn into_answer(self, wanted: Wanted, memory: Memory) -> Answer {
        match wanted {
            _ if self.not_modified => Answer::NotModified(self.metadata),
            Wanted::Metadata => Answer::Metadata(self.metadata),
            Wanted::Sent { .. } => Answer::Sent(self.metadata),
            Wanted::Object { .. } | Wanted::Pong => Answer::Object(self.into_object(memory)),
        }
    }

    /// With the bytes that went into memory, if no descriptor came.
    pub(crate) fn into_object(self, memory: Memory) -> Object {
        match self.fd {
            Some(fd) => Object::Descriptor(Opened::new(fd, self.metadata)),
            None => Object::Bytes(memory.into_bytes(), self.metadata),
        }
    }
}

/// What an item says beyond its metadata.
enum Form<'a> {
    Nothing,
    NotModified,
    Descriptor(OwnedFd),
    Inline(&'a [u8]),
    /// So many bytes follow in frames of their own.
    Stream(u64),
    /// So many bytes go to the descriptor that was passed.
    Elsewhere(u64),
}

/// Reads the one frame that answers request `id`: not a refusal, and without descriptors.
pub(crate) fn plain<T>(
    link: &mut Link,
    id: u64,
    read: impl FnOnce(&Reply<'_>) -> Option<Result<T>>,
) -> Result<T> {
    let (frame, _) = link.frame(Reach::Far)?;
    let reply = decode(frame, id)?;
    if let Reply::Error(refusal) = reply {
        return Err(refused(refusal.status, refusal.text, refusal.retry_after_ms));
    }
    expect_fds(&frame, 0)?;
    read(&reply).unwrap_or(Err(Error::bad("reply", "it does not answer what was asked")))
}

/// Reads the answer to a PING.
pub(crate) fn pong(link: &mut Link, id: u64) -> Result<()> {
    plain(link, id, |reply| matches!(reply, Reply::Pong(bytes) if *bytes == PING).then_some(Ok(())))
}

/// Reads the answer to a CLOSE, behind which so many replies may still come.
pub(crate) fn goodbye(link: &mut Link, id: u64, owed: usize) -> Result<()> {
    plain(link, id, |reply| match reply {
        Reply::CloseAck(remaining) if *remaining as usize == owed => Some(Ok(())),
        Reply::CloseAck(_) => {
            Some(Err(Error::bad("CLOSE_ACK", "it does not count the replies that still follow")))
        }
        _ => None,
    })
}

/// Reads the answer to a GET or STAT; the bytes go into `sink`.
pub(crate) fn object(
    link: &mut Link,
    id: u64,
    wanted: Wanted,
    sink: &mut dyn Sink,
) -> Result<Arrived> {
    let (arrived, body) = head(link, id, wanted, sink)?;
    if let Some(mut body) = body {
        body.run(link, sink)?;
    }
    Ok(arrived)
}

/// Reads the answer to a GET or STAT as far as the body that follows it, if one does.
pub(crate) fn head(
    link: &mut Link,
    id: u64,
    wanted: Wanted,
    sink: &mut dyn Sink,
) -> Result<(Arrived, Option<Body>)> {
    let (frame, fds) = link.frame(Reach::Far)?;
    let item = match decode(frame, id)? {
        Reply::Object(item) => item,
        Reply::Error(refusal) => {
            return Err(refused(refusal.status, refusal.text, refusal.retry_after_ms));
        }
        _ => return Err(Error::bad("reply", "it does not answer a GET or STAT")),
    };
    let delivered = item.head.delivery == Delivery::Descriptor && item.head.status == Status::Ok;
    expect_fds(&frame, usize::from(delivered))?;
    let (metadata, form) = open_item(&item, wanted, &frame, fds)?;
    let (mut fd, mut body, mut not_modified) = (None, None, false);
    match form {
        Form::Nothing => (),
        Form::NotModified => not_modified = true,
        Form::Descriptor(arrived) => fd = Some(arrived),
        Form::Inline(bytes) => {
            sink.begin(bytes.len() as u64)?;
            sink.bytes(bytes)?;
        }
        Form::Stream(length) => body = Some(Body::begin(id, length, sink)?),
        Form::Elsewhere(length) => body = Some(Body::elsewhere(id, length)),
    }
    Ok((Arrived { metadata, fd, not_modified }, body))
}

/// Reads the answer to a GET_MANY of `count` URIs: one result for each, in order, into `out`.
/// A refusal of the whole is for the caller to spread over what is still missing.
pub(crate) fn objects(
    link: &mut Link,
    id: u64,
    wanted: Wanted,
    count: usize,
    out: &mut Vec<Result<Object>>,
) -> Result<()> {
    let before = out.len();
    loop {
        let (frame, fds) = link.frame(Reach::Far)?;
        let part = match decode(frame, id)? {
            Reply::Objects(part) => part,
            Reply::Error(refusal) => {
                return Err(refused(refusal.status, refusal.text, refusal.retry_after_ms));
            }
            _ => return Err(Error::bad("reply", "it does not answer a GET_MANY")),
        };
        let had = out.len() - before;
        if part.first as usize != had || had + part.count() > count {
            return Err(Error::bad("OBJECTS", "its items are not the next ones of the request"));
        }
        let (last, moves) = (part.last, part.count() > 0);
        if let Some((metadata, length)) = read_items(part, wanted, &frame, fds, out)? {
            let mut memory = Memory::default();
            let mut body = Body::begin(id, length, &mut memory)?;
            out.push(match body.run(link, &mut memory) {
                Ok(()) => Ok(Object::Bytes(memory.into_bytes(), metadata)),
                Err(error) if error.ends_connection() => return Err(error),
                Err(refusal) => Err(refusal),
            });
        }
        match (last, out.len() - before == count) {
            (true, true) => return Ok(()),
            (false, false) if moves => (),
            _ => return Err(Error::bad("OBJECTS", "the last part is not where it should be")),
        }
    }
}

/// Takes the items of one OBJECTS frame. The body of the last one may follow: then its metadata
/// and length are the result, and it is not in `out` yet.
fn read_items(
    part: Objects<'_>,
    wanted: Wanted,
    frame: &Frame<'_>,
    fds: &mut FdQueue,
    out: &mut Vec<Result<Object>>,
) -> Result<Option<(Metadata, u64)>> {
    let mut delivered = 0;
    let mut items = part.items().peekable();
    let mut streamed = None;
    while let Some(item) = items.next() {
        let (metadata, form) = match open_item(&item, wanted, frame, fds) {
            Ok(opened) => opened,
            Err(error) if error.ends_connection() => return Err(error),
            Err(refusal) => {
                out.push(Err(refusal));
                continue;
            }
        };
        match form {
            Form::Descriptor(fd) => {
                delivered += 1;
                out.push(Ok(Object::Descriptor(Opened::new(fd, metadata))));
            }
            Form::Inline(bytes) => out.push(Ok(Object::Bytes(bytes.to_vec(), metadata))),
            Form::Stream(length) if items.peek().is_none() => streamed = Some((metadata, length)),
            Form::Stream(_) | Form::Elsewhere(_) | Form::Nothing | Form::NotModified => {
                return Err(Error::bad("OBJECTS", "a body follows an item that is not the last"));
            }
        }
    }
    expect_fds(frame, delivered)?;
    Ok(streamed)
}

/// Checks one item, and takes its descriptor if it has one.
fn open_item<'a>(
    item: &Item<'a>,
    wanted: Wanted,
    frame: &Frame<'_>,
    fds: &mut FdQueue,
) -> Result<(Metadata, Form<'a>)> {
    let head = item.head;
    if head.status == Status::NotModified {
        return not_modified(item, wanted).map(|metadata| (metadata, Form::NotModified));
    }
    if head.status != Status::Ok {
        return Err(refused(head.status, item.text, 0));
    }
    if !allows(wanted, head.delivery) {
        return Err(Error::bad("OBJECT", "it comes in a form that was not asked for"));
    }
    if head.flags & ObjectHead::SHARED != 0
        && !(wanted.may_be_shared() && head.delivery == Delivery::Descriptor)
    {
        return Err(Error::bad("OBJECT", "others share it, and that was not asked for"));
    }
    if head.delivery != Delivery::Inline && !item.inline.is_empty() {
        return Err(Error::bad("OBJECT", "it has inline bytes and is not delivered inline"));
    }
    if let (
        Wanted::Object { range, .. } | Wanted::Sent { range },
        Delivery::Inline | Delivery::Stream | Delivery::Destination,
    ) = (wanted, head.delivery)
        && range.clamp(head.size) != Some(head.range)
    {
        return Err(Error::bad("OBJECT", "its range is not the one that was asked for"));
    }
    let form = match head.delivery {
        Delivery::None => Form::Nothing,
        Delivery::Stream => Form::Stream(head.range.length),
        Delivery::Destination => Form::Elsewhere(head.range.length),
        Delivery::Inline if item.inline.len() as u64 == head.range.length => {
            Form::Inline(item.inline)
        }
        Delivery::Inline => {
            return Err(Error::bad("OBJECT", "its inline bytes are not as many as its range says"));
        }
        Delivery::Descriptor => Form::Descriptor(fds.pop_front().ok_or_else(|| {
            Error::Protocol(Violation::Descriptors {
                declared: usize::from(frame.header.fds),
                arrived: 0,
                why: "an item is delivered by a descriptor that did not come",
            })
        })?),
    };
    Ok((Metadata::new(head), form))
}

/// Checks an item that says that what the caller has is current.
fn not_modified(item: &Item<'_>, wanted: Wanted) -> Result<Metadata> {
    let why = match wanted.unless() {
        None => "it says NOT_MODIFIED and nothing was said to be known",
        Some(version) if item.head.version != version => {
            "it says NOT_MODIFIED and is another version than the one that was named"
        }
        Some(_) if item.head.delivery != Delivery::None || !item.inline.is_empty() => {
            "it says NOT_MODIFIED and comes all the same"
        }
        Some(_) => return Ok(Metadata::new(item.head)),
    };
    Err(Error::bad("OBJECT", why))
}

/// A refusal with this status, which must be one.
fn refused(status: Status, text: &str, retry_after_ms: u32) -> Error {
    if status.class() == Class::Ok {
        return Error::bad("reply", "it refuses with a status that is no refusal");
    }
    Error::refused(status, text, retry_after_ms)
}

/// A body on its way: DATA frames, then END.
#[derive(Debug)]
pub(crate) struct Body {
    id: u64,
    announced: u64,
    /// In the DATA frames that have come or begun to.
    moved: u64,
    /// Of the DATA frame under way, not yet pulled.
    left: usize,
    /// It goes to the descriptor that was passed: only END comes.
    elsewhere: bool,
}

impl Body {
    fn begin(id: u64, announced: u64, sink: &mut dyn Sink) -> Result<Self> {
        sink.begin(announced)?;
        Ok(Self { id, announced, moved: 0, left: 0, elsewhere: false })
    }

    /// One whose bytes go to the descriptor that was passed.
    fn elsewhere(id: u64, announced: u64) -> Self {
        Self { id, announced, moved: 0, left: 0, elsewhere: true }
    }

    /// Whether its bytes go to the descriptor that was passed.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Reads it to its end. Where the link must not wait this goes on where it stopped before.
    pub(crate) fn run(&mut self, link: &mut Link, sink: &mut dyn Sink) -> Result<()> {
        loop {
            self.pull(link, sink)?;
            let header = link.header(sink.reach())?;
            if self.frame(link, &header)? {
                return Ok(());
            }
        }
    }

    /// Reads what is left of the DATA frame under way.
    pub(crate) fn pull(&mut self, link: &mut Link, sink: &mut dyn Sink) -> Result<()> {
        while self.left > 0 {
            self.left -= sink.pull(link, self.left)?;
        }
        Ok(())
    }

    /// Steps into the next frame, of which this is the header: a DATA frame, whose bytes are then to
    /// be pulled, or the END. Whether it was that.
    pub(crate) fn frame(&mut self, link: &mut Link, header: &Header) -> Result<bool> {
        if header.op != Op::Data as u8 {
            let came = (!self.elsewhere).then_some(self.moved);
            return end(link, self.id, self.announced, came).map(|()| true);
        }
        if self.elsewhere {
            return Err(Error::bad("DATA", "its body goes to the descriptor that was passed"));
        }
        let piece = header.length as usize;
        if header.id != self.id || header.fds != 0 {
            return Err(Error::bad("DATA", "it does not belong to the body under way"));
        }
        if piece > limits::DATA_PAYLOAD {
            let max = limits::DATA_PAYLOAD;
            return Err(Violation::FrameTooLarge { length: piece, max }.into());
        }
        self.moved += piece as u64;
        if self.moved > self.announced {
            return Err(Error::bad("DATA", "the body is longer than was announced"));
        }
        link.skip_header();
        self.left = piece;
        Ok(false)
    }
}

/// Reads the END of a body of which so many bytes came, if it comes here.
fn end(link: &mut Link, id: u64, announced: u64, came: Option<u64>) -> Result<()> {
    let (frame, _) = link.frame(Reach::Far)?;
    let Reply::End(end) = decode(frame, id)? else {
        return Err(Error::bad("reply", "a body is under way, and this is neither DATA nor END"));
    };
    expect_fds(&frame, 0)?;
    let moved = came.unwrap_or(end.length);
    if end.length != moved || moved > announced {
        return Err(Error::bad("END", "its length is not what came"));
    }
    if end.status != Status::Ok {
        return Err(refused(end.status, end.text, 0));
    }
    if moved != announced {
        return Err(Error::bad("END", "the body is shorter than was announced"));
    }
    Ok(())
}

/// What is wrong with the next frame, which answers nothing that is owed: the last word of the
/// daemon is that, too.
pub(crate) fn stray(link: &mut Link) -> Error {
    let read = link
        .frame(Reach::Far)
        .and_then(|(frame, _)| Ok(Reply::decode(frame).map(|r| (r, frame.header.id))?));
    match read {
        Err(error) => error,
        Ok((Reply::Error(last), 0)) => Error::ended(&last),
        Ok(_) => Error::bad("reply", "it answers no request that is under way"),
    }
}

/// Decodes a frame that must answer request `id`, or says why the connection ends.
fn decode(frame: Frame<'_>, id: u64) -> Result<Reply<'_>> {
    let reply = Reply::decode(frame)?;
    match (&reply, frame.header.id) {
        (Reply::Error(last), 0) => Err(Error::ended(last)),
        (_, got) if got != id => {
            Err(Error::bad("reply", "it answers another request than the oldest"))
        }
        (Reply::Error(_), _) => expect_fds(&frame, 0).map(|()| reply),
        _ => Ok(reply),
    }
}

fn expect_fds(frame: &Frame<'_>, delivered: usize) -> Result<()> {
    let declared = usize::from(frame.header.fds);
    if declared == delivered {
        return Ok(());
    }
    Err(Error::Protocol(Violation::Descriptors {
        declared,
        arrived: delivered,
        why: "its header and what it delivers do not agree",
    }))
}
