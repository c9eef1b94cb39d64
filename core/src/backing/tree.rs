//! A directory tree: regular files beneath a root, as they are at the moment of asking.
//!
//! What must stay true:
//! - nothing outside the root is ever opened: the kernel resolves beneath the root's
//!   descriptor (openat2(2), `RESOLVE_BENEATH`), there is no check to race with;
//! - nothing is remembered about a file: every request opens anew, so that a rename,
//!   a truncation, a deletion or a chmod is seen by the next one;
//! - who may not wait opens only what is in memory and within the root's own mount, and
//!   nothing where that mount's file system asks somebody: no open of a worker hangs;
//! - only regular files are handed out; FIFOs, sockets and devices are closed again.

use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use objmapper_os as os;
use os::errno;
use os::file::{self, Entry, Identity, Kind as FileKind};
use os::opened::{Closer, OnTheSpot, Opened};
use os::root::{Links, Resolve, Root};

use objmapper_proto::Kind;
use objmapper_proto::word::uri::{decode_path, encode_path};

use crate::backing::{Backing, Found, Name, Names, Patience};
use crate::object::Object;
use crate::refusal::{Miss, Refusal};

/// Whether descriptors of a tree come through a read-only mount of our own, so that
/// a receiver cannot reopen one for writing even where the file's mode would let it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// The root is a private read-only clone of the mount.
    Clone,
    /// The root is the directory as it is mounted.
    AsMounted,
}

/// A directory tree.
#[derive(Debug)]
pub struct Tree {
    id: u64,
    root: Root,
    links: Links,
    path: PathBuf,
    read_only: ReadOnly,
    /// The root's file system, as fstat(2) numbers it.
    dev: u64,
    /// Whether calls on that may wait for ever.
    hangs: bool,
    closer: Arc<dyn Closer>,
}

impl Tree {
    /// The tree at `path`, as it is mounted.
    pub fn open(path: &Path, links: Links) -> os::Result<Self> {
        Self::of(Root::open(path)?, path, links, ReadOnly::AsMounted)
    }

    /// The tree at `path` through a private read-only clone of its mount. Needs
    /// `CAP_SYS_ADMIN` while it is made: EPERM otherwise.
    pub fn open_read_only(path: &Path, links: Links) -> os::Result<Self> {
        Self::of(Root::read_only_clone(path)?, path, links, ReadOnly::Clone)
    }

    fn of(root: Root, path: &Path, links: Links, read_only: ReadOnly) -> os::Result<Self> {
        let dev = file::identity(root.as_fd())?.dev;
        let hangs = file::may_hang(root.as_fd())?;
        let (path, closer) = (path.to_owned(), Arc::new(OnTheSpot));
        Ok(Self { id: next_id(), root, links, path, read_only, dev, hangs, closer })
    }

    /// Leaves files whose close may wait for ever to `closer`.
    #[must_use]
    pub fn closed_by(self, closer: Arc<dyn Closer>) -> Self {
        Self { closer, ..self }
    }

    /// Whether a file may be on a file system that asks somebody: the root's own, or one
    /// that is mounted further down (only then it costs a call).
    fn hangs(&self, file: BorrowedFd<'_>, identity: &Identity) -> os::Result<bool> {
        if identity.dev == self.dev { Ok(self.hangs) } else { file::may_hang(file) }
    }

    /// Whether its path still leads to the directory that is served: not when that was
    /// replaced, or something was mounted over it, since. May wait.
    pub fn is_in_place(&self) -> os::Result<bool> {
        let place = |root: &Root| {
            let root = root.open_path(b"", Links::Refuse)?;
            file::identity(root.as_fd()).map(|identity| (identity.dev, identity.ino))
        };
        Ok(place(&Root::open(&self.path)?)? == place(&self.root)?)
    }

    /// Another for every tree that this process opens.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// What everything is beneath of.
    pub(crate) const fn root(&self) -> &Root {
        &self.root
    }

    /// As [`Backing::open`], and through no symlink: refused even if the tree follows them.
    pub(crate) fn open_unlinked(&self, path: &[u8], patience: Patience) -> Result<Found, Miss> {
        self.open_as(path, Links::Refuse, patience)
    }

    #[inline]
    fn open_as(&self, path: &[u8], links: Links, patience: Patience) -> Result<Found, Miss> {
        let resolve = match patience {
            // What RESOLVE_CACHED does not cover is the open itself.
            Patience::Never if self.hangs => return Err(Miss::WouldBlock),
            Patience::Never => Resolve::CachedHere,
            _ => Resolve::MayBlock,
        };
        // Only for errands: what a worker opens is closed by it.
        if patience != Patience::Never && !self.closer.has_room() {
            let what =
                "256 files of this mount wait to be closed, and its file system does not answer";
            return Err(Refusal::Busy { what }.into());
        }
        let file =
            self.root.open_file(path, links, resolve).map_err(|e| self.judge(path, e, patience))?;
        let identity = file::identity(file.as_fd())?;
        if identity.is_regular() {
            let file = if patience != Patience::Never && self.hangs(file.as_fd(), &identity)? {
                Opened::may_hang(file, self.closer.clone())
            } else {
                Opened::prompt(file)
            };
            Ok(Found { file, identity, sealed: None })
        } else {
            Err(Refusal::NotRegular.into())
        }
    }

    /// How its descriptors are guarded.
    pub const fn read_only(&self) -> ReadOnly {
        self.read_only
    }

    /// Why it could not be opened. A device on a mount without devices is EACCES, which
    /// must not read as if a chmod could help. Finding out may wait.
    #[cold]
    fn judge(&self, path: &[u8], error: os::Error, patience: Patience) -> Miss {
        let miss = judge(error, patience);
        if miss != Miss::Refused(Refusal::Forbidden) {
            return miss;
        }
        if patience == Patience::Never {
            return Miss::WouldBlock;
        }
        if let Ok(place) = self.root.open_path(path, self.links)
            && let Ok(identity) = file::identity(place.as_fd())
            && !identity.is_regular()
        {
            return Refusal::NotRegular.into();
        }
        miss
    }

    /// What an entry of a directory is. `None` if it has vanished, or is a link that
    /// leads nowhere this mount goes; anything else that fails is not taken for that.
    fn identity_of(
        &self,
        path: &[u8],
        entry: &Entry,
        dir: BorrowedFd<'_>,
    ) -> Result<Option<Identity>, Miss> {
        let identity = if entry.kind == FileKind::Link {
            let mut full = path.to_vec();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(&entry.name);
            let place = self.root.open_path(&full, self.links);
            place.and_then(|place| file::identity(place.as_fd()))
        } else {
            file::identity_at(dir, &entry.name, true)
        };
        match identity.map_err(|error| judge(error, Patience::Block)) {
            Ok(identity) => Ok(Some(identity)),
            Err(Miss::Refused(Refusal::Busy { what })) => Err(Refusal::Busy { what }.into()),
            Err(Miss::Refused(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

impl Backing for Tree {
    #[inline]
    fn open(&self, path: &[u8], patience: Patience) -> Result<Found, Miss> {
        self.open_as(path, self.links, patience)
    }

    fn tree(&self) -> Option<&Tree> {
        Some(self)
    }

    fn stat(&self, path: &[u8], patience: Patience) -> Result<Object, Miss> {
        // By opening it: STAT then refuses exactly what GET refuses.
        self.open(path, patience).map(|found| found.object())
    }

    fn list(&self, path: &[u8], after: &[u8], limit: usize) -> Result<Names, Miss> {
        let dir = self.root.open_dir(path, self.links).map_err(|e| match e.errno() {
            errno::ENOTDIR => Refusal::NotDirectory.into(),
            _ => judge(e, Patience::Block),
        })?;
        let mut page = Page::new(after, limit);
        for entry in file::read_dir(dir.as_fd())? {
            let mut entry = entry?;
            let linked = entry.kind == FileKind::Link;
            if linked && self.links == Links::Refuse || entry.kind == FileKind::Other {
                continue;
            }
            if linked || entry.kind == FileKind::Unknown {
                // A directory's name ends with '/', so its kind decides its place in the order.
                let Some(identity) = self.identity_of(path, &entry, dir.as_fd())? else { continue };
                if identity.is_dir() {
                    entry.kind = FileKind::Dir;
                }
            }
            page.offer(entry, linked);
        }
        page.names(|entry| self.identity_of(path, entry, dir.as_fd()))
    }

    fn describe(&self) -> String {
        let links = match self.links {
            Links::Refuse => "refused",
            Links::Beneath => "followed beneath",
        };
        let asks = if self.hangs { ", may hang" } else { "" };
        let guard = match self.read_only {
            ReadOnly::Clone => "read-only clone",
            ReadOnly::AsMounted => "as mounted",
        };
        format!("{} (symlinks {links}, {guard}{asks})", self.path.display())
    }
}

/// Undoes the escapes. One that hides a `/` or a NUL would change where the path
/// leads, and no file has such a name.
///
/// A path reference has been checked for segments that need resolving; what follows a
/// scheme has not (`kv:..` is a key), and beneath a directory they would be a second
/// name, and a way around the rules of a mount further down.
pub(super) fn path(text: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    let mut segments = text.split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let inner = segments.peek().is_some();
        if matches!(segment, b"." | b"..") || segment.is_empty() && inner {
            return Err(Refusal::BadName);
        }
    }
    if !text.contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut path = Vec::with_capacity(text.len());
    decode_path(text, &mut path);
    let slashes = |bytes: &[u8]| bytes.split(|&b| b == b'/').count();
    if path.contains(&0) || slashes(&path) != slashes(text) {
        return Err(Refusal::BadName);
    }
    Ok(Cow::Owned(path))
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What a failed open means to whoever asked.
fn judge(error: os::Error, patience: Patience) -> Miss {
    let refusal = match error.errno() {
        errno::ENOENT | errno::ENOTDIR | errno::ENAMETOOLONG => Refusal::NotFound,
        errno::EACCES | errno::EPERM => Refusal::Forbidden,
        errno::ELOOP => Refusal::Symlink,
        // A way out, or a way into another mount: who may wait finds out which.
        errno::EXDEV if patience == Patience::Never => return Miss::WouldBlock,
        errno::EXDEV => Refusal::Escape,
        errno::EINVAL => Refusal::BadName,
        errno::ENXIO | errno::EISDIR | errno::ENODEV => Refusal::NotRegular,
        errno::EAGAIN if patience == Patience::Block => Refusal::Busy {
            what: "the file is being renamed, or another process holds a lease on it",
        },
        _ => return error.into(),
    };
    refusal.into()
}

/// The smallest names of a directory that come after a cursor, in bounded memory.
struct Page<'a> {
    after: &'a [u8],
    limit: usize,
    heap: BinaryHeap<Candidate>,
    more: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    encoded: Box<[u8]>,
    raw: Box<[u8]>,
    linked: bool,
}

impl<'a> Page<'a> {
    fn new(after: &'a [u8], limit: usize) -> Self {
        Self { after, limit, heap: BinaryHeap::new(), more: false }
    }

    fn offer(&mut self, entry: Entry, linked: bool) {
        let mut encoded = Vec::with_capacity(entry.name.len() + 1);
        encode_path(&entry.name, &mut encoded);
        if entry.kind == FileKind::Dir {
            encoded.push(b'/');
        }
        if *encoded <= *self.after {
            return;
        }
        self.heap.push(Candidate { encoded: encoded.into(), raw: entry.name, linked });
        if self.heap.len() > self.limit {
            self.heap.pop();
            self.more = true;
        }
    }

    /// Asks for the metadata of those that are left. One that has vanished, or is
    /// neither file nor directory, is left out.
    fn names(
        self,
        identity: impl Fn(&Entry) -> Result<Option<Identity>, Miss>,
    ) -> Result<Names, Miss> {
        let next = self.heap.peek().filter(|_| self.more).map(|last| last.encoded.clone());
        let mut names = Vec::with_capacity(self.heap.len());
        for candidate in self.heap.into_sorted_vec() {
            let kind = if candidate.linked { FileKind::Link } else { FileKind::Unknown };
            let Some(identity) = identity(&Entry { name: candidate.raw, kind })? else { continue };
            let is_prefix = candidate.encoded.last() == Some(&b'/');
            let (kind, size) = match (identity.is_regular(), is_prefix && identity.is_dir()) {
                (true, _) => (Kind::File, identity.size),
                (_, true) => (Kind::Prefix, 0),
                _ => continue,
            };
            let mtime_ns = identity.mtime_ns;
            names.push(Name { name: candidate.encoded, kind, size, mtime_ns });
        }
        Ok(Names { names, next })
    }
}
