//! Files as memory, for reading.
//!
//! A mapping is a `&[u8]` that lies in the page cache: nothing is copied, and two processes that map
//! one file share the memory. But a slice promises that nobody writes to it, and a file does not.
//! [`Mapping::sealed`] asks the kernel for that promise; [`Mapping::unsealed`] takes the caller's
//! word for it, and so is unsafe. The unsafe part is in `raw.rs`, as all of it.

pub use crate::raw::Mapping;
