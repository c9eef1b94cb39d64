//! A connection: one accepted socket and everything that is known about it.
//!
//! It is a value with one owner at a time: the listener makes it, a worker serves it
//! while it is ready, a helper or the transfer path holds it meanwhile. An idle one
//! has no buffers: those belong to whoever serves it.

use std::os::fd::{AsFd, BorrowedFd};

use objmapper::{Caller, MountId};

use crate::bodies::Bodies;
use crate::link::Link;
use crate::metrics::OpenConnection;
use crate::session::Session;

/// What keeps a request from being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitsFor {
    /// Nothing that is known.
    #[default]
    Nothing,
    /// A body that is under way; nothing is read meanwhile.
    Body,
    /// A disk: an errand for a helper.
    Disk,
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The way out.
    pub link: Link,
    /// Where the protocol is.
    pub session: Session,
    /// Who it is.
    pub caller: Caller,
    /// Bytes that were read and not served yet: mostly none.
    pub leftover: Vec<u8>,
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
    /// What the request at the front of the input has to wait for.
    pub waits_for: WaitsFor,
    /// Which mount it has to wait for, when it goes to a helper.
    pub errand: MountId,
    _open: OpenConnection,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(link: Link, caller: Caller, open: OpenConnection) -> Self {
        Self {
            link,
            session: Session::default(),
            caller,
            leftover: Vec::new(),
            wanted: 0,
            drained: true,
            waited_ms: 0,
            lingering: false,
            bodies: Bodies::default(),
            waits_for: WaitsFor::Nothing,
            errand: MountId::default(),
            _open: open,
        }
    }

    /// Waits for what the body in front needs next, if that is what it is away for.
    pub fn fetch(&mut self) -> bool {
        if self.waits_for == WaitsFor::Disk {
            self.waits_for = WaitsFor::Nothing;
        }
        let one_frame = self.session.is_out_of_order();
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
