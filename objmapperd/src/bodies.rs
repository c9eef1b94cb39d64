//! Bodies of one connection that are under way, and whose frame is next.
//!
//! Those that go into a destination which the client passed have no frames but their END; they
//! take no turns with the others. One that is given up, since its destination took nothing, leaves
//! less time to those behind it, until one of them succeeds or none is left: whoever sends many
//! requests ahead and reads from no destination is rid of all in about twice the time of one.
//!
//! In order there is one at most. Out of order several take turns, a DATA frame each;
//! those that were asked for with PRIORITY go first. What must stay true: a frame that
//! has begun is finished before anything else is sent, so the front changes between
//! frames only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use objmapper_proto::{Reply, Status};

use crate::destination::Destination;
use crate::forward::Forward;
use crate::outbox::Outbox;
use crate::transfer::Transfer;

/// Bodies of one connection at a time; with so many under way no further request is
/// read. Each holds a descriptor.
pub const MOST: usize = 16;

/// Bodies under way: mostly none.
#[derive(Debug, Default)]
pub struct Bodies {
    /// Those with priority first.
    queue: VecDeque<Transfer>,
    /// How many of them have priority.
    urgent: usize,
    /// Those that go elsewhere, in no order.
    forwards: Vec<Forward>,
    /// The time that the last of them had which was given up.
    given_up_after: Option<Duration>,
}

impl Bodies {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.forwards.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len() + self.forwards.len()
    }

    /// Whether one of them belongs to the reply with this id.
    pub fn any_of(&self, id: u64) -> bool {
        self.queue.iter().any(|body| body.id() == id)
            || self.forwards.iter().any(|forward| forward.id() == id)
    }

    /// Adds one, between two frames.
    pub fn push(&mut self, body: Transfer, urgent: bool) {
        if urgent {
            self.queue.insert(self.urgent, body);
            self.urgent += 1;
        } else {
            self.queue.push_back(body);
        }
    }

    /// Adds one that goes elsewhere.
    pub fn push_forward(&mut self, mut forward: Forward) {
        if let Some(time) = self.given_up_after {
            forward.hurry(time);
        }
        self.forwards.push(forward);
    }

    /// No request is waiting: one that comes has all its time again.
    #[inline]
    pub fn start_afresh(&mut self) {
        self.given_up_after = None;
    }

    /// The one whose frame is next.
    pub fn front(&mut self) -> Option<&mut Transfer> {
        self.queue.front_mut()
    }

    /// Whether no frame has begun that is not out: something else may be sent.
    pub fn is_between_frames(&self) -> bool {
        self.queue.front().is_none_or(Transfer::is_between_frames)
    }

    /// The front has sent a frame: the next of its kind goes on.
    pub fn rotate(&mut self) {
        let kind = if self.urgent > 0 { self.urgent } else { self.queue.len() };
        if kind > 1
            && let Some(front) = self.queue.pop_front()
        {
            self.queue.insert(kind - 1, front);
        }
    }

    /// The front is out.
    pub fn finish(&mut self) -> Option<Transfer> {
        self.urgent = self.urgent.saturating_sub(1);
        let done = self.queue.pop_front();
        if self.queue.is_empty() {
            // An idle connection has no memory here.
            self.queue = VecDeque::new();
        }
        done
    }

    /// Whether a helper can go on with one that goes elsewhere.
    pub fn has_ready_forward(&self) -> bool {
        self.forwards.iter().any(Forward::is_ready)
    }

    /// The same, after a look at those that wait.
    pub fn look_at_forwards(&mut self) -> bool {
        if self.forwards.is_empty() {
            return false;
        }
        let now = Instant::now();
        self.forwards.iter_mut().for_each(|forward| forward.look(now));
        self.has_ready_forward()
    }

    /// Goes on with those that a helper can go on with; whether there was one. For helpers.
    pub fn run_forwards(&mut self, brief: bool) -> bool {
        let ready = self.forwards.iter_mut().filter(|forward| forward.is_ready());
        ready.map(|forward| forward.run(brief)).count() > 0
    }

    /// The destinations that are open, of which none is being written to.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.forwards.iter().filter_map(Forward::destination)
    }

    /// By when the first of them must.
    pub fn due(&self) -> Option<Instant> {
        self.forwards.iter().filter_map(Forward::due).min()
    }

    /// Puts the END of those that have ended into the outbox, between two frames; `told` is given
    /// status and length of each.
    pub fn tell_ends(&mut self, outbox: &mut Outbox, mut told: impl FnMut(Status, u64)) {
        if self.forwards.is_empty() || !self.is_between_frames() {
            return;
        }
        let given_up_after = &mut self.given_up_after;
        self.forwards.retain(|forward| {
            let Some(end) = forward.end() else { return true };
            told(end.status, end.length);
            match end.status {
                Status::Ok => *given_up_after = None,
                Status::DestinationStalled => *given_up_after = Some(forward.patience()),
                _ => {}
            }
            Reply::End(end).encode(forward.id(), 0, outbox.bytes());
            false
        });
        if self.forwards.is_empty() {
            self.forwards = Vec::new();
        }
    }

    /// Forgets all: the connection is over.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
