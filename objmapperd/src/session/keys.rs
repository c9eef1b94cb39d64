//! Where a RESP connection is: what was agreed on, what is queued, what is watched.
//!
//! Plain data, as [`super::Session`] is for the other protocol.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use objmapper::kv::Watch;
use objmapper_proto::resp::{Args, Decoder};

/// One connection's state.
#[derive(Debug, Default)]
pub struct Keys {
    /// What has come of the next request.
    pub decoder: Decoder,
    /// What is known of the client.
    pub talk: Talk,
    /// Replies that wait for the journal.
    pub unsettled: Unsettled,
}

/// Replies that may not leave before the journal is as durable as was promised.
#[derive(Debug, Default)]
pub struct Unsettled {
    position: u64,
    /// Where they stand in the outbox.
    replies: Vec<Range<usize>>,
}

impl Unsettled {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// The position that the journal has to reach.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// In order.
    pub fn replies(&self) -> &[Range<usize>] {
        &self.replies
    }

    /// One more.
    #[inline]
    pub fn add(&mut self, position: u64, reply: Range<usize>) {
        self.position = self.position.max(position);
        self.replies.push(reply);
    }

    /// None any more.
    pub fn clear(&mut self) {
        self.position = 0;
        self.replies.clear();
    }
}

/// What a client has said that holds for what it says later.
#[derive(Debug)]
pub struct Talk {
    /// A number that no other connection has or had.
    pub id: u64,
    /// Replies are in version 3.
    pub three: bool,
    /// The database that is selected.
    pub db: u8,
    /// It has said who it is, or need not.
    pub known: bool,
    /// What it calls itself.
    pub name: Vec<u8>,
    /// MULTI was said.
    pub transaction: Option<Transaction>,
    /// What is watched, and whether any of it has changed.
    pub watched: Watched,
    /// No more is to be answered: QUIT was.
    pub over: bool,
    /// How far the journal must be durable before the replies may leave.
    pub position: u64,
}

impl Default for Talk {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            three: false,
            db: 0,
            known: true,
            name: Vec::new(),
            transaction: None,
            watched: Watched::default(),
            over: false,
            position: 0,
        }
    }
}

/// What was said between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In order.
    pub requests: Vec<Request>,
    /// One of them was refused: none will be done.
    pub broken: bool,
    /// Bytes that they take.
    pub bytes: usize,
}

/// One request, kept.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Request {
    /// A copy of these arguments.
    pub fn new(args: Args<'_>) -> Self {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::with_capacity(args.len()));
        for arg in args.iter() {
            let at = bytes.len();
            bytes.extend_from_slice(arg);
            ranges.push(at..bytes.len());
        }
        Self { bytes, ranges }
    }

    /// The arguments.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.ranges)
    }

    /// Bytes that it takes.
    pub fn footprint(&self) -> usize {
        self.bytes.capacity() + self.ranges.capacity() * size_of::<Range<usize>>()
    }
}

/// Keys that are watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// Database and name of each.
    pub keys: Vec<(u8, Box<[u8]>)>,
    /// Set when one has changed.
    pub told: Watch,
}
