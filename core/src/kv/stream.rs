//! Large values by pieces: kept as they come, read as they are wanted.
//!
//! What must stay true: beside the value itself, which is memory, there is one piece of it at a time;
//! and nobody sees a value before all of it has come.

use std::io::{self, Read};

use objmapper_os as os;

use super::keyspace::{Keyspace, LONGEST};
use super::value::{Sealed, Taken};
use super::{Content, Fault};

/// Bytes of a piece. Not tuned.
const PIECE: usize = 256 * 1024;

impl Keyspace {
    /// Prepares what `source` gives until its end to be kept, before any lock is taken: as
    /// [`Self::content`] does with bytes, in memory for one piece beside the value.
    /// [`Fault::TooLong`] beyond [`LONGEST`]; [`Fault::Io`] if the source or the memory fails.
    pub fn content_of(&self, source: &mut dyn Read) -> Result<Content<'static>, Fault> {
        let mut piece = Vec::new();
        let short = self.options.inline.saturating_add(1);
        if next(source, &mut piece, short)? < short {
            return Ok(Content::Owned(piece));
        }
        let draft = if self.may_seal() { Sealed::draft().map(Some) } else { Ok(None) };
        let mut draft = match draft {
            Ok(Some(draft)) => draft,
            Ok(None) => return rest(source, piece),
            // Out of descriptors: it can be kept all the same.
            Err(error) if error.is_resource() => return rest(source, piece),
            Err(error) => return Err(error.into()),
        };
        while !piece.is_empty() {
            if draft.size() + piece.len() as u64 > LONGEST {
                return Err(Fault::TooLong { limit: LONGEST });
            }
            draft.append(&piece)?;
            piece.clear();
            next(source, &mut piece, PIECE)?;
        }
        self.sealed(Sealed::of(draft)?)
    }
}

/// Reads up to so many bytes, fewer only at the end; gives how many.
fn next(source: &mut dyn Read, out: &mut Vec<u8>, most: usize) -> Result<usize, Fault> {
    let read = source.take(most as u64).read_to_end(out);
    read.map_err(|error| os::Error::from_io("read", &error).into())
}

/// The rest in memory of our own, behind what has come.
fn rest(source: &mut dyn Read, mut bytes: Vec<u8>) -> Result<Content<'static>, Fault> {
    while next(source, &mut bytes, PIECE)? > 0 {
        if bytes.len() as u64 > LONGEST {
            return Err(Fault::TooLong { limit: LONGEST });
        }
    }
    Ok(Content::Owned(bytes))
}

/// A value that is read by pieces: what it was when it was asked for, whatever happens to its key.
/// One in sealed memory is not copied for it; one that lies beside its key, or was written by
/// pieces in place, was.
#[derive(Debug, Clone)]
pub struct Stream {
    value: Taken,
    at: u64,
}

impl Stream {
    /// From its beginning.
    pub(super) const fn new(value: Taken) -> Self {
        Self { value, at: 0 }
    }

    /// Bytes of all of it.
    pub fn len(&self) -> u64 {
        self.value.value().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value itself: its memory, to be handed out or read at any place.
    pub fn into_value(self) -> Taken {
        self.value
    }

    /// Lets `each` see it piece by piece.
    pub(super) fn pieces(&self, mut each: impl FnMut(&[u8]) -> os::Result<()>) -> os::Result<()> {
        match &self.value {
            Taken::Bytes(bytes) => each(bytes),
            Taken::Sealed(sealed) => sealed.pieces(PIECE as u64, each),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = match &self.value {
            Taken::Bytes(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                bytes.get(at..).unwrap_or_default().read(out)?
            }
            Taken::Sealed(sealed) => sealed.read(out, self.at)?,
        };
        self.at += n as u64;
        Ok(n)
    }
}
