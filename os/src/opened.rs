//! An open file, and who closes it.
//!
//! close(2) returns at once for a file on a disk. A file system that asks somebody (another
//! machine, a program) may ask at every close whether all went well, and wait for the answer. Such
//! a file goes to a [`Closer`] when it is dropped, wherever that is.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Closes files for those who may not wait.
pub trait Closer: Debug + Send + Sync {
    /// Closes it, by and by.
    fn close(&self, fd: OwnedFd);

    /// Whether it can take more: else nothing should be opened that it would have to close.
    fn has_room(&self) -> bool {
        true
    }
}

/// Closes at once, on the spot: for programs whose threads may wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnTheSpot;

impl Closer for OnTheSpot {
    fn close(&self, _: OwnedFd) {}
}

/// An open file.
#[derive(Debug)]
pub struct Opened {
    /// `None` only while it ends.
    fd: Option<OwnedFd>,
    closer: Option<Arc<dyn Closer>>,
}

impl Opened {
    /// With which nothing ever waits but for a disk.
    pub const fn prompt(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), closer: None }
    }

    /// With which any call may wait for ever; `closer` is for the last one.
    pub const fn may_hang(fd: OwnedFd, closer: Arc<dyn Closer>) -> Self {
        Self { fd: Some(fd), closer: Some(closer) }
    }

    /// Whether a call on it may wait for ever.
    #[inline]
    pub const fn hangs(&self) -> bool {
        self.closer.is_some()
    }
}

impl From<Opened> for OwnedFd {
    /// Closing it is then the business of whoever has it.
    fn from(mut opened: Opened) -> Self {
        match opened.fd.take() {
            Some(fd) => fd,
            None => unreachable!("only who ends it takes it"),
        }
    }
}

impl AsFd for Opened {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("only who ends it takes it"),
        }
    }
}

impl Drop for Opened {
    #[inline]
    fn drop(&mut self) {
        if let Some(closer) = &self.closer
            && let Some(fd) = self.fd.take()
        {
            closer.close(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Later(Mutex<Vec<OwnedFd>>);

    impl Closer for Later {
        fn close(&self, fd: OwnedFd) {
            self.0.lock().unwrap().push(fd);
        }
    }

    #[test]
    fn what_may_hang_goes_to_its_closer_once_and_open() {
        let open = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        drop(Opened::prompt(open()));
        let later = Arc::new(Later::default());
        let opened = Opened::may_hang(open(), later.clone());
        let number = opened.as_fd().as_raw_fd();
        assert!(later.0.lock().unwrap().is_empty());
        drop(opened);
        let waiting = later.0.lock().unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].as_raw_fd(), number);
        assert!(rustix::fs::fstat(&waiting[0]).is_ok(), "it is still open");
    }
}
