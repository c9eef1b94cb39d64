//! Interleavings of the daemon's threads, as loom explores them: the pool as it runs, what the
//! sweeper and owners of connections write, the transfer path's inbox.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p objmapperd --profile fast --test loom
//! ```
//!
//! The code is the daemon's own; only below it are stand-ins (`sync`, `pool/deques`), in which
//! loom can change threads: for locks, atomics, deques, and for waiting in epoll. The kernel is
//! the real one: epoll instances, eventfds, sockets.
//!
//! Small models are explored to the end. Those with a running pool are explored with one or two
//! changes of thread where no thread had to wait (`town::explore`); that is what fits into a
//! minute, and every mistake that was tried shows with as many. `LOOM_MAX_PREEMPTIONS=3` goes
//! further, for hours.
//!
//! Not here: spinning and timers of workers (time stands still), the deques' own atomics (their
//! library's), and helpers (one lock and a condition).

#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub)] // a test that panics has failed

mod deadline;
mod inbox;
mod loan;
mod pool;
mod seat;
mod town;
