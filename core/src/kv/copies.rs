//! Copies of a keyspace: compaction, which puts a snapshot in the place of the journal so far, backups,
//! and what is done with these.
//!
//! What must stay true:
//! - one is made at a time;
//! - a snapshot is taken shard by shard while others write; it holds, for each key, what the key was
//!   at some moment since the record that it begins at, so those records are done over it;
//! - it counts only when all that may be in it is in the journal durably: else a part of a record
//!   could outlive the rest of it.

use std::path::Path;
use std::sync::Arc;

use objmapper_os as os;
use os::disk::Directory;
use parking_lot::{Mutex, MutexGuard};

use super::census::{Census, makes_sense};
use super::durable::LOCK;
use super::journal::disk::{Disk, File, Opened};
use super::journal::recover::{Failure, Recovery, Report};
use super::journal::segment::{Files, UNFINISHED, snapshot_name};
use super::journal::snapshot::{self, Snapshot, install, unfinished};
use super::journal::{Damage, Journal};
use super::keyspace::Keyspace;
use super::value::Value;
use super::{hold, ops};

/// Slots that are copied under one lock: some 2 MiB with values of the usual length at most.
const SLOTS: u32 = 64;

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
    /// Writes a snapshot, and removes what of the journal it replaces; others may use the keyspace
    /// meanwhile. Waits for another copy that is being made. `None` without a journal.
    pub fn compact(&self) -> Result<Option<Compacted>, Failure> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let _one = self.copying().lock();
        self.snapshot(journal, &|| true).map(Some)
    }

    /// The same for as long as `go_on` says so: else ECANCELED, and the journal is as it was. Does not
    /// wait for another copy: [`Failure::UnderWay`].
    pub fn compact_while(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Compacted>, Failure> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let _one = self.begin_copy()?;
        self.snapshot(journal, go_on).map(Some)
    }

    /// Held by who makes a copy.
    fn copying(&self) -> &Mutex<()> {
        self.journal.as_ref().map_or(&self.copying, |journal| &journal.snapshots)
    }

    fn begin_copy(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        self.copying().try_lock().ok_or(Failure::UnderWay)
    }

    fn snapshot(&self, journal: &Journal, go_on: &dyn Fn() -> bool) -> Result<Compacted, Failure> {
        let done = self.write_snapshot(journal, go_on);
        journal.finished(done.is_ok());
        done
    }

    fn write_snapshot(
        &self,
        journal: &Journal,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Compacted, Failure> {
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
    /// at the moment when this is done. (Without a journal each shard is of a moment of its own.) Waits
    /// for another copy that is being made.
    pub fn backup(&self, to: &Path) -> Result<Backup, Failure> {
        let failed = Failure::disk("cannot write the backup");
        let (dir, name) = place(to).map_err(&failed)?;
        let part = format!("{name}{UNFINISHED}");
        forget(&dir, &part).map_err(&failed)?;
        let _one = self.copying().lock();
        let write = || -> Result<Backup, Failure> {
            let done = self.write_backup(Disk::create(&dir, &part).map_err(&failed)?, &|| true)?;
            dir.rename(&part, &name).and_then(|()| dir.sync()).map_err(&failed)?;
            Ok(done)
        };
        write().inspect_err(|_| drop(forget(&dir, &part)))
    }

    /// The same into an empty file that is open for writing, for as long as `go_on` says so: else
    /// ECANCELED. What it holds is as durable as the policy promises, as with [`Self::settle`]. Does not
    /// wait for another copy: [`Failure::UnderWay`].
    pub fn backup_into(
        &self,
        file: std::os::fd::OwnedFd,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Backup, Failure> {
        let _one = self.begin_copy()?;
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

/// Reads a journal through without changing anything; takes some 20 bytes of memory for a key. No
/// process has it open meanwhile: else [`Failure::Locked`]. `progress` as in [`Keyspace::open_with`].
pub fn verify(
    path: &Path,
    damage: Damage,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, Failure> {
    let dir = Directory::open(path).map_err(Failure::disk("cannot open the directory"))?;
    let kept = dir.keep_unlocked(LOCK).map_err(Failure::disk("cannot look at the lock"))?;
    let _kept = kept.map_err(|pid| Failure::Locked { dir: path.display().to_string(), pid })?;
    let mut census = Census::default();
    let report = Recovery {
        disk: &dir,
        damage,
        repair: false,
        each: &mut |payload| Ok(census.record(payload)),
        progress: &mut progress,
        total: 0,
        told: 0,
        report: Report::default(),
    }
    .run()?;
    Ok(Report { keys: census.count(), ..report })
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
