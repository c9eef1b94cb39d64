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
//! Locks are taken in this order: shards, syncing, back, front or flushing; whoever has one takes none
//! before it.
//!
//! What must stay true:
//! - numbers go up by one in the order of the file; `written` and `durable` are numbers up to which
//!   that is so, and only ever grow;
//! - a write or sync that failed is never tried again, and nothing is taken after it: the kernel may
//!   have dropped the pages and would say that all is well.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use objmapper_os as os;
use parking_lot::Mutex;

use super::current::Current;
use super::disk::{Disk, File};
use super::format::{Head, Kind, Salt};
use super::front::Front;
use super::payload::{Chunk, Payload};
use super::recover::{Failure, Report};
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
    /// One sync of a file at a time, until what it said is known: the kernel tells an error to one of
    /// those that sync through a descriptor, and the others that all is well.
    flushing: Mutex<()>,
    /// Held by who makes a copy: segments stay meanwhile.
    pub(crate) snapshots: Mutex<()>,
    pub(super) written: AtomicU64,
    durable: AtomicU64,
    failed: OnceLock<String>,
    pub(super) wishes: Wishes,
    pub(super) waiters: Waiters,
    /// At the start: bytes, records.
    skipped: (u64, u64),
    /// The last snapshot that was begun was not finished.
    unfinished: AtomicBool,
    /// There is a thread in [`Journal::keep`].
    pub(super) attended: AtomicBool,
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
    segment: Current,
    /// `since` when [`Journal::turn_over`] was last called.
    turned: u64,
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
        let segment = Current::begin(&*disk, salt, next, &options)
            .map_err(Failure::disk("cannot begin a segment"))?;
        let back = Back { segment, turned: 0, spare: Vec::new() };
        Ok(Self {
            disk,
            options,
            salt,
            front: Mutex::new(Front::new(next)),
            back: Mutex::new(back),
            syncing: Mutex::default(),
            flushing: Mutex::default(),
            snapshots: Mutex::default(),
            written: AtomicU64::new(found.last),
            durable: AtomicU64::new(found.last),
            failed: OnceLock::new(),
            wishes: Wishes::default(),
            waiters: Waiters::default(),
            skipped: (found.skipped_bytes, found.skipped_records),
            unfinished: AtomicBool::new(false),
            attended: AtomicBool::new(false),
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
        self.write_pending(&mut self.back.lock(), position).map(drop)
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
        let bytes = self.write_pending(&mut back, NEVER - 1)?;
        back.segment.fill_ahead(bytes);
        let (file, last) = (back.segment.file.clone(), self.written.load(Ordering::Acquire));
        drop(back);
        self.sync_file(&*file, last)
    }

    fn sync_file(&self, file: &dyn File, last: u64) -> Result<(), Fault> {
        let one = self.flushing.lock();
        self.check()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        file.sync().map_err(|error| self.fail(&error))?;
        drop(one);
        // A write may have failed meanwhile: what it was about may be in here.
        self.check()?;
        self.durable.fetch_max(last, Ordering::AcqRel);
        self.waiters.tell();
        Ok(())
    }

    /// Writes what waits, if `position` is among it; gives how many bytes.
    fn write_pending(&self, back: &mut Back, position: u64) -> Result<u64, Fault> {
        self.check()?;
        if position <= self.written.load(Ordering::Acquire) {
            return Ok(0);
        }
        let mut front = self.front.lock();
        let last = front.next - 1;
        let mut chunks = front.take(std::mem::take(&mut back.spare));
        drop(front);
        let bytes = back.segment.append(&chunks).map_err(|error| self.fail(&error))?;
        self.since.store(self.since.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        self.written.store(last, Ordering::Release);
        if let Some(Chunk::Bytes(mut spare)) = chunks.pop()
            && spare.capacity() <= KEPT
        {
            spare.clear();
            back.spare = spare;
        }
        if back.segment.is_full() {
            if self.attended.load(Ordering::Relaxed) {
                // Who writes is not to wait for the disk.
                self.wishes.sync_now();
            } else {
                self.follow(back)?;
            }
        }
        self.notice();
        Ok(bytes)
    }

    /// Begins the next segment if this one is full.
    pub(super) fn begin_next_if_full(&self) -> Result<(), Fault> {
        self.follow(&mut self.back.lock())
    }

    fn follow(&self, back: &mut Back) -> Result<(), Fault> {
        let next = self.written.load(Ordering::Acquire) + 1;
        if back.segment.is_full() && back.segment.first < next && self.rotate(back, next).is_err() {
            // That there is no next one now does not keep this one from going on.
            self.check()?;
        }
        Ok(())
    }

    /// Begins the next segment, with this number. For want of room or of a descriptor it is as if that
    /// had not been tried.
    fn rotate(&self, back: &mut Back, first: u64) -> Result<(), Failure> {
        back.segment.trim();
        self.sync_file(&*back.segment.file, first - 1)?;
        match Current::begin(&*self.disk, self.salt, first, &self.options) {
            Ok(segment) => back.segment = segment,
            Err(error) if error.is_resource() && Current::forget(&*self.disk, first).is_ok() => {
                back.segment.go_on();
                return Err(Failure::disk("cannot begin a segment")(error));
            }
            Err(error) => return Err(self.fail(&error).into()),
        }
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
            && !self.is_copied()
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
    /// If there is no room for one, nothing has happened.
    pub(crate) fn turn_over(&self) -> Result<u64, Failure> {
        let mut back = self.back.lock();
        self.write_pending(&mut back, NEVER - 1)?;
        let next = self.written.load(Ordering::Acquire) + 1;
        if back.segment.first != next {
            self.rotate(&mut back, next)?;
        }
        back.turned = self.since.load(Ordering::Relaxed);
        Ok(next)
    }

    /// A snapshot of so many bytes, begun then, has taken the place of what was written before the
    /// last [`Self::turn_over`].
    pub(crate) fn replaced(&self, snapshot: u64, begun: i64) {
        let back = self.back.lock();
        let since = self.since.load(Ordering::Relaxed);
        self.snapshot.store(snapshot, Ordering::Relaxed);
        self.since.store(since - back.turned, Ordering::Relaxed);
        self.snapshot_at.store(begun.unsigned_abs(), Ordering::Relaxed);
    }

    /// Whether the last snapshot was finished, from now on.
    pub(crate) fn finished(&self, fine: bool) {
        self.unfinished.store(!fine, Ordering::Relaxed);
    }

    /// Makes everything durable, and says so at the end, so that damage can be told from a torn tail.
    pub fn close(&self) -> Result<(), Fault> {
        let last = self.appended();
        self.sync(last)?;
        let mut back = self.back.lock();
        back.segment.trim();
        let records = back.segment.first <= last;
        drop(back);
        if records {
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
            snapshotting: self.is_copied(),
            snapshot_failed: self.unfinished.load(Ordering::Relaxed),
        }
    }
}
