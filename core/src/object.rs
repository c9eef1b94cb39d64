//! What is known of an object, and the version that tells its contents apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};

use foldhash::quality::RandomState;
use objmapper_os::clock;
use objmapper_os::file::Identity;
use objmapper_proto::{Kind, Version};
use std::hash::{BuildHasher, Hasher};

/// Metadata of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Where its bytes are kept.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Changes whenever the content may have changed.
    pub version: Version,
    /// `F_SEAL_*` bits of a memory file, else 0.
    pub seals: u32,
    /// Whether the backing can never change.
    pub immutable: bool,
}

impl Object {
    /// A regular file as it is now.
    #[inline]
    pub fn of_file(identity: &Identity) -> Self {
        Self {
            kind: Kind::File,
            size: identity.size,
            mtime_ns: identity.mtime_ns,
            version: version(identity, clock::realtime_coarse_ns()),
            seals: 0,
            immutable: false,
        }
    }
}

impl Object {
    /// Bytes in sealed memory.
    pub(crate) fn of_memory(size: u64, version: Version) -> Self {
        let seals = objmapper_os::memory::immutable_bits();
        Self { kind: Kind::Memory, size, mtime_ns: 0, version, seals, immutable: true }
    }
}

/// The version of bytes: the same as long as this process runs, and another for other bytes, as far
/// as 128 bits that nobody outside can choose tell them apart.
pub(crate) fn version_of(bytes: &[u8]) -> Version {
    static KEYS: LazyLock<[foldhash::quality::RandomState; 2]> = LazyLock::new(Default::default);
    let [low, high] = KEYS.each_ref().map(|key| {
        let mut hasher = key.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    });
    Version(u128::from(high) << 64 | u128::from(low))
}

/// The version of a file that looks like `identity` at `now_ns`.
///
/// The change time cannot be set and moves with every write(2), but only as finely as
/// the file system's clock ticks: a file that changed within the present tick may
/// change again and look the same. Such a file gets a version that is never given
/// again, so that an equal version means equal content. (git's index has the same
/// problem and calls it "racily clean".)
///
/// It rests on this order: `now_ns` is read before the content is, so whatever changes
/// the content later carries a later time. Three things escape it: a writer with a
/// shared mapping (the kernel moves the time at the first write to a clean page only),
/// a clock that is set back, and a file server that stamps by a clock of its own.
#[inline]
fn version(identity: &Identity, now_ns: i64) -> Version {
    let nonce = if is_settled(identity, now_ns) { 0 } else { never_again() };
    let low = [identity.dev, identity.ino, identity.size, identity.mtime_ns.cast_unsigned(), nonce]
        .into_iter()
        .fold(0x9e37_79b9_7f4a_7c15, mix);
    let high = identity.ctime_ns.cast_unsigned();
    Version(u128::from(high) << 64 | u128::from(low))
}

/// Whether every change from `now_ns` on shows: it carries a later time.
#[inline]
fn is_settled(identity: &Identity, now_ns: i64) -> bool {
    identity.ctime_ns < now_ns.saturating_sub(tick_of(identity.ctime_ns))
}

/// Whether every later change of a file that looks like `identity` shows in its identity,
/// if it was asked for just now.
pub(crate) fn changes_show(identity: &Identity) -> bool {
    is_settled(identity, clock::realtime_coarse_ns())
}

/// How long after a change, in nanoseconds, another may carry the same time.
#[inline]
fn tick_of(ctime_ns: i64) -> i64 {
    /// Whole seconds come from file systems that store no more; FAT stores every second one.
    const COARSE: i64 = 2_000_000_000;
    if ctime_ns % 1_000_000_000 == 0 { COARSE } else { tick() }
}

/// Two ticks of the kernel's own clock: stamps are taken from it, or are finer.
fn tick() -> i64 {
    static TICK: OnceLock<i64> = OnceLock::new();
    *TICK.get_or_init(|| 2 * clock::coarse_resolution_ns().max(1_000_000))
}

/// A number that this process gives once and that other processes will hardly give.
#[cold]
fn never_again() -> u64 {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::default().hash_one(0));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    START.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) | 1 << 63
}

/// A multiply-and-fold step: every bit of both sides reaches the result.
#[inline]
#[allow(clippy::cast_possible_truncation)] // the halves of a product
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ b.rotate_left(32)) * 0xa076_1d64_78bd_642f_u128;
    let [x, y] = [product as u64, (product >> 64) as u64];
    x ^ y ^ b
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_123_456_789;

    fn file(ctime_ns: i64) -> Identity {
        Identity {
            dev: 1,
            ino: 2,
            size: 3,
            mtime_ns: 4,
            ctime_ns,
            mode: 0o100_644,
            nlink: 1,
            blocks: 8,
        }
    }

    #[test]
    fn a_settled_file_keeps_its_version() {
        let old = file(NOW - 1_000_000_000);
        assert_eq!(version(&old, NOW), version(&old, NOW + 5));
    }

    #[test]
    fn every_field_counts() {
        let base = file(NOW - 1_000_000_001);
        let others = [
            Identity { dev: 9, ..base },
            Identity { ino: 9, ..base },
            Identity { size: 9, ..base },
            Identity { mtime_ns: 9, ..base },
            Identity { ctime_ns: base.ctime_ns + 1, ..base },
        ];
        for other in others {
            assert_ne!(version(&base, NOW), version(&other, NOW));
        }
    }

    #[test]
    fn a_file_that_may_still_change_unseen_never_has_the_same_version_twice() {
        for fresh in
            [file(NOW), file(NOW + 1_000_000_000), file(NOW / 1_000_000_000 * 1_000_000_000)]
        {
            assert_ne!(version(&fresh, NOW), version(&fresh, NOW));
        }
    }
}
