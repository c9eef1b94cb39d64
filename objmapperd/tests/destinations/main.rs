//! Bodies that go into a pipe or a stream socket which the client passed: what may be passed, what
//! arrives there, and that nobody but the transfer itself waits for it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod scene;

mod bytes;
mod refused;
mod waiting;
