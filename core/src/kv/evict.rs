//! What must go when there is no room, and how full it is.
//!
//! Eviction looks at some keys of a shard and takes the one that its policy likes least: what
//! there is to know of a key are 24 bits in its record. Which shard is a matter of chance, and
//! keys are spread evenly.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use super::shard::{At, Shard};

/// Keys that are looked at for one that goes: what the sample misses is a little younger.
const SAMPLES: u32 = 8;

/// What goes when there is no room, by the names that Redis has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Policy {
    /// Nothing: writes that need room are refused.
    #[default]
    NoEviction,
    /// What was used longest ago.
    AllKeysLru,
    /// What was used most seldom.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Of what has an expiry, what was used longest ago.
    VolatileLru,
    /// Of what has an expiry, what was used most seldom.
    VolatileLfu,
    /// Of what has an expiry, any.
    VolatileRandom,
    /// What ends first.
    VolatileTtl,
}

impl Policy {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::NoEviction, "noeviction"),
        (Self::AllKeysLru, "allkeys-lru"),
        (Self::AllKeysLfu, "allkeys-lfu"),
        (Self::AllKeysRandom, "allkeys-random"),
        (Self::VolatileLru, "volatile-lru"),
        (Self::VolatileLfu, "volatile-lfu"),
        (Self::VolatileRandom, "volatile-random"),
        (Self::VolatileTtl, "volatile-ttl"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(policy, _)| *policy == self).map_or("noeviction", |(_, name)| name)
    }

    /// The policy of that name.
    pub fn of(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(policy, _)| *policy)
    }

    const fn is_lfu(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }

    const fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }
}

/// How full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Below 70 % of what is allowed, or nothing is said.
    Low,
    /// From 70 % on: keys whose time is up are looked for harder.
    Medium,
    /// From 85 % on: keys are evicted ahead of need, so that writers need not wait for it.
    High,
    /// From 95 % on: also by each writer, before it writes.
    Critical,
}

/// The bytes in use, and how many may be.
#[derive(Debug)]
pub struct Memory {
    used: AtomicI64,
    limit: AtomicU64,
    policy: AtomicU8,
    peak: AtomicI64,
}

impl Memory {
    pub(super) fn new(limit: u64, policy: Policy) -> Self {
        Self {
            used: AtomicI64::new(0),
            limit: AtomicU64::new(limit),
            policy: AtomicU8::new(policy as u8),
            peak: AtomicI64::new(0),
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst).max(0).unsigned_abs()
    }

    /// The most bytes that were in use.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Bytes allowed; 0 for any number.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Allows so many bytes from now on.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// What goes.
    pub fn policy(&self) -> Policy {
        let number = self.policy.load(Ordering::Relaxed);
        let known = Policy::ALL.iter().find(|(policy, _)| *policy as u8 == number);
        known.map_or(Policy::NoEviction, |(policy, _)| *policy)
    }

    /// Something else goes from now on.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u8, Ordering::Relaxed);
    }

    /// How full it is.
    pub fn pressure(&self) -> Pressure {
        let (used, limit) = (self.used(), self.limit());
        match used.saturating_mul(100).checked_div(limit) {
            None | Some(0..70) => Pressure::Low,
            Some(70..85) => Pressure::Medium,
            Some(85..95) => Pressure::High,
            Some(_) => Pressure::Critical,
        }
    }

    /// Whether keys are to be evicted ahead of need, if any may be.
    #[inline]
    pub fn is_pressed(&self) -> bool {
        self.limit() > 0 && self.pressure() >= Pressure::High && self.policy() != Policy::NoEviction
    }

    /// Whether there is more than is allowed.
    #[inline]
    pub fn is_over(&self) -> bool {
        let limit = self.limit();
        limit > 0 && self.used() > limit
    }

    #[inline]
    pub(super) fn add(&self, bytes: i64) {
        if bytes != 0 {
            let used = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
            if used > self.peak.load(Ordering::Relaxed) {
                self.peak.fetch_max(used, Ordering::Relaxed);
            }
        }
    }

    /// The policy, for uses of a key to be noted by.
    #[inline]
    pub(super) fn tracking(&self) -> Policy {
        self.policy()
    }
}

const LFU_START: u32 = 5;
const LFU_FACTOR: u32 = 10;

/// Seconds, or minutes and a count, of a key that is new.
#[inline]
pub(super) fn created(policy: Policy, now: i64) -> u32 {
    if policy.is_lfu() { minutes(now) << 8 | LFU_START } else { seconds(now) }
}

/// The same of one that is used now.
#[inline]
pub(super) fn touched(policy: Policy, access: u32, now: i64) -> u32 {
    if !policy.is_lfu() {
        return seconds(now);
    }
    // Counts with a probability that falls with the count, as Morris (CACM 1978) has it: eight
    // bits reach a million uses.
    let count = frequency(access, now);
    let step = u64::from(count.saturating_sub(LFU_START) * LFU_FACTOR + 1);
    let luck = mixed(u64::from(access) ^ now.unsigned_abs());
    let count = if count < 255 && luck.is_multiple_of(step) { count + 1 } else { count };
    minutes(now) << 8 | count
}

/// How often a key was used, on a scale that is logarithmic; a step less for each idle minute.
pub fn frequency(access: u32, now: i64) -> u32 {
    let idle = minutes(now).wrapping_sub(access >> 8) & 0xffff;
    (access & 0xff).saturating_sub(idle)
}

/// Seconds since a key was used.
pub fn idle_seconds(access: u32, now: i64) -> u32 {
    seconds(now).wrapping_sub(access) & 0xff_ffff
}

/// Which of some keys goes.
pub(super) fn choose(shard: &Shard, policy: Policy, seed: u64, now: i64) -> Option<At> {
    let chains = shard.chains();
    if chains == 0 || policy == Policy::NoEviction || policy.is_volatile() && shard.volatile() == 0
    {
        return None;
    }
    let mut best: Option<(i64, At)> = None;
    let mut looked_at = 0;
    let start = u32::try_from(mixed(seed) % u64::from(chains)).unwrap_or(0);
    // Where few keys are, or few have an expiry, all may have to be looked at.
    for step in 0..chains {
        shard.chain((start + step) % chains, |at, record| {
            if policy.is_volatile() && record.expiry().is_none() {
                return;
            }
            let score = match policy {
                Policy::AllKeysRandom | Policy::VolatileRandom => 0,
                Policy::VolatileTtl => -record.expiry().unwrap_or(i64::MAX),
                policy if policy.is_lfu() => -i64::from(frequency(record.access(), now)),
                _ => i64::from(idle_seconds(record.access(), now)),
            };
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, at));
            }
            looked_at += 1;
        });
        if looked_at >= SAMPLES {
            break;
        }
    }
    best.map(|(_, at)| at)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the low bits are what is wanted
#[inline]
fn seconds(now: i64) -> u32 {
    (now / 1000) as u32 & 0xff_ffff
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#[inline]
fn minutes(now: i64) -> u32 {
    (now / 60_000) as u32 & 0xffff
}

/// A number that looks like chance.
#[inline]
pub(super) fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}
