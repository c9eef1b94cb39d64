//! Descriptors that came with what was read: kept for the requests that declare them, if this
//! client was told that it may pass some; else it has broken the protocol.

use objmapper::Closer;
use objmapper_proto::hello::PASS_FDS;
use objmapper_proto::{HelloAck, Status, Violation};

use super::Attendant;
use super::endings::flush;
use crate::connection::Connection;
use crate::destination::Arrivals;
use crate::input::Read;
use crate::pool::Turn;
use crate::seldom;
use crate::session;

impl Attendant {
    /// Answers HELLO. What it promises is in force before it leaves.
    pub(super) fn greet(&self, c: &mut Connection, id: u64, ack: &HelloAck) {
        if c.session.is_out_of_order() {
            c.link.prefer_latency(session::SHORT_DATA);
        }
        if ack.capabilities & PASS_FDS != 0 {
            let closer = self.service.daemon.closers.of(c.caller.uid());
            if let Err(error) = c.admit_descriptors(closer) {
                seldom!(WARN, %error, "a client cannot be allowed to pass descriptors");
                let why = "the daemon cannot take descriptors: connect without PASS_FDS";
                c.link.outbox.refuse(0, Status::Io, 0, &why);
                c.session.closing = true;
                return;
            }
        }
        ack.encode(id, c.link.outbox.bytes());
    }

    /// Takes in what a read brought; how the turn ends, if it does for that.
    pub(super) fn take_in(&mut self, c: &mut Connection, read: Read) -> Option<Turn> {
        if !matches!(read, Read::Descriptors | Read::Lost) {
            return None;
        }
        let closer = c.closer()?.clone();
        if !c.session.passes() {
            // Closing them may take time: others do that.
            self.input.descriptors().for_each(|fd| closer.close(fd));
            let why = "this daemon takes none: HELLO_ACK said so";
            self.violated(c, &Violation::Descriptors { declared: 0, arrived: 1, why });
        } else if read == Read::Lost {
            self.input.descriptors().for_each(|fd| closer.close(fd));
            let why = "descriptors were lost, the daemon cannot have more of them: connect again";
            c.link.outbox.refuse(0, Status::Busy, 0, &why);
            c.session.closing = true;
            c.bodies.clear();
        } else {
            let account = (&self.service.daemon.budgets.bodies, c.caller.uid());
            let taken = c.arrivals.take_in(self.input.descriptors(), account, &closer);
            let violation = taken.err()?;
            self.violated(c, &violation);
        }
        Some(flush(c).unwrap_or(Turn::Close))
    }

    /// Lets go of descriptors that nobody will ask for any more, read or not: the other end of this
    /// very connection may be among them, and then it would wait for itself. No more can come.
    pub(super) fn discard(&mut self, c: &mut Connection) {
        let Some(closer) = c.closer().cloned() else { return };
        c.bodies.clear();
        c.arrivals = Arrivals::default();
        loop {
            self.input.clear();
            match self.input.read(c) {
                Read::Descriptors | Read::Lost => {
                    self.input.descriptors().for_each(|fd| closer.close(fd));
                }
                Read::Some | Read::Last => {}
                Read::End | Read::Empty | Read::Gone => return,
            }
        }
    }
}
