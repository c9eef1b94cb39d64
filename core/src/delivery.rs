//! What the core hands over: a descriptor, or a body that is still to be sent.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use objmapper_os::file::{self, CachedRead, Identity, Page};
use objmapper_os::opened::Opened;
use objmapper_proto::{Range, Reason};

use crate::backing::{MountId, Patience};
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
    /// What comes, in this form.
    pub delivered: Delivered,
}

/// What an answer brings, in which form.
#[derive(Debug)]
pub enum Delivered {
    /// A descriptor for reading, with an open file description of its own.
    Descriptor(Opened),
    /// A descriptor for reading whose open file description is given to others as well.
    Shared(Arc<Opened>),
    /// A body to be sent at once.
    Inline(Body),
    /// A body to be streamed.
    Stream(Body),
    /// Nothing: it still is the version that the caller has.
    NotModified,
}

/// Bytes between the pages that are looked at to tell whether a piece of a file is in memory.
/// What was read in a row leaves memory in long runs, so few holes are shorter; a look is
/// 1 us, and 1 % of what it takes to move 1 MiB (`objmapper-bench bars --only "1 MiB"`).
const SAMPLE: usize = 512 * 1024;

/// Bytes read at once to have them in memory. Not tuned.
const READ: usize = 64 * 1024;

/// Bytes of one file, in a range, with what the file looked like when it was opened.
#[derive(Debug)]
pub struct Body {
    file: Opened,
    identity: Identity,
    range: Range,
    strict: bool,
    mount: MountId,
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
    pub(crate) fn new(
        file: Opened,
        identity: Identity,
        range: Range,
        (mount, strict): (MountId, bool),
    ) -> Self {
        Self { file, identity, range, strict, mount }
    }

    /// Whose it is.
    pub const fn mount(&self) -> MountId {
        self.mount
    }

    /// Whether its bytes must be read ([`Self::read`]) and may not be moved by the kernel:
    /// since its mount is strict, or since a move could wait for ever.
    pub const fn is_read(&self) -> bool {
        self.strict || self.file.hangs()
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
        self.read(out, self.range.offset, self.range.length, patience)
    }

    /// The same for a piece of the file. All pieces that were appended so, one after the
    /// other, are of one version.
    pub fn read(
        &self,
        out: &mut Vec<u8>,
        offset: u64,
        length: u64,
        patience: Patience,
    ) -> Result<Fill, Miss> {
        if patience == Patience::Never && self.file.hangs() {
            return Ok(Fill::Cold);
        }
        let before = out.len();
        let filled = self.read_unchecked(out, offset, length, patience);
        if !matches!(filled, Ok(Fill::Whole)) {
            out.truncate(before);
        }
        match filled {
            Err(Miss::WouldBlock) if patience != Patience::Never => {
                Err(Refusal::Busy { what: "another process holds a lease on the file" }.into())
            }
            other => other,
        }
    }

    fn read_unchecked(
        &self,
        out: &mut Vec<u8>,
        mut offset: u64,
        mut left: u64,
        patience: Patience,
    ) -> Result<Fill, Miss> {
        let cached_only = patience == Patience::Never;
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

    /// Whether these bytes can be moved without waiting for a disk, as far as samples
    /// tell: one page in each 512 KiB, and the last.
    pub fn is_resident(&self, offset: u64, length: u64) -> Result<bool, Miss> {
        let Some(last) = length.checked_sub(1) else { return Ok(true) };
        for at in (0..last).step_by(SAMPLE).chain([last]) {
            if file::page_at(self.file(), offset.saturating_add(at))? == Page::Cold {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings these bytes into memory, and tells the kernel that as many will follow.
    /// Waits. If the file has shrunk it is content with what there is.
    pub fn bring(&self, offset: u64, length: u64) -> Result<(), Miss> {
        // Advice only: what comes of it is seen by the reads.
        let _ = file::will_need(self.file(), offset, length.saturating_mul(2));
        let mut room = vec![0; READ];
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(READ).min(READ);
            let room = room.get_mut(..want).unwrap_or_default();
            match file::read_at(self.file(), room, at)? {
                0 => break,
                n => at += n as u64,
            }
        }
        Ok(())
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
