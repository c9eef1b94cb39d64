//! The payload of a record: operations, and long values among them that lie in sealed memory already
//! and are read from there when they are written, piece by piece.
//!
//! What must stay true: a value's checksum is known before it is referred to, so that nothing is read
//! under the locks of those that the record is about.

use std::sync::Arc;

use objmapper_os as os;

use super::disk::{File, append_all};
use super::format::Salt;
use crate::kv::value::Sealed;

/// Bytes of one write, if they have to be gathered for it. Not tuned.
const PIECE: usize = 1 << 20;

/// A part of what is to be written.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A value.
    Sealed(Arc<Sealed>),
}

impl Chunk {
    /// Bytes that it has.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Sealed(sealed) => sealed.size(),
        }
    }
}

/// Writes all of them, in as few writes as there are pieces; bytes alone are not copied for it.
pub(super) fn write(chunks: &[Chunk], file: &dyn File) -> os::Result<()> {
    let mut gathered = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(bytes) if chunks.len() == 1 || bytes.len() >= PIECE => {
                flush(&mut gathered, file)?;
                append_all(file, bytes)?;
            }
            Chunk::Bytes(bytes) => gathered.extend_from_slice(bytes),
            Chunk::Sealed(sealed) => {
                let mut at = 0;
                while at < sealed.size() {
                    let before = gathered.len();
                    let room = PIECE.saturating_sub(before).max(1);
                    sealed.read_into(&mut gathered, at, room as u64)?;
                    if gathered.len() == before {
                        return Err(os::Error::new("pread", os::errno::EIO));
                    }
                    at += (gathered.len() - before) as u64;
                    if gathered.len() >= PIECE {
                        flush(&mut gathered, file)?;
                    }
                }
            }
        }
        if gathered.len() >= PIECE {
            flush(&mut gathered, file)?;
        }
    }
    flush(&mut gathered, file)
}

fn flush(gathered: &mut Vec<u8>, file: &dyn File) -> os::Result<()> {
    append_all(file, gathered)?;
    gathered.clear();
    Ok(())
}

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    front: Vec<Chunk>,
    tail: Vec<u8>,
}

impl Payload {
    /// Whether there is nothing in it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.front.is_empty()
    }

    /// Where operations are appended.
    #[inline]
    pub(crate) fn ops(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends the bytes of a value, whose checksum was asked for before.
    pub(crate) fn refer(&mut self, value: Arc<Sealed>) {
        let before = std::mem::take(&mut self.tail);
        self.front.extend([Chunk::Bytes(before), Chunk::Sealed(value)]);
    }

    /// Bytes of all of it.
    #[inline]
    pub(super) fn length(&self) -> u64 {
        self.tail.len() as u64 + self.front.iter().map(Chunk::length).sum::<u64>()
    }

    /// The checksum of all of it.
    #[inline]
    pub(super) fn checksum(&self, salt: Salt) -> os::Result<u32> {
        let mut sum = salt.begin();
        for chunk in &self.front {
            sum = match chunk {
                Chunk::Bytes(bytes) => crc32c::crc32c_append(sum, bytes),
                Chunk::Sealed(sealed) => {
                    let length = usize::try_from(sealed.size()).unwrap_or(usize::MAX);
                    crc32c::crc32c_combine(sum, sealed.checksum()?, length)
                }
            };
        }
        Ok(crc32c::crc32c_append(sum, &self.tail))
    }

    /// The parts before the last, and the last, which is bytes.
    #[inline]
    pub(super) fn into_parts(self) -> (Vec<Chunk>, Vec<u8>) {
        (self.front, self.tail)
    }
}
