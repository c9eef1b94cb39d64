//! The keyspace: keys to values, for the daemon's two protocols and for programs that embed it.
//!
//! The modules form a ladder: each uses only those before it.

mod bell;
pub mod extended;
pub mod fault;
pub mod glob;
mod ops;
mod record;
pub mod value;

mod shard;

mod lazy;

pub mod lock;

pub mod evict;

pub mod journal;

pub mod hold;
pub mod keyspace;

mod pass;
mod text;
mod watches;

pub mod order;
pub mod stream;

mod census;
pub mod durable;

pub mod copies;

pub mod adopt;

pub mod embedded;

use std::sync::Arc;

use journal::payload::Payload;

pub use adopt::{Adopted, NotAdopted};
pub use copies::{Backup, Compacted, restore, verify, verify_backup};
pub use embedded::Db;
pub use evict::{Memory, Policy, Pressure};
pub use fault::Fault;
pub use hold::{Change, Hold};
pub use journal::{JournalOptions, SyncPolicy};
pub use keyspace::{DATABASES, Key, Keyspace, LONGEST, Options};
pub use lock::Wait;
pub use order::{KeyPage, PageSize, Span};
pub use shard::Watch;
pub use stream::Stream;
pub use text::{digits, integer};
pub use value::{Sealed, Taken, Value};

/// A value that is to be kept, prepared by [`Keyspace::content`].
#[derive(Debug, Clone)]
pub enum Content<'a> {
    /// Short enough to lie beside its key.
    Bytes(&'a [u8]),
    /// In memory of our own.
    Heap(&'a [u8]),
    /// The same, taken over as it is.
    Owned(Vec<u8>),
    /// In sealed memory.
    Sealed(Arc<Sealed>),
}

impl Content<'_> {
    /// Bytes that it has.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) | Self::Heap(bytes) => bytes.len() as u64,
            Self::Owned(bytes) => bytes.len() as u64,
            Self::Sealed(sealed) => sealed.size(),
        }
    }

    /// Tells the journal that a key has it; what lies in sealed memory is referred to.
    fn tell(
        &self,
        log: &mut Payload,
        db: u8,
        key: &[u8],
        expiry: Option<i64>,
    ) -> Result<(), Fault> {
        match self {
            Self::Bytes(bytes) | Self::Heap(bytes) => ops::set(log.ops(), db, key, bytes, expiry),
            Self::Owned(bytes) => ops::set(log.ops(), db, key, bytes, expiry),
            Self::Sealed(sealed) => {
                sealed.checksum()?;
                let length = usize::try_from(sealed.size()).unwrap_or(usize::MAX);
                ops::set_head(log.ops(), db, key, length, expiry);
                log.refer(Arc::clone(sealed));
            }
        }
        Ok(())
    }
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Not by itself.
    Never,
    /// As before.
    Kept,
    /// Milliseconds since 1970.
    At(i64),
}

/// What has happened, and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Keys that were asked for and found.
    pub hits: u64,
    /// And not found.
    pub misses: u64,
    /// Keys whose time was up.
    pub expired: u64,
    /// Keys that had to go.
    pub evicted: u64,
    /// Keys there are.
    pub keys: u64,
    /// Of these, with an expiry.
    pub volatile: u64,
    /// Of these, in sealed memory.
    pub sealed: u64,
}
