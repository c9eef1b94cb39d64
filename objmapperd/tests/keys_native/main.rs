//! Keys in our own protocol: the same ones that clients of Redis have, verb by verb, and for whom.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod scene;

mod many;
mod refused;
mod single;
