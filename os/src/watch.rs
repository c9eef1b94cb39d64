//! Being told of changes to directories and to the mounts of this process.
//!
//! A change is in the queue before the call that made it returns (rename(2), chmod(2), ..), so
//! whoever reads the queue after hearing of a change finds it there. The queue is bounded
//! (`fs.inotify.max_queued_events`): what does not fit is [`Seen::Lost`]. Mounting over a directory
//! is no change of the directory; the kernel tells that by way of `/proc/self/mountinfo`.
//!
//! Each event is read once, by one thread: others who must have seen it have to wait for that one.
//! inotify(7), proc_pid_mountinfo(5)

use crate::errno;
use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of events that one read takes: some hundred with short names.
const ROOM: usize = 16 * 1024;

/// Events after which the rest counts as lost, so that whoever makes them faster than they are
/// read holds nobody up. Twice what the kernel keeps by default.
const MOST: usize = 32 * 1024;

/// A directory that is watched. Not given again soon after it was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watch(i32);

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Something in this directory was renamed (from or to this name), removed, or got other
    /// permissions, owners or times.
    Name(Watch, &'a [u8]),
    /// So did the directory itself, or it is not watched any more.
    Itself(Watch),
    /// Something was mounted or unmounted somewhere.
    Mounts,
    /// Anything may have happened: events were lost.
    Lost,
}

/// A queue of changes.
#[derive(Debug)]
pub struct Watcher {
    queue: OwnedFd,
    mounts: OwnedFd,
}

impl Watcher {
    /// Watches nothing yet. EMFILE if this user has too many (`fs.inotify.max_user_instances`).
    pub fn new() -> Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(Error::on("inotify_init1"))?;
        let path = "/proc/self/mountinfo";
        let mounts = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::on("open")(errno).with_detail(path))?;
        Ok(Self { queue, mounts })
    }

    /// Watches a directory (`O_PATH` will do), by way of `/proc/self/fd`. The same one again gives
    /// the same watch. ENOSPC if this user has too many (`fs.inotify.max_user_watches`), EACCES if
    /// the directory may not be read.
    pub fn add(&self, directory: BorrowedFd<'_>) -> Result<Watch> {
        let flags = WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        inotify::add_watch(&self.queue, path, flags)
            .map(Watch)
            .map_err(Error::on("inotify_add_watch"))
    }

    /// Watches it no more. Events that are in the queue still come. EINVAL if it is not watched.
    pub fn remove(&self, watch: Watch) -> Result<()> {
        inotify::remove_watch(&self.queue, watch.0).map_err(Error::on("inotify_rm_watch"))
    }

    /// Tells what has happened since the last time. One system call if nothing has; after an
    /// error anything may have.
    pub fn changes(&self, mut tell: impl FnMut(Seen<'_>)) -> Result<()> {
        let mut ready =
            [PollFd::new(&self.queue, PollFlags::IN), PollFd::new(&self.mounts, PollFlags::PRI)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        retry_on_intr(|| poll(&mut ready, Some(&now))).map_err(Error::on("poll"))?;
        let [queue, mounts] = ready.map(|fd| !fd.revents().is_empty());
        if mounts {
            tell(Seen::Mounts);
        }
        if queue { self.read(tell) } else { Ok(()) }
    }

    fn read(&self, mut tell: impl FnMut(Seen<'_>)) -> Result<()> {
        let mut room = [MaybeUninit::uninit(); ROOM];
        let mut reader = Reader::new(&self.queue, &mut room);
        for _ in 0..MOST {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(Error::on("read")(errno)),
            };
            let watch = Watch(event.wd());
            tell(match event.file_name() {
                _ if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => Seen::Lost,
                Some(name) => Seen::Name(watch, name.to_bytes()),
                None => Seen::Itself(watch),
            });
        }
        Err(Error::new("read", errno::ENOBUFS))
    }
}

impl AsFd for Watcher {
    /// Readable when directories have changed (mounts are not told so).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// Whether everything that changes names on this file system goes through this kernel, and so is
/// told by a [`Watcher`]: known ones on a disk or in memory. (An overlay counts; whoever changes
/// what lies below it, beside it, is on his own.) By the magic number. statfs(2)
pub fn tells_all(fd: BorrowedFd<'_>) -> Result<bool> {
    /// ext2 to ext4, XFS, Btrfs, F2FS, tmpfs, ramfs, overlay, SquashFS, EROFS, ISO 9660, ZFS,
    /// bcachefs.
    const OWN: [u64; 12] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0xf2f5_2010,
        0x0102_1994,
        0x8584_58f6,
        0x794c_7630,
        0x7371_7368,
        0xe0f5_e1e2,
        0x9660,
        0x2fc1_2fc1,
        0xca45_1a4e,
    ];
    // The field is signed: numbers above 2^31 come sign-extended on some targets.
    crate::file::filesystem(fd).map(|magic| OWN.contains(&(magic & 0xffff_ffff)))
}
