//! From the settings' mounts to the store's: directories are opened, rules taken over.
//!
//! What must stay true:
//! - all or nothing: one mount that cannot be made fails the table, and what is served
//!   stays as it is;
//! - a directory that was named before, in the same way, and is still where it was, is
//!   not opened again: its descriptor goes over into the new table.

use std::sync::Arc;

use anyhow::Context;
use objmapper::kv::Keyspace;
use objmapper::{Backing, Keys, Mount, Mounts, Rules, Tree};

use crate::closers::CloseQueue;
use crate::config::{MountSpec, ReadOnlyClone};

/// What is served, and the settings that it was made from.
#[derive(Debug, Default)]
pub struct Served {
    entries: Vec<Entry>,
    keys: Option<(Arc<Keyspace>, Rules)>,
}

#[derive(Debug)]
struct Entry {
    spec: MountSpec,
    tree: Arc<Tree>,
}

impl Served {
    /// Nothing yet but this keyspace, at `kv:`, for whom these rules say, if there is one: it stays.
    pub fn keys(keys: Option<(Arc<Keyspace>, Rules)>) -> Self {
        Self { entries: Vec::new(), keys }
    }

    /// The mounts of `specs`, with what `self` has open already.
    pub fn renew(&self, specs: &[MountSpec]) -> anyhow::Result<(Self, Mounts)> {
        let entry = |spec: &MountSpec| {
            let tree = self.tree_of(spec).map_or_else(|| open(spec), Ok)?;
            anyhow::Ok(Entry { spec: spec.clone(), tree })
        };
        let entries = specs.iter().map(entry).collect::<anyhow::Result<_>>()?;
        let new = Self { entries, keys: self.keys.clone() };
        let mut mounts: Vec<Mount> = new.entries.iter().map(Entry::mount).collect();
        if let Some((keyspace, rules)) = &new.keys {
            let database = Arc::new(Keys::new(keyspace.clone(), 0));
            mounts.push(Mount::new("kv:".parse()?, database, rules.clone()));
        }
        Ok((new, Mounts::new(mounts)?))
    }

    /// The tree of this mount, if it is open and still the right one.
    fn tree_of(&self, spec: &MountSpec) -> Option<Arc<Tree>> {
        let is_same = |known: &MountSpec| {
            known.dir == spec.dir
                && known.symlinks == spec.symlinks
                && known.read_only_clone == spec.read_only_clone
        };
        let known = self.entries.iter().find(|entry| is_same(&entry.spec))?;
        // If that cannot be found out, opening it says why.
        matches!(known.tree.is_in_place(), Ok(true)).then(|| known.tree.clone())
    }

    /// How many mounts there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells the log what is not as it was with `before`.
    pub fn log_changes_since(&self, before: &Self) {
        let at = |served: &Self, spec: &MountSpec| {
            served.entries.iter().position(|entry| entry.spec.uri == spec.uri)
        };
        for old in &before.entries {
            if at(self, &old.spec).is_none() {
                let uri = &old.spec.uri;
                tracing::info!(%uri, backing = old.tree.describe(), "unmounted");
            }
        }
        for new in &self.entries {
            let uri = &new.spec.uri;
            let old = at(before, &new.spec).and_then(|at| before.entries.get(at));
            match old {
                Some(old) if Arc::ptr_eq(&old.tree, &new.tree) => {
                    if old.spec.allow != new.spec.allow {
                        tracing::info!(%uri, "rules changed");
                    }
                    if old.spec.strict != new.spec.strict {
                        tracing::info!(%uri, strict = new.spec.strict, "strictness changed");
                    }
                    if old.spec.shared != new.spec.shared {
                        tracing::info!(%uri, shared = new.spec.shared, "sharing changed");
                    }
                }
                _ => tracing::info!(%uri, backing = new.tree.describe(), "mounted"),
            }
        }
    }
}

impl Entry {
    fn mount(&self) -> Mount {
        let allow = &self.spec.allow;
        let rules = if allow.is_empty() { Rules::owner_only() } else { Rules::new(allow.clone()) };
        Mount::new(self.spec.uri.clone(), self.tree.clone(), rules)
            .strict(self.spec.strict)
            .shared(self.spec.shared)
    }
}

fn open(spec: &MountSpec) -> anyhow::Result<Arc<Tree>> {
    let told = || format!("cannot mount {} at {}", spec.dir.display(), spec.uri);
    let plain = || Tree::open(&spec.dir, spec.symlinks).with_context(told);
    let tree = match spec.read_only_clone {
        ReadOnlyClone::Off => plain()?,
        ReadOnlyClone::On => Tree::open_read_only(&spec.dir, spec.symlinks).with_context(told)?,
        ReadOnlyClone::Auto => match Tree::open_read_only(&spec.dir, spec.symlinks) {
            Ok(tree) => tree,
            Err(error) => {
                tracing::debug!(%error, "no read-only clone; files are as they are mounted");
                plain()?
            }
        },
    };
    Ok(Arc::new(tree.closed_by(Arc::new(CloseQueue::default()))))
}
