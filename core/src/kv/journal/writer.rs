//! The journal's end that is written: records into memory, memory into a segment, segments to disk.
//!
//! ```text
//!  append ─▶ front: records that wait        front.lock    a moment
//!                │ taken whole by who writes
//!                ▼
//!            back: the segment               back.lock     a write(2); now and then a new segment
//!                │
//!                ▼ fdatasync                 syncing       one for all that wait
//! ```
//!
//! Locks are taken in this order: shards, syncing, back, front; whoever has one takes none before it.
//!
//! What must stay true:
//! - numbers go up by one in the order of the file; `written` and `durable` are numbers up to which
//!   that is so, and only ever grow;
//! - a write or sync that failed is never tried again, and nothing is taken after it: the kernel may
//!   have dropped the pages and would say that all is well.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use objmapper_os as os;
use parking_lot::Mutex;

use super::disk::{Disk, File, append_all};
use super::format::{FILE_HEAD, FileKind, Head, Kind, Salt, file_head};
use super::front::Front;
use super::payload::{self, Chunk, Payload};
use super::recover::{Failure, Report};
use super::segment::segment_name;
use super::waiters::Waiters;
use super::wishes::Wishes;
use super::{Figures, JournalOptions, SyncPolicy};
use crate::kv::fault::Fault;

/// The position of what can never be durable.
pub const NEVER: u64 = u64::MAX;

/// Bytes that may wait in memory: who appends more has to write it out.
const PENDING: u64 = 16 << 20;

/// Bytes of memory that are kept for the next records.
const KEPT: usize = 1 << 20;

/// See above. Shared by any number of threads.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    salt: Salt,
    front: Mutex<Front>,
    back: Mutex<Back>,
    syncing: Mutex<()>,
    /// One snapshot at a time; segments stay meanwhile.
    pub(crate) snapshots: Mutex<()>,
    written: AtomicU64,
    durable: AtomicU64,
    failed: OnceLock<String>,
    wishes: Wishes,
    waiters: Waiters,
    /// At the start: bytes, records.
    skipped: (u64, u64),
    /// The last snapshot that was begun was not finished.
    unfinished: AtomicBool,
    syncs: AtomicU64,
    /// Milliseconds since 1970; 0: never.
    snapshot_at: AtomicU64,
    /// Bytes of records since the last snapshot, and of that snapshot: changed by who has `back`, read
    /// by anybody without waiting for it.
    since: AtomicU64,
    snapshot: AtomicU64,
}

/// What is written.
#[derive(Debug)]
struct Back {
    file: Arc<dyn File>,
    first: u64,
    size: u64,
    spare: Vec<u8>,
}

impl Journal {
    /// Goes on behind what was found, in a segment of its own.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        found: &Report,
    ) -> Result<Self, Failure> {
        let (salt, next) = (Salt::by_chance(), found.last + 1);
        let file = begin(&*disk, salt, next).map_err(Failure::disk("cannot begin a segment"))?;
        let back = Back { file, first: next, size: FILE_HEAD as u64, spare: Vec::new() };
        Ok(Self {
            disk,
            options,
            salt,
            front: Mutex::new(Front::new(next)),
            back: Mutex::new(back),
            syncing: Mutex::default(),
            snapshots: Mutex::default(),
            written: AtomicU64::new(found.last),
            durable: AtomicU64::new(found.last),
            failed: OnceLock::new(),
            wishes: Wishes::default(),
            waiters: Waiters::default(),
            skipped: (found.skipped_bytes, found.skipped_records),
            unfinished: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            snapshot_at: AtomicU64::new(found.snapshot_begun.unsigned_abs()),
            since: AtomicU64::new(found.bytes - found.snapshot_bytes),
            snapshot: AtomicU64::new(found.snapshot_bytes),
        })
    }

    /// How it is kept.
    pub const fn options(&self) -> &JournalOptions {
        &self.options
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Whether it can still be written; else nothing may be changed.
    #[inline]
    pub fn check(&self) -> Result<(), Fault> {
        match self.failed.get() {
            None => Ok(()),
            Some(why) => Err(Fault::Journal { why: why.clone() }),
        }
    }

    /// Whether nothing can be written any more.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    /// The number up to which all is durable.
    #[inline]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The number up to which all is as the policy promises before anybody is told.
    #[inline]
    pub fn promised(&self) -> u64 {
        match self.options.sync {
            SyncPolicy::Always => self.durable(),
            _ => self.written.load(Ordering::Acquire),
        }
    }

    /// Whether what was seen or done up to `position` may not be told yet. `failed` is what
    /// [`Self::has_failed`] said before: then nothing was changed, and who only reads is not to wait
    /// for what will never come.
    #[inline]
    pub fn withholds(&self, failed: bool, position: u64) -> bool {
        if failed { position == NEVER } else { position > self.promised() }
    }

    /// The number of the last record.
    pub fn appended(&self) -> u64 {
        self.front.lock().next - 1
    }

    /// Appends one record, to be done whole or not at all; gives its number, or [`NEVER`] if
    /// nothing can be written any more. To be called under the locks of all that it is about.
    pub(crate) fn append(&self, payload: Payload) -> u64 {
        if self.has_failed() {
            return NEVER;
        }
        let checksum = match payload.checksum(self.salt) {
            Ok(checksum) => checksum,
            Err(error) => {
                self.fail(&error);
                return NEVER;
            }
        };
        let length = payload.length();
        let (parts, ops) = payload.into_parts();
        let mut front = self.front.lock();
        let number = front.next;
        front.next += 1;
        let durable = self.durable();
        let head = Head { kind: Kind::Ops, length, number, durable, checksum }.encode(self.salt);
        front.push(&head, parts, ops);
        let full = front.bytes > PENDING;
        drop(front);
        if full {
            // What it says is found out by whoever wants to tell somebody.
            let _ = self.write_out(number);
        }
        number
    }

    /// Makes everything up to `position` as durable as the policy promises before anybody is told.
    /// May wait for the disk, under [`SyncPolicy::Always`] for sure.
    #[inline]
    pub fn settle(&self, position: u64) -> Result<(), Fault> {
        if position <= self.promised() {
            return Ok(());
        }
        match self.options.sync {
            SyncPolicy::Always => self.sync(position),
            _ => self.write_out(position),
        }
    }

    /// Hands everything up to `position` to the kernel: one write for all that waits.
    pub fn write_out(&self, position: u64) -> Result<(), Fault> {
        if position <= self.written.load(Ordering::Acquire) {
            return Ok(());
        }
        self.write_pending(&mut self.back.lock(), position)
    }

    /// Makes everything up to `position` durable: one sync for all that wait.
    pub fn sync(&self, position: u64) -> Result<(), Fault> {
        if position <= self.durable() {
            return Ok(());
        }
        let _turn = self.syncing.lock();
        if position <= self.durable() {
            return Ok(());
        }
        let mut back = self.back.lock();
        self.write_pending(&mut back, NEVER - 1)?;
        let (file, last) = (back.file.clone(), self.written.load(Ordering::Acquire));
        drop(back);
        self.sync_file(&*file, last)
    }

    fn sync_file(&self, file: &dyn File, last: u64) -> Result<(), Fault> {
        self.check()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        file.sync().map_err(|error| self.fail(&error))?;
        // Another may have failed meanwhile: what it was about may be in here.
        self.check()?;
        self.durable.fetch_max(last, Ordering::AcqRel);
        self.waiters.tell();
        Ok(())
    }

    /// Waits until everything up to `position` is durable, whatever the policy; not longer than
    /// `until`, if there is such a time, nor for a journal that has ended. Gives whether it is. The
    /// sync is made by the thread of [`Journal::keep`], so that a disk that hangs holds nobody.
    pub(crate) fn wait_until_durable(
        &self,
        position: u64,
        until: Option<Instant>,
    ) -> Result<bool, Fault> {
        if position <= self.durable() {
            return Ok(true);
        }
        self.wishes.sync_now();
        let look = || match self.check() {
            _ if position <= self.durable() => Some(Ok(true)),
            Ok(()) => self.wishes.have_stopped().then_some(Ok(false)),
            Err(fault) => Some(Err(fault)),
        };
        self.waiters.wait(until, look).unwrap_or(Ok(false))
    }

    fn write_pending(&self, back: &mut Back, position: u64) -> Result<(), Fault> {
        self.check()?;
        if position <= self.written.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut front = self.front.lock();
        let last = front.next - 1;
        let mut chunks = front.take(std::mem::take(&mut back.spare));
        drop(front);
        payload::write(&chunks, &*back.file).map_err(|error| self.fail(&error))?;
        let bytes: u64 = chunks.iter().map(Chunk::length).sum();
        back.size += bytes;
        self.since.store(self.since.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        self.written.store(last, Ordering::Release);
        if let Some(Chunk::Bytes(mut spare)) = chunks.pop()
            && spare.capacity() <= KEPT
        {
            spare.clear();
            back.spare = spare;
        }
        if back.size >= self.options.segment && back.first <= last {
            self.rotate(back, last + 1)?;
        }
        self.notice();
        Ok(())
    }

    /// Begins the next segment, with this number.
    fn rotate(&self, back: &mut Back, first: u64) -> Result<(), Fault> {
        self.sync_file(&*back.file, first - 1)?;
        back.file = begin(&*self.disk, self.salt, first).map_err(|error| self.fail(&error))?;
        (back.first, back.size) = (first, FILE_HEAD as u64);
        Ok(())
    }

    /// Wakes who syncs and who compacts, if there is something to do.
    #[inline]
    fn notice(&self) {
        self.wishes.sync();
        let since = self.since.load(Ordering::Relaxed);
        let snapshot = self.snapshot.load(Ordering::Relaxed);
        let percent = u64::from(self.options.compact_percent);
        if percent > 0
            && !self.snapshots.is_locked()
            && since >= self.options.compact_from
            && since >= snapshot / 100 * percent
        {
            self.wishes.compact();
        }
    }

    #[cold]
    fn fail(&self, error: &os::Error) -> Fault {
        let advice = match error.errno() {
            os::errno::ENOSPC | os::errno::EDQUOT => "make room where the journal is",
            _ => "see what the kernel says of that disk",
        };
        let _ = self.failed.set(format!("{error}; {advice}, then start again"));
        self.waiters.tell();
        self.unknown()
    }

    fn unknown(&self) -> Fault {
        let why = self.failed.get().cloned().unwrap_or_default();
        Fault::Journal { why }
    }

    /// All records from here on are in segments that begin with the number given, or later.
    pub(crate) fn turn_over(&self) -> Result<u64, Fault> {
        let mut back = self.back.lock();
        self.write_pending(&mut back, NEVER - 1)?;
        let next = self.written.load(Ordering::Acquire) + 1;
        if back.first != next {
            self.rotate(&mut back, next)?;
        }
        Ok(next)
    }

    /// A snapshot has taken the place of what was before `next`; gives the time that passed.
    pub(crate) fn replaced(&self, snapshot: u64, begun: i64, next: u64) {
        let back = self.back.lock();
        // What was written while it was taken is all there is beside it.
        let since = self.since.load(Ordering::Relaxed);
        let size = back.size - FILE_HEAD as u64;
        let behind = if back.first == next { size } else { since.min(size) };
        self.snapshot.store(snapshot, Ordering::Relaxed);
        self.since.store(behind, Ordering::Relaxed);
        self.snapshot_at.store(begun.unsigned_abs(), Ordering::Relaxed);
    }

    /// Whether the last snapshot was finished, from now on.
    pub(crate) fn finished(&self, fine: bool) {
        self.unfinished.store(!fine, Ordering::Relaxed);
    }

    /// Asks for a snapshot, from whoever waits in [`Journal::wait_to_compact`].
    pub fn wish_for_compaction(&self) {
        self.wishes.compact();
    }

    /// Waits until a snapshot is to be taken, not before that moment; false when it is time to end.
    /// For a thread that calls [`crate::kv::Keyspace::compact`] then.
    pub fn wait_to_compact(&self, not_before: Instant) -> bool {
        let before = self.written.load(Ordering::Relaxed);
        // Nothing new: the next snapshot would be the same.
        let is_worth = || self.written.load(Ordering::Relaxed) > before;
        self.wishes.wait_to_compact(not_before, self.options.compact_every, is_worth)
    }

    /// Syncs every interval while there is something new, if the policy has one, and when somebody
    /// waits for it, until it is told to stop. For a thread of its own.
    pub fn keep(&self) {
        let interval = match self.options.sync {
            SyncPolicy::Interval(interval) => Some(interval),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        let mut last = Instant::now();
        while self.wishes.wait_to_sync(interval.and_then(|interval| last.checked_add(interval))) {
            last = Instant::now();
            if self.sync(self.appended()).is_err() {
                return;
            }
        }
    }

    /// Lets those go who wait in [`Journal::keep`], [`Journal::wait_to_compact`] and
    /// [`crate::kv::Keyspace::wait_until_durable`].
    pub fn stop(&self) {
        self.wishes.stop();
        self.waiters.tell();
    }

    /// Makes everything durable, and says so at the end, so that damage can be told from a torn tail.
    pub fn close(&self) -> Result<(), Fault> {
        let last = self.appended();
        self.sync(last)?;
        if self.back.lock().first <= last {
            let position = self.append(Payload::default());
            self.sync(position)?;
        }
        Ok(())
    }

    /// Why nothing can be written any more, if so.
    pub fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// What has happened. Does not wait for who writes.
    pub fn figures(&self) -> Figures {
        Figures {
            appended: self.appended(),
            written: self.written.load(Ordering::Relaxed),
            durable: self.durable(),
            since_snapshot: self.since.load(Ordering::Relaxed),
            snapshot: self.snapshot.load(Ordering::Relaxed),
            snapshot_at: self.snapshot_at.load(Ordering::Relaxed).cast_signed(),
            syncs: self.syncs.load(Ordering::Relaxed),
            failed: self.has_failed(),
            skipped_bytes: self.skipped.0,
            skipped_records: self.skipped.1,
            snapshotting: self.snapshots.is_locked(),
            snapshot_failed: self.unfinished.load(Ordering::Relaxed),
        }
    }
}

/// A new segment, whose head and name are durable.
fn begin(disk: &dyn Disk, salt: Salt, first: u64) -> os::Result<Arc<dyn File>> {
    let file = disk.create(&segment_name(first))?;
    append_all(&*file, &file_head(FileKind::Segment, salt, first))?;
    file.sync()?;
    disk.sync()?;
    Ok(file)
}
