//! Settings as an operator meets them: the program is run, its output is read.
//!
//! Every run is alone: no configuration of this machine, no variable of this shell.

#![allow(clippy::unwrap_used)] // what a test cannot go on without
#![allow(clippy::redundant_pub_crate, unreachable_pub)]

mod scene;

mod documents;
mod mistakes;
mod settings;
mod starting;
