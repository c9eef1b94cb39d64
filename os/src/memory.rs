//! Memory that can be handed out like a file: memfds, sealed so that nobody can change them.
//!
//! Sealed for writing, shrinking, growing and sealing, the bytes are what they are for ever, for
//! every holder. A write seal alone for the future is not that. Not here: who pays for the memory,
//! and adopting what somebody else made.

use crate::error::{Error, Result};
use crate::raw;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The seals of a memfd. fcntl(2), `F_GET_SEALS`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seals(SealFlags);

impl Seals {
    /// Whether neither the bytes nor their number nor the seals can ever change.
    pub fn are_immutable(self) -> bool {
        let needed = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        self.0.contains(needed)
    }

    /// Whether it cannot shrink, so that a mapping within its size is safe from SIGBUS.
    pub fn forbid_shrinking(self) -> bool {
        self.0.contains(SealFlags::SHRINK)
    }

    /// The kernel's own bits.
    pub fn bits(self) -> u32 {
        self.0.bits()
    }
}

/// A memfd that is being written, for its maker alone.
#[derive(Debug)]
pub struct Draft {
    fd: OwnedFd,
    size: u64,
}

impl Draft {
    /// An empty one; close-on-exec. The name shows in `/proc` only (at most 249 bytes, no nul).
    /// EMFILE, ENFILE, ENOMEM. memfd_create(2)
    pub fn new(name: &str) -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags), // before Linux 6.3
            other => other,
        }
        .map_err(Error::on("memfd_create"))?;
        Ok(Self { fd, size: 0 })
    }

    /// Writes these bytes behind what is there. ENOMEM.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let n = retry_on_intr(|| rustix::io::pwrite(&self.fd, bytes, self.size))
                .map_err(Error::on("pwrite"))?;
            self.size += n as u64;
            bytes = bytes.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Bytes that were written.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Another descriptor of it, for somebody who writes by write(2), and lets go of it; nothing is
    /// appended here then. EMFILE.
    pub fn writer(&self) -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(Error::on("fcntl(F_DUPFD_CLOEXEC)"))
    }

    /// Seals it for good; at position 0.
    pub fn seal(self) -> Result<OwnedFd> {
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&self.fd, seals).map_err(Error::on("fcntl(F_ADD_SEALS)"))?;
        Ok(self.fd)
    }
}

/// A new memfd with these bytes, sealed for good: see [`Draft`]. ENOMEM, EMFILE, ENFILE.
pub fn sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let mut draft = Draft::new(name)?;
    draft.append(bytes)?;
    draft.seal()
}

/// Asks the processor to bring what lies there near, since it will be read soon. Nothing else.
#[inline]
pub fn prefetch<T: ?Sized>(place: &T) {
    raw::prefetch(place);
}

/// The kernel's own bits of what [`sealed`] makes.
pub fn immutable_bits() -> u32 {
    (SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).bits()
}

/// The seals it has; `None` for a file that has no notion of seals.
pub fn seals(fd: BorrowedFd<'_>) -> Result<Option<Seals>> {
    match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) => Ok(Some(Seals(seals))),
        Err(Errno::INVAL) => Ok(None),
        Err(errno) => Err(Error::on("fcntl(F_GET_SEALS)")(errno)),
    }
}
