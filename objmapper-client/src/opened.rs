//! An object that came as a descriptor.
//!
//! The descriptor is ours alone, read-only and close-on-exec; it is closed when this is dropped.
//! Everything here reads at explicit offsets, so that it works on shared descriptions as well
//! and several threads may read at the same time. Only an object that is sealed can be mapped
//! without a promise that nobody but its owner can give.

use crate::error::{Error, Result};
use crate::metadata::Metadata;
use objmapper_os::file::{self, CachedRead};
#[cfg(feature = "map")]
use objmapper_os::mapping::Mapping;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that one read asks for at first; it grows with what has been read. Not tuned.
const FIRST_READ: u64 = 64 * 1024;

/// An open object.
#[derive(Debug)]
pub struct Opened {
    fd: OwnedFd,
    metadata: Metadata,
}

impl Opened {
    pub(crate) fn new(fd: OwnedFd, metadata: Metadata) -> Self {
        Self { fd, metadata }
    }

    /// What it was when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.metadata.size()
    }

    /// As a file. If the metadata says [`Metadata::is_shared`], its position is shared as well:
    /// then use [`std::os::unix::fs::FileExt`] only.
    pub fn into_file(self) -> File {
        File::from(self.fd)
    }

    /// The bare descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Reads at an offset: 0 is the end, and fewer bytes than asked for are possible before it.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        Ok(file::read_at(self.fd.as_fd(), buf, offset)?)
    }

    /// Its bytes as memory, without copying any, if the kernel promises that they stay what they
    /// are: the object is a sealed memory file. What the daemon says of it is not asked.
    /// [`Error::Unsealed`] for all others, files on a disk among them. Those can be mapped by
    /// somebody who knows that nobody writes to them: [`Mapping::unsealed`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// use objmapper_client::{Client, Error, Mapping};
    /// let mut client = Client::connect()?;
    /// let model = client.open("/models/a.gguf")?;
    /// let bytes = match model.map() {
    ///     // SAFETY: models are deployed by rename, and the old ones are never written to.
    ///     Err(Error::Unsealed) => unsafe { Mapping::unsealed(&model, model.size()) }?,
    ///     mapped => mapped?,
    /// };
    /// assert_eq!(bytes.len() as u64, model.size());
    /// # Ok(()) }) }
    /// ```
    #[cfg(feature = "map")]
    pub fn map(&self) -> Result<Mapping> {
        let (size, there) = (self.size(), file::identity(self.fd.as_fd())?.size);
        if there < size {
            return Err(Error::Truncated { size, read: there });
        }
        Mapping::sealed(&self.fd, size)?.ok_or(Error::Unsealed)
    }

    /// All bytes: as many as it had when it was opened, or [`Error::Truncated`].
    ///
    /// Memory is taken as bytes arrive, never for a size that is only said.
    pub fn read_to_vec(&self) -> Result<Vec<u8>> {
        let size = self.size();
        let mut bytes = Vec::new();
        let mut read = 0_u64;
        while read < size {
            // At most as much again as there is already: twice the truth at worst.
            let step = (size - read).min(read.max(FIRST_READ));
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            match file::read_at_append(self.fd.as_fd(), &mut bytes, step, read, false)? {
                CachedRead::Bytes(0) | CachedRead::Cold => {
                    return Err(Error::Truncated { size, read });
                }
                CachedRead::Bytes(n) => read += n as u64,
            }
        }
        Ok(bytes)
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Opened> for OwnedFd {
    fn from(opened: Opened) -> Self {
        opened.fd
    }
}

impl From<Opened> for File {
    fn from(opened: Opened) -> Self {
        opened.into_file()
    }
}

/// An object in the form in which it came.
#[derive(Debug)]
pub enum Object {
    /// An open descriptor.
    Descriptor(Opened),
    /// The bytes that were asked for.
    Bytes(Vec<u8>, Metadata),
}

impl Object {
    /// What it is.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Descriptor(opened) => opened.metadata(),
            Self::Bytes(_, metadata) => metadata,
        }
    }

    /// The bytes, read from the descriptor if it came as one.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        match self {
            Self::Descriptor(opened) => opened.read_to_vec(),
            Self::Bytes(bytes, _) => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_proto::{ObjectHead, Status};
    use std::io::Write;

    fn opened(content: &[u8], size: u64) -> Opened {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let head = ObjectHead { size, ..ObjectHead::failed(Status::Ok) };
        Opened::new(file.into(), Metadata::new(head))
    }

    #[test]
    fn reads_what_was_promised_and_no_more() {
        let content: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        let object = opened(&content, 200_000);
        assert_eq!(object.read_to_vec().unwrap(), content);
        assert_eq!(object.read_to_vec().unwrap(), content, "the position does not move");
        assert_eq!(opened(&content, 70_000).read_to_vec().unwrap(), content[..70_000]);
        assert_eq!(opened(&content, 0).read_to_vec().unwrap(), b"");
    }

    #[test]
    fn a_size_that_is_a_lie_takes_no_memory() {
        let error = opened(b"short", u64::MAX).read_to_vec().unwrap_err();
        assert!(matches!(error, Error::Truncated { size: u64::MAX, read: 5 }), "{error}");
    }
}
