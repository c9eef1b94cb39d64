//! Replies that may not leave before the journal is as durable as was promised.
//!
//! A connection has them from the moment that they are in its outbox until they may leave, in either
//! protocol. Not here: waiting ([`crate::committer`]), and what is said if it was in vain.

use std::ops::Range;

use objmapper::kv::Keyspace;

/// See above: mostly none.
#[derive(Debug, Default)]
pub struct Unsettled {
    position: u64,
    /// Where they stand in the outbox.
    replies: Vec<Range<usize>>,
}

/// Whether the journal had failed before a request was answered: then it changed nothing, and who
/// only reads is not to wait for what will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed(bool);

impl Failed {
    /// As it is now.
    #[inline]
    pub fn before(keyspace: &Keyspace) -> Self {
        Self(keyspace.journal().is_some_and(|journal| journal.has_failed()))
    }

    /// Whether a reply has to wait that tells what is durable with this position.
    #[inline]
    pub fn waits(self, keyspace: &Keyspace, position: u64) -> bool {
        let Some(journal) = keyspace.journal() else { return false };
        journal.withholds(self.0, position)
    }
}

impl Unsettled {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.position == 0
    }

    /// The position that the journal has to reach.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// In order.
    pub fn replies(&self) -> &[Range<usize>] {
        &self.replies
    }

    /// One more; an empty one if there is none yet, and its request is to be answered then.
    #[inline]
    pub fn add(&mut self, position: u64, reply: Range<usize>) {
        self.position = self.position.max(position);
        if !reply.is_empty() {
            self.replies.push(reply);
        }
    }

    /// None any more.
    pub fn clear(&mut self) {
        self.position = 0;
        self.replies.clear();
    }
}
