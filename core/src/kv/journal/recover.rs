//! Reading a journal back: what is in it, in order, and what to do where it breaks.
//!
//! What must stay true:
//! - a record is done whole and in order, or the recovery says that it is not;
//! - a torn tail is cut off before anything is appended: what stands behind it would be found by the
//!   next recovery;
//! - doing it again after it was cut short gives the same.

use objmapper_os as os;
use thiserror::Error;

use super::disk::Disk;
use super::format::{End, FILE_HEAD, FileKind, Head, Kind, LAST};
use super::segment::{Files, Next, Reader, segment_name, snapshot_name};
use crate::kv::fault::Fault;

/// Bytes between two tellings of how far it is.
const TELL: u64 = 4 << 20;

/// What to do with damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Damage {
    /// Refuse, and say where it is.
    #[default]
    Refuse,
    /// Go on behind it, and count what was skipped.
    Skip,
}

/// Why a journal cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// Another process has it open.
    #[error("{dir} is locked by pid {pid}: one process at a time has a keyspace open")]
    Locked {
        /// The directory.
        dir: String,
        /// As that process wrote it.
        pid: String,
    },
    /// The disk, or whoever gives it.
    #[error("{what}: {error}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        error: os::Error,
    },
    /// It is not as it was written.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// Its name.
        file: String,
        /// Where the first record begins that does not hold.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Another copy is being made.
    #[error("a backup or a compaction is under way, and one is made at a time: try again later")]
    UnderWay,
    /// It does not begin as [`crate::kv::Keyspace::backup`] begins one.
    #[error("{file} is not a backup of objmapper (or its first bytes are damaged)")]
    NoBackup {
        /// Its name.
        file: String,
    },
    /// The journal cannot be written any more.
    #[error(transparent)]
    Stopped(#[from] Fault),
    /// A directory to restore into has a journal already.
    #[error("{dir} has a keyspace already: restore into an empty directory")]
    NotEmpty {
        /// The directory.
        dir: String,
    },
}

impl Failure {
    pub(crate) fn disk(what: &'static str) -> impl Fn(os::Error) -> Self {
        move |error| Self::Disk { what, error }
    }
}

/// What the end of a journal was like after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub file: String,
    /// Where it was cut.
    pub offset: u64,
    /// Bytes that were cut off, but for zeros behind them.
    pub bytes: u64,
    /// Whole records among them, behind one that was not: nobody was promised these.
    pub records: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Files that were read.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Of these, in the snapshot.
    pub snapshot_bytes: u64,
    /// Records, in snapshot and segments.
    pub records: u64,
    /// Keys that are there after them, those included that have expired and were not removed.
    pub keys: u64,
    /// The number of the last one.
    pub last: u64,
    /// When the snapshot was begun, in milliseconds since 1970; 0 if there is none.
    pub snapshot_begun: i64,
    /// The tail, if it was torn.
    pub torn: Option<Torn>,
    /// Bytes that do not hold and were skipped, since that was asked for.
    pub skipped_bytes: u64,
    /// Records that are missing with them, as far as that is known.
    pub skipped_records: u64,
}

/// What recovery does with what it finds.
pub(crate) struct Recovery<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) damage: Damage,
    /// Whether files may be changed: torn tails cut, leftovers removed.
    pub(crate) repair: bool,
    /// Does a record's operations; whether they make sense.
    pub(crate) each: &'a mut dyn FnMut(&[u8]) -> Result<bool, Failure>,
    /// Is told how many bytes are done, and of how many.
    pub(crate) progress: &'a mut dyn FnMut(u64, u64),
    pub(crate) total: u64,
    pub(crate) told: u64,
    pub(crate) report: Report,
}

impl Recovery<'_> {
    /// Reads everything; the next number is that of the report's last record, plus one.
    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        let files = Files::of(self.disk).map_err(Failure::disk("cannot list the journal"))?;
        let base = files.snapshots.last().copied();
        let (stale, segments): (Vec<u64>, Vec<u64>) =
            files.segments.iter().partition(|&&first| base.is_some_and(|next| first < next));
        let numbers = base.map(|next| (next, snapshot_name(next)));
        let mut numbers = numbers.into_iter().chain(segments.iter().map(|&n| (n, segment_name(n))));
        if let Some((_, name)) = numbers.find(|(number, _)| !(1..=LAST).contains(number)) {
            return Err(damaged(&name, 0, "there is no such number"));
        }
        self.total = self.weigh(base, &segments)?;
        (self.progress)(0, self.total);
        if let Some(next) = base {
            self.snapshot(next)?;
        }
        self.report.last = base.unwrap_or(1) - 1;
        for (at, &first) in segments.iter().enumerate() {
            self.segment(first, at + 1 == segments.len())?;
        }
        if self.report.last >= LAST {
            let name = segment_name(self.report.last);
            return Err(damaged(&name, 0, "there is no number behind it"));
        }
        // Only now: what was refused is left as it is.
        if self.repair {
            let old = files.snapshots.iter().filter(|&&next| Some(next) != base);
            let names = stale.iter().map(|&first| segment_name(first));
            let names = names.chain(old.map(|&next| snapshot_name(next)));
            self.remove(names.chain(files.unfinished.iter().cloned()))?;
        }
        (self.progress)(self.total, self.total);
        Ok(self.report)
    }

    fn weigh(&self, base: Option<u64>, segments: &[u64]) -> Result<u64, Failure> {
        let names = segments.iter().map(|&first| segment_name(first));
        let mut total = 0;
        for name in base.map(snapshot_name).into_iter().chain(names) {
            let length = self.disk.open(&name).and_then(|file| file.length());
            total += length.map_err(Failure::disk("cannot open the journal"))?;
        }
        Ok(total)
    }

    fn remove(&self, names: impl Iterator<Item = String>) -> Result<(), Failure> {
        let failed = Failure::disk("cannot remove what a compaction left");
        let mut any = false;
        for name in names {
            self.disk.remove(&name).map_err(&failed)?;
            any = true;
        }
        if any { self.disk.sync().map_err(&failed) } else { Ok(()) }
    }

    fn snapshot(&mut self, next: u64) -> Result<(), Failure> {
        let name = snapshot_name(next);
        let opened = Reader::open(self.disk, &name, FileKind::Snapshot);
        let Ok(mut reader) = opened.map_err(Failure::disk("cannot read the snapshot"))? else {
            // Without its salt no record of it can be told from chance.
            return Err(damaged(&name, 0, "its head does not hold"));
        };
        let end = self.records(&name, &mut reader, false)?;
        match end {
            Some(end) if end.next == next => self.report.snapshot_begun = end.begun,
            _ if self.damage == Damage::Skip => {}
            _ => return Err(damaged(&name, reader.offset(), "its end is missing")),
        }
        self.report.snapshot_bytes = reader.length();
        self.counted(reader.length());
        Ok(())
    }

    fn segment(&mut self, first: u64, last: bool) -> Result<(), Failure> {
        let name = segment_name(first);
        let expected = self.report.last + 1;
        if first != expected {
            if self.damage == Damage::Refuse || first < expected {
                return Err(damaged(&name, 0, "records are missing before it"));
            }
            self.report.skipped_records += first - expected;
            self.report.last = first - 1;
        }
        let opened = Reader::open(self.disk, &name, FileKind::Segment);
        let opened = opened.map_err(Failure::disk("cannot read the journal"))?;
        let length = opened.as_ref().map_or_else(|&length| length, Reader::length);
        let mut reader = match opened {
            Ok(reader) if reader.next_number() == first => reader,
            // It was being made: nothing is appended before its head is durable. Its place on the disk
            // may still have another's.
            _ if last && length <= FILE_HEAD as u64 => return self.empty(&name),
            _ if self.damage == Damage::Skip => {
                self.report.skipped_bytes += length;
                // How many it held is not known, but its name is taken.
                self.report.skipped_records += 1;
                self.report.last = first;
                return Ok(());
            }
            _ => return Err(damaged(&name, 0, "its head does not hold")),
        };
        self.records(&name, &mut reader, last)?;
        self.report.last = reader.next_number() - 1;
        self.counted(reader.offset());
        if last && self.report.last + 1 == first {
            return self.empty(&name);
        }
        // Zeros that no record came for. A torn tail was cut off with them. What others follow was cut
        // before they were begun, or could not be; they may be refused yet.
        if last && self.repair && self.report.torn.is_none() && reader.offset() < reader.length() {
            self.cut(&name, reader.offset())?;
        }
        Ok(())
    }

    fn counted(&mut self, length: u64) {
        self.report.files += 1;
        self.report.bytes += length;
    }

    /// A segment without a record: the next one will have its name.
    fn empty(&self, name: &str) -> Result<(), Failure> {
        if self.repair { self.remove([name.to_owned()].into_iter()) } else { Ok(()) }
    }

    /// Does the records of one file; gives what the last one says if it ends a snapshot.
    fn records(
        &mut self,
        name: &str,
        reader: &mut Reader,
        last: bool,
    ) -> Result<Option<End>, Failure> {
        let failed = Failure::disk("cannot read the journal");
        loop {
            let (offset, number) = (reader.offset(), reader.next_number());
            let (what, mut durable) = match reader.next().map_err(&failed)? {
                Next::End => return Ok(None),
                Next::Record(Head { kind: Kind::End, .. }, payload) => {
                    if let Some(end) = End::decode(payload) {
                        return Ok(Some(end));
                    }
                    ("its end does not hold", true)
                }
                Next::Record(head, payload) => {
                    if (self.each)(payload)? {
                        self.report.records += 1;
                        self.tell(head.length);
                        continue;
                    }
                    ("a record makes no sense", true)
                }
                Next::Break => ("a record does not hold", false),
            };
            // What holds and makes no sense has a number of its own, and the next one another.
            let after = reader.next_number();
            // Whatever is found behind it decides what this is.
            let (mut behind, mut resume) = (0, None);
            while let Some(head) = reader.search().map_err(&failed)? {
                resume = resume.or(Some((reader.offset(), head.number)));
                behind += 1;
                durable |= head.durable >= number;
                if durable || !last {
                    break;
                }
                let _ = reader.next().map_err(&failed)?;
            }
            if last && !durable {
                return self.torn(name, reader, (offset, number), behind).map(|()| None);
            }
            if self.damage == Damage::Refuse {
                return Err(damaged(name, offset, what));
            }
            let (at, found) = resume.unwrap_or((reader.length(), after));
            self.report.skipped_bytes += at - offset;
            self.report.skipped_records += found - number;
            reader.go_to(at, found);
        }
    }

    fn torn(
        &mut self,
        name: &str,
        reader: &mut Reader,
        (offset, number): (u64, u64),
        records: u64,
    ) -> Result<(), Failure> {
        reader.go_to(offset, number);
        let bytes = reader.written_end(false).map_err(Failure::disk("cannot read the journal"))?;
        let bytes = bytes - offset;
        self.report.torn = Some(Torn { file: name.to_owned(), offset, bytes, records });
        if self.repair { self.cut(name, offset) } else { Ok(()) }
    }

    fn cut(&self, name: &str, length: u64) -> Result<(), Failure> {
        self.disk.cut(name, length).map_err(Failure::disk("cannot cut a segment's end off"))
    }

    #[inline]
    fn tell(&mut self, bytes: u64) {
        self.told += bytes;
        if self.told % TELL < bytes {
            (self.progress)(self.told, self.total);
        }
    }
}

fn damaged(file: &str, offset: u64, what: &'static str) -> Failure {
    Failure::Damaged { file: file.to_owned(), offset, what }
}
