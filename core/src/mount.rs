//! Mounts: which backing answers for which names.
//!
//! The table is built whole, never changed, and swapped whole; each has an epoch of
//! its own, by which what was worked out under another is known to be stale. A backing
//! may stand in several tables: one that stays keeps what it holds open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::fast::FixedState;
use objmapper_proto::{Uri, UriBuf};
use std::hash::BuildHasher;
use thiserror::Error;

use crate::backing::tree::Tree;
use crate::backing::{Backing, MountId};
use crate::rule::Rules;

/// A prefix, what answers below it, and for whom.
#[derive(Debug)]
pub struct Mount {
    prefix: UriBuf,
    backing: Arc<dyn Backing>,
    rules: Rules,
    strict: bool,
    shared: bool,
    id: MountId,
}

impl Mount {
    /// `backing` answers for `prefix` and what lies below.
    pub fn new(prefix: UriBuf, backing: Arc<dyn Backing>, rules: Rules) -> Self {
        let id = MountId(FixedState::default().hash_one(prefix.as_uri().as_bytes()));
        Self { prefix, backing, rules, strict: false, shared: false, id }
    }

    /// Whether bytes are read before they are sent, each piece of one version, rather than
    /// moved by the kernel while somebody may write to them.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether bytes are read before they are sent.
    pub const fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether open file descriptions may be shared by those who ask for that.
    #[must_use]
    pub fn shared(self, shared: bool) -> Self {
        Self { shared, ..self }
    }

    /// The tree whose descriptions may be shared, if they may.
    pub(crate) fn tree_to_share(&self) -> Option<&Tree> {
        if self.shared { self.backing.tree() } else { None }
    }

    /// For accounts.
    #[inline]
    pub const fn id(&self) -> MountId {
        self.id
    }

    /// The prefix.
    pub fn prefix(&self) -> Uri<'_> {
        self.prefix.as_uri()
    }

    /// What answers.
    pub fn backing(&self) -> &dyn Backing {
        &*self.backing
    }

    /// For whom.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// The mounts do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadMounts {
    /// Two for the same prefix.
    #[error("two mounts at {0}: give each its own prefix")]
    Twice(UriBuf),
    /// More than an index entry can name.
    #[error("{0} mounts, the limit is 65535")]
    TooMany(usize),
}

/// All mounts, longest prefix first.
#[derive(Debug)]
pub struct Mounts {
    epoch: u32,
    mounts: Vec<Mount>,
}

impl Mounts {
    /// A table of these; with none, nothing is found.
    pub fn new(mut mounts: Vec<Mount>) -> Result<Self, BadMounts> {
        static EPOCH: AtomicU32 = AtomicU32::new(1);
        if u16::try_from(mounts.len()).is_err() {
            return Err(BadMounts::TooMany(mounts.len()));
        }
        let key = |m: &Mount| {
            let name = m.prefix.as_uri().as_bytes();
            let name = if name == b"/" { name } else { name.strip_suffix(b"/").unwrap_or(name) };
            (std::cmp::Reverse(name.len()), name.to_vec())
        };
        mounts.sort_by_cached_key(key);
        if let Some(pair) = mounts.windows(2).find(|w| matches!(w, [a, b] if key(a) == key(b)))
            && let [one, _] = pair
        {
            return Err(BadMounts::Twice(one.prefix.clone()));
        }
        Ok(Self { epoch: EPOCH.fetch_add(1, Ordering::Relaxed), mounts })
    }

    /// Differs from every other table's.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The mount with this number.
    #[inline]
    pub fn at(&self, number: usize) -> Option<&Mount> {
        self.mounts.get(number)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Mount)> {
        self.mounts.iter().enumerate()
    }

    /// The mount that answers for `uri`: its number, and what is left of the name.
    pub fn route<'u>(&self, uri: Uri<'u>) -> Option<(usize, &Mount, &'u [u8])> {
        self.iter().find_map(|(n, mount)| uri.below(mount.prefix()).map(|rest| (n, mount, rest)))
    }
}
