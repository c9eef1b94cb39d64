//! Where bytes are: the one open seam of the core.
//!
//! A mount binds a prefix to a [`Backing`]: a directory [`tree`], whose objects are files that can
//! change, or a database of [`keys`], whose objects are sealed memory.

pub mod keys;
pub mod tree;

use std::borrow::Cow;

use objmapper_os::file::Identity;
use objmapper_os::opened::Opened;
use objmapper_proto::{Kind, Version};

use crate::object::Object;
use crate::refusal::{Miss, Refusal};

/// Whether the caller can wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Answer [`Miss::WouldBlock`] rather than wait.
    Never,
    /// Wait.
    Block,
    /// Wait for this mount, and for no other: what hangs there must not be taken for the
    /// work of another.
    For(MountId),
}

impl Patience {
    /// What is left of it for that mount.
    #[inline]
    #[must_use]
    pub fn at(self, mount: MountId) -> Self {
        match self {
            Self::For(own) if own == mount => Self::Block,
            Self::For(_) => Self::Never,
            other => other,
        }
    }
}

/// Which mount, for accounts: the same as long as its prefix is the same, also over a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MountId(pub(crate) u64);

/// An object that was opened.
#[derive(Debug)]
pub struct Found {
    /// A new open file description, for reading.
    pub file: Opened,
    /// What it looks like.
    pub identity: Identity,
    /// Of bytes that nobody can change: their version.
    pub sealed: Option<Version>,
}

impl Found {
    /// What is known of it.
    #[inline]
    pub(crate) fn object(&self) -> Object {
        match self.sealed {
            None => Object::of_file(&self.identity),
            Some(version) => Object::of_memory(self.identity.size, version),
        }
    }
}

/// A name below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Percent-encoded; ends with `/` if others lie below it.
    pub name: Box<[u8]>,
    /// An object or a prefix.
    pub kind: Kind,
    /// Bytes; 0 for a prefix.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// A page of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// In the order of their encoded bytes.
    pub names: Vec<Name>,
    /// The encoded name to go on after, if there may be more.
    pub next: Option<Box<[u8]>>,
}

/// A store of objects, named by paths: bytes without a leading `/`, decoded, with no
/// empty, `.` or `..` segment; empty for the root itself.
pub trait Backing: Send + Sync + std::fmt::Debug {
    /// Opens the object of that name, for reading, as it is at this moment. `patience` is
    /// [`Patience::Never`] or [`Patience::Block`] here and below.
    fn open(&self, path: &[u8], patience: Patience) -> Result<Found, Miss>;

    /// What the object of that name looks like at this moment.
    fn stat(&self, path: &[u8], patience: Patience) -> Result<Object, Miss>;

    /// At most `limit` names one level below `path`, those whose encoded names come
    /// after `after`, in the order of their encoded names' bytes. May wait.
    fn list(&self, path: &[u8], after: &[u8], limit: usize) -> Result<Names, Miss>;

    /// The path that the rest of a normal URI names, without escapes. By default as a tree has it.
    fn path<'a>(&self, rest: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
        tree::path(rest)
    }

    /// Whether it is worth remembering where a name leads: finding out costs more than that.
    fn is_remembered(&self) -> bool {
        true
    }

    /// The directory tree that it is, if it is one: only names of a tree can be watched for
    /// changes, so only its files can be kept open and shared.
    fn tree(&self) -> Option<&tree::Tree> {
        None
    }

    /// For people: what this is.
    fn describe(&self) -> String;
}
