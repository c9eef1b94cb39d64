//! What the core hands over: a descriptor, or a body that is still to be sent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use objmapper_os::file::{self, CachedRead, Identity};
use objmapper_proto::{Range, Reason};

use crate::backing::Patience;
use crate::object::Object;
use crate::refusal::{Miss, Refusal};

/// An answer.
#[derive(Debug)]
pub struct Delivery {
    /// What the object is.
    pub object: Object,
    /// The bytes that are meant, within the object's size.
    pub range: Range,
    /// Why it comes in this form.
    pub reason: Reason,
    /// The form.
    pub how: How,
}

/// The form of an answer.
#[derive(Debug)]
pub enum How {
    /// A descriptor for reading, with an open file description of its own.
    Descriptor(OwnedFd),
    /// A body to be sent at once.
    Inline(Body),
    /// A body to be streamed.
    Stream(Body),
    /// Nothing: it still is the version that the caller has.
    NotModified,
}

/// Bytes of one file, in a range, with what the file looked like when it was opened.
#[derive(Debug)]
pub struct Body {
    file: OwnedFd,
    identity: Identity,
    range: Range,
}

/// What became of a [`Body::fill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// All of the range is there.
    Whole,
    /// A page is not in memory; nothing was added.
    Cold,
}

impl Body {
    pub(crate) fn new(file: OwnedFd, identity: Identity, range: Range) -> Self {
        Self { file, identity, range }
    }

    /// Which bytes.
    pub const fn range(&self) -> Range {
        self.range
    }

    /// The file, for the kernel to move from.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Appends the whole range to `out`, or nothing. Checks afterwards that the file
    /// is still what it was: else [`Refusal::Changed`].
    pub fn fill(&self, out: &mut Vec<u8>, patience: Patience) -> Result<Fill, Miss> {
        let before = out.len();
        let filled = self.fill_unchecked(out, patience);
        if !matches!(filled, Ok(Fill::Whole)) {
            out.truncate(before);
        }
        filled
    }

    fn fill_unchecked(&self, out: &mut Vec<u8>, patience: Patience) -> Result<Fill, Miss> {
        let cached_only = patience == Patience::Never;
        let (mut offset, mut left) = (self.range.offset, self.range.length);
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX);
            match file::read_at_append(self.file(), out, want, offset, cached_only)? {
                // Linux 5.9 and 5.10 also said 0 for a cold page.
                CachedRead::Bytes(0) if cached_only => return Ok(Fill::Cold),
                CachedRead::Bytes(0) => return Err(Refusal::Changed.into()),
                CachedRead::Bytes(n) => {
                    offset += n as u64;
                    left -= n as u64;
                }
                CachedRead::Cold => return Ok(Fill::Cold),
            }
        }
        if self.is_unchanged()? { Ok(Fill::Whole) } else { Err(Refusal::Changed.into()) }
    }

    /// Whether the file still looks as it did when it was opened.
    ///
    /// What this cannot see: a change within the tick of the file system's clock in
    /// which the file was last changed before it was opened, and a writer through a
    /// shared mapping whose pages were dirty already.
    pub fn is_unchanged(&self) -> Result<bool, Miss> {
        let now = file::identity(self.file())?;
        Ok(now.size == self.identity.size
            && now.mtime_ns == self.identity.mtime_ns
            && now.ctime_ns == self.identity.ctime_ns)
    }
}
