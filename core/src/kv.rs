//! The keyspace: keys to values, for the two doors of the daemon and for programs that embed it.
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

pub mod evict;

pub mod journal;

pub mod hold;
pub mod keyspace;

mod pass;
mod text;

pub mod order;

pub mod durable;

pub mod adopt;

use std::borrow::Cow;
use std::sync::Arc;

pub use adopt::{Adopted, NotAdopted};
pub use durable::{Backup, Compacted, restore, verify, verify_backup};
pub use evict::{Memory, Policy, Pressure};
pub use fault::Fault;
pub use hold::{Change, Hold};
pub use journal::{JournalOptions, SyncPolicy};
pub use keyspace::{DATABASES, Key, Keyspace, LONGEST, Options};
pub use order::{KeyPage, PageSize, Span};
pub use shard::Watch;
pub use text::{digits, integer};
pub use value::{Sealed, Value};

/// A value that is to be kept, prepared by [`Keyspace::content`].
#[derive(Debug, Clone)]
pub enum Content<'a> {
    /// Short enough to lie beside its key.
    Bytes(&'a [u8]),
    /// In memory of our own.
    Heap(&'a [u8]),
    /// The same, taken over as it is.
    Owned(Vec<u8>),
    /// In sealed memory; its bytes, where they are at hand.
    Sealed(Arc<Sealed>, Option<&'a [u8]>),
}

impl Content<'_> {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Fault> {
        match self {
            Self::Bytes(bytes) | Self::Heap(bytes) | Self::Sealed(_, Some(bytes)) => {
                Ok(Cow::Borrowed(bytes))
            }
            Self::Owned(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::Sealed(sealed, None) => {
                let mut out = Vec::new();
                sealed.read_into(&mut out, 0, sealed.size())?;
                Ok(Cow::Owned(out))
            }
        }
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
