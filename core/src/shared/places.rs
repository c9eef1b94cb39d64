//! Directories that are watched, and what is known to lie beneath which.
//!
//! A place is a path in a tree; two places can be one directory and then have one watch. A place
//! lives as long as a file is kept in it or beneath it, so the number of watches is bounded by
//! that of files, times the depth. A path has one living place at most. All of it stands behind one lock, but for the liveness of a
//! place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use objmapper_os::watch::Watch;
use parking_lot::Mutex;

/// A directory on the way to files that are kept.
#[derive(Debug)]
pub(super) struct Place {
    /// Number of the tree.
    pub(super) tree: u64,
    path: Box<[u8]>,
    watch: Watch,
    parent: Option<Arc<Place>>,
    ended: AtomicBool,
    bin: Arc<Bin>,
}

/// Where places go when the last file in them has gone, whoever let go of it.
type Bin = Mutex<Vec<(u64, Box<[u8]>, Watch)>>;

impl Place {
    /// Whether its path still leads to it, as far as was told.
    pub(super) fn is_alive(&self) -> bool {
        let mut place = Some(self);
        while let Some(this) = place {
            if this.ended.load(Ordering::Acquire) {
                return false;
            }
            place = this.parent.as_deref();
        }
        true
    }

    /// The path of a name in it.
    pub(super) fn path_of(&self, name: &[u8], path: &mut Vec<u8>) {
        path.clear();
        path.extend_from_slice(&self.path);
        if !self.path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The watch goes later, by whoever has the lock; see `Places::tidy`.
        self.bin.lock().push((self.tree, std::mem::take(&mut self.path), self.watch));
    }
}

/// All places.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Moves whenever anything was told of a place, or dropped.
    pub(super) generation: u64,
    by_path: HashMap<u64, HashMap<Box<[u8]>, Weak<Place>>>,
    by_watch: HashMap<Watch, Vec<Weak<Place>>>,
    bin: Arc<Bin>,
    any_ended: bool,
}

impl Places {
    /// How many directories are watched.
    pub(super) fn watches(&self) -> usize {
        self.by_watch.len()
    }

    /// The place at this path, if it is watched and alive.
    pub(super) fn find(&self, tree: u64, path: &[u8]) -> Option<Arc<Place>> {
        let place = self.by_path.get(&tree)?.get(path)?.upgrade()?;
        place.is_alive().then_some(place)
    }

    /// The place at this path, with this watch; `parent` is the one above it, none for a root.
    /// There is one living place of a path: one with another watch ends, since its path leads
    /// elsewhere now.
    pub(super) fn add(
        &mut self,
        tree: u64,
        path: &[u8],
        watch: Watch,
        parent: Option<Arc<Place>>,
    ) -> Arc<Place> {
        if let Some(known) = self.find(tree, path) {
            if known.watch == watch {
                return known;
            }
            self.end(&known);
        }
        let (bin, ended) = (self.bin.clone(), AtomicBool::new(false));
        let place = Arc::new(Place { tree, path: path.into(), watch, parent, ended, bin });
        let weak = Arc::downgrade(&place);
        self.by_path.entry(tree).or_default().insert(path.into(), weak.clone());
        self.by_watch.entry(watch).or_default().push(weak);
        place
    }

    /// The places that this watch is of.
    pub(super) fn watched_by(&self, watch: Watch) -> Vec<Arc<Place>> {
        let places = self.by_watch.get(&watch).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends the places of a watch, and with them all beneath.
    pub(super) fn end_watch(&mut self, watch: Watch) {
        for place in self.watched_by(watch) {
            self.end(&place);
        }
    }

    /// Ends the place at this path, if there is one.
    pub(super) fn end_place(&mut self, tree: u64, path: &[u8]) {
        let known = self.by_path.get(&tree).and_then(|tree| tree.get(path));
        if let Some(place) = known.and_then(Weak::upgrade) {
            self.end(&place);
        }
    }

    /// Ends all.
    pub(super) fn end_all(&mut self) {
        let all: Vec<_> = self.by_watch.values().flatten().filter_map(Weak::upgrade).collect();
        for place in all {
            self.end(&place);
        }
    }

    /// A place that nobody else has is gone, and needs no end: nobody holds a [`super::Pin`] of it.
    fn end(&mut self, place: &Place) {
        place.ended.store(true, Ordering::Release);
        self.generation += 1;
        self.any_ended = true;
    }

    /// Whether any has ended since this was asked last.
    pub(super) fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.any_ended)
    }

    /// Forgets places that nobody needs any more; `unwatch` gets watches that are of none.
    pub(super) fn tidy(&mut self, mut unwatch: impl FnMut(Watch)) {
        loop {
            let bin = std::mem::take(&mut *self.bin.lock());
            if bin.is_empty() {
                return;
            }
            for (tree, path, watch) in bin {
                let gone = |place: &Weak<Place>| place.strong_count() == 0;
                if let Some(paths) = self.by_path.get_mut(&tree) {
                    if paths.get(&path).is_some_and(gone) {
                        paths.remove(&path);
                    }
                    if paths.is_empty() {
                        self.by_path.remove(&tree);
                    }
                }
                if let Some(places) = self.by_watch.get_mut(&watch) {
                    places.retain(|place| !gone(place));
                    if places.is_empty() {
                        self.by_watch.remove(&watch);
                        unwatch(watch);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_os::root::{Resolve, Root};
    use objmapper_os::watch::Watcher;
    use std::os::fd::AsFd;

    /// Watches of two directories.
    fn watches() -> [Watch; 2] {
        let (watcher, dir) = (Watcher::new().unwrap(), tempfile::tempdir().unwrap());
        let root = Root::open(dir.path()).unwrap();
        [b"a", b"b"].map(|name| {
            std::fs::create_dir(dir.path().join(std::str::from_utf8(name).unwrap())).unwrap();
            let place = root.open_dir_place(name, Resolve::MayBlock).unwrap();
            watcher.add(place.as_fd()).unwrap()
        })
    }

    #[test]
    fn a_path_has_one_living_place() {
        let [one, other] = watches();
        let mut places = Places::default();
        let first = places.add(1, b"a", one, None);
        assert!(Arc::ptr_eq(&first, &places.add(1, b"a", one, None)));
        let below = places.add(1, b"a/b", other, Some(first.clone()));
        let generation = places.generation;
        let second = places.add(1, b"a", other, None);
        assert!(!first.is_alive() && !below.is_alive() && second.is_alive());
        assert!(places.generation > generation && places.take_ended());
        assert!(places.find(1, b"a/b").is_none());
    }

    #[test]
    fn what_nobody_needs_is_not_watched() {
        let [one, other] = watches();
        let mut places = Places::default();
        let root = places.add(1, b"", one, None);
        let same = places.add(2, b"x", one, None);
        let below = places.add(1, b"b", other, Some(root));
        let mut gone = Vec::new();
        places.tidy(|watch| gone.push(watch));
        drop(same);
        places.tidy(|watch| gone.push(watch));
        assert_eq!((gone.len(), places.watches()), (0, 2), "the root has the other's watch");
        drop(below);
        places.tidy(|watch| gone.push(watch));
        assert_eq!((gone.len(), places.watches()), (2, 0));
    }
}
