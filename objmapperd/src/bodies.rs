//! Bodies of one connection that are under way, and whose frame is next.
//!
//! In order there is one at most. Out of order several take turns, a DATA frame each;
//! those that were asked for with PRIORITY go first. What must stay true: a frame that
//! has begun is finished before anything else is sent, so the front changes between
//! frames only.

use std::collections::VecDeque;

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
}

impl Bodies {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether one of them belongs to the reply with this id.
    pub fn any_of(&self, id: u64) -> bool {
        self.queue.iter().any(|body| body.id() == id)
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

    /// Forgets all: the connection is over.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
