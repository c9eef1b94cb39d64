//! A body on its way: DATA frames, moved by the kernel, and the END that tells how it went.
//!
//! Only state and one step; [`crate::transfer_path`] is the loop that runs many.
//!
//! sendfile(2) waits for a disk where a page is cold, and with it all other bodies.
//!
//! A frame's length is announced before its bytes are there. If the file turns out
//! shorter, the frame is filled up with zeros and END says CHANGED: the receiver
//! throws the body away, and the stream of frames stays whole.

use objmapper::{Body, Miss};
use objmapper_os as os;
use objmapper_proto::reply::End;
use objmapper_proto::{Header, Op, Reply, Status, limits};
use os::file;

use crate::link::{ENOUGH, Flushed, Link};

/// Bytes that one body may send before others get their turn.
const TURN: u64 = 1 << 20;

/// A body that is being sent.
#[derive(Debug)]
pub struct Transfer {
    body: Body,
    id: u64,
    /// Bytes of one DATA frame at most.
    frame: u64,
    /// Where in the file to go on.
    offset: u64,
    /// Bytes of the range that no frame has announced yet.
    unannounced: u64,
    /// Bytes of the present frame that are still due.
    due: usize,
    /// What END will say so far.
    status: Status,
    ended: bool,
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
    /// The body is out.
    Done(Status),
    /// The peer is gone.
    Gone,
}

impl Transfer {
    /// The body of the reply with this id; its head is in the outbox already. The
    /// client takes payloads of `max_payload` bytes.
    pub fn new(body: Body, id: u64, max_payload: usize) -> Self {
        let range = body.range();
        Self {
            body,
            id,
            frame: max_payload.min(limits::DATA_PAYLOAD) as u64,
            offset: range.offset,
            unannounced: range.length,
            due: 0,
            status: Status::Ok,
            ended: false,
        }
    }

    /// Bytes of the whole body.
    pub const fn length(&self) -> u64 {
        self.body.range().length
    }

    /// Whether no frame has begun that is not out: others may send.
    pub const fn is_between_frames(&self) -> bool {
        self.due == 0
    }

    /// Sends as much as goes without waiting, up to a turn's worth; with `one_frame`, no
    /// further than to the end of a DATA frame.
    pub fn step(&mut self, link: &mut Link, one_frame: bool) -> Step {
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
            if self.status == Status::Ok {
                match file::send_file(&link.socket, self.body.file(), self.offset, self.due) {
                    Ok(0) => self.status = Status::Changed,
                    Ok(n) => {
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

    fn fail(&mut self, error: &os::Error) {
        self.status = if error.is_resource() { Status::Busy } else { Status::Io };
        tracing::warn!(%error, "cannot send a file; its body ends with {}", self.status);
    }

    /// Puts the next DATA header, or END, into the outbox.
    fn announce(&mut self, link: &mut Link) {
        if self.unannounced > 0 && self.status == Status::Ok {
            let length = self.unannounced.min(self.frame);
            self.unannounced -= length;
            // At most DATA_PAYLOAD: fits both types.
            self.due = usize::try_from(length).unwrap_or(0);
            let header = Header::new(Op::Data, self.id, u32::try_from(length).unwrap_or(0), 0);
            link.outbox.bytes().extend_from_slice(&header.encode());
            return;
        }
        if self.status == Status::Ok {
            self.status = self.verdict();
        }
        let text = match self.status {
            Status::Ok => "",
            Status::Changed => "the object changed while it was being copied: ask again",
            Status::Busy => "the daemon or its machine is out of memory or descriptors: ask again",
            _ => "the file system failed: see the daemon's log",
        };
        let length = self.length() - self.unannounced;
        let end = Reply::End(End { status: self.status, length, text });
        end.encode(self.id, 0, link.outbox.bytes());
        self.ended = true;
    }

    fn verdict(&self) -> Status {
        match self.body.is_unchanged() {
            Ok(true) => Status::Ok,
            Ok(false) => Status::Changed,
            Err(Miss::Refused(refusal)) => refusal.status(),
            Err(Miss::Fault(error)) => {
                tracing::warn!(%error, "cannot check a file after sending it");
                Status::Io
            }
            Err(Miss::WouldBlock) => Status::Busy,
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
