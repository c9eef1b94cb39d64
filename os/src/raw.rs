//! The gap: system calls that neither rustix nor nix offers as we need them, and all unsafe code
//! of objmapper.
//!
//! Each function takes safe types, makes one call, and returns the number or the errno. No policy,
//! no retry, no text: those are in the module that uses it.
#![allow(unsafe_code)] // the one room for it; every block says why it is sound

use crate::error::{Error, Result};
#[cfg(feature = "map")]
use rustix::{fs::SealFlags, io::Errno};
use std::ffi::CStr;
use std::mem::{MaybeUninit, size_of};
#[cfg(feature = "map")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{io, ptr};

/// `SO_PASSRIGHTS` (Linux 6.16), in the numbering that all but the Alpha, MIPS, PA-RISC and SPARC
/// kernels share; libc does not have it yet.
const SO_PASSRIGHTS: libc::c_int = 83;
/// `SO_PASSPIDFD` (Linux 6.5), numbered likewise.
const SO_PASSPIDFD: libc::c_int = 76;

/// Socket options that are on or off: what may come in with a message.
#[derive(Clone, Copy)]
pub(crate) enum Pass {
    /// Descriptors.
    Rights,
    /// The sender's credentials.
    Cred,
    /// A descriptor of the sender's process.
    Pidfd,
    /// The sender's security label.
    Sec,
}

/// A hint to the processor, where it takes one.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing as far as the program can tell; every x86-64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

fn last(call: &'static str) -> Error {
    Error::from_io(call, &io::Error::last_os_error())
}

/// The descriptor of mio's epoll instance, which mio gives as a number only.
#[cfg(feature = "poll")]
pub(crate) fn epoll_of(poll: &mio::Poll) -> BorrowedFd<'_> {
    // SAFETY: open for as long as `poll` is, which is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) }
}

/// epoll_wait(2) into the room that `events` has; none are in it after an error.
#[cfg(feature = "poll")]
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<libc::epoll_event>,
    timeout_ms: libc::c_int,
) -> Result<()> {
    events.clear();
    let room = libc::c_int::try_from(events.capacity()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `events` has room for so many, of which the kernel writes as many as it returns.
    let count =
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) };
    let count = usize::try_from(count).map_err(|_| last("epoll_wait"))?;
    // SAFETY: written, see above.
    unsafe { events.set_len(count) };
    Ok(())
}

/// setsockopt(2) at `SOL_SOCKET` with an `int` of 0 or 1.
pub(crate) fn pass(fd: BorrowedFd<'_>, option: Pass, on: bool) -> Result<()> {
    let name = match option {
        Pass::Rights => SO_PASSRIGHTS,
        Pass::Cred => libc::SO_PASSCRED,
        Pass::Pidfd => SO_PASSPIDFD,
        Pass::Sec => libc::SO_PASSSEC,
    };
    let value = libc::c_int::from(on);
    // SAFETY: `value` lives across the call and the length given is its own.
    let code = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            ptr::from_ref(&value).cast(),
            length_of::<libc::c_int>(),
        )
    };
    if code == 0 { Ok(()) } else { Err(last("setsockopt")) }
}

/// `SO_PEERCRED`: process (0 where it has no number in our namespace), user, group. Not rustix's:
/// its process id cannot be 0, which is what a foreign namespace gives.
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> Result<(i32, u32, u32)> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = length_of::<libc::ucred>();
    // SAFETY: the kernel writes at most `length` bytes, the size of `credentials`, whose fields
    // are integers for which every bit pattern is a value.
    let code = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            ptr::from_mut(&mut credentials).cast(),
            &raw mut length,
        )
    };
    if code == 0 {
        Ok((credentials.pid, credentials.uid, credentials.gid))
    } else {
        Err(last("getsockopt"))
    }
}

/// `SO_PEERGROUPS` into `groups`; gives the number of groups there are. If that is more than there
/// was room for, nothing was written.
pub(crate) fn peer_groups(fd: BorrowedFd<'_>, groups: &mut [u32]) -> Result<usize> {
    let room = size_of_val(groups);
    let mut length = libc::socklen_t::try_from(room).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `length` bytes, which is not more than `groups` has.
    let code = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let count = length as usize / size_of::<u32>();
    if code == 0 {
        return Ok(count);
    }
    let error = last("getsockopt");
    if error.errno() == libc::ERANGE && count > groups.len() { Ok(count) } else { Err(error) }
}

/// ioctl(2) `SIOCOUTQ`: bytes sent on this socket that the peer has not read.
pub(crate) fn unread(fd: BorrowedFd<'_>) -> Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request (the same number as TIOCOUTQ) writes one int.
    let code = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if code == 0 { Ok(bytes) } else { Err(last("ioctl(SIOCOUTQ)")) }
}

/// preadv2(2) into memory that need not be initialised; `nowait` adds `RWF_NOWAIT`.
pub(crate) fn read_at(
    fd: BorrowedFd<'_>,
    room: &mut [MaybeUninit<u8>],
    offset: u64,
    nowait: bool,
) -> Result<usize> {
    let Ok(offset) = libc::off_t::try_from(offset) else {
        return Err(Error::new("preadv2", libc::EINVAL)); // -1 would mean the shared position
    };
    let iov = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let flags = if nowait { libc::RWF_NOWAIT } else { 0 };
    // SAFETY: one iovec that describes `room`, which is ours alone until the call returns.
    let count = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const iov, 1, offset, flags) };
    usize::try_from(count).map_err(|_| last("preadv2"))
}

/// Appends to `buf`, within the capacity that it already has, at most `len` bytes of the file.
pub(crate) fn append_at(
    fd: BorrowedFd<'_>,
    buf: &mut Vec<u8>,
    len: usize,
    offset: u64,
    nowait: bool,
) -> Result<usize> {
    let spare = buf.spare_capacity_mut();
    let len = len.min(spare.len());
    let room = spare.get_mut(..len).unwrap_or_default();
    let count = read_at(fd, room, offset, nowait)?;
    // SAFETY: the kernel has written `count` bytes behind the old end, and `count` is at most
    // `len`, which is within the capacity.
    unsafe { buf.set_len(buf.len() + count) };
    Ok(count)
}

/// mount_setattr(2) on the mount that `fd` is the root of, and all below: read-only, no set-uid,
/// no devices.
pub(crate) fn make_mount_read_only(fd: BorrowedFd<'_>) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        // What is mounted over the original later does not appear here.
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let empty: &CStr = c"";
    // SAFETY: a nul-terminated path, and a struct of the size that is given with it; both outlive
    // the call, which reads them only.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if code == 0 { Ok(()) } else { Err(last("mount_setattr")) }
}

/// sched_setscheduler(2) `SCHED_BATCH` for the calling thread.
pub(crate) fn schedule_as_batch() -> Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: reads one struct that outlives the call; 0 is the calling thread.
    let code = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if code == 0 { Ok(()) } else { Err(last("sched_setscheduler")) }
}

/// signal(2): SIGPIPE is ignored from here on.
pub(crate) fn ignore_sigpipe() -> Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(last("signal")) } else { Ok(()) }
}

/// Takes ownership of a descriptor that this process was started with. Refuses one that is not
/// open (EBADF) and one that has the close-on-exec flag (EINVAL): the latter cannot have come
/// through an exec, so somebody here opened and owns it.
pub(crate) fn adopt_inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_GETFD takes any number and touches no memory.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(last("fcntl(F_GETFD)"));
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Error::new("fcntl(F_GETFD)", libc::EINVAL)
            .with_detail("is not inherited: it has the close-on-exec flag"));
    }
    // SAFETY: it is open, and nobody here owns it: Rust opens everything with close-on-exec, and
    // the caller (`service_manager::listen_fds`) comes here once in the life of the process.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: F_SETFD on a descriptor that we own touches no memory.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(last("fcntl(F_SETFD)"));
    }
    Ok(owned)
}

/// Removes variables from the environment. The caller has seen to it that no other thread runs.
pub(crate) fn forget_variables(single_threaded: &SingleThreaded, names: &[&str]) {
    let SingleThreaded(()) = single_threaded;
    for name in names {
        // SAFETY: reading or writing the environment elsewhere at the same time is what is
        // forbidden, and the token says that there is no other thread.
        unsafe { std::env::remove_var(name) };
    }
}

/// Proof, at the time it was made, that the process has one thread.
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// EBUSY if other threads run. Asks `/proc/self/task`.
    pub(crate) fn check() -> Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")
            .map_err(|error| Error::from_io("open", &error).with_detail("/proc/self/task"))?
            .count();
        if threads == 1 {
            Ok(Self(()))
        } else {
            Err(Error::new("remove_var", libc::EBUSY).with_detail("other threads are running"))
        }
    }
}

/// The bytes of a file, mapped for reading; see [`crate::mapping`].
#[cfg(feature = "map")]
#[derive(Debug)]
pub struct Mapping(memmap2::Mmap);

#[cfg(feature = "map")]
impl Mapping {
    /// Maps the first `length` bytes of a file that is sealed: nobody can change them, and the
    /// file cannot become shorter. `None` if the seals do not say both. EINVAL if it has not as
    /// many bytes. mmap(2)
    pub fn sealed(fd: impl AsFd, length: u64) -> Result<Option<Self>> {
        let fd = fd.as_fd();
        // Not FUTURE_WRITE: whoever mapped it before that seal still writes.
        let needed = SealFlags::WRITE | SealFlags::SHRINK;
        match rustix::fs::fcntl_get_seals(fd) {
            Ok(seals) if seals.contains(needed) => (),
            Ok(_) | Err(Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(Error::on("fcntl(F_GET_SEALS)")(errno)),
        }
        // SAFETY: a seal is never taken away, and with these two the bytes stay what they are and
        // where they are, for every holder, as long as anybody holds the file.
        unsafe { Self::unsealed(fd, length) }.map(Some)
    }

    /// Maps the first `length` bytes of any file. EINVAL if it has not as many. mmap(2)
    ///
    /// # Safety
    ///
    /// As long as the mapping lives, nobody in any process may write to these bytes of the file,
    /// and nobody may make it shorter. The kernel does not see to that: a write changes what a
    /// `&[u8]` promises not to change, and reading behind the end of a truncated file is SIGBUS,
    /// which ends the process. A file that is replaced by rename(2) is not written to; one that is
    /// copied over is. A file system of somebody else's (a network's, a user's) can do either.
    pub unsafe fn unsealed(fd: impl AsFd, length: u64) -> Result<Self> {
        let fd = fd.as_fd();
        let there = rustix::fs::fstat(fd).map_err(Error::on("fstat"))?.st_size;
        let fits = u64::try_from(there).is_ok_and(|there| length <= there);
        let Some(length) = usize::try_from(length).ok().filter(|_| fits) else {
            let text = format!("{length} bytes of a file that has {there}");
            return Err(Error::new("mmap", libc::EINVAL).with_detail(text));
        };
        // Private, since a shared mapping of a sealed file is refused before Linux 6.7. Nothing is
        // copied for that: nobody writes here.
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: the caller's promise is the one that this needs.
        unsafe { options.len(length).map_copy_read_only(fd.as_raw_fd()) }
            .map(Self)
            .map_err(|error| Error::from_io("mmap", &error))
    }
}

#[cfg(feature = "map")]
impl std::ops::Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(feature = "map")]
impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}
