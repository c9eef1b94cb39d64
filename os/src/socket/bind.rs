//! Taking a path as the name of a listening socket, so that nobody ever sees it half done.
//!
//! ```text
//! bind .name.pid-n -> chown, chmod -> listen -> put in the place of name
//! ```
//!
//! The path appears with its mode, its owner and a backlog, or not at all. It replaces a socket
//! that nobody listens on, never one that answers and never another kind of file. Of two processes
//! that start at the same time one wins and the other gets EADDRINUSE. Not here: which path, and
//! who may connect beyond what the mode says.

use super::address;
use crate::errno;
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often the lock of a directory is tried, and the time between: half a second in all,
/// where taking a path takes less than one of them.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// How a listener's path shall look and how many may wait at it.
#[derive(Debug, Clone, Copy)]
pub struct BindOptions {
    /// Permission bits; who may write may connect. Ignored for abstract names.
    pub mode: u32,
    /// The user who shall own the path; `None` leaves it with this process's.
    pub owner: Option<u32>,
    /// The group that shall own the path; `None` leaves it with this process's.
    pub group: Option<u32>,
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
}

impl Default for BindOptions {
    /// For the owner alone; a backlog of 4096, which is the kernel's own cap by default.
    fn default() -> Self {
        Self { mode: 0o600, owner: None, group: None, backlog: 4096 }
    }
}

/// Which inode a path was when it was ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    dev: u64,
    ino: u64,
}

/// A listening socket of that name, and the inode if it is a path.
pub(super) fn bind(path: &Path, options: BindOptions) -> Result<(OwnedFd, Option<Inode>)> {
    let told = |error: Error| match error.detail() {
        Some(_) => error,
        None => error.with_detail(path.to_string_lossy()),
    };
    let name = address::of(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(Error::on("socket"))?;
    if address::abstract_name(path).is_some() {
        rustix::net::bind(&socket, &name).map_err(Error::on("bind")).map_err(told)?;
        listen(&socket, options.backlog)?;
        return Ok((socket, None));
    }
    let place = Place::open(path).map_err(told)?;
    let _turn = place.take_turn();
    let stale = place.stale_socket().map_err(told)?;
    let temporary = place.bind_beside(&socket).map_err(told)?;
    let inode = temporary.dress(options).and_then(|inode| {
        listen(&socket, options.backlog)?;
        temporary.publish(stale.as_ref())?;
        Ok(inode)
    });
    inode.map(|inode| (socket, Some(inode))).map_err(told)
}

/// Removes the path if it still is that inode.
pub(super) fn unlink_if_ours(path: &Path, inode: Inode) {
    let now = rustix::fs::lstat(path).map(|stat| Inode { dev: stat.st_dev, ino: stat.st_ino });
    if now == Ok(inode) {
        // Gone already, or no longer permitted: nothing is left to do on the way out.
        let _ = rustix::fs::unlink(path);
    }
}

fn listen(socket: &OwnedFd, backlog: u32) -> Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    rustix::net::listen(socket, backlog).map_err(Error::on("listen"))
}

/// A directory and a name in it.
struct Place<'a> {
    path: &'a Path,
    directory: OwnedFd,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = path.file_name().ok_or(Error::new("bind", errno::EINVAL))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(parent, flags, Mode::empty()).map_err(Error::on("open"))?;
        Ok(Self { path, directory, name })
    }

    /// Lets one process at a time look and publish: of three that exchange a stale socket and
    /// back, the name could end with a loser. Advisory, on the directory, until dropped. flock(2)
    ///
    /// Whoever may read the directory could hold the lock, and then it is done without: the
    /// exchange is right for two.
    fn take_turn(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.directory, ".", flags, Mode::empty()).ok()?;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                taken => return taken.is_ok().then_some(lock),
            }
        }
        None
    }

    /// The socket that is there, held so that its inode number is not used again; `None` if the
    /// name is free. EADDRINUSE if somebody listens on it, ENOTSOCK if it is something else.
    fn stale_socket(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(&self.directory, self.name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::on("open")(errno)),
        };
        let stat = rustix::fs::fstat(&found).map_err(Error::on("fstat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            let text = format!("{}: exists and is not a socket", self.path.display());
            return Err(Error::new("bind", errno::ENOTSOCK).with_detail(text));
        }
        match self.try_connect() {
            Err(Errno::CONNREFUSED) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            // Accepted, a full backlog, or a socket of another type that is alive.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(self.in_use()),
            Err(errno) => Err(Error::on("connect")(errno)),
        }
    }

    fn try_connect(&self) -> std::result::Result<(), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&probe, &SocketAddrUnix::new(self.path)?)
    }

    fn in_use(&self) -> Error {
        let text = format!("{}: another process is listening here", self.path.display());
        Error::new("bind", errno::EADDRINUSE).with_detail(text)
    }

    /// Binds to a free name in the same directory. The real path if it fits, since that is what
    /// ss(8) will show for ever; else by way of the directory's descriptor.
    fn bind_beside<'p>(&'p self, socket: &OwnedFd) -> Result<Temporary<'p>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut name = OsString::from(".");
        name.push(self.name);
        name.push(format!(".{}-{number}", std::process::id()));
        let mut full = self.path.with_file_name(&name);
        if full.as_os_str().len() > address::MAX_PATH {
            name = OsString::from(format!(".objmapper.{}-{number}", std::process::id()));
            full = Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string());
            full.push(&name);
        }
        match rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => (), // left by a process that had our number and died
            Err(errno) => return Err(Error::on("unlink")(errno)),
        }
        let address = SocketAddrUnix::new(&full).map_err(Error::on("bind"))?;
        rustix::net::bind(socket, &address).map_err(Error::on("bind"))?;
        Ok(Temporary { place: self, name })
    }
}

/// A bound name that is not the final one; removed when dropped, since by then it is either
/// unused or the stale socket that was exchanged for it.
struct Temporary<'p> {
    place: &'p Place<'p>,
    name: OsString,
}

impl Temporary<'_> {
    /// Sets owner, group and mode.
    fn dress(&self, options: BindOptions) -> Result<Inode> {
        let directory = &self.place.directory;
        let (owner, group) = (options.owner.map(Uid::from_raw), options.group.map(Gid::from_raw));
        if owner.is_some() || group.is_some() {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(directory, &self.name, owner, group, flags)
                .map_err(Error::on("chown"))?;
        }
        let mode = Mode::from_raw_mode(options.mode & 0o777);
        rustix::fs::chmodat(directory, &self.name, mode, AtFlags::empty())
            .map_err(Error::on("chmod"))?;
        self.inode(&self.name)
    }

    fn inode(&self, name: &OsStr) -> Result<Inode> {
        let stat = rustix::fs::statat(&self.place.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::on("fstatat"))?;
        Ok(Inode { dev: stat.st_dev, ino: stat.st_ino })
    }

    /// Gives the socket its name. A free name is taken only while it is free; a stale socket is
    /// exchanged, and exchanged back if it turns out to be another than the one that was probed.
    fn publish(&self, stale: Option<&OwnedFd>) -> Result<()> {
        let Some(stale) = stale else {
            return match self.rename(RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => Err(self.place.in_use()),
                Err(Errno::INVAL) => self.rename(RenameFlags::empty()).map_err(Error::on("rename")),
                other => other.map_err(Error::on("rename")),
            };
        };
        match self.rename(RenameFlags::EXCHANGE) {
            Ok(()) => (),
            Err(Errno::NOENT) => return self.publish(None), // removed meanwhile
            Err(Errno::INVAL) => {
                // A file system that cannot exchange: then without that care.
                return self.rename(RenameFlags::empty()).map_err(Error::on("rename"));
            }
            Err(errno) => return Err(Error::on("rename")(errno)),
        }
        let probed = rustix::fs::fstat(stale).map_err(Error::on("fstat"))?;
        if self.inode(&self.name)? == (Inode { dev: probed.st_dev, ino: probed.st_ino }) {
            return Ok(());
        }
        self.rename(RenameFlags::EXCHANGE).map_err(Error::on("rename"))?;
        Err(self.place.in_use())
    }

    fn rename(&self, flags: RenameFlags) -> std::result::Result<(), Errno> {
        let directory = &self.place.directory;
        rustix::fs::renameat_with(directory, &self.name, directory, self.place.name, flags)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // ENOENT after a plain rename; any other failure leaves a dead name that the next start
        // of this process number replaces.
        let _ = rustix::fs::unlinkat(&self.place.directory, &self.name, AtFlags::empty());
    }
}
