//! Nothing outside the tree is ever handed out, whatever the name, whatever lies in the tree, and
//! whatever happens to it meanwhile. Each refusal says what it is and what to do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod scene;

mod names;
mod races;
mod tree;
