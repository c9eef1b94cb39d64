//! Requests on one key each that came together: answered under one hold of all their keys' locks.
//!
//! A pipeline of them takes each lock once instead of once a request, waits for the memory that all
//! of them lead to at the same time, and is one record of the journal. Each protocol collects its
//! own requests and says how one is answered.
//!
//! What must stay true:
//! - the order is that of the pipeline, and nobody sees a later write of it before an earlier one;
//! - what takes other locks, or may take long, is not among them: it is answered by itself.

use objmapper::kv::{Hold, Key, Keyspace};
use smallvec::SmallVec;

/// Requests at most: as many waits for memory overlap, and no processor has more than some 16 under
/// way. (`objmapper-bench --mode kv --pipeline 16`)
pub const REQUESTS: usize = 16;

/// Bytes that a request may have: what is copied under the locks of others stays short.
pub const LONG: usize = 4096;

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
    /// Where the replies end, in order.
    pub ends: SmallVec<[usize; REQUESTS]>,
    /// How far the journal must be durable before they may leave.
    pub position: u64,
}

impl<'a, R> Batch<'a, R> {
    /// Empty.
    #[inline]
    pub fn new() -> Self {
        Self { keys: SmallVec::new(), requests: SmallVec::new() }
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

    /// Takes the locks of all keys, and has what they lead to brought near.
    #[inline]
    pub fn hold<'k>(&self, keyspace: &'k Keyspace) -> Hold<'k> {
        let now = Keyspace::now();
        match &*self.keys {
            [key] => keyspace.hold(key, now),
            keys => {
                let hold = keyspace.hold_keys(keys, now);
                hold.prefetch(keys);
                hold
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
            let Some(reply) = answer(&mut hold, *key, request) else { break };
            answered.ends.push(reply);
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
