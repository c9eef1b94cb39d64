//! Why a verb of the keyspace did nothing.

use objmapper_os as os;
use thiserror::Error;

/// A closed list; whoever answers clients matches it exhaustively.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The value is no integer of 64 bits.
    #[error("the value is not an integer, or out of the range of 64 bits")]
    NotInteger,
    /// The sum is none.
    #[error("the increment would leave the range of 64 bits")]
    Overflow,
    /// The value is no number.
    #[error("the value is not a number")]
    NotNumber,
    /// The sum is none.
    #[error("the increment would give NaN or infinity")]
    NotFinite,
    /// It would be longer than a value may be.
    #[error("a key or value may have {limit} bytes: cut it into several, or keep it as a file")]
    TooLong {
        /// In bytes.
        limit: u64,
    },
    /// The key is not there.
    #[error("no such key")]
    NoKey,
    /// The moment to end at does not fit.
    #[error("the expiry is out of range")]
    BadExpiry,
    /// No room, and nothing that may be evicted.
    #[error(
        "the keyspace is full: {used} bytes used, {limit} allowed (maxmemory), and nothing may be \
         evicted: remove keys, or raise the limit"
    )]
    Full {
        /// Bytes.
        used: u64,
        /// Bytes.
        limit: u64,
    },
    /// Somebody holds a lock for long, and it was not to be waited for: ask again where it may be
    /// ([`Wait::Long`](super::Wait::Long)).
    #[error("somebody holds these keys for long: try again")]
    Locked,
    /// The journal cannot be written: nothing is changed any more.
    #[error("the journal cannot be written, so nothing is changed until the next start: {why}")]
    Journal {
        /// What failed, and what to do about it.
        why: String,
    },
    /// The kernel failed.
    #[error("{0}")]
    Io(#[from] os::Error),
}
