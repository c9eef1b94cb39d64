//! Shared open file descriptions: a bounded number of files that stay open and are handed out
//! again and again, for mounts that allow it and clients that ask.
//!
//! ```text
//!  once for a batch of requests:  observe ─▶ what was renamed, removed, chmodded.. is dropped
//!  a hit:   find ─▶ fstat: still the same? ─▶ the same description once more
//!  a miss:  prepare (watch every directory on the way) ─▶ open ─▶ keep
//! ```
//!
//! What must stay true:
//! - a hit gives what opening the name would give: [`Shared::observe`] comes between the arrival
//!   of a request and its hit. What happens to the *name*, to a directory on the way or to a
//!   mount is told by a watch; what happens to the *file* is seen by fstat;
//! - directories are watched from the root down, and all of them before the file is opened: what
//!   changes later is told. What was told meanwhile (`Pin`) keeps the file from being kept;
//! - only files whose every later change shows in fstat are kept (not one that changed within the
//!   present tick of the clock), of file systems that tell every change, reached without symlinks;
//! - whatever cannot be watched, or may have been missed, is not shared. That is no error:
//!   whoever asks gets a description of their own.
//!
//! Rules are not looked at here: they are asked before, for each request.

mod places;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use objmapper_os as os;
use os::file::{self, Identity};
use os::opened::Opened;
use os::root::Resolve;
use os::watch::{self, Seen, Watcher};
use parking_lot::Mutex;

use crate::backing::tree::Tree;
use crate::backing::{Found, Patience};
use crate::index::{Bounds, Index};
use crate::object::changes_show;
use places::{Place, Places};

/// What sharing has done so far, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests that got a description that was there.
    pub hits: u64,
    /// Requests that found none.
    pub misses: u64,
    /// Descriptions that had to go for others.
    pub evictions: u64,
    /// Descriptions that were dropped because something changed.
    pub invalidations: u64,
    /// Times that everything was dropped because changes may have been missed.
    pub overflows: u64,
    /// Times that nothing was kept because a directory could not be watched.
    pub no_watch: u64,
    /// Descriptions that are held.
    pub descriptors: u64,
    /// Directories that are watched.
    pub watches: u64,
}

/// Descriptions to be handed out many times.
#[derive(Debug)]
pub struct Shared {
    files: Index<Arc<Held>>,
    watcher: Watcher,
    /// Locked while changes are read and applied: who looks for a file meanwhile, and needs to
    /// have seen them, waits.
    places: Mutex<Places>,
    /// How many directories are watched, to be asked without the lock.
    watches: AtomicUsize,
    stale: AtomicU64,
    invalidations: AtomicU64,
    overflows: AtomicU64,
    no_watch: AtomicU64,
}

/// A file that is kept open.
#[derive(Debug)]
struct Held {
    file: Arc<Opened>,
    identity: Identity,
    /// The directory it is in, and by that the tree.
    place: Arc<Place>,
}

/// Permission to keep a file that is opened from now on, unless something changes first.
#[derive(Debug)]
pub(crate) struct Pin {
    place: Arc<Place>,
    generation: u64,
}

impl Shared {
    /// Keeps at most so many descriptions. Fails where nothing can be watched.
    pub fn new(descriptors: usize) -> os::Result<Self> {
        /// Descriptions for each shard, so that an uneven spread costs few of them.
        const PER_SHARD: usize = 64;
        let shards = (descriptors / PER_SHARD).clamp(1, 16);
        // Rounded down: the bound is on descriptors.
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        Ok(Self {
            files: Index::new(Bounds { entries: descriptors, bytes: usize::MAX, shards }),
            watcher: Watcher::new()?,
            places: Mutex::default(),
            watches: AtomicUsize::new(0),
            stale: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            no_watch: AtomicU64::new(0),
        })
    }

    /// Readable when there is something to [`Shared::observe`].
    pub fn changes(&self) -> BorrowedFd<'_> {
        self.watcher.as_fd()
    }

    /// Drops what has changed, up to this moment. To be called after requests have arrived and
    /// before the first of them that may share is answered. One system call, none if nothing is
    /// watched.
    pub fn observe(&self) {
        if self.watches.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut places = self.places.lock();
        let mut all = false;
        let mut dropped = 0;
        let read = self.watcher.changes(|seen| match seen {
            Seen::Name(watch, name) => dropped += self.name_changed(&mut places, watch, name),
            Seen::Itself(watch) => places.end_watch(watch),
            Seen::Mounts => places.end_all(),
            Seen::Lost => all = true,
        });
        if all || read.is_err() {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            places.end_all();
        }
        if places.take_ended() {
            dropped += self.files.retain(|_, held| held.place.is_alive());
        }
        self.invalidations.fetch_add(dropped as u64, Ordering::Relaxed);
        self.tidy(&mut places);
    }

    /// Something happened to this name in a watched directory: the file of that name goes, and if
    /// it is a directory all beneath.
    fn name_changed(&self, places: &mut Places, watch: watch::Watch, name: &[u8]) -> usize {
        let mut dropped = 0;
        let mut path = Vec::new();
        for place in places.watched_by(watch) {
            places.generation += 1;
            place.path_of(name, &mut path);
            let hash = self.files.hash_in(place.tree, &path);
            dropped += usize::from(self.files.remove(hash, &path).is_some());
            places.end_place(place.tree, &path);
        }
        dropped
    }

    /// The description of this file, if it is held and the file is what it was.
    pub(crate) fn find(&self, tree: &Tree, path: &[u8]) -> Option<(Arc<Opened>, Identity)> {
        let hash = self.files.hash_in(tree.id(), path);
        let held = self.files.find(hash, path)?;
        let now = file::identity(held.file.as_fd());
        match now {
            Ok(now) if held.place.tree == tree.id() && is_same(&held.identity, &now) => {
                Some((held.file.clone(), now))
            }
            _ => {
                self.stale.fetch_add(1, Ordering::Relaxed);
                if self.files.remove(hash, path).is_some() {
                    self.invalidations.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// Before a file is opened: if all directories on the way are watched already.
    pub(crate) fn pin(&self, tree: &Tree, path: &[u8]) -> Option<Pin> {
        let places = self.places.lock();
        let place = places.find(tree.id(), directory_of(path))?;
        Some(Pin { place, generation: places.generation })
    }

    /// Watches all directories on the way to a file, before it is opened. `None` if that cannot
    /// be done, or not without waiting: then it is not shared.
    pub(crate) fn prepare(&self, tree: &Tree, path: &[u8], patience: Patience) -> Option<Pin> {
        let directory = directory_of(path);
        let generation = {
            let mut places = self.places.lock();
            self.tidy(&mut places);
            places.generation
        };
        let mut place = None;
        let slashes = directory.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
        let ends = std::iter::once(0).chain(slashes).chain([directory.len()]);
        for end in ends {
            let way = directory.get(..end).unwrap_or_default();
            if end > 0 || place.is_none() {
                place = Some(self.enter(tree, way, place, patience)?);
            }
        }
        place.map(|place| Pin { place, generation })
    }

    /// Watches one directory, all above it being watched.
    fn enter(
        &self,
        tree: &Tree,
        path: &[u8],
        parent: Option<Arc<Place>>,
        patience: Patience,
    ) -> Option<Arc<Place>> {
        if let Some(known) = self.places.lock().find(tree.id(), path) {
            return Some(known);
        }
        let resolve = match patience {
            Patience::Never => Resolve::CachedHere,
            _ => Resolve::MayBlock,
        };
        let directory = tree.root().open_dir_place(path, resolve).ok()?;
        let mut places = self.places.lock();
        let watched = match watch::tells_all(directory.as_fd()) {
            Ok(true) => self.watcher.add(directory.as_fd()).ok(),
            _ => None,
        };
        if watched.is_none() {
            self.no_watch.fetch_add(1, Ordering::Relaxed);
        }
        let place = watched.map(|watch| places.add(tree.id(), path, watch, parent));
        self.watches.store(places.watches(), Ordering::Release);
        place
    }

    /// Whether a file can be kept as far as it is its own doing.
    pub(crate) fn may_keep(found: &Found) -> bool {
        !found.file.hangs()
            && found.identity.nlink > 0
            && changes_show(&found.identity)
            && watch::tells_all(found.file.as_fd()).unwrap_or(false)
    }

    /// Keeps a file that was opened, if that is sound; else gives it back.
    #[allow(clippy::result_large_err)] // given back as it came, to be used at once
    pub(crate) fn keep(
        &self,
        pin: Pin,
        path: &[u8],
        found: Found,
    ) -> Result<(Arc<Opened>, Identity), Found> {
        if !Self::may_keep(&found) {
            return Err(found);
        }
        let places = self.places.lock();
        if places.generation != pin.generation {
            return Err(found);
        }
        let Found { file, identity, .. } = found;
        let file = Arc::new(file);
        let hash = self.files.hash_in(pin.place.tree, path);
        let held = Held { file: file.clone(), identity, place: pin.place };
        self.files.put(hash, path, Arc::new(held), 0);
        Ok((file, identity))
    }

    /// Lets go of what lies at or below `path` in a tree, or of the whole tree where it is empty.
    /// Gives how many.
    pub(crate) fn flush(&self, tree: u64, path: &[u8]) -> usize {
        let mut places = self.places.lock();
        places.generation += 1;
        let below = |name: &[u8]| {
            let rest = name.strip_prefix(path);
            path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let flushed = self.files.retain(|name, held| held.place.tree != tree || !below(name));
        self.tidy(&mut places);
        flushed
    }

    /// Lets go of all trees that are not among these, or not to be shared any more.
    pub(crate) fn retain_trees(&self, trees: &[u64]) {
        let mut places = self.places.lock();
        places.generation += 1;
        self.files.retain(|_, held| trees.contains(&held.place.tree));
        self.tidy(&mut places);
    }

    /// Stops watching directories in which nothing is kept any more.
    fn tidy(&self, places: &mut Places) {
        places.tidy(|watch| {
            // Fails if the directory has gone, and its watch with it.
            let _ = self.watcher.remove(watch);
        });
        self.watches.store(places.watches(), Ordering::Release);
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        let files = self.files.counters();
        let stale = self.stale.load(Ordering::Relaxed);
        Counters {
            hits: files.hits.saturating_sub(stale),
            misses: files.misses + stale,
            evictions: files.evictions,
            invalidations: self.invalidations.load(Ordering::Relaxed),
            overflows: self.overflows.load(Ordering::Relaxed),
            no_watch: self.no_watch.load(Ordering::Relaxed),
            descriptors: files.entries,
            watches: self.watches.load(Ordering::Relaxed) as u64,
        }
    }
}

/// The path of the directory that a path is in.
fn directory_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// Whether a file that is held has not changed, as far as opening it again could differ.
fn is_same(then: &Identity, now: &Identity) -> bool {
    let blocks = then.blocks;
    *then == Identity { blocks, ..*now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::Backing;
    use objmapper_os::root::Links;
    use std::fs;
    use tempfile::TempDir;

    /// A tree with `a/f`, old enough to be kept.
    fn tree() -> (TempDir, Tree, Shared) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/f"), "x").unwrap();
        let tree = Tree::open(dir.path(), Links::Refuse).unwrap();
        while !Shared::may_keep(&open(&tree)) {
            std::thread::yield_now();
        }
        (dir, tree, Shared::new(8).unwrap())
    }

    fn open(tree: &Tree) -> Found {
        tree.open(b"a/f", Patience::Block).unwrap()
    }

    /// Else it would stay although its name has gone: the event has been read, and nobody hears
    /// of it again.
    #[test]
    fn what_changed_while_it_was_opened_is_not_kept() {
        let (dir, tree, shared) = tree();
        let pin = shared.prepare(&tree, b"a/f", Patience::Block).unwrap();
        let found = open(&tree);
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        shared.observe();
        assert!(shared.keep(pin, b"a/f", found).is_err());

        fs::rename(dir.path().join("b"), dir.path().join("a")).unwrap();
        let pin = shared.prepare(&tree, b"a/f", Patience::Block).unwrap();
        let found = open(&tree);
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(shared.keep(pin, b"a/f", found).is_ok(), "the event is still to come");
        shared.observe();
        assert!(shared.find(&tree, b"a/f").is_none());
    }

    /// Renamed after it was opened and before it was watched: its own watch tells nothing of that,
    /// that of the directory above does.
    #[test]
    fn a_directory_that_was_watched_too_late_ends_all_the_same() {
        let (dir, tree, shared) = tree();
        let root = shared.enter(&tree, b"", None, Patience::Block);
        let late = tree.root().open_dir_place(b"a", Resolve::MayBlock).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let watch = shared.watcher.add(late.as_fd()).unwrap();
        let place = shared.places.lock().add(tree.id(), b"a", watch, root);
        assert!(place.is_alive());
        shared.observe();
        assert!(!place.is_alive());
    }
}
