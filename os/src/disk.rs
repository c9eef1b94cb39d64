//! A directory whose files must survive: append, sync, rename, and what it takes to be sure of it.
//!
//! Bytes of a file are durable after [`sync_data`], a name after [`Directory::sync`]: until then a
//! power cut may leave any of it, in any order of pages. A name replaces another at once, or not at
//! all. See open(2), fdatasync(2), rename(2), flock(2).
//!
//! Names are single components. Files are made for their owner alone.

use crate::errno;
use crate::error::{Error, Result};
use crate::file;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What one pwrite(2) fills with zeros. Not tuned.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A directory, held open.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// The directory at this path. ENOENT, ENOTDIR, EACCES.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::on("open")(errno).with_detail(path.to_string_lossy()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The same, made first if it is not there; the directory above must be.
    pub fn create(path: &Path) -> Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => {
                let above = path.parent().filter(|above| !above.as_os_str().is_empty());
                Self::open(above.unwrap_or(Path::new(".")))?.sync()?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Error::on("mkdir")(errno).with_detail(path.to_string_lossy()));
            }
        }
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, in no order; those that are no UTF-8 are left out.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in file::read_dir(self.fd.as_fd())? {
            if let Ok(name) = String::from_utf8(entry?.name.into()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Makes a file, to be written from its beginning on and read. EEXIST if there is one of that name.
    pub fn create_file(&self, name: &str) -> Result<OwnedFd> {
        self.open_as(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Makes a file that has no name and never gets one: its room is free when nobody has it open. To
    /// be written from its beginning on and read. A file system without such files (`O_TMPFILE`) gets one with the name
    /// `otherwise`, which is removed at once. ENOSPC, EDQUOT, EACCES, EROFS. open(2)
    pub fn create_unnamed(&self, otherwise: &str) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match retry_on_intr(|| rustix::fs::openat(&self.fd, ".", flags, mode)) {
            // EISDIR and ENOENT: from kernels that do not know of it.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let fd = self.create_file(otherwise)?;
                self.remove(otherwise).map(|()| fd)
            }
            opened => opened.map_err(|errno| told("openat", errno, &self.path.to_string_lossy())),
        }
    }

    /// Opens a file for reading.
    pub fn open_file(&self, name: &str) -> Result<OwnedFd> {
        self.open_as(name, OFlags::RDONLY)
    }

    /// Cuts a file to this length, durably.
    pub fn cut(&self, name: &str, length: u64) -> Result<()> {
        let fd = self.open_as(name, OFlags::WRONLY)?;
        rustix::fs::ftruncate(&fd, length).map_err(|errno| told("ftruncate", errno, name))?;
        sync_data(fd.as_fd())
    }

    /// Gives a file another name, in the place of what has it. Durable after [`Self::sync`].
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to)
            .map_err(|errno| told("renameat", errno, to))
    }

    /// Removes a name. Durable after [`Self::sync`].
    pub fn remove(&self, name: &str) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(|errno| told("unlinkat", errno, name))
    }

    /// Makes its names durable. fsync(2)
    pub fn sync(&self) -> Result<()> {
        retry_on_intr(|| rustix::fs::fsync(&self.fd))
            .map_err(|errno| Error::on("fsync")(errno).with_detail(self.path.to_string_lossy()))
    }

    /// Takes a lock by a file of this name, for as long as what is given lives; or tells what the
    /// holder wrote into the file, which is its process number. The kernel lets go of it when the
    /// process dies, however it does. flock(2)
    pub fn lock(&self, name: &str) -> Result<std::result::Result<OwnedFd, String>> {
        let fd = self.open_as(name, OFlags::RDWR | OFlags::CREATE)?;
        match retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {
                let pid = std::process::id().to_string();
                rustix::fs::ftruncate(&fd, 0).map_err(|errno| told("ftruncate", errno, name))?;
                rustix::io::pwrite(&fd, pid.as_bytes(), 0)
                    .map_err(|errno| told("pwrite", errno, name))?;
                Ok(Ok(fd))
            }
            Err(Errno::WOULDBLOCK) => holder(&fd).map(Err),
            Err(errno) => Err(told("flock", errno, name)),
        }
    }

    /// Keeps whoever would take the lock of this name from it, for as long as what is given lives;
    /// others may do the same. Nothing is written: where there is no such file, there is nothing to
    /// keep. Or tells who has taken it, as [`Self::lock`] does. flock(2)
    pub fn keep_unlocked(
        &self,
        name: &str,
    ) -> Result<std::result::Result<Option<OwnedFd>, String>> {
        let fd = match self.open_file(name) {
            Err(error) if error.is_not_found() => return Ok(Ok(None)),
            opened => opened?,
        };
        match retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared)) {
            Ok(()) => Ok(Ok(Some(fd))),
            Err(Errno::WOULDBLOCK) => holder(&fd).map(Err),
            Err(errno) => Err(told("flock", errno, name)),
        }
    }

    fn open_as(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        if name.contains('/') {
            return Err(Error::new("openat", errno::EINVAL).with_detail(name));
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR))
            .map_err(|errno| told("openat", errno, name))
    }
}

/// Writes behind what was written through this descriptor before, as much as it takes; gives how many
/// bytes. ENOSPC, EDQUOT, EFBIG, EIO. write(2)
pub fn append(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    retry_on_intr(|| rustix::io::write(fd, bytes)).map_err(Error::on("write"))
}

/// Fills so many bytes from `offset` on with zeros: written ones, since bytes that are only allocated
/// (fallocate(2)) cost a sync as much as new ones. What [`append`] does next is where it would have
/// been. ENOSPC, EDQUOT, EFBIG. pwrite(2)
pub fn fill_with_zeros(fd: BorrowedFd<'_>, mut offset: u64, length: u64) -> Result<()> {
    let end = offset.saturating_add(length);
    while offset < end {
        let left = usize::try_from(end - offset).unwrap_or(ZEROS.len());
        let piece = ZEROS.get(..left).unwrap_or(&ZEROS);
        match retry_on_intr(|| rustix::io::pwrite(fd, piece, offset)) {
            Ok(0) => return Err(Error::new("pwrite", errno::EIO)),
            Ok(n) => offset += n as u64,
            Err(errno) => return Err(Error::on("pwrite")(errno)),
        }
    }
    Ok(())
}

/// Cuts an open file to this length. Durable after [`sync_data`]. ftruncate(2)
pub fn set_length(fd: BorrowedFd<'_>, length: u64) -> Result<()> {
    retry_on_intr(|| rustix::fs::ftruncate(fd, length)).map_err(Error::on("ftruncate"))
}

/// Makes a file's bytes durable, and its length. After it has failed nothing is known of what was
/// written since the last time that it did not. fdatasync(2)
pub fn sync_data(fd: BorrowedFd<'_>) -> Result<()> {
    retry_on_intr(|| rustix::fs::fdatasync(fd)).map_err(Error::on("fdatasync"))
}

/// What the holder of a lock wrote into its file.
fn holder(fd: &OwnedFd) -> Result<String> {
    let mut holder = [0; 16];
    let length = file::read_at(fd.as_fd(), &mut holder, 0)?;
    let holder = holder.get(..length).unwrap_or_default();
    Ok(String::from_utf8_lossy(holder).into_owned())
}

fn told(call: &'static str, errno: Errno, name: &str) -> Error {
    Error::on(call)(errno).with_detail(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_appended_to_renamed_and_removed() {
        let place = tempfile::tempdir().unwrap();
        let dir = Directory::create(&place.path().join("new")).unwrap();
        let fd = dir.create_file("a").unwrap();
        assert_eq!(append(fd.as_fd(), b"hello"), Ok(5));
        sync_data(fd.as_fd()).unwrap();
        assert_eq!(append(fd.as_fd(), b", hey"), Ok(5));
        sync_data(fd.as_fd()).unwrap();
        dir.cut("a", 3).unwrap();
        dir.rename("a", "b").unwrap();
        dir.sync().unwrap();
        assert_eq!(dir.names().unwrap(), ["b"]);
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"hel");
        assert!(dir.create_file("b").is_err());
        dir.remove("b").unwrap();
        assert!(dir.open_file("b").unwrap_err().is_not_found());
    }

    #[test]
    fn what_is_filled_with_zeros_is_written_over() {
        let place = tempfile::tempdir().unwrap();
        let dir = Directory::open(place.path()).unwrap();
        let fd = dir.create_file("a").unwrap();
        append(fd.as_fd(), b"one").unwrap();
        fill_with_zeros(fd.as_fd(), 3, 100_000).unwrap();
        append(fd.as_fd(), b"two").unwrap();
        let bytes = std::fs::read(place.path().join("a")).unwrap();
        assert_eq!((bytes.len(), &bytes[..6]), (100_003, &b"onetwo"[..]));
        assert!(bytes[6..].iter().all(|&byte| byte == 0));
        set_length(fd.as_fd(), 6).unwrap();
        append(fd.as_fd(), b"three").unwrap();
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), b"onetwothree");
    }

    #[test]
    fn a_lock_has_one_holder_and_tells_who() {
        let place = tempfile::tempdir().unwrap();
        let dir = Directory::open(place.path()).unwrap();
        let held = dir.lock("LOCK").unwrap().unwrap();
        let holder = dir.lock("LOCK").unwrap().unwrap_err();
        assert_eq!(holder, std::process::id().to_string());
        assert_eq!(dir.keep_unlocked("LOCK").unwrap().unwrap_err(), holder);
        assert!(dir.keep_unlocked("NONE").unwrap().unwrap().is_none());
        drop(held);
        let kept = dir.keep_unlocked("LOCK").unwrap().unwrap().unwrap();
        assert!(dir.keep_unlocked("LOCK").unwrap().is_ok(), "many may");
        assert!(dir.lock("LOCK").unwrap().is_err());
        drop(kept);
        assert!(dir.lock("LOCK").unwrap().is_ok());
        assert_eq!(dir.names().unwrap(), ["LOCK"]);
    }

    #[test]
    fn a_file_without_a_name_is_appended_to_and_reopened_for_reading() {
        let place = tempfile::tempdir().unwrap();
        let dir = Directory::open(place.path()).unwrap();
        let fd = dir.create_unnamed("x").unwrap();
        append(fd.as_fd(), b"he").unwrap();
        append(fd.as_fd(), b"llo").unwrap();
        let again = file::reopen(fd.as_fd()).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(file::read_at(again.as_fd(), &mut bytes, 0), Ok(5));
        assert!(append(again.as_fd(), b"!").is_err());
        assert_eq!(dir.names().unwrap().len(), 0);
    }
}
