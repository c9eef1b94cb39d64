//! A keyspace that lasts: opened from its directory, and as durable as its policy promises.
//!
//! What must stay true:
//! - what is expired is removed by a record as everything else, after recovery as well.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use objmapper_os as os;
use os::disk::Directory;

use super::census::{is_possible, makes_sense};
use super::fault::Fault;
use super::journal::disk::Disk;
use super::journal::kept::Kept;
use super::journal::recover::{Failure, Recovery, Report};
use super::journal::{Damage, Journal, JournalOptions};
use super::keyspace::{Keyspace, Options};
use super::ops::{self, Op};
use super::{Expiry, hold};

/// The file that is locked.
pub(super) const LOCK: &str = "LOCK";

impl Keyspace {
    /// The keyspace in this directory, which is made if it is not there; its parent must be. What is
    /// written is durable 100 ms later at most: [`Self::open_with`] has other policies, and tells what
    /// was found. Another process that has it open, damage, and a disk that fails are told as
    /// [`Failure`]. [`Self::db`] says how keys are read and written.
    ///
    /// ```
    /// # use objmapper::kv::Keyspace;
    /// # let place = tempfile::tempdir()?;
    /// # let path = place.path().join("kv");
    /// let keys = Keyspace::open(&path)?;
    /// keys.db(0).put("greeting", "hello")?;
    /// keys.close()?; // durable now, and said to be complete
    ///
    /// let second = Keyspace::open(&path).unwrap_err();
    /// let told = format!("is locked by pid {}", std::process::id());
    /// assert!(second.to_string().contains(&told));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Failure> {
        let (options, journal) = (Options::default(), JournalOptions::default());
        Self::open_with(path.as_ref(), options, journal, |_, _| ()).map(|(keys, _)| keys)
    }

    /// The same, kept as these options say. `progress` is told how many bytes are read, and of how
    /// many; the report says what was found.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options, Expiry, journal::JournalOptions};
    /// # let place = tempfile::tempdir()?;
    /// # let path = place.path().join("kv");
    /// for round in 0..2 {
    ///     let (keys, report) =
    ///         Keyspace::open_with(&path, Options::default(), JournalOptions::default(), |_, _| ())?;
    ///     let key = keys.key(0, b"greeting");
    ///     let mut hold = keys.hold(&key, Keyspace::now());
    ///     assert_eq!(hold.has(&key), round == 1);
    ///     hold.set(&key, keys.content(b"hello")?, Expiry::Never)?;
    ///     keys.settle(hold.finish())?; // now it is as durable as the policy promises
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_with(
        path: &Path,
        options: Options,
        journal: JournalOptions,
        progress: impl FnMut(u64, u64),
    ) -> Result<(Self, Report), Failure> {
        let dir = Directory::create(path).map_err(Failure::disk("cannot open the directory"))?;
        let lock = dir.lock(LOCK).map_err(Failure::disk("cannot write in the directory"))?;
        let lock = lock.map_err(|pid| Failure::Locked { dir: path.display().to_string(), pid })?;
        Self::open_on(Arc::new(dir), Some(lock), options, journal, progress)
    }

    /// The same on any disk; `lock` is kept as long as it is open.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        lock: Option<std::os::fd::OwnedFd>,
        options: Options,
        journal: JournalOptions,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(Self, Report), Failure> {
        let mut keys = Self::in_memory(options);
        let mut report = Recovery {
            disk: &*disk,
            damage: journal.damage,
            repair: true,
            // What is skipped is skipped whole; where damage is refused, all of it is.
            each: &mut |payload| match journal.damage {
                Damage::Skip if !makes_sense(payload) => Ok(false),
                _ => keys.replay(payload),
            },
            progress: &mut progress,
            total: 0,
            told: 0,
            report: Report::default(),
        }
        .run()?;
        report.keys = keys.databases().map(|db| keys.size(db).0 as u64).sum();
        keys.journal = Some(Kept::new(Journal::start(disk, journal, &report)?, lock)?);
        // Only now: what goes is told to the journal.
        while keys.tick(Self::now()) {}
        Ok((keys, report))
    }

    /// Does a record again; false if it makes no sense.
    fn replay(&self, payload: &[u8]) -> Result<bool, Failure> {
        for op in ops::decode(payload) {
            let Some((db, op)) = op.filter(is_possible) else { return Ok(false) };
            match self.redo(db, op) {
                Ok(()) => {}
                Err(Fault::Io(error)) => return Err(Failure::disk("cannot keep a value")(error)),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn redo(&self, db: u8, op: Op<'_>) -> Result<(), Fault> {
        let at = |name| {
            let key = self.key(db, name);
            (self.hold(&key, hold::NO_TIME), key)
        };
        match op {
            Op::Set { key, value, expiry } => {
                let content = self.content(value)?;
                let (mut hold, key) = at(key);
                hold.set(&key, content, expiry.map_or(Expiry::Never, Expiry::At))
            }
            Op::Remove { key } => {
                let (mut hold, key) = at(key);
                hold.remove(&key);
                Ok(())
            }
            Op::Expire { key, expiry } => {
                let (mut hold, key) = at(key);
                hold.set_expiry(&key, expiry);
                Ok(())
            }
            Op::Write { key, offset, bytes } => {
                let (mut hold, key) = at(key);
                hold.write_at(&key, offset, bytes).map(drop)
            }
            Op::Clear => {
                self.hold_also(&[], &[db], hold::NO_TIME).clear(db);
                Ok(())
            }
        }
    }

    /// The journal, if there is one.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_deref()
    }

    /// Whether anything may be changed: not if the journal cannot be written any more.
    #[inline]
    pub fn may_write(&self) -> Result<(), Fault> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.check())
    }

    /// Waits until everything up to this position of [`hold::Hold::finish`] is as the policy
    /// promises: only then may anybody be told.
    #[inline]
    pub fn settle(&self, position: u64) -> Result<(), Fault> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.settle(position))
    }

    /// Starts the thread that syncs for those who wait, now and not when the first one does.
    pub fn attend(&self) -> Result<(), Fault> {
        self.journal.as_ref().map_or(Ok(()), |journal| Ok(journal.attend()?))
    }

    /// Waits until everything up to this position is durable, whatever the policy; not longer than
    /// `until`, if there is such a time, also if the disk hangs. Gives whether it is: never without a
    /// journal.
    pub fn wait_until_durable(&self, position: u64, until: Option<Instant>) -> Result<bool, Fault> {
        let Some(journal) = &self.journal else { return Ok(false) };
        journal.attend()?;
        journal.wait_until_durable(position, until)
    }

    /// Makes everything durable that has happened, whatever the policy.
    pub fn sync(&self) -> Result<(), Fault> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.sync(journal.appended()))
    }

    /// Makes everything durable and marks the journal as complete. Whoever does not want to know
    /// whether that succeeds drops the keyspace.
    pub fn close(&self) -> Result<(), Fault> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.close())
    }
}
