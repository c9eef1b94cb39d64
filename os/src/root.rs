//! A directory that everything opened stays beneath, whatever names and links say.
//!
//! The kernel resolves (openat2(2), `RESOLVE_BENEATH`), so there is no check that a rename could
//! slip past: a way out by `..`, by an absolute link or by a magic link of `/proc` is an error,
//! never a file. Names are bytes relative to the root: no leading slash, empty for the root
//! itself, at most 4095. Opening never waits for a FIFO's other end or a lease holder, and never
//! takes a controlling terminal; it may wait for a disk, unless [`Resolve::CachedOnly`].
//!
//! Not here: which names are allowed, and what kind of file is wanted (ask
//! [`crate::file::identity`] after opening). Failures that are ordinary answers (EAGAIN, ENOENT,
//! ENOTDIR) carry no text, so that they cost nothing.

use crate::errno;
use crate::error::{Error, Result};
use crate::raw;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How often an open that lost a race against a rename is tried again. Not tuned: one retry is
/// seldom needed, and whoever renames faster than this gets EAGAIN as the answer.
const ATTEMPTS: usize = 8;

/// The longest name with its nul. `PATH_MAX`
const PATH_MAX: usize = 4096;

/// The longest name that goes by way of rustix's own small buffer.
const SHORT: usize = 255;

/// What to do with symbolic links in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Any link is ELOOP.
    Refuse,
    /// Followed while they stay beneath the root (a link out is EXDEV).
    Beneath,
}

/// Whether a lookup may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// Only by what the kernel has in memory; EAGAIN if it would have to ask a file system. File
    /// systems in user space or on a network may still wait in the open itself.
    CachedOnly,
    /// The same, and only within the mount that the root is in: EAGAIN or EXDEV where the name
    /// leads into another, whose opens may wait (and for a way out).
    CachedHere,
    /// Ask the disk if need be.
    MayBlock,
}

/// A directory, held open only to open things beneath it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// The directory at this path; links in the path itself are followed. ENOTDIR if it is none.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::on("open")(errno).with_detail(path.to_string_lossy()))?;
        Ok(Self { fd })
    }

    /// The same through a mount of its own that is read-only, without set-uid and without devices,
    /// with all mounts below it as they are now.
    ///
    /// What is opened beneath cannot be reopened for writing by anybody, root included: EROFS.
    /// Needs CAP_SYS_ADMIN once, else EPERM; ENOSYS before Linux 5.12. The original may be
    /// unmounted or remounted afterwards without an effect here. open_tree(2), mount_setattr(2)
    pub fn read_only_clone(path: &Path) -> Result<Self> {
        let told = |error: Error| error.with_detail(path.to_string_lossy());
        let original = Self::open(path)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let fd = rustix::mount::open_tree(&original.fd, c"", flags)
            .map_err(Error::on("open_tree"))
            .map_err(told)?;
        raw::make_mount_read_only(fd.as_fd()).map_err(told)?;
        Ok(Self { fd })
    }

    /// Opens for reading what is there, of whatever kind: a new open file description, close-on-
    /// exec and non-blocking. ENOENT, ENOTDIR; EXDEV for a way out; ELOOP for a link that is not
    /// allowed; EACCES; EINVAL for a nul or a leading slash; EAGAIN if cold; when it may block, EAGAIN is a lease being
    /// given up, or a race against renames that was lost eight times: come back later; ENXIO for a socket.
    pub fn open_file(&self, name: &[u8], links: Links, resolve: Resolve) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open_as(name, flags, links, resolve)
    }

    /// Opens a directory for listing; ENOTDIR if it is none. May wait.
    pub fn open_dir(&self, name: &[u8], links: Links) -> Result<OwnedFd> {
        self.open_as(name, OFlags::RDONLY | OFlags::DIRECTORY, links, Resolve::MayBlock)
    }

    /// Opens a directory as a place, and follows no links: to watch it, not to read it. ENOTDIR if
    /// it is none; EAGAIN if cold.
    pub fn open_dir_place(&self, name: &[u8], resolve: Resolve) -> Result<OwnedFd> {
        self.open_as(name, OFlags::PATH | OFlags::DIRECTORY, Links::Refuse, resolve)
    }

    /// Opens a place without opening the file: needs no permission on the file itself, cannot be
    /// read, and can be asked for its identity. With [`Links::Refuse`] a last link is ELOOP, with
    /// [`Links::Beneath`] it is followed. May wait.
    pub fn open_path(&self, name: &[u8], links: Links) -> Result<OwnedFd> {
        self.open_as(name, OFlags::PATH, links, Resolve::MayBlock)
    }

    fn open_as(
        &self,
        name: &[u8],
        flags: OFlags,
        links: Links,
        resolve: Resolve,
    ) -> Result<OwnedFd> {
        let mut how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        how.set(ResolveFlags::NO_SYMLINKS, links == Links::Refuse);
        how.set(ResolveFlags::CACHED, resolve != Resolve::MayBlock);
        how.set(ResolveFlags::NO_XDEV, resolve == Resolve::CachedHere);
        let name = if name.is_empty() { b"." } else { name };
        if name.contains(&0) || name.starts_with(b"/") {
            return Err(told(Errno::INVAL, name));
        }
        match self.open_again(name, flags | OFlags::CLOEXEC, how) {
            // The flags are sound, so it is RESOLVE_CACHED that this kernel (before 5.12) lacks.
            Err(Errno::INVAL) if resolve != Resolve::MayBlock => {
                Err(Error::new("openat2", errno::EAGAIN))
            }
            other => other.map_err(|errno| told(errno, name)),
        }
    }

    /// EAGAIN without `CACHED` means a rename raced with the walk: try again, but not for ever.
    fn open_again(
        &self,
        name: &[u8],
        flags: OFlags,
        how: ResolveFlags,
    ) -> std::result::Result<OwnedFd, Errno> {
        let attempts = if how.contains(ResolveFlags::CACHED) { 1 } else { ATTEMPTS };
        for _ in 0..attempts {
            loop {
                match self.open_once(name, flags, how) {
                    Err(Errno::INTR) => (),
                    Err(Errno::AGAIN) => break,
                    other => return other,
                }
            }
        }
        Err(Errno::AGAIN)
    }

    /// rustix copies short names to its stack and long ones to the heap; ours go to the stack too.
    fn open_once(
        &self,
        name: &[u8],
        flags: OFlags,
        how: ResolveFlags,
    ) -> std::result::Result<OwnedFd, Errno> {
        if name.len() <= SHORT {
            return rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), how);
        }
        let mut room = [0; PATH_MAX];
        let place = room.get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?;
        place.copy_from_slice(name);
        let name = CStr::from_bytes_until_nul(&room).map_err(|_| Errno::NAMETOOLONG)?;
        rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), how)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn told(errno: Errno, name: &[u8]) -> Error {
    let error = Error::on("openat2")(errno);
    if error.is_would_block() || error.is_not_found() {
        return error;
    }
    error.with_detail(String::from_utf8_lossy(name))
}
