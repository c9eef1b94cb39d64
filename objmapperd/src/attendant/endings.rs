//! How turns end that have something left to do.

use std::time::Duration;

use objmapper_proto::Status;

use super::Attendant;
use crate::connection::{Connection, WaitsFor};
use crate::link::Flushed;
use crate::pool::Turn;

/// How long a connection waits for descriptors in flight to be taken, in milliseconds:
/// at first, and at most after doubling each time it was in vain. Not tuned.
const WAIT_MS: std::ops::RangeInclusive<u64> = 2..=128;

/// How often a connection that is over is asked whether its peer has taken the
/// descriptors that were sent. Not tuned.
const LINGER: Duration = Duration::from_millis(100);

/// How a turn ends when no more is read: what is under way is sent to its end.
pub(super) fn parting(c: &Connection) -> Turn {
    if c.bodies.is_empty() { Turn::Close } else { Turn::Leave }
}

/// How a turn ends when replies cannot leave; `None` if they did.
pub(super) fn stuck(c: &mut Connection, flushed: Flushed) -> Option<Turn> {
    match flushed {
        Flushed::All => {
            c.has_sent();
            None
        }
        Flushed::Blocked => {
            c.expect_reading();
            Some(Turn::Blocked)
        }
        Flushed::Full => {
            c.expect_reading();
            Some(later(c))
        }
        Flushed::Gone => Some(Turn::Close),
    }
}

/// Its user has too much queued to read more of a request that has begun.
pub(super) fn crowded(c: &mut Connection) -> Turn {
    if c.bodies.is_empty() { later(c) } else { beside_bodies(c) }
}

/// A limit has to fall first, and bodies go on meanwhile. Those that go elsewhere may wait for long
/// themselves.
pub(super) fn beside_bodies(c: &mut Connection) -> Turn {
    if c.bodies.front().is_none() {
        later(c);
        c.waits_for = WaitsFor::Limit;
    }
    Turn::Leave
}

/// A limit has to fall first; nobody says when it does.
pub(super) fn later(c: &mut Connection) -> Turn {
    c.waited_ms = (c.waited_ms * 2).clamp(*WAIT_MS.start(), *WAIT_MS.end());
    Turn::Later(Duration::from_millis(c.waited_ms))
}

/// Sends what waits; how the turn ends if that cannot leave.
pub(super) fn flush(c: &mut Connection) -> Option<Turn> {
    let flushed = c.link.flush();
    stuck(c, flushed)
}

impl Attendant {
    /// A connection that is over. What its peer has not taken yet counts against everybody, and
    /// is known by this socket alone: it stays until then, shut down, as a connection.
    pub(super) fn linger(&mut self, c: &mut Connection) -> Turn {
        if let Some(late) = c.deadline.is_late()
            && !c.lingering
            && c.link.outbox.is_empty()
        {
            tracing::debug!(uid = c.caller.uid(), %late, "closing a connection");
            c.tell(Status::Busy, &late);
            c.link.flush();
        }
        c.deadline.clear();
        if self.service.daemon.is_draining() || !c.link.owes() {
            return Turn::Close;
        }
        c.session.closing = true;
        if !c.lingering {
            c.lingering = true;
            // Once: it wakes our own end as well. Fails if the peer has gone, and then
            // this is soon over.
            let _ = c.link.socket.shutdown();
            self.discard(c);
        }
        Turn::Later(LINGER)
    }
}
