//! How turns end that have something left to do.

use std::time::Duration;

use crate::connection::{Connection, WaitsFor};
use crate::link::Flushed;
use crate::pool::Turn;

/// How long a connection waits for descriptors in flight to be taken, in milliseconds:
/// at first, and at most after doubling each time it was in vain. Not tuned.
const WAIT_MS: std::ops::RangeInclusive<u64> = 2..=128;

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
