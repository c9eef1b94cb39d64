//! The files of a journal: their names, and reading one record by record.

use std::sync::Arc;

use objmapper_os as os;

use super::disk::{Disk, File};
use super::format::{FILE_HEAD, FileKind, Head, RECORD_HEAD, Salt, read_file_head};

/// Bytes that one read asks for. Not tuned.
const READ: usize = 1 << 20;

/// The same when zeros are looked for.
const PIECE: usize = 64 << 10;

/// The name of the segment that begins with this number.
pub(crate) fn segment_name(first: u64) -> String {
    format!("journal-{first:020}.log")
}

/// The name of the snapshot of all that is below this number.
pub(crate) fn snapshot_name(next: u64) -> String {
    format!("snapshot-{next:020}.kv")
}

/// What ends the name of a file that is not complete.
pub(crate) const UNFINISHED: &str = ".tmp";

/// What there is in a directory.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// First numbers, ascending.
    pub(crate) segments: Vec<u64>,
    /// Next numbers, ascending.
    pub(crate) snapshots: Vec<u64>,
    pub(crate) unfinished: Vec<String>,
}

impl Files {
    pub(crate) fn of(disk: &dyn Disk) -> os::Result<Self> {
        let mut files = Self::default();
        for name in disk.names()? {
            let number = |front: &str, back: &str| {
                let digits = name.strip_prefix(front)?.strip_suffix(back)?;
                (digits.len() == 20).then(|| digits.parse().ok()).flatten()
            };
            if let Some(first) = number("journal-", ".log") {
                files.segments.push(first);
            } else if let Some(next) = number("snapshot-", ".kv") {
                files.snapshots.push(next);
            } else if name.ends_with(UNFINISHED) && name.starts_with("snapshot-") {
                files.unfinished.push(name);
            }
        }
        files.segments.sort_unstable();
        files.snapshots.sort_unstable();
        Ok(files)
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.snapshots.is_empty()
    }
}

/// Reads a file's records in order.
#[derive(Debug)]
pub(crate) struct Reader {
    file: Arc<dyn File>,
    salt: Salt,
    length: u64,
    /// Whether zeros may follow the last record.
    prefilled: bool,
    /// What was read of it; `at` is where the next record begins.
    buffer: Vec<u8>,
    at: usize,
    /// The same place in the file.
    offset: u64,
    /// The next record's number.
    next: u64,
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// A record.
    Record(Head, &'a [u8]),
    /// The end of the file, or of what was written into it: zeros up to its end.
    End,
    /// Bytes that are no record, or not the next one.
    Break,
}

impl Reader {
    /// Opens a file of this kind. `Err` with its length if it has no head of one.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &str,
        kind: FileKind,
    ) -> os::Result<Result<Self, u64>> {
        Self::of(disk.open(name)?, kind)
    }

    /// The same of a file that is open.
    pub(crate) fn of(file: Arc<dyn File>, kind: FileKind) -> os::Result<Result<Self, u64>> {
        let length = file.length()?;
        let prefilled = kind == FileKind::Segment;
        let (salt, buffer) = (Salt(0), Vec::new());
        let mut reader = Self { file, salt, length, prefilled, buffer, at: 0, offset: 0, next: 0 };
        reader.fill(FILE_HEAD)?;
        let Some((salt, first)) = read_file_head(kind, &reader.buffer) else {
            return Ok(Err(length));
        };
        (reader.salt, reader.next) = (salt, first);
        reader.advance(FILE_HEAD);
        Ok(Ok(reader))
    }

    /// Where the next record begins, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Its number.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The file's length in bytes, when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// What comes next.
    pub(crate) fn next(&mut self) -> os::Result<Next<'_>> {
        if self.offset >= self.length {
            return Ok(Next::End);
        }
        let (head, whole) = match self.record()? {
            Some((head, whole)) if head.number == self.next => (head, whole),
            _ if self.prefilled && self.written_end(true)? == self.offset => return Ok(Next::End),
            _ => return Ok(Next::Break),
        };
        self.next += 1;
        let at = self.at;
        self.advance(whole);
        let payload = self.buffer.get(at + RECORD_HEAD..at + whole).unwrap_or_default();
        Ok(Next::Record(head, payload))
    }

    /// Where the zeros begin that the file ends with, from here on; `soon`: any place behind this one
    /// will do if there are others.
    pub(crate) fn written_end(&self, soon: bool) -> os::Result<u64> {
        let (mut at, mut end, mut piece) = (self.offset, self.offset, Vec::new());
        while at < self.length && !(soon && end > self.offset) {
            piece.clear();
            let n = self.file.read(&mut piece, at, PIECE)? as u64;
            if n == 0 {
                break;
            }
            if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
                end = at + last as u64 + 1;
            }
            at += n;
        }
        Ok(end)
    }

    /// Goes to the next record that holds, from here on, wherever it begins.
    pub(crate) fn search(&mut self) -> os::Result<Option<Head>> {
        while self.offset + RECORD_HEAD as u64 <= self.length {
            if let Some((head, _)) = self.record()?
                && head.number >= self.next
            {
                self.next = head.number;
                return Ok(Some(head));
            }
            self.advance(1);
        }
        Ok(None)
    }

    /// Goes on at this place, where the record of this number is expected.
    pub(crate) fn go_to(&mut self, offset: u64, next: u64) {
        self.buffer.clear();
        (self.at, self.offset, self.next) = (0, offset, next);
    }

    /// The record that begins here, if one does, and how long it is with its head.
    fn record(&mut self) -> os::Result<Option<(Head, usize)>> {
        self.fill(RECORD_HEAD)?;
        let bytes = self.buffer.get(self.at..).unwrap_or_default();
        let Some(head) = Head::decode(bytes, self.salt) else { return Ok(None) };
        let Some(whole) = usize::try_from(head.length).ok().map(|n| n + RECORD_HEAD) else {
            return Ok(None);
        };
        if whole as u64 > self.length - self.offset {
            return Ok(None);
        }
        self.fill(whole)?;
        let payload = self.buffer.get(self.at + RECORD_HEAD..self.at + whole);
        let holds = payload.is_some_and(|bytes| self.salt.checksum(bytes) == head.checksum);
        Ok(holds.then_some((head, whole)))
    }

    /// Has `want` bytes at hand, if there are so many.
    #[inline]
    fn fill(&mut self, want: usize) -> os::Result<()> {
        if self.buffer.len() - self.at >= want {
            return Ok(());
        }
        self.read_more(want)
    }

    #[cold]
    fn read_more(&mut self, want: usize) -> os::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.capacity() > 4 * READ && want < READ {
            self.buffer.shrink_to(2 * READ);
        }
        while self.buffer.len() < want {
            let from = self.offset + self.buffer.len() as u64;
            let room = (want - self.buffer.len()).max(READ);
            if self.file.read(&mut self.buffer, from, room)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn advance(&mut self, n: usize) {
        self.at += n;
        self.offset += n as u64;
    }
}
