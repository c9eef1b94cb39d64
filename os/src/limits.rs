//! How many descriptors this process may have, and one kept back for the day there are no more.
//!
//! The sum of what the daemon wants (listeners + connections + cache + in flight + reserve) is
//! made elsewhere; this is what the kernel grants. See getrlimit(2), `RLIMIT_NOFILE`.

use crate::error::{Error, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// The soft and the hard limit on open descriptors.
pub fn nofile() -> Result<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::from_nix("getrlimit"))
}

/// Raises the soft limit on descriptors to the hard one; gives the soft limit before and after.
/// The hard limit is left alone: whoever starts the process sets it.
pub fn raise_nofile() -> Result<(u64, u64)> {
    let (soft, hard) = nofile()?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(Error::from_nix("setrlimit"))?;
    }
    Ok((soft, hard))
}

/// A descriptor that stands for nothing and is given up when there is no other to be had.
///
/// A listener whose backlog is not empty stays readable while accept(2) fails with EMFILE, and the
/// peer waits without an answer. With the reserve its connection can be accepted and closed, which
/// it notices; after that the caller pauses accepting.
#[derive(Debug)]
pub struct ReserveFd {
    held: Option<OwnedFd>,
}

impl ReserveFd {
    /// Opens `/dev/null` and keeps it.
    pub fn new() -> Result<Self> {
        Ok(Self { held: Some(open_reserve()?) })
    }

    /// Closes the reserve, lets `work` use its place (accept and drop one connection), and takes
    /// it again. If another thread was quicker the reserve stays empty until the next call.
    pub fn release_and<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.held = None;
        let result = work();
        self.held = open_reserve().ok();
        result
    }

    /// Whether the reserve is there.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

fn open_reserve() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::on("open")(errno).with_detail("/dev/null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_reaches_the_hard_limit() {
        let (_, after) = raise_nofile().unwrap();
        let (soft, hard) = nofile().unwrap();
        assert_eq!((soft, hard), (after, after));
    }

    #[test]
    fn the_reserve_is_free_during_the_work_and_held_after() {
        let mut reserve = ReserveFd::new().unwrap();
        assert!(reserve.is_held());
        assert_eq!(reserve.release_and(|| 7), 7);
        assert!(reserve.is_held());
    }
}
