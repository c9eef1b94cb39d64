//! Peers that do not keep to the protocol: one bad habit for each test. It ends the bad peer's
//! connection at most; a neighbour is served before, meanwhile and afterwards, and in the end the
//! daemon has as many descriptors and threads as at the start (see `support::daemon`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod town;

mod changes;
mod descriptors;
mod floods;
mod frames;
mod passed;
mod pieces;
mod tricks;
mod verbs;
