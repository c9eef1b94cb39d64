//! Why there is no delivery: an expected no, a fault, or not yet.
//!
//! A [`Refusal`] is a closed list; whoever answers clients matches it exhaustively.
//! A resource that ran out is [`Refusal::Busy`] or a fault, never "not found".

use objmapper_os as os;
use objmapper_proto::{Status, UriError};
use thiserror::Error;

/// An expected no. Its text says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The name is malformed.
    #[error("{0}")]
    BadUri(#[from] UriError),
    /// The name is well formed and cannot name a file.
    #[error(
        "an escaped '/' or NUL, or an empty, '.' or '..' segment, cannot be part of a file's name"
    )]
    BadName,
    /// It would be a second name of a key.
    #[error("a key has one name: write a '/' in it as it is, not as %2F")]
    BadKey,
    /// Nothing has that name.
    #[error("no object of that name")]
    NotFound,
    /// Nothing is mounted there.
    #[error("nothing is mounted at or above this name")]
    NotMounted,
    /// A rule says no.
    #[error("no rule of this mount allows uid {uid}: add one under 'allow' (for keys: kv.allow)")]
    Denied {
        /// Who asked.
        uid: u32,
    },
    /// It is for the daemon's user and root.
    #[error("only root and the daemon's own user may ask this, not uid {uid}")]
    NotOwner {
        /// Who asked.
        uid: u32,
    },
    /// The file's own permissions say no to the daemon.
    #[error(
        "the file system does not let the daemon's user open it: check owner and mode of the file and its directories"
    )]
    Forbidden,
    /// It exists and is a directory, a FIFO, a socket or a device.
    #[error("not a regular file; directories can be listed")]
    NotRegular,
    /// A directory was expected.
    #[error("not a directory")]
    NotDirectory,
    /// A symlink on the way, and the mount does not follow any.
    #[error("the name is, or leads through, a symlink that this mount does not follow")]
    Symlink,
    /// The name leads out of its mount.
    #[error("the name leads out of its mount")]
    Escape,
    /// The range begins past the end.
    #[error("the range begins at byte {offset}, and the object has {size}")]
    BadRange {
        /// Where it begins.
        offset: u64,
        /// The object's size.
        size: u64,
    },
    /// A cursor that no listing gave.
    #[error("the cursor does not come from a listing: begin without one")]
    BadCursor,
    /// Something ran out.
    #[error("{what}: try again")]
    Busy {
        /// What, with use and limit where known.
        what: &'static str,
    },
    /// The content changed under the copy.
    #[error("the object changed while it was being copied: ask again")]
    Changed,
}

impl Refusal {
    /// The status that tells a client.
    pub const fn status(&self) -> Status {
        match self {
            Self::BadUri(_) | Self::BadName | Self::BadKey => Status::BadUri,
            Self::NotFound | Self::NotMounted => Status::NotFound,
            Self::Denied { .. } | Self::NotOwner { .. } | Self::Forbidden => Status::Denied,
            Self::NotRegular | Self::NotDirectory => Status::NotRegular,
            Self::Symlink | Self::Escape => Status::Escape,
            Self::BadRange { .. } => Status::BadRange,
            Self::BadCursor => Status::BadRequest,
            Self::Busy { .. } => Status::Busy,
            Self::Changed => Status::Changed,
        }
    }
}

/// Why a request was not met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Miss {
    /// An expected no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel or the file system failed. Logged once, where it is answered.
    #[error("the file system failed: {0}")]
    Fault(os::Error),
    /// It would have had to wait, and [`crate::Patience::Never`] was given.
    #[error("it would have to wait for a disk: ask again")]
    WouldBlock,
}

impl From<os::Error> for Miss {
    /// For calls on files that are already open: nothing is "not found" any more.
    fn from(error: os::Error) -> Self {
        if error.is_would_block() {
            Self::WouldBlock
        } else if error.is_resource() {
            Self::Refused(Refusal::Busy {
                what: "the daemon or its machine is out of descriptors or memory",
            })
        } else {
            Self::Fault(error)
        }
    }
}
