//! What threads share and wait with: the usual things, and under `--cfg loom` others with
//! the same names and calls, in which the model checker can change threads.
//!
//! What the models are about takes it from here; see `objmapperd/tests/loom`.

#[cfg(not(loom))]
pub use objmapper_os::poll::{Poll, Registry, Waker};
#[cfg(not(loom))]
pub use parking_lot::{Condvar, Mutex};
#[cfg(not(loom))]
pub use std::{sync::atomic, thread};

#[cfg(loom)]
pub mod kernel;
#[cfg(loom)]
pub use kernel::{Poll, Registry, Waker};
#[cfg(loom)]
mod locks;
#[cfg(loom)]
pub use locks::{Condvar, Mutex};
#[cfg(loom)]
pub use loom::{sync::atomic, thread};
