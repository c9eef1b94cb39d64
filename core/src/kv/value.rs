//! Values: bytes beside their key, bytes of their own, or sealed memory that can be handed out.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use objmapper_os as os;
use os::file::CachedRead;
use os::memory::Draft;

/// Bytes that are looked at together: they stay in the processor's cache.
const PIECE: u64 = 128 * 1024;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored<'a> {
    /// The value's bytes.
    Bytes(&'a [u8]),
    /// The number of a value that is too large to lie beside its key.
    Large(u32),
}

/// A value that is not packed with its key.
#[derive(Debug, Clone)]
pub(super) enum Large {
    /// In memory of our own, since it grew by pieces: the next piece is cheap.
    Heap(Vec<u8>),
    /// In sealed memory.
    Sealed(Arc<Sealed>),
}

impl Large {
    /// Bytes that it takes.
    pub(super) fn footprint(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Sealed(sealed) => usize::try_from(sealed.size).unwrap_or(usize::MAX),
        }
    }
}

/// How a value's memory is called in `/proc`.
const NAME: &str = "objmapper-value";

/// All bytes of a file that has so many.
pub(super) fn read_all(file: BorrowedFd<'_>, size: u64) -> os::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(usize::MAX);
        match os::file::read_at_append(file, &mut out, want, at, false)? {
            CachedRead::Bytes(n) if n > 0 => at += n as u64,
            _ => break,
        }
    }
    Ok(out)
}

/// Bytes that nobody can change any more, in a memfd.
#[derive(Debug)]
pub struct Sealed {
    file: OwnedFd,
    size: u64,
    /// Another for each that this process makes.
    number: u64,
    /// CRC32C of its bytes, once it was asked for.
    checksum: OnceLock<u32>,
    /// Ours, if somebody else made the other and does not let it be opened any more.
    copy: OnceLock<OwnedFd>,
}

impl Sealed {
    /// A memfd with these bytes, sealed. ENOMEM, EMFILE, ENFILE.
    pub fn new(bytes: &[u8]) -> os::Result<Self> {
        let mut draft = Self::draft()?;
        draft.append(bytes)?;
        Self::of(draft)
    }

    /// A memfd that is written by pieces, for [`Self::of`]. ENOMEM, EMFILE, ENFILE.
    pub fn draft() -> os::Result<Draft> {
        Draft::new(NAME)
    }

    /// What was written, sealed.
    pub fn of(draft: Draft) -> os::Result<Self> {
        let size = draft.size();
        Ok(Self::adopted(draft.seal()?, size))
    }

    /// One that somebody else has made and sealed: a description of our own, for reading.
    pub(super) fn adopted(file: OwnedFd, size: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { file, size, number, checksum: OnceLock::new(), copy: OnceLock::new() }
    }

    /// Another for each that this process makes: who has seen it knows the bytes.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// An open file description of its own, for reading. EMFILE, ENFILE, ENOMEM.
    pub fn reopen(&self) -> os::Result<OwnedFd> {
        match os::file::reopen(self.as_fd()) {
            // Whoever made it has changed its mode since.
            Err(error) if matches!(error.errno(), os::errno::EACCES | os::errno::EPERM) => {
                let copy = os::memory::sealed(NAME, &read_all(self.file.as_fd(), self.size)?)?;
                os::file::reopen(self.copy.get_or_init(|| copy).as_fd())
            }
            other => other,
        }
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// CRC32C of its bytes: read the first time, known from then on.
    pub(super) fn checksum(&self) -> os::Result<u32> {
        if let Some(known) = self.checksum.get() {
            return Ok(*known);
        }
        let mut sum = 0;
        self.pieces(PIECE, |piece| {
            sum = crc32c::crc32c_append(sum, piece);
            Ok(())
        })?;
        Ok(*self.checksum.get_or_init(|| sum))
    }

    /// Lets `each` see its bytes, so many at a time.
    pub(super) fn pieces(
        &self,
        length: u64,
        mut each: impl FnMut(&[u8]) -> os::Result<()>,
    ) -> os::Result<()> {
        let (mut piece, mut at) = (Vec::new(), 0);
        while at < self.size {
            piece.clear();
            self.read_into(&mut piece, at, length)?;
            if piece.is_empty() {
                return Err(os::Error::new("pread", os::errno::EIO));
            }
            at += piece.len() as u64;
            each(&piece)?;
        }
        Ok(())
    }

    /// Appends all of its bytes. EIO if there are fewer.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) -> os::Result<()> {
        let end = out.len() as u64 + self.size;
        self.read_into(out, 0, self.size)?;
        if out.len() as u64 == end { Ok(()) } else { Err(os::Error::new("pread", os::errno::EIO)) }
    }

    /// Reads bytes from `offset` on; 0 at the end, and fewer than asked are possible before it.
    pub fn read(&self, out: &mut [u8], offset: u64) -> os::Result<usize> {
        os::file::read_at(self.file.as_fd(), out, offset)
    }

    /// Appends `length` bytes from `offset` on to `out`, as far as there are any.
    pub fn read_into(&self, out: &mut Vec<u8>, offset: u64, length: u64) -> os::Result<()> {
        let end = offset.saturating_add(length).min(self.size);
        let mut at = offset;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            match os::file::read_at_append(self.file.as_fd(), out, want, at, false)? {
                CachedRead::Bytes(n) if n > 0 => at += n as u64,
                _ => break,
            }
        }
        Ok(())
    }
}

impl AsFd for Sealed {
    /// For reading; whoever it is given to shares its position.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.copy.get().unwrap_or(&self.file).as_fd()
    }
}

/// A value as it is read.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Sealed memory.
    Sealed(&'a Arc<Sealed>),
}

impl<'a> Value<'a> {
    /// Its length in bytes.
    #[inline]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Sealed(sealed) => sealed.size,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `length` bytes from `offset` on to `out`, as far as there are any.
    #[inline]
    pub fn read_into(&self, out: &mut Vec<u8>, offset: u64, length: u64) -> os::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let rest = bytes.get(from..).unwrap_or_default();
                out.extend_from_slice(rest.get(..length.min(rest.len())).unwrap_or_default());
                Ok(())
            }
            Self::Sealed(sealed) => sealed.read_into(out, offset, length),
        }
    }

    /// All of its bytes: borrowed, or read.
    pub fn bytes(&self) -> os::Result<Cow<'a, [u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::Sealed(sealed) => {
                let mut out = Vec::new();
                sealed.read_into(&mut out, 0, sealed.size)?;
                Ok(Cow::Owned(out))
            }
        }
    }
}

impl Value<'_> {
    /// A value of its own, to be read when no lock is held any more: bytes are copied, sealed memory
    /// is shared.
    pub fn taken(&self) -> Taken {
        match self {
            Self::Bytes(bytes) => Taken::Bytes(bytes.to_vec()),
            Self::Sealed(sealed) => Taken::Sealed(Arc::clone(sealed)),
        }
    }
}

/// A value as it was.
#[derive(Debug, Clone)]
pub enum Taken {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Sealed memory.
    Sealed(Arc<Sealed>),
}

impl Taken {
    /// The same, to be read.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Sealed(sealed) => Value::Sealed(sealed),
        }
    }

    /// All of its bytes.
    pub fn into_bytes(self) -> os::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Sealed(_) => Ok(self.value().bytes()?.into_owned()),
        }
    }
}
