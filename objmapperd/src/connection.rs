//! A connection: one accepted socket and everything that is known about it.
//!
//! It is a value with one owner at a time: the listener makes it, a worker serves it
//! while it is ready, a helper or the transfer path holds it meanwhile. An idle one
//! has no buffers: those belong to whoever serves it.

use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd};

use objmapper::Caller;
use objmapper_os as os;
use objmapper_proto::Status;
use objmapper_proto::resp::Encoder;

use crate::admission::Resource;
use crate::bodies::{self, Bodies};
use crate::budget::Permit;
use crate::closers::{CloseQueue, ClosedElsewhere};
use crate::deadline::{Deadline, Expected};
use crate::destination::Arrivals;
use crate::link::Link;
use crate::session::keys::Keys;
use crate::session::{Agreed, Order, Session};
use crate::unsettled::Unsettled;

/// What keeps a request from being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitsFor {
    /// Nothing that is known.
    #[default]
    Nothing,
    /// A body that is under way; nothing is read meanwhile.
    Body,
    /// A helper, who has what it needs.
    Helper,
    /// A limit, beside bodies that go elsewhere: for `waited_ms`.
    Limit,
    /// The journal: its replies may leave when that is durable.
    Commit,
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The way out.
    pub link: Link,
    /// Where the protocol is.
    pub session: Session,
    /// Where the other protocol is, if it is RESP that is spoken.
    pub keys: Option<Box<Keys>>,
    /// Who it is.
    pub caller: Caller,
    /// Bytes that were read and not served yet: mostly none.
    pub leftover: Vec<u8>,
    /// Whether the last turn used its quantum up.
    pub used_up: bool,
    /// Bytes that `leftover` must have before it is a whole frame; 0 if it may be.
    pub wanted: usize,
    /// Whether the last read emptied the socket: then what comes next is a new edge.
    pub drained: bool,
    /// Milliseconds that it waited last for descriptors in flight to be taken.
    pub waited_ms: u64,
    /// It is over, shut down, and stays only until its peer has taken what was sent.
    pub lingering: bool,
    /// Bodies under way.
    pub bodies: Bodies,
    /// Descriptors that came for bodies to be moved into, and are not answered yet.
    pub arrivals: Arrivals,
    /// Replies that wait for the journal.
    pub unsettled: Unsettled,
    /// What the request at the front of the input has to wait for.
    pub waits_for: WaitsFor,
    /// What it has to wait for, when it goes to a helper.
    pub errand: Resource,
    /// What its peer has to do, and until when.
    pub deadline: Deadline,
    /// What it keeps in memory while nobody serves it.
    pub queued: Permit,
    _open: Permit,
    /// The last field, since it must be the last one to let go of the socket. `None` if the
    /// kernel keeps descriptors away from this connection.
    guard: Option<ClosedElsewhere>,
}

impl Connection {
    /// In which lane of the pool it waits for its turns: each protocol has its own.
    pub fn lane(&self) -> usize {
        usize::from(self.keys.is_some())
    }

    /// A connection that was just accepted.
    pub fn new(
        link: Link,
        caller: Caller,
        deadline: Deadline,
        [open, queued]: [Permit; 2],
        guard: Option<ClosedElsewhere>,
    ) -> Self {
        Self {
            link,
            session: Session::default(),
            keys: None,
            caller,
            leftover: Vec::new(),
            used_up: false,
            wanted: 0,
            drained: true,
            waited_ms: 0,
            lingering: false,
            bodies: Bodies::default(),
            arrivals: Arrivals::default(),
            unsettled: Unsettled::default(),
            waits_for: WaitsFor::Nothing,
            errand: Resource::default(),
            deadline,
            queued,
            _open: open,
            guard,
        }
    }

    /// The same, speaking RESP.
    #[must_use]
    pub fn speaking(self, keys: Option<Box<Keys>>) -> Self {
        Self { keys, ..self }
    }

    /// Bytes that its conversation keeps, beside what was read and what is to be sent.
    #[inline]
    pub fn kept(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.talk.footprint() + keys.decoder.footprint())
    }

    /// Tells the peer why it is being parted with.
    pub fn tell(&mut self, status: Status, text: &dyn Display) {
        let outbox = &mut self.link.outbox;
        match &self.keys {
            Some(keys) => {
                Encoder::new(outbox.bytes(), keys.talk.three).error(format_args!("ERR {text}"));
            }
            None => outbox.refuse(0, status, 0, text),
        }
    }

    /// Who closes descriptors that may come; `None` if none can.
    pub fn closer(&self) -> Option<&CloseQueue> {
        self.guard.as_ref().map(ClosedElsewhere::queue)
    }

    /// From now on its peer may send descriptors, which `queue` closes if nobody else does.
    pub fn admit_descriptors(&mut self, queue: CloseQueue) -> os::Result<()> {
        os::socket::admit_descriptors(self.as_fd())?;
        self.guard.get_or_insert_with(|| ClosedElsewhere::new(queue, self.link.socket.clone()));
        Ok(())
    }

    /// A turn begins: whether its peer will ask for something again is known.
    #[inline]
    pub fn wake_up(&mut self) {
        if self.deadline.expected() == Expected::Sign {
            self.deadline.clear();
        }
    }

    /// Whether a request has to wait for bodies under way; a further part of a GET_MANY for its own.
    #[inline]
    pub fn must_wait(&self, id: u64, agreed: Agreed, order: Order) -> bool {
        let all = !agreed.out_of_order || order.ordered;
        let own = self.session.many_done > 0 && self.bodies.any_of(id);
        own || all && !self.bodies.is_empty() || self.bodies.len() >= bodies::MOST
    }

    /// A whole frame was read: if that was expected, it has come.
    #[inline]
    pub fn has_come(&mut self) {
        if matches!(self.deadline.expected(), Expected::Hello | Expected::Request) {
            self.deadline.clear();
        }
    }

    /// Something may have left: if it had to wait for the peer to read, that has.
    #[inline]
    pub fn has_sent(&mut self) {
        if self.deadline.expected() == Expected::Reading && std::mem::take(&mut self.link.moved) {
            self.deadline.clear();
        }
    }

    /// Nothing is left to do until the peer sends something: by when it has to. `begun`: a
    /// part of a request is here.
    #[inline]
    pub fn expect_more(&mut self, begun: bool) {
        self.bodies.start_afresh();
        let expected = if self.keys.is_none() && !self.session.is_greeted() {
            Expected::Hello
        } else if begun {
            Expected::Request
        } else if self.deadline.minds_idleness() {
            Expected::Sign
        } else {
            Expected::Nothing
        };
        self.deadline.expect(expected);
    }

    /// Nothing is left to do until the peer reads something: by when it has to. Its time
    /// begins anew if something has left since.
    pub fn expect_reading(&mut self) {
        if std::mem::take(&mut self.link.moved) {
            self.deadline.expect_anew(Expected::Reading);
        } else {
            self.deadline.expect(Expected::Reading);
        }
    }

    /// The request at the front is a helper's, who may wait for this.
    pub fn needs(&mut self, resource: Resource) {
        (self.errand, self.waits_for) = (resource, WaitsFor::Helper);
    }

    /// Waits for what the bodies need next, if that is what it is away for.
    pub fn fetch(&mut self) -> bool {
        if self.waits_for == WaitsFor::Helper {
            self.waits_for = WaitsFor::Nothing;
        }
        let one_frame = self.session.is_out_of_order();
        if self.errand == Resource::Destination {
            return self.bodies.run_forwards(one_frame);
        }
        match self.bodies.front() {
            Some(body) if body.is_cold() => body.fetch(one_frame),
            _ => return false,
        }
        true
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket.as_fd()
    }
}
