//! Requests on one key each that came together: answered under one hold of all their keys' locks.
//!
//! A pipeline of them takes each lock once instead of once a request, waits for the memory that all
//! of them lead to at the same time, and is one record of the journal. Each protocol collects its
//! own requests and says how one is answered.
//!
//! What must stay true:
//! - the order is that of the pipeline, and nobody sees a later write of it before an earlier one;
//! - a reply waits for the journal if it would by itself: not for what its batch changed elsewhere;
//! - what takes other locks, or may take long, is not among them: it is answered by itself;
//! - if somebody holds one of the locks for long, none of them is answered here.

use objmapper::kv::{Fault, Hold, Key, Keyspace, Wait};
use smallvec::SmallVec;

use crate::unsettled::{Failed, Unsettled};

/// Requests at most: as many waits for memory overlap, and no processor has more than some 16 under
/// way. (`objmapper-bench --mode kv --pipeline 16`)
pub const REQUESTS: usize = 16;

/// Bytes that a request may have: what is copied under the locks of others stays short.
pub const REQUEST_BYTES: usize = 4096;

/// Requests, each with its key and where the next one begins in the input.
#[derive(Debug)]
pub struct Batch<'a, R> {
    keys: SmallVec<[Key<'a>; REQUESTS]>,
    requests: SmallVec<[(R, usize); REQUESTS]>,
}

/// What was answered of a batch: as much as could be.
#[derive(Debug, Default)]
pub struct Answered {
    /// Bytes of the requests.
    pub used: usize,
    /// How far the journal must be durable before all replies may leave.
    pub position: u64,
    replies: SmallVec<[Reply; REQUESTS]>,
}

#[derive(Debug)]
struct Reply {
    end: usize,
    /// How far the journal must be durable for it; `None`: as for all.
    position: Option<u64>,
}

impl Answered {
    /// Requests.
    pub fn count(&self) -> usize {
        self.replies.len()
    }

    /// Notes the replies that have to wait for the journal; the first began there in the outbox.
    #[inline]
    pub fn withhold(
        &self,
        (keyspace, failed): (&Keyspace, Failed),
        begin: usize,
        unsettled: &mut Unsettled,
    ) {
        if !failed.waits(keyspace, self.position) {
            return;
        }
        let mut at = begin;
        for reply in &self.replies {
            let position = reply.position.unwrap_or(self.position);
            if failed.waits(keyspace, position) {
                unsettled.add(position, at..reply.end);
            }
            at = reply.end;
        }
    }
}

impl<R> Default for Batch<'_, R> {
    /// Empty.
    #[inline]
    fn default() -> Self {
        Self { keys: SmallVec::new(), requests: SmallVec::new() }
    }
}

impl<'a, R> Batch<'a, R> {
    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Requests that there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// One more, which ends there in the input.
    #[inline]
    pub fn push(&mut self, key: Key<'a>, request: R, end: usize) {
        self.keys.push(key);
        self.requests.push((request, end));
    }

    /// Takes the locks of all keys, waiting so long, and has what they lead to brought near.
    #[inline]
    pub fn hold<'k>(&self, keyspace: &'k Keyspace, wait: Wait) -> Result<Hold<'k>, Fault> {
        let now = Keyspace::now();
        match &*self.keys {
            [key] => keyspace.try_hold(key, wait, now),
            keys => {
                let hold = keyspace.try_hold_keys(keys, wait, now)?;
                hold.prefetch(keys);
                Ok(hold)
            }
        }
    }

    /// Answers them in order, each by `answer`, which gives where its reply ends: `None` if it, and
    /// so what is behind it, is not to be answered here.
    #[inline]
    pub fn answer<'k>(
        &self,
        mut hold: Hold<'k>,
        mut answer: impl FnMut(&mut Hold<'k>, Key<'a>, &R) -> Option<usize>,
    ) -> Answered {
        let mut answered = Answered::default();
        for ((request, end), key) in self.requests.iter().zip(&self.keys) {
            // One before it may have let the locks go.
            if !hold.covers(key) {
                break;
            }
            let Some(end_of_reply) = answer(&mut hold, *key, request) else { break };
            answered.replies.push(Reply { end: end_of_reply, position: hold.position(key) });
            answered.used = *end;
        }
        answered.position = hold.finish();
        answered
    }
}

/// Whether a request that changes keys, or takes room for them, can be done without anything else
/// being done or said first.
#[inline]
pub fn can_change(keyspace: &Keyspace, grows: bool) -> bool {
    keyspace.may_write().is_ok() && !(grows && keyspace.memory().is_over())
}
