//! What counts as long: what a helper does, so that a worker's other connections need not wait for it.
//!
//! An estimate, from what is known before anything is done. Changing the thread twice costs some 20 us;
//! what is short takes up to some 100 us.

/// Keys of one command, and commands of one transaction: more take long. Not tuned.
pub(super) const MANY: usize = 256;

/// Bytes of a request, or of values that are copied: more take long. What a worker sends of a file in
/// its turn, unless set otherwise. Not tuned.
pub(super) const MUCH: u64 = 1 << 20;

/// Bytes that are copied: more take as long as a pass over many keys, and wait for their turn with those.
/// Not tuned.
pub(super) const VAST: u64 = 64 << 20;

/// Pairs of bytes of two values that are compared: more take long. Not tuned.
pub(super) const PAIRS: u64 = 1 << 22;

/// Pairs of bytes of names and of a pattern that are compared: more take long. Not tuned.
pub(super) const STEPS: u64 = 1 << 20;

/// Keys that SCAN looks at, its COUNT: more take long. Not tuned.
pub(super) const SCAN_COUNT: u32 = 1024;
