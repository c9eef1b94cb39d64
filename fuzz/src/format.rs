//! The journal's files as core/src/kv/journal/FORMAT.md has them.

use crc32c::{crc32c, crc32c_append};

const FILE_HEAD: usize = 32;
const RECORD_HEAD: usize = 28;

pub const SEGMENT: &[u8; 8] = b"OBJMJRN1";
pub const SNAPSHOT: &[u8; 8] = b"OBJMSNP1";

pub fn segment_name(first: u64) -> String {
    format!("journal-{first:020}.log")
}

pub fn snapshot_name(next: u64) -> String {
    format!("snapshot-{next:020}.kv")
}

pub fn file_head(magic: &[u8; 8], salt: u64, first: u64) -> Vec<u8> {
    let mut head = magic.to_vec();
    head.extend(salt.to_le_bytes());
    head.extend(first.to_le_bytes());
    head.extend([0; 4]);
    head.extend(crc32c(&head).to_le_bytes());
    head
}

pub fn record(salt: u64, kind: u16, number: u64, behind: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u64 | u64::from(kind) << 48).to_le_bytes().to_vec();
    out.extend(number.to_le_bytes());
    out.extend(behind.to_le_bytes());
    out.extend(crc32c_append((salt >> 32) as u32, payload).to_le_bytes());
    out.extend(crc32c_append(salt as u32, &out).to_le_bytes());
    out.extend(payload);
    out
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// Makes the checksums hold as far as heads say where the next one is.
pub fn mend(file: &mut [u8]) {
    if file.len() < FILE_HEAD {
        return;
    }
    let sum = crc32c(&file[..28]);
    put(file, 28, sum);
    let salt = u64::from_le_bytes(file[8..16].try_into().unwrap());
    let mut at = FILE_HEAD;
    while let Some(head) = file.get(at..at + RECORD_HEAD) {
        let length = u64::from_le_bytes(head[..8].try_into().unwrap()) & ((1 << 48) - 1);
        let end = usize::try_from(length).ok().and_then(|n| n.checked_add(at + RECORD_HEAD));
        let Some(payload) = end.and_then(|end| file.get(at + RECORD_HEAD..end)) else { return };
        let sum = crc32c_append((salt >> 32) as u32, payload);
        put(file, at + 20, sum);
        let sum = crc32c_append(salt as u32, &file[at..at + 24]);
        put(file, at + 24, sum);
        at = end.unwrap();
    }
}
