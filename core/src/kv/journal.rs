//! The journal: every change, in order, on disk before anybody is told of it.
//!
//! ```text
//!  hold ─▶ append: a number, a checksum, into memory          (under the locks of its shards)
//!  whoever serves ─▶ write_out: one write(2) for all that came meanwhile     interval, never
//!  who waits for the disk ─▶ sync: one write(2), one fdatasync(2)            always
//!  start ─▶ recover: snapshot, then segments; a torn tail is cut off
//! ```
//!
//! `journal/FORMAT.md` says what is on the disk, and when it is refused. The modules form a ladder:
//! each uses only those before it. Not here: what the operations mean, and the keyspace.

pub mod disk;
pub(crate) mod format;
pub(crate) mod segment;

pub mod recover;

mod figures;
pub(crate) mod payload;

mod current;
mod front;
pub(crate) mod snapshot;
mod waiters;
mod wishes;
pub mod writer;

mod attend;

pub(crate) mod kept;

pub use disk::{Disk, File};
pub use figures::Figures;
pub use recover::{Damage, Failure, Report, Torn};
pub use writer::{Journal, NEVER};

use std::time::Duration;

/// When what was written must be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before anybody is told of it: no power cut loses it.
    Always,
    /// So much later at most; a crash of this process loses nothing.
    Interval(Duration),
    /// When the kernel gets to it, some 30 seconds later; a crash of this process loses nothing.
    Never,
}

impl Default for SyncPolicy {
    /// 100 ms.
    fn default() -> Self {
        Self::Interval(Duration::from_millis(100))
    }
}

/// How a journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// When it must be durable.
    pub sync: SyncPolicy,
    /// Bytes of a segment: when it has so many, the next one is begun.
    pub segment: u64,
    /// Bytes of records since the last snapshot from which on a new one is worth its while ..
    pub compact_from: u64,
    /// .. if they are also so many per cent of that snapshot; 0: never by itself.
    pub compact_percent: u32,
    /// The longest time between two snapshots while something is written; zero: any.
    pub compact_every: Duration,
    /// Under [`SyncPolicy::Always`], bytes of zeros that are written ahead of the records of a segment:
    /// a sync of what is written over them changes bytes alone, neither the file's length nor where
    /// they are, which makes it much cheaper. 0: none.
    pub prefill: u64,
    /// What to do with damage when it is opened.
    pub damage: Damage,
}

impl Default for JournalOptions {
    /// Segments of 64 MiB, filled with zeros 1 MiB ahead; compaction when records are 64 MiB and as
    /// much as the snapshot.
    fn default() -> Self {
        Self {
            sync: SyncPolicy::default(),
            segment: 64 << 20,
            compact_from: 64 << 20,
            compact_percent: 100,
            compact_every: Duration::ZERO,
            prefill: 1 << 20,
            damage: Damage::default(),
        }
    }
}
