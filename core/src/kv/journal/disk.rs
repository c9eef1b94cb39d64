//! What the journal asks of a disk: few verbs, so that tests can have one that tears and fails.

use std::fmt::Debug;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use objmapper_os as os;
use os::disk::{self, Directory};
use os::{Result, file};

/// A directory of files by name.
pub trait Disk: Debug + Send + Sync {
    /// All names, in no order.
    fn names(&self) -> Result<Vec<String>>;
    /// An empty file, to be written; its name is durable after [`Disk::sync`]. EEXIST.
    fn create(&self, name: &str) -> Result<Arc<dyn File>>;
    /// A file for reading.
    fn open(&self, name: &str) -> Result<Arc<dyn File>>;
    /// Cuts a file to this length, durably.
    fn cut(&self, name: &str, length: u64) -> Result<()>;
    /// Another name, in the place of what has it; durable after [`Disk::sync`].
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Removes a name; durable after [`Disk::sync`].
    fn remove(&self, name: &str) -> Result<()>;
    /// Makes all names durable.
    fn sync(&self) -> Result<()>;
}

/// A file of it.
pub trait File: Debug + Send + Sync {
    /// Writes behind what was appended before, as much as it takes, at least a byte; gives how many bytes.
    fn append(&self, bytes: &[u8]) -> Result<usize>;
    /// Fills so many bytes from `offset` on, which is not before what was appended, with zeros.
    fn prefill(&self, offset: u64, length: u64) -> Result<()>;
    /// Cuts off what is behind `length`, where what was appended ends; durable after [`File::sync`].
    fn trim(&self, length: u64) -> Result<()>;
    /// Makes what was appended durable.
    fn sync(&self) -> Result<()>;
    /// Its length in bytes.
    fn length(&self) -> Result<u64>;
    /// Reads up to `length` bytes from `offset` on, behind what is in `out`; 0 at the end.
    fn read(&self, out: &mut Vec<u8>, offset: u64, length: usize) -> Result<usize>;
}

/// Writes all of it.
pub(crate) fn append_all(file: &dyn File, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let n = file.append(bytes)?;
        let rest = bytes.get(n..).filter(|_| n > 0);
        bytes = rest.ok_or(os::Error::new("write", os::errno::EIO))?;
    }
    Ok(())
}

impl Disk for Directory {
    fn names(&self) -> Result<Vec<String>> {
        self.names()
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Opened(self.create_file(name)?)))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Opened(self.open_file(name)?)))
    }

    fn cut(&self, name: &str, length: u64) -> Result<()> {
        self.cut(name, length)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.remove(name)
    }

    fn sync(&self) -> Result<()> {
        self.sync()
    }
}

/// A file that is open for writing, or for reading.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) OwnedFd);

impl File for Opened {
    fn append(&self, bytes: &[u8]) -> Result<usize> {
        disk::append(self.0.as_fd(), bytes)
    }

    fn prefill(&self, offset: u64, length: u64) -> Result<()> {
        disk::fill_with_zeros(self.0.as_fd(), offset, length)
    }

    fn trim(&self, length: u64) -> Result<()> {
        disk::set_length(self.0.as_fd(), length)
    }

    fn sync(&self) -> Result<()> {
        disk::sync_data(self.0.as_fd())
    }

    fn length(&self) -> Result<u64> {
        Ok(file::identity(self.0.as_fd())?.size)
    }

    fn read(&self, out: &mut Vec<u8>, offset: u64, length: usize) -> Result<usize> {
        match file::read_at_append(self.0.as_fd(), out, length, offset, false)? {
            file::CachedRead::Bytes(n) => Ok(n),
            file::CachedRead::Cold => Ok(0),
        }
    }
}
