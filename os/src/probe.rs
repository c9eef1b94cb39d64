//! Which of the newer features this kernel has, asked once.
//!
//! For a line in the log at start and for choices that are made once. Every function of this crate
//! copes by itself with a feature that is not there.

use crate::root::{Links, Resolve, Root};
use crate::socket::{Stream, refuse_descriptors};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;

/// What the kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Opening beneath a root (Linux 5.6, and not forbidden by a filter): without it no tree can
    /// be served.
    pub open_beneath: bool,
    /// Opening only from what is in memory (Linux 5.12).
    pub open_cached: bool,
    /// Sockets can refuse descriptors (Linux 6.16).
    pub refuse_descriptors: bool,
}

/// The features; the first call asks, later ones remember.
pub fn features() -> Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    *FEATURES.get_or_init(ask)
}

fn ask() -> Features {
    let opens = |resolve| {
        let root = Root::open(Path::new("/"))?;
        root.open_file(b"", Links::Refuse, resolve).map(drop)
    };
    let refuses = || {
        let (one, _other) = Stream::pair()?;
        refuse_descriptors(one.as_fd())
    };
    Features {
        open_beneath: opens(Resolve::MayBlock).is_ok(),
        // The root directory is always in memory, so EAGAIN here means that the flag is unknown.
        open_cached: opens(Resolve::CachedOnly).is_ok(),
        refuse_descriptors: refuses().unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_opens_beneath() {
        assert!(features().open_beneath);
        assert_eq!(features(), features());
    }
}
