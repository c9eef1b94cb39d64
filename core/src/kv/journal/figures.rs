//! What a journal tells of itself.

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// The number of the last record.
    pub appended: u64,
    /// Up to which they are written.
    pub written: u64,
    /// Up to which they are durable.
    pub durable: u64,
    /// Bytes of records since the last snapshot.
    pub since_snapshot: u64,
    /// Bytes of that snapshot.
    pub snapshot: u64,
    /// When it was begun, in milliseconds since 1970; 0: there is none.
    pub snapshot_at: i64,
    /// fdatasync(2) that were made.
    pub syncs: u64,
    /// Writes are refused.
    pub failed: bool,
    /// Bytes that did not hold at the start and were skipped, since that was asked for.
    pub skipped_bytes: u64,
    /// Records that are missing with them, as far as that is known.
    pub skipped_records: u64,
    /// A snapshot, or a backup, is being written.
    pub snapshotting: bool,
    /// The last snapshot that was begun could not be finished.
    pub snapshot_failed: bool,
}
