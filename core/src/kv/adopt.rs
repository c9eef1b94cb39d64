//! A value that somebody else put into memory: kept where it is, without a copy, if that is safe.
//!
//! What must stay true:
//! - nobody can change what is kept: it is sealed for good, and of ordinary pages;
//! - it has the memory that it is charged for: one with holes would grow while others read it;
//! - what is kept and handed out is a description of our own, for reading only; whoever made the file
//!   can still forbid that (its mode is theirs), and then the bytes are copied, once;
//! - nothing is mapped, and nothing is asked of a file system that could hang: the first question
//!   is whether there are seals, which only memory answers.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use objmapper_os as os;
use thiserror::Error;

use super::keyspace::{Keyspace, LONGEST};
use super::value::{Sealed, read_all};
use super::{Content, Fault};

/// tmpfs, which is what memfds with ordinary pages are made of. statfs(2)
const TMPFS: u64 = 0x0102_1994;

/// A value that came as a file, ready to be kept.
#[derive(Debug)]
pub struct Adopted {
    sealed: Option<Arc<Sealed>>,
    bytes: Option<Vec<u8>>,
}

/// Why it did not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAdopted {
    /// It is something else than sealed memory.
    #[error("the descriptor {0}; or send the bytes")]
    Source(&'static str),
    /// The keyspace says no.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<os::Error> for NotAdopted {
    fn from(error: os::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl Keyspace {
    /// Prepares a value that lies in a memory file which somebody else made and sealed. Before any
    /// lock is taken: it may have to be copied, and with a journal it is read.
    ///
    /// The kernel may make this wait while pages are swapped in, and for nothing else.
    pub fn adopt(&self, fd: BorrowedFd<'_>) -> Result<Adopted, NotAdopted> {
        let size = check(fd)?;
        let sealed = if self.is_worth_a_file(size) { take_over(fd, size)? } else { None };
        if let Some(sealed) = &sealed
            && self.journal().is_some()
        {
            sealed.checksum()?;
        }
        let bytes = sealed.is_none().then(|| read_all(fd, size)).transpose()?;
        Ok(Adopted { sealed: sealed.map(Arc::new), bytes })
    }

    /// Whether a value of this size lies in a file of its own.
    fn is_worth_a_file(&self, size: u64) -> bool {
        let few = i64::try_from(self.options.sealed).unwrap_or(i64::MAX);
        size > self.options.inline as u64 && self.sealed.load(Ordering::Relaxed) < few
    }
}

impl Adopted {
    /// As it is kept.
    pub fn content(&self, keyspace: &Keyspace) -> Result<Content<'_>, Fault> {
        match &self.sealed {
            Some(sealed) => Ok(Content::Sealed(sealed.clone())),
            None => keyspace.content(self.bytes.as_deref().unwrap_or_default()),
        }
    }

    /// Whether the pages stay where they are.
    pub const fn is_in_place(&self) -> bool {
        self.sealed.is_some()
    }
}

/// Looks whether it is memory that stays as it is; its size.
fn check(fd: BorrowedFd<'_>) -> Result<u64, NotAdopted> {
    let seals = os::memory::seals(fd).map_err(readable)?;
    let seals = seals.ok_or(NotAdopted::Source(
        "is no memory file: make one with memfd_create(2) and MFD_ALLOW_SEALING",
    ))?;
    if !seals.are_immutable() {
        return Err(NotAdopted::Source(
            "is not sealed: add F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL",
        ));
    }
    if os::file::filesystem(fd)? & 0xffff_ffff != TMPFS {
        return Err(NotAdopted::Source("has huge pages: make it without MFD_HUGETLB"));
    }
    // A description of our own could be had without: whoever passes it must be able to read it.
    os::file::read_at(fd, &mut [0], 0).map_err(readable)?;
    let size = os::file::identity(fd)?.size;
    if size > LONGEST {
        return Err(Fault::TooLong { limit: LONGEST }.into());
    }
    Ok(size)
}

/// What a call says that failed because of how it was opened.
fn readable(error: os::Error) -> NotAdopted {
    match error.errno() {
        os::errno::EBADF => NotAdopted::Source("is not open for reading: pass one that is"),
        _ => error.into(),
    }
}

/// A description of our own, if it has all of its pages and can be had.
fn take_over(fd: BorrowedFd<'_>, size: u64) -> Result<Option<Sealed>, NotAdopted> {
    if os::file::identity(fd)?.blocks.saturating_mul(512) < size {
        return Ok(None);
    }
    match os::file::reopen(fd) {
        Ok(file) => Ok(Some(Sealed::adopted(file, size))),
        // Forbidden by its mode, or by a lease that its maker holds; or we are out of descriptors.
        Err(error)
            if error.is_resource()
                || error.is_would_block()
                || matches!(error.errno(), os::errno::EACCES | os::errno::EPERM) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
