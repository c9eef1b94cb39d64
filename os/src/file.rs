//! What an open file is and what is in it, asked without moving any shared position.
//!
//! Every read names its offset: descriptors that were handed out share their position with whoever
//! has them. Nothing here maps memory, so a file that shrinks gives fewer bytes, never SIGBUS.
//! Opening is done in [`crate::root`]; which kinds of file are acceptable is decided above.

use crate::errno;
use crate::error::{Error, Result};
use crate::raw;
use crate::socket::Stream;
use rustix::fs::{Advice, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::retry_on_intr;
use std::io::{IoSliceMut, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What tells one state of one file from another, and the little else that fstat(2) says.
///
/// Two equal identities mean the same bytes, up to the resolution of the clock that the file
/// system stamps with ([`crate::clock::coarse_resolution_ns`]): a file that changed within it may
/// change again and look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The file system.
    pub dev: u64,
    /// The file in it; used again after it is deleted and closed everywhere.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content, name count or permission, nanoseconds since 1970; cannot be set.
    pub ctime_ns: i64,
    /// Kind and permission bits. inode(7)
    pub mode: u32,
    /// Names it has; 0 when it was deleted or replaced.
    pub nlink: u64,
    /// What it occupies, in units of 512 bytes.
    pub blocks: u64,
}

impl Identity {
    /// A regular file.
    pub fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }
}

// Fields differ between targets; none of these numbers is ever out of the other type's range.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::unnecessary_cast)]
impl From<Stat> for Identity {
    fn from(stat: Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime_ns: stamp(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: stamp(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            mode: stat.st_mode,
            nlink: stat.st_nlink as u64,
            blocks: stat.st_blocks as u64,
        }
    }
}

/// Saturates in the year 2262.
fn stamp(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// The identity of an open file; works on `O_PATH` descriptors as well. fstat(2)
pub fn identity(fd: BorrowedFd<'_>) -> Result<Identity> {
    rustix::fs::fstat(fd).map(Identity::from).map_err(Error::on("fstat"))
}

/// The identity of a name in a directory, of the link itself with `nofollow`. Names are not kept
/// beneath anything: only for single components. fstatat(2)
pub fn identity_at(directory: BorrowedFd<'_>, name: &[u8], nofollow: bool) -> Result<Identity> {
    let flags = if nofollow { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
    rustix::fs::statat(directory, name, flags).map(Identity::from).map_err(Error::on("fstatat"))
}

/// Reads at an offset; 0 is the end of the file, and fewer than asked is possible before it. May
/// wait for a disk. pread(2)
pub fn read_at(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> Result<usize> {
    retry_on_intr(|| rustix::io::pread(fd, &mut *buf, offset)).map_err(Error::on("pread"))
}

/// The answer to a read that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedRead {
    /// So many bytes; fewer than asked where the next page is cold or the file ends.
    Bytes(usize),
    /// The first page is not in memory: somebody has to wait for it.
    Cold,
}

/// Reads at an offset only what is in memory. Where the file system does not say, a file whose pages
/// are memory anyway ([`is_memory`]) is read, and any other is [`CachedRead::Cold`]. 0 is the end of the file; Linux 5.9 and 5.10 may say
/// so too early, so compare with the size. preadv2(2) with `RWF_NOWAIT`
pub fn read_at_cached(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> Result<CachedRead> {
    if i64::try_from(offset).is_err() {
        return Err(Error::new("preadv2", errno::EINVAL)); // -1 would mean the shared position
    }
    let mut buffers = [IoSliceMut::new(buf)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    let answer = retry_on_intr(|| rustix::io::preadv2(fd, &mut buffers, offset, flags));
    match answer.map_err(Error::on("preadv2")) {
        Ok(bytes) => Ok(CachedRead::Bytes(bytes)),
        Err(error) if error.is_would_block() => Ok(CachedRead::Cold),
        Err(error) if error.errno() != errno::EOPNOTSUPP => Err(error),
        Err(_) if is_memory(fd)? => read_at(fd, buf, offset).map(CachedRead::Bytes),
        Err(_) => Ok(CachedRead::Cold),
    }
}

/// Appends to `buf` up to `len` bytes of the file from `offset`, without clearing the room first.
/// Grows `buf` if its capacity is short. With `cached_only` it never waits, as
/// [`read_at_cached`]; else it never answers [`CachedRead::Cold`].
pub fn read_at_append(
    fd: BorrowedFd<'_>,
    buf: &mut Vec<u8>,
    len: usize,
    offset: u64,
    cached_only: bool,
) -> Result<CachedRead> {
    buf.try_reserve(len).map_err(|_| Error::new("read_at_append", errno::ENOMEM))?;
    let mut nowait = cached_only;
    loop {
        match raw::append_at(fd, buf, len, offset, nowait) {
            Ok(bytes) => return Ok(CachedRead::Bytes(bytes)),
            Err(error) if error.is_interrupted() => (),
            Err(error) if nowait && error.is_would_block() => return Ok(CachedRead::Cold),
            Err(error) if !nowait || error.errno() != errno::EOPNOTSUPP => return Err(error),
            Err(_) if is_memory(fd)? => nowait = false,
            Err(_) => return Ok(CachedRead::Cold),
        }
    }
}

/// Where a page of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// In memory, or behind the end of the file.
    Cached,
    /// Not in memory, or the file system does not say: reading may wait.
    Cold,
}

/// Where the page is that the byte at `offset` is in. Reads that byte, and starts no read of the
/// disk. preadv2(2) with `RWF_NOWAIT`
pub fn page_at(fd: BorrowedFd<'_>, offset: u64) -> Result<Page> {
    if i64::try_from(offset).is_err() {
        return Err(Error::new("preadv2", errno::EINVAL));
    }
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    let answer = retry_on_intr(|| rustix::io::preadv2(fd, &mut buffers, offset, flags));
    match answer.map_err(Error::on("preadv2")) {
        Ok(_) => Ok(Page::Cached),
        Err(error) if error.is_would_block() => Ok(Page::Cold),
        Err(error) if error.errno() != errno::EOPNOTSUPP => Err(error),
        Err(_) => is_memory(fd).map(|memory| if memory { Page::Cached } else { Page::Cold }),
    }
}

/// Whether the pages of this file are memory by themselves and never wait for a disk, unless they
/// were swapped out: tmpfs, memfd, ramfs, hugetlbfs. By the magic number. statfs(2)
pub fn is_memory(fd: BorrowedFd<'_>) -> Result<bool> {
    const MEMORY: [u64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];
    filesystem(fd).map(|magic| MEMORY.contains(&(magic & 0xffff_ffff)))
}

/// Tells the kernel that these bytes will be read soon: it begins to, and does not wait for them.
/// posix_fadvise(2) `POSIX_FADV_WILLNEED`
pub fn will_need(fd: BorrowedFd<'_>, offset: u64, length: u64) -> Result<()> {
    let Some(length) = NonZeroU64::new(length) else { return Ok(()) };
    rustix::fs::fadvise(fd, offset, Some(length), Advice::WillNeed).map_err(Error::on("fadvise"))
}

/// Moves up to `count` bytes of the file from `offset` into the socket without copying them here;
/// gives how many went. 0 is the end of the file. EAGAIN if the socket is full.
///
/// It may wait for a disk even on a non-blocking socket. It is no snapshot: pages written before
/// the peer has read them reach it changed. A peer that has gone is EPIPE *and* SIGPIPE: see
/// [`crate::signal::ignore_sigpipe`]. sendfile(2)
pub fn send_file(out: &Stream, file: BorrowedFd<'_>, offset: u64, count: usize) -> Result<usize> {
    retry_on_intr(|| {
        let mut position = offset;
        rustix::fs::sendfile(out, file, Some(&mut position), count)
    })
    .map_err(Error::on("sendfile"))
}

/// Opens the same file again for reading: a description of its own, with its own position and
/// flags. By way of `/proc/self/fd`, which must be mounted. EACCES if the file's mode forbids it
/// (the descriptor at hand is no help there); not for sockets (ENXIO).
pub fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut name = [0_u8; 32];
    let mut rest = name.as_mut_slice();
    // Fits: 14 bytes and at most 10 digits. Were it cut, the open would fail.
    let _ = write!(rest, "/proc/self/fd/{}", fd.as_raw_fd());
    let length = 32 - rest.len();
    let name = name.get(..length).unwrap_or_default();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::open(name, flags, Mode::empty())).map_err(Error::on("open"))
}

/// The magic number of the file system, as statfs(2) lists them.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // the field differs between targets
pub fn filesystem(fd: BorrowedFd<'_>) -> Result<u64> {
    rustix::fs::fstatfs(fd).map(|stat| stat.f_type as u64).map_err(Error::on("fstatfs"))
}

/// Whether any call on this file may wait for ever: whoever answers for its file system is another
/// machine or a program, not a disk of this one. By the magic number; what lies below an overlay is
/// not seen. statfs(2)
pub fn may_hang(fd: BorrowedFd<'_>) -> Result<bool> {
    /// AFS (two), 9P, autofs, CEPH, CIFS, CODA, FUSE (virtiofs too), GFS2, GPFS, Lustre, NCP, NFS,
    /// OCFS2, SMB, SMB2, VirtualBox' folders, VMware's.
    const ASK_SOMEBODY: [u64; 18] = [
        0x5346_414f,
        0x6b41_4653,
        0x0102_1997,
        0x0187,
        0x00c3_6400,
        0xff53_4d42,
        0x7375_7245,
        0x6573_5546,
        0x0116_1970,
        0x4750_4653,
        0x0bd0_0bd0,
        0x564c,
        0x6969,
        0x7461_636f,
        0x517b,
        0xfe53_4d42,
        0x786f_4256,
        0xbacb_acbc,
    ];
    // The field is signed: numbers above 2^31 come sign-extended on some targets.
    filesystem(fd).map(|magic| ASK_SOMEBODY.contains(&(magic & 0xffff_ffff)))
}

/// What kind of file a directory entry says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Other,
    /// The file system does not say; ask [`identity_at`].
    Unknown,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes: one component, never empty, `.` or `..`.
    pub name: Box<[u8]>,
    /// What it says it is.
    pub kind: Kind,
}

/// Lists a directory, in no order: reads its own description, so that many may list the same
/// descriptor at a time (`O_PATH` will do). Entries that come or go meanwhile may be there or not.
/// Ends after an error. getdents64(2)
pub fn read_dir(directory: BorrowedFd<'_>) -> Result<impl Iterator<Item = Result<Entry>> + use<>> {
    // Not Dir::read_from, which opens as the descriptor at hand was opened: O_PATH included.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own =
        rustix::fs::openat(directory, ".", flags, Mode::empty()).map_err(Error::on("openat"))?;
    let entries = Dir::new(own).map_err(Error::on("getdents64"))?;
    Ok(entries.filter_map(|entry| match entry {
        Ok(entry) => match entry.file_name().to_bytes() {
            b"." | b".." => None,
            name => Some(Ok(Entry { name: name.into(), kind: kind_of(entry.file_type()) })),
        },
        Err(errno) => Some(Err(Error::on("getdents64")(errno))),
    }))
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        FileType::Unknown => Kind::Unknown,
        _ => Kind::Other,
    }
}
