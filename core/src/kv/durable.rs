//! A keyspace that lasts: opened from its directory, compacted and copied while it is used.
//!
//! What must stay true:
//! - a snapshot is taken shard by shard while others write; it holds, for each key, what the key was
//!   at some moment since the record that it begins at, so those records are done over it;
//! - it counts only when all that may be in it is in the journal durably: else a part of a record
//!   could outlive the rest of it;
//! - what is expired is removed by a record as everything else, after recovery as well.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use objmapper_os as os;
use os::disk::Directory;

use super::fault::Fault;
use super::journal::disk::{Disk, File, Opened};
use super::journal::kept::Kept;
use super::journal::recover::{Failure, Recovery, Report};
use super::journal::segment::{Files, UNFINISHED, snapshot_name};
use super::journal::snapshot::{self, Snapshot, install, unfinished};
use super::journal::{Damage, Journal, JournalOptions};
use super::keyspace::{DATABASES, Keyspace, LONGEST, Options};
use super::ops::{self, Op};
use super::value::Value;
use super::{Expiry, hold};

/// Slots that are copied under one lock: some 2 MiB with values of the usual length at most.
const SLOTS: u32 = 64;

/// The file that is locked.
const LOCK: &str = "LOCK";

/// What a compaction has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the journal before.
    pub before: u64,
    /// Bytes of the snapshot.
    pub after: u64,
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Keys that were copied; some may have been removed since by records that follow them.
    pub keys: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was begun, in milliseconds since 1970.
    pub begun: i64,
}

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
        let report = Recovery {
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

    /// Writes a snapshot, and removes what of the journal it replaces; others may use the keyspace
    /// meanwhile. `None` without a journal.
    pub fn compact(&self) -> Result<Option<Compacted>, Failure> {
        self.compact_while(&|| true)
    }

    /// The same for as long as `go_on` says so: else ECANCELED, and the journal is as it was.
    pub fn compact_while(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Compacted>, Failure> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let _one = journal.snapshots.lock();
        let done = self.snapshot(journal, go_on);
        journal.finished(done.is_ok());
        done.map(Some)
    }

    fn snapshot(&self, journal: &Journal, go_on: &dyn Fn() -> bool) -> Result<Compacted, Failure> {
        let (disk, begun, figures) = (journal.disk(), Self::now(), journal.figures());
        let next = journal.turn_over()?;
        let name = unfinished(next);
        let failed = Failure::disk("cannot write a snapshot");
        forget(disk, &name).map_err(&failed)?;
        let write = || -> Result<u64, Failure> {
            let mut out = Snapshot::create(disk, &name).map_err(&failed)?;
            self.copy(&mut out, go_on).map_err(&failed)?;
            journal.sync(journal.appended())?;
            let bytes = out.finish(next, begun).map_err(&failed)?;
            install(disk, next).map_err(&failed)?;
            Ok(bytes)
        };
        let after = write().inspect_err(|_| drop(forget(disk, &name)))?;
        journal.replaced(after, begun);
        Ok(Compacted { before: figures.since_snapshot + figures.snapshot, after })
    }

    /// Writes all keys to a file that [`restore`] takes, while others use the keyspace: as they are
    /// at the moment when this is done. (Without a journal each shard is of a moment of its own.)
    pub fn backup(&self, to: &Path) -> Result<Backup, Failure> {
        let failed = Failure::disk("cannot write the backup");
        let (dir, name) = place(to).map_err(&failed)?;
        let part = format!("{name}{UNFINISHED}");
        forget(&dir, &part).map_err(&failed)?;
        let write = || -> Result<Backup, Failure> {
            let done = self.write_backup(Disk::create(&dir, &part).map_err(&failed)?, &|| true)?;
            dir.rename(&part, &name).and_then(|()| dir.sync()).map_err(&failed)?;
            Ok(done)
        };
        write().inspect_err(|_| drop(forget(&dir, &part)))
    }

    /// The same into an empty file that is open for writing, for as long as `go_on` says so: else
    /// ECANCELED. What it holds is as durable as the policy promises, as with [`Self::settle`].
    pub fn backup_into(
        &self,
        file: std::os::fd::OwnedFd,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Backup, Failure> {
        self.write_backup(Arc::new(Opened(file)), go_on)
    }

    fn write_backup(
        &self,
        file: Arc<dyn File>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Backup, Failure> {
        let failed = Failure::disk("cannot write the backup");
        let begun = Self::now();
        let mut out = Snapshot::begin(file).map_err(&failed)?;
        let next = match &self.journal {
            None => {
                self.copy(&mut out, go_on).map_err(&failed)?;
                1
            }
            Some(journal) => {
                let _segments_stay = journal.snapshots.lock();
                let first = journal.turn_over()?;
                self.copy(&mut out, go_on).map_err(&failed)?;
                let last = journal.appended();
                journal.write_out(last)?;
                snapshot::repeat(journal.disk(), &mut out, first, last)?;
                journal.settle(last)?;
                last + 1
            }
        };
        let keys = out.keys();
        let bytes = out.finish(next, begun).map_err(&failed)?;
        Ok(Backup { keys, bytes, begun })
    }

    /// Copies everything, a few slots of a shard at a time.
    fn copy(&self, out: &mut Snapshot, go_on: &dyn Fn() -> bool) -> os::Result<()> {
        for db in self.databases() {
            for shard in 0..self.shards() {
                let mut from = Some(0);
                while let Some(at) = from {
                    if !go_on() {
                        return Err(os::Error::new("write", os::errno::ECANCELED));
                    }
                    from = self.copy_slots(out, (db, shard), at)?;
                }
            }
        }
        Ok(())
    }

    fn copy_slots(
        &self,
        out: &mut Snapshot,
        (db, shard): (u8, usize),
        from: u32,
    ) -> os::Result<Option<u32>> {
        let mut large = Vec::new();
        let mut keys = 0;
        let mut hold = self.hold_part(db, shard, hold::NO_TIME);
        let (_, next) = hold.pass((db, shard), from, SLOTS, |name, value, expiry| {
            keys += 1;
            match value {
                Value::Bytes(bytes) => ops::set(out.ops(), db, name, bytes, expiry),
                Value::Sealed(sealed) => {
                    large.push((Box::<[u8]>::from(name), sealed.clone(), expiry));
                }
            }
        });
        drop(hold);
        out.count(keys);
        out.flush()?;
        for (name, sealed, expiry) in large {
            let length = usize::try_from(sealed.size()).unwrap_or(usize::MAX);
            ops::set_head(out.ops(), db, &name, length, expiry);
            sealed.append_to(out.ops())?;
            out.flush()?;
        }
        Ok(next)
    }
}

/// Whether a record can be done again.
fn makes_sense(payload: &[u8]) -> bool {
    ops::decode(payload).all(|op| op.as_ref().is_some_and(is_possible))
}

/// Whether an operation is within the limits of a keyspace.
fn is_possible((db, op): &(u8, Op<'_>)) -> bool {
    let end = match op {
        Op::Set { value, .. } => Some(value.len() as u64),
        Op::Write { offset, bytes, .. } => offset.checked_add(bytes.len() as u64),
        Op::Remove { .. } | Op::Expire { .. } | Op::Clear => Some(0),
    };
    *db < DATABASES && end.is_some_and(|end| end <= LONGEST)
}

/// Reads a journal through without changing anything. No process has it open meanwhile: else
/// [`Failure::Locked`]. `progress` as in [`Keyspace::open`].
pub fn verify(
    path: &Path,
    damage: Damage,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, Failure> {
    let dir = Directory::open(path).map_err(Failure::disk("cannot open the directory"))?;
    let kept = dir.keep_unlocked(LOCK).map_err(Failure::disk("cannot look at the lock"))?;
    let _kept = kept.map_err(|pid| Failure::Locked { dir: path.display().to_string(), pid })?;
    Recovery {
        disk: &dir,
        damage,
        repair: false,
        each: &mut |payload| Ok(makes_sense(payload)),
        progress: &mut progress,
        total: 0,
        told: 0,
        report: Report::default(),
    }
    .run()
}

/// Reads a backup through.
pub fn verify_backup(path: &Path) -> Result<Backup, Failure> {
    let failed = Failure::disk("cannot read the backup");
    let (dir, name) = place(path).map_err(&failed)?;
    let file = Disk::open(&dir, &name).map_err(&failed)?;
    let each = &mut makes_sense;
    let bytes = file.length().map_err(&failed)?;
    let (end, _) = snapshot::read_through(&name, file, each)?;
    Ok(Backup { keys: end.keys, bytes, begun: end.begun })
}

/// Makes a directory with what a backup holds, for [`Keyspace::open`]; it may exist, without a
/// keyspace in it.
pub fn restore(backup: &Path, path: &Path) -> Result<Backup, Failure> {
    let failed = Failure::disk("cannot restore");
    let dir = Directory::create(path).map_err(&failed)?;
    let lock = dir.lock(LOCK).map_err(&failed)?;
    let _lock = lock.map_err(|pid| Failure::Locked { dir: path.display().to_string(), pid })?;
    if !Files::of(&dir).map_err(&failed)?.is_empty() {
        return Err(Failure::NotEmpty { dir: path.display().to_string() });
    }
    let (from, name) = place(backup).map_err(&failed)?;
    let file = Disk::open(&from, &name).map_err(&failed)?;
    let each = &mut makes_sense;
    let bytes = file.length().map_err(&failed)?;
    let (end, _) = snapshot::read_through(&name, file.clone(), each)?;
    let part = unfinished(end.next);
    forget(&dir, &part).map_err(&failed)?;
    snapshot::duplicate(&*file, &*Disk::create(&dir, &part).map_err(&failed)?).map_err(&failed)?;
    dir.rename(&part, &snapshot_name(end.next)).and_then(|()| dir.sync()).map_err(&failed)?;
    Ok(Backup { keys: end.keys, bytes, begun: end.begun })
}

/// The directory that a file is in, and its name there.
pub(super) fn place(path: &Path) -> os::Result<(Directory, String)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        os::Error::new("open", os::errno::EINVAL).with_detail(path.to_string_lossy())
    })?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    Ok((Directory::open(above.unwrap_or(Path::new(".")))?, name.to_owned()))
}

/// Removes a name that may not be there.
pub(super) fn forget(disk: &dyn Disk, name: &str) -> os::Result<()> {
    match disk.remove(name) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
