//! What the tests of the running daemon share: the daemon as a child of the test, a peer that
//! takes the specification at its word, and contents that can be told apart.
//!
//! Nothing here sleeps to be on the safe side: [`until`] polls for what is waited for, and fails
//! when it does not come.

// Each test program uses a part of it, and what fails here fails its test.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::missing_panics_doc)]

pub mod content;
pub mod daemon;
pub mod failing;
pub mod held;
pub mod neighbour;
pub mod peer;
pub mod refusing;
pub mod resp;
pub mod small_disk;
pub mod writers;

use std::time::{Duration, Instant};

/// How long anything may take before it counts as never: far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Polls until the condition holds, and fails if it does not.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Polls until there is a value.
#[track_caller]
pub fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    until(what, || {
        found = value();
        found.is_some()
    });
    found.unwrap()
}

/// Says why a test proves nothing here; nothing passes in silence.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    objmapper_os::peer::own_uid() == 0
}
