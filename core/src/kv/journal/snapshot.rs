//! Snapshots: writing one, putting it in the place of what it replaces, and copies for elsewhere.

use std::sync::Arc;

use objmapper_os as os;

use super::disk::{Disk, File, append_all};
use super::format::{End, FILE_HEAD, FileKind, Head, Kind, Salt, file_head};
use super::recover::Failure;
use super::segment::{Files, Next, Reader, UNFINISHED, segment_name, snapshot_name};

/// Bytes of operations that make a record.
const RECORD: usize = 64 * 1024;

/// Bytes that are written between two syncs: so that the last one, and others' meanwhile, are short.
const SYNC: u64 = 16 << 20;

/// A snapshot being written.
#[derive(Debug)]
pub(crate) struct Snapshot {
    file: Arc<dyn File>,
    salt: Salt,
    ops: Vec<u8>,
    number: u64,
    bytes: u64,
    synced: u64,
    keys: u64,
}

impl Snapshot {
    /// An empty one in a file of this name.
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> os::Result<Self> {
        Self::begin(disk.create(name)?)
    }

    /// The same in this file, which is empty.
    pub(crate) fn begin(file: Arc<dyn File>) -> os::Result<Self> {
        let salt = Salt::by_chance();
        append_all(&*file, &file_head(FileKind::Snapshot, salt, 1))?;
        let bytes = FILE_HEAD as u64;
        Ok(Self { file, salt, ops: Vec::new(), number: 1, bytes, synced: 0, keys: 0 })
    }

    /// Where the operations of further keys are appended, and [`Self::flush`] called now and then.
    pub(crate) fn ops(&mut self) -> &mut Vec<u8> {
        &mut self.ops
    }

    /// So many keys are in it.
    pub(crate) fn count(&mut self, keys: u64) {
        self.keys += keys;
    }

    /// How many keys are in it.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// Writes what was appended if it is enough for a record.
    pub(crate) fn flush(&mut self) -> os::Result<()> {
        if self.ops.len() >= RECORD { self.record(Kind::Ops) } else { Ok(()) }
    }

    /// Appends what a record of the journal did.
    pub(crate) fn repeat(&mut self, payload: &[u8]) -> os::Result<()> {
        self.ops.extend_from_slice(payload);
        self.record(Kind::Ops)
    }

    fn record(&mut self, kind: Kind) -> os::Result<()> {
        let (length, number) = (self.ops.len() as u64, self.number);
        let checksum = self.salt.checksum(&self.ops);
        let head = Head { kind, length, number, durable: number - 1, checksum }.encode(self.salt);
        append_all(&*self.file, &head)?;
        append_all(&*self.file, &self.ops)?;
        self.number += 1;
        self.bytes += head.len() as u64 + length;
        self.ops.clear();
        if self.ops.capacity() > 4 * RECORD {
            self.ops = Vec::new();
        }
        if self.bytes - self.synced >= SYNC {
            self.file.sync()?;
            self.synced = self.bytes;
        }
        Ok(())
    }

    /// Ends it: all is durable but its name. Gives how many bytes it has.
    pub(crate) fn finish(mut self, next: u64, begun: i64) -> os::Result<u64> {
        if !self.ops.is_empty() {
            self.record(Kind::Ops)?;
        }
        self.ops.extend_from_slice(&End { next, keys: self.keys, begun }.encode());
        self.record(Kind::End)?;
        self.file.sync()?;
        Ok(self.bytes)
    }
}

/// The name of a snapshot while it is written.
pub(crate) fn unfinished(next: u64) -> String {
    snapshot_name(next) + UNFINISHED
}

/// Gives a snapshot its name, and removes what it replaces when that is durable.
pub(crate) fn install(disk: &dyn Disk, next: u64) -> os::Result<()> {
    disk.rename(&unfinished(next), &snapshot_name(next))?;
    disk.sync()?;
    let files = Files::of(disk)?;
    let segments = files.segments.iter().filter(|&&first| first < next);
    let segments = segments.map(|&first| segment_name(first));
    let snapshots = files.snapshots.iter().filter(|&&other| other < next);
    for name in segments.chain(snapshots.map(|&other| snapshot_name(other))) {
        disk.remove(&name)?;
    }
    disk.sync()
}

/// Repeats the records from number `first` to number `last` in a snapshot.
pub(crate) fn repeat(
    disk: &dyn Disk,
    snapshot: &mut Snapshot,
    first: u64,
    last: u64,
) -> Result<(), Failure> {
    let failed = Failure::disk("cannot copy records");
    let files = Files::of(disk).map_err(&failed)?;
    for begin in files.segments.into_iter().filter(|&begin| begin >= first && begin <= last) {
        let name = segment_name(begin);
        let opened = Reader::open(disk, &name, FileKind::Segment).map_err(&failed)?;
        let Ok(mut reader) = opened else { return Err(broken(name, 0)) };
        while reader.next_number() <= last {
            let offset = reader.offset();
            match reader.next().map_err(&failed)? {
                Next::Record(_, payload) => snapshot.repeat(payload).map_err(&failed)?,
                Next::End => break,
                Next::Break => return Err(broken(name, offset)),
            }
        }
    }
    Ok(())
}

fn broken(file: String, offset: u64) -> Failure {
    Failure::Damaged { file, offset, what: "a record does not hold" }
}

/// Copies a file, durably.
pub(crate) fn duplicate(from: &dyn File, to: &dyn File) -> os::Result<()> {
    let (mut piece, mut offset) = (Vec::new(), 0);
    loop {
        piece.clear();
        match from.read(&mut piece, offset, 1 << 20)? {
            0 => return to.sync(),
            n => offset += n as u64,
        }
        append_all(to, &piece)?;
    }
}

/// Reads a snapshot or backup through; gives what it says at its end.
pub(crate) fn read_through(
    name: &str,
    file: Arc<dyn File>,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(End, u64), Failure> {
    let failed = Failure::disk("cannot read the snapshot");
    let damaged = |offset, what| Failure::Damaged { file: name.to_owned(), offset, what };
    let Ok(mut reader) = Reader::of(file, FileKind::Snapshot).map_err(&failed)? else {
        return Err(Failure::NoBackup { file: name.to_owned() });
    };
    loop {
        let offset = reader.offset();
        match reader.next().map_err(&failed)? {
            Next::Record(Head { kind: Kind::End, .. }, payload) => {
                let end = End::decode(payload);
                let end = end.ok_or_else(|| damaged(offset, "its end does not hold"))?;
                if reader.offset() < reader.length() {
                    return Err(damaged(reader.offset(), "there is something behind its end"));
                }
                return Ok((end, offset));
            }
            Next::Record(_, payload) if each(payload) => {}
            Next::Record(..) => return Err(damaged(offset, "a record makes no sense")),
            Next::Break => return Err(damaged(offset, "a record does not hold")),
            Next::End => return Err(damaged(offset, "its end is missing")),
        }
    }
}
