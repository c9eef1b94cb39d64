//! The segment that is written: its head, its records, and zeros ahead of them.
//!
//! ```text
//!  head │ records ...│ zeros ...│            under `always`
//!       0          size      filled ─▶ moves on when the records come near
//! ```
//!
//! A sync of bytes that are written over others is cheaper than one of a file that grows: that has to
//! make the file's length and the place of its new bytes durable too, in a file system's own journal.
//!
//! What must stay true: nothing depends on the zeros. A reader takes zeros up to the end of the file
//! for its end, and records go on behind what is filled.

use std::sync::Arc;

use objmapper_os as os;

use super::disk::{Disk, File, append_all};
use super::format::{FILE_HEAD, FileKind, Salt, file_head};
use super::payload::{self, Chunk};
use super::segment::segment_name;
use super::{JournalOptions, SyncPolicy};

/// What could not be followed by a next segment tries again when a segment's bytes divided by this
/// were written more. Not tuned.
const RETRIES: u64 = 64;

/// See above.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) file: Arc<dyn File>,
    /// Its first record's number.
    pub(super) first: u64,
    /// Bytes of head and records.
    pub(super) size: u64,
    /// Bytes of the file.
    filled: u64,
    /// Bytes to fill ahead; 0: none.
    prefill: u64,
    /// The same once no next one could be begun.
    ahead: u64,
    /// At so many bytes the next one is to be begun.
    full: u64,
    /// Bytes to write until that is tried again.
    retry: u64,
}

impl Current {
    /// A new segment, whose head and name are durable.
    pub(super) fn begin(
        disk: &dyn Disk,
        salt: Salt,
        first: u64,
        options: &JournalOptions,
    ) -> os::Result<Self> {
        let file = disk.create(&segment_name(first))?;
        append_all(&*file, &file_head(FileKind::Segment, salt, first))?;
        file.sync()?;
        disk.sync()?;
        let size = FILE_HEAD as u64;
        let prefill = if options.sync == SyncPolicy::Always { options.prefill } else { 0 };
        let (full, retry) = (options.segment, options.segment / RETRIES);
        Ok(Self { file, first, size, filled: size, prefill, ahead: prefill, full, retry })
    }

    /// Whether the next one is to be begun.
    pub(super) const fn is_full(&self) -> bool {
        self.size >= self.full
    }

    /// There is no next one now: this one goes on.
    pub(super) const fn go_on(&mut self) {
        self.prefill = self.ahead;
        // Not before it would have been full.
        if self.is_full() {
            self.full = self.size.saturating_add(self.retry);
        }
    }

    /// Removes what is left of one that could not be begun. It has to be gone before another record
    /// is written elsewhere: its name says that it would be in here.
    pub(super) fn forget(disk: &dyn Disk, first: u64) -> os::Result<()> {
        match disk.remove(&segment_name(first)) {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed.and_then(|()| disk.sync()),
        }
    }

    /// Appends records; gives how many bytes.
    pub(super) fn append(&mut self, records: &[Chunk]) -> os::Result<u64> {
        payload::write(records, &*self.file)?;
        let bytes: u64 = records.iter().map(Chunk::length).sum();
        self.size += bytes;
        self.filled = self.filled.max(self.size);
        Ok(bytes)
    }

    /// Fills the room behind the records if there is little left of it. `records`: bytes that were
    /// just written. What is long is not worth writing twice.
    pub(super) fn fill_ahead(&mut self, records: u64) {
        let low = self.prefill / 8;
        if records == 0 || records > low || self.filled - self.size > low {
            return;
        }
        let end = self.size.saturating_add(self.prefill).min(self.full);
        if end <= self.filled {
            return;
        }
        if self.file.prefill(self.filled, end - self.filled).is_ok() {
            self.filled = end;
        } else {
            // The disk is full, for one: what room it has is for records.
            self.trim();
            self.ahead = 0;
        }
    }

    /// Cuts the room off; there will be no other, unless it goes on. The zeros would do no harm, so it
    /// may fail.
    pub(super) fn trim(&mut self) {
        if self.prefill > 0 {
            let _ = self.file.trim(self.size);
            (self.filled, self.prefill) = (self.size, 0);
        }
    }
}
