//! Verbs that come together in our own protocol: answered as if they had come one by one, in their
//! order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod scene;

mod one_by_one;
mod together;
