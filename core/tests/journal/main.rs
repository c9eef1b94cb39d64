//! The journal: whatever happens to the process, the disk or its bytes, what comes back is what was
//! there, or it is said that it is not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod disk;

mod copies;
mod crashes;
mod faults;
mod histories;
mod objects;
mod pages;
mod segments;
mod town;
mod verbs;
