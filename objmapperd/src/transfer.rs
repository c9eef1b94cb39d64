//! A body being sent: DATA frames, moved by the kernel, then END with the outcome.
//!
//! This is the state and a single step; [`crate::transfer_path`] is the loop that runs many.
//!
//! sendfile(2) of a cold page waits for a disk, and all other bodies would wait with it.
//! So the next window is checked first, and one that is not in memory becomes an errand
//! for a thread that may wait ([`Transfer::fetch`]).
//!
//! The file's identity is compared before each window and at the end. A body that must be
//! read ([`Body::is_read`]: its mount is strict, or its file system may hang) goes through a
//! buffer instead, a piece at a time, and each piece is of the version that was opened;
//! what the peer does not take at once is forgotten and read again, so that a slow reader
//! costs no memory.
//!
//! A frame's length is announced before its bytes are there. If the file turns out
//! shorter, the frame is filled up with zeros and END says CHANGED: the receiver
//! throws the body away, and the stream of frames stays whole.

use objmapper::{Body, Fill, Miss, MountId, Patience};
use objmapper_os as os;
use objmapper_proto::reply::End;
use objmapper_proto::{Header, Op, Reply, Status};
use os::file;

use crate::budget::Permit;
use crate::link::{ENOUGH, Flushed, Link};
use crate::seldom;

/// Bytes that one body may send before others get their turn.
const TURN: u64 = 1 << 20;

/// Bytes that are looked at ahead. Not tuned: a look is four short system calls.
const WINDOW: u64 = 1 << 20;

/// Bytes that are read at once of a body that must be read: by the transfer path from memory,
/// and by a helper, for which a piece is an errand. Not tuned.
const PIECE: u64 = 64 * 1024;
const FETCHED_PIECE: u64 = 256 * 1024;

/// A body that is being sent.
#[derive(Debug)]
pub struct Transfer {
    body: Body,
    id: u64,
    /// Bytes of one DATA frame at most.
    frame: u64,
    /// Where in the file to go on.
    offset: u64,
    /// Up to here the file was seen to be in memory.
    seen: u64,
    /// Bytes at `offset` that were read, if this body must be read.
    piece: Vec<u8>,
    cold: bool,
    /// Bytes of the range that no frame has announced yet.
    unannounced: u64,
    /// Bytes of the present frame that are still due.
    due: usize,
    /// What END will say so far.
    status: Status,
    ended: bool,
    _permit: Permit,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do at once.
    Again,
    /// The peer has to read first.
    Blocked,
    /// A limit has to fall first.
    Full,
    /// Somebody has to wait for a disk first: [`Transfer::fetch`].
    Cold,
    /// Only bodies that go elsewhere are left, and have to wait for room there.
    Parked,
    /// The body is out.
    Done(Status),
    /// The peer is gone.
    Gone,
}

impl Transfer {
    /// The body of the reply with this id; its head is in the outbox already. The
    /// client takes payloads of `max_data` bytes. `permit` counts it as long as it lives.
    pub fn new(body: Body, id: u64, max_data: usize, permit: Permit) -> Self {
        let range = body.range();
        Self {
            body,
            id,
            frame: max_data as u64,
            offset: range.offset,
            seen: range.offset,
            piece: Vec::new(),
            cold: false,
            unannounced: range.length,
            due: 0,
            status: Status::Ok,
            ended: false,
            _permit: permit,
        }
    }

    /// Whose reply it belongs to.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Bytes of the whole body.
    pub const fn length(&self) -> u64 {
        self.body.range().length
    }

    /// Whether no frame has begun that is not out, END included: others may send.
    pub const fn is_between_frames(&self) -> bool {
        self.due == 0 && !self.ended
    }

    /// Whether it waits for [`Self::fetch`].
    pub const fn is_cold(&self) -> bool {
        self.cold
    }

    /// Where it waits.
    pub const fn mount(&self) -> MountId {
        self.body.mount()
    }

    /// Sends as much as goes without waiting, up to a turn's worth; with `one_frame`, no
    /// further than to the end of a DATA frame.
    pub fn step(&mut self, link: &mut Link, one_frame: bool) -> Step {
        let step = self.run(link, one_frame);
        self.cold = step == Step::Cold;
        if step != Step::Again {
            // It can be read again; kept by all who wait it would be a lot.
            self.piece = Vec::new();
        }
        step
    }

    fn run(&mut self, link: &mut Link, one_frame: bool) -> Step {
        let mut left = TURN;
        loop {
            if self.due == 0 && !self.ended {
                if one_frame && left < TURN {
                    return Step::Again;
                }
                // The first announcement leaves together with the reply's head.
                self.announce(link);
            }
            match link.flush() {
                Flushed::All if self.ended => return Step::Done(self.status),
                Flushed::All => {}
                Flushed::Blocked => return Step::Blocked,
                Flushed::Full => return Step::Full,
                Flushed::Gone => return Step::Gone,
            }
            if left == 0 {
                return Step::Again;
            }
            if self.due == 0 {
                continue;
            }
            if self.status == Status::Ok && !self.look() {
                return Step::Cold;
            }
            if self.status == Status::Ok {
                match self.send(link) {
                    Ok(0) => self.status = Status::Changed,
                    Ok(n) => {
                        link.moved = true;
                        self.offset += n as u64;
                        self.due -= n;
                        left = left.saturating_sub(n as u64);
                    }
                    Err(error) if error.is_would_block() => return Step::Blocked,
                    Err(error) if error.is_disconnected() => return Step::Gone,
                    Err(error) => self.fail(&error),
                }
            } else {
                left = left.saturating_sub(self.fill_up(link) as u64);
            }
        }
    }

    /// Waits for what the next steps will move: with `one_frame`, what is read is not more
    /// than the frame that has begun takes.
    pub fn fetch(&mut self, one_frame: bool) {
        self.cold = false;
        if self.body.is_read() {
            let most = if one_frame { self.due as u64 } else { FETCHED_PIECE };
            self.read(most.min(FETCHED_PIECE), Patience::Block);
            return;
        }
        let length = self.rest().min(WINDOW);
        match self.body.bring(self.offset, length) {
            Ok(()) => self.seen = self.offset + length,
            Err(miss) => self.status = judge(&miss),
        }
    }

    /// Sends from what was looked at; how much went.
    fn send(&mut self, link: &Link) -> os::Result<usize> {
        if self.body.is_read() {
            let count = self.due.min(self.piece.len());
            let sent = link.socket.send(self.piece.get(..count).unwrap_or_default(), &[], false)?;
            self.piece.drain(..sent);
            return Ok(sent);
        }
        let seen = usize::try_from(self.seen - self.offset).unwrap_or(usize::MAX);
        file::send_file(&link.socket, self.body.file(), self.offset, self.due.min(seen))
    }

    /// Sees to it that there is something to send, or a status that says why not: false if
    /// it has to be fetched.
    fn look(&mut self) -> bool {
        if self.body.is_read() {
            return !self.piece.is_empty()
                || self.read(PIECE.min(self.due as u64), Patience::Never);
        }
        self.offset < self.seen || self.look_ahead()
    }

    /// Reads the next piece.
    fn read(&mut self, most: u64, patience: Patience) -> bool {
        let length = self.rest().min(most);
        match self.body.read(&mut self.piece, self.offset, length, patience) {
            Ok(Fill::Whole) => {}
            Ok(Fill::Cold) => return false,
            Err(miss) => self.status = judge(&miss),
        }
        true
    }

    /// Looks at the next window. The file itself was looked at just before the first.
    fn look_ahead(&mut self) -> bool {
        if self.offset > self.body.range().offset {
            self.status = self.verdict();
            if self.status != Status::Ok {
                return true;
            }
        }
        let length = self.rest().min(WINDOW);
        match self.body.is_resident(self.offset, length) {
            Ok(true) => self.seen = self.offset + length,
            Ok(false) => return false,
            Err(miss) => self.status = judge(&miss),
        }
        true
    }

    /// Bytes that are still to be sent.
    const fn rest(&self) -> u64 {
        self.due as u64 + self.unannounced
    }

    fn fail(&mut self, error: &os::Error) {
        self.status = if error.is_resource() { Status::Busy } else { Status::Io };
        seldom!(WARN, %error, "cannot send a file; its body ends with {}", self.status);
    }

    /// Puts the next DATA header, or END, into the outbox.
    fn announce(&mut self, link: &mut Link) {
        if self.unannounced > 0 && self.status == Status::Ok {
            let length = self.unannounced.min(self.frame);
            self.unannounced -= length;
            // At most `limits::DATA_PAYLOAD`: fits both types.
            self.due = usize::try_from(length).unwrap_or(0);
            let header = Header::new(Op::Data, self.id, u32::try_from(length).unwrap_or(0), 0);
            link.outbox.bytes().extend_from_slice(&header.encode());
            return;
        }
        // What was read was compared then.
        if self.status == Status::Ok && !self.body.is_read() {
            self.status = self.verdict();
        }
        let length = self.length() - self.unannounced;
        let end = Reply::End(End { status: self.status, length, text: words(self.status) });
        end.encode(self.id, 0, link.outbox.bytes());
        self.ended = true;
    }

    fn verdict(&self) -> Status {
        match self.body.is_unchanged() {
            Ok(true) => Status::Ok,
            Ok(false) => Status::Changed,
            Err(miss) => judge(&miss),
        }
    }

    /// Puts zeros into the outbox for what a frame still owes; returns how many.
    fn fill_up(&mut self, link: &mut Link) -> usize {
        let n = self.due.min(ENOUGH);
        let bytes = link.outbox.bytes();
        bytes.resize(bytes.len() + n, 0);
        self.due -= n;
        n
    }
}

/// What END says about a status.
pub const fn words(status: Status) -> &'static str {
    match status {
        Status::Ok => "",
        Status::Changed => "the object changed while it was being copied: ask again",
        Status::Busy => "the daemon or its machine is out of memory or descriptors: ask again",
        _ => "the file system failed: see the daemon's log",
    }
}

/// How a body ends whose file could not be read or asked.
pub fn judge(miss: &Miss) -> Status {
    match miss {
        Miss::Refused(refusal) => refusal.status(),
        Miss::Fault(error) => {
            seldom!(WARN, %error, "a file system failed in the middle of a body");
            Status::Io
        }
        Miss::WouldBlock => Status::Busy,
    }
}
