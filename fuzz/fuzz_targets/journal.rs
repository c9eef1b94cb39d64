//! Directories of segments and snapshots: written as they should be they are read back as they were meant,
//! and with anything done to them they are refused or taken, the same each time.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use objmapper_fuzz::disk::Memory;
use objmapper_fuzz::{Map, format, open_twice};

/// An operation, as ops.rs has it.
#[derive(Debug, Arbitrary)]
enum Op {
    Set(u8, Vec<u8>, Vec<u8>, Option<u32>),
    Remove(u8, Vec<u8>),
    Expire(u8, Vec<u8>, Option<u32>),
    Write(u8, Vec<u8>, u16, Vec<u8>),
    Clear(u8),
}

/// What is written next.
#[derive(Debug, Arbitrary)]
enum Step {
    /// A record, durable up to so many before it.
    Record(Vec<Op>, u8),
    /// The next segment.
    Segment,
    /// So many zeros ahead of the next record.
    Zeros(u8),
    // What should not be:
    /// A record that holds and means nothing that is known.
    Odd { kind: u8, ahead: u8, behind: u32, payload: Vec<u8> },
    /// Bytes.
    Bytes(Vec<u8>),
    /// So many bytes less.
    Cut(u8),
    /// A changed bit, so many bytes before the end.
    Flip(u16, u8),
    /// A file with the next number, or around it.
    File { snapshot: bool, around: i8, first: i8 },
    /// A file of which only the name is there.
    Name(u64, bool),
}

/// Ends in the far future: nothing ends meanwhile.
fn end(seconds: Option<u32>) -> Option<i64> {
    seconds.map(|seconds| 9_000_000_000_000 + i64::from(seconds))
}

fn word(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap().to_le_bytes()
}

fn when(out: &mut Vec<u8>, end: Option<i64>) {
    out.push(u8::from(end.is_some()));
    out.extend(end.into_iter().flat_map(i64::to_le_bytes));
}

impl Op {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut head = |kind: u8, db: &u8, key: &[u8]| {
            out.extend([kind, db % 16]);
            out.extend(word(key.len()));
            out.extend(key);
        };
        match self {
            Self::Set(db, key, value, seconds) => {
                head(1, db, key);
                when(out, end(*seconds));
                out.extend(word(value.len()));
                out.extend(value);
            }
            Self::Remove(db, key) => head(2, db, key),
            Self::Expire(db, key, seconds) => {
                head(3, db, key);
                when(out, end(*seconds));
            }
            Self::Write(db, key, offset, bytes) => {
                head(4, db, key);
                out.extend(u64::from(*offset).to_le_bytes());
                out.extend(word(bytes.len()));
                out.extend(bytes);
            }
            Self::Clear(db) => head(5, db, &[]),
        }
    }

    fn apply(&self, map: &mut Map) {
        match self {
            Self::Set(db, key, value, seconds) => {
                map.insert((db % 16, key.clone()), (value.clone(), end(*seconds)));
            }
            Self::Remove(db, key) => drop(map.remove(&(db % 16, key.clone()))),
            Self::Expire(db, key, seconds) => {
                if let Some(entry) = map.get_mut(&(db % 16, key.clone())) {
                    entry.1 = end(*seconds);
                }
            }
            Self::Write(db, key, offset, bytes) => {
                let (value, _) = map.entry((db % 16, key.clone())).or_default();
                let end = usize::from(*offset) + bytes.len();
                value.resize(value.len().max(end), 0);
                value[end - bytes.len()..end].copy_from_slice(bytes);
            }
            Self::Clear(db) => map.retain(|(other, _), _| *other != db % 16),
        }
    }
}

const SALT: u64 = 0x0123_4567_89ab_cdef;

fuzz_target!(|steps: Vec<Step>| {
    let (mut map, mut sound, mut next, mut first) = (Map::new(), true, 1_u64, 1);
    let mut zeros = 0;
    let mut files = vec![(format::segment_name(1), format::file_head(format::SEGMENT, SALT, 1))];
    for step in &steps {
        let file = &mut files.last_mut().unwrap().1;
        match step {
            Step::Record(ops, behind) => {
                let mut payload = Vec::new();
                for op in ops {
                    op.encode(&mut payload);
                    op.apply(&mut map);
                }
                let behind = u32::from(*behind).clamp(1, u32::try_from(next).unwrap());
                // Over them.
                file.truncate(file.len() - std::mem::take(&mut zeros));
                file.extend(format::record(SALT, 0, next, behind, &payload));
                next += 1;
                continue;
            }
            Step::Segment if next > first => {
                (first, zeros) = (next, 0);
                let head = format::file_head(format::SEGMENT, SALT, next);
                files.push((format::segment_name(next), head));
                continue;
            }
            Step::Segment => continue,
            Step::Zeros(n) => {
                zeros += usize::from(*n);
                file.resize(file.len() + usize::from(*n), 0);
                continue;
            }
            Step::Odd { kind, ahead, behind, payload } => {
                let number = next.wrapping_add(u64::from(*ahead)).wrapping_sub(1);
                file.extend(format::record(SALT, u16::from(kind % 4), number, *behind, payload));
            }
            Step::Bytes(bytes) => file.extend(bytes),
            Step::Cut(bytes) => file.truncate(file.len().saturating_sub(usize::from(*bytes))),
            Step::Flip(back, bit) => {
                let at = file.len().checked_sub(1 + usize::from(*back));
                if let Some(byte) = at.and_then(|at| file.get_mut(at)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Step::File { snapshot, around, first } => {
                let number = next.wrapping_add_signed(i64::from(*around));
                let first = next.wrapping_add_signed(i64::from(*first));
                files.push(if *snapshot {
                    let mut bytes = format::file_head(format::SNAPSHOT, SALT, 1);
                    let mut end = number.to_le_bytes().to_vec();
                    end.extend([0; 16]);
                    bytes.extend(format::record(SALT, 1, 1, 1, &end));
                    (format::snapshot_name(number), bytes)
                } else {
                    (format::segment_name(number), format::file_head(format::SEGMENT, SALT, first))
                });
            }
            Step::Name(number, snapshot) => {
                let name = if *snapshot { format::snapshot_name } else { format::segment_name };
                files.push((name(*number), Vec::new()));
            }
        }
        (sound, zeros) = (false, 0);
    }
    let opened = open_twice(&Arc::new(Memory::with(files)));
    if sound {
        let (found, report) = opened.expect("nothing is wrong with it");
        assert_eq!((found, report.torn, report.last), (map, None, next - 1));
    }
});
