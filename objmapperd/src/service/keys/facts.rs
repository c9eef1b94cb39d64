//! What there is to tell about the daemon: how it was set up, since when it runs, what it counted.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use objmapper::kv::{Keyspace, Totals};
use parking_lot::Mutex;

use crate::config::Settings;
use crate::metrics::Metrics;

/// The Redis whose behaviour is offered: clients decide by it what they may ask for.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// See above.
#[derive(Debug)]
pub struct Facts {
    /// How it was set up.
    pub settings: Settings,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// When it was started.
    pub started: Instant,
    /// The same in seconds since 1970.
    pub started_at: i64,
    /// A name that no other start has, of forty digits.
    pub run_id: String,
    /// What the counters said when they were reset.
    before: Mutex<Counted>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) connections: u64,
    pub(super) turned_away: u64,
    pub(super) commands: u64,
    pub(super) errors: u64,
}

impl Facts {
    /// Of a daemon that starts now.
    pub fn new(settings: &Settings, metrics: &Arc<Metrics>) -> Self {
        Self {
            settings: settings.clone(),
            metrics: metrics.clone(),
            started: Instant::now(),
            started_at: Keyspace::now() / 1000,
            run_id: run_id(),
            before: Mutex::default(),
        }
    }

    /// What was counted since the last reset.
    pub(super) fn counted(&self) -> Counted {
        let (now, before) = (self.since_the_start(), *self.before.lock());
        Counted {
            connections: now.connections.saturating_sub(before.connections),
            turned_away: now.turned_away.saturating_sub(before.turned_away),
            commands: now.commands.saturating_sub(before.commands),
            errors: now.errors.saturating_sub(before.errors),
        }
    }

    /// Counts from here on.
    pub(super) fn reset(&self) {
        *self.before.lock() = self.since_the_start();
    }

    fn since_the_start(&self) -> Counted {
        let (commands, errors) = self.metrics.commands();
        Counted {
            connections: self.metrics.accepted.load(Ordering::Relaxed),
            turned_away: self.metrics.turned_away.load(Ordering::Relaxed),
            commands,
            errors,
        }
    }
}

/// Forty digits by chance: from what the standard library hashes with, which the kernel gave it.
fn run_id() -> String {
    let chance = RandomState::new();
    let digits = [0, 1, 2].map(|n: u8| format!("{:016x}", chance.hash_one(n)));
    digits.concat().chars().take(40).collect()
}

/// Sums over the keyspace, and the keys of each database.
pub(super) struct Inside {
    pub(super) totals: Totals,
    /// Database, keys, of these with an expiry.
    pub(super) databases: Vec<(u8, usize, usize)>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // fails its test
mod tests {
    use super::run_id;

    #[test]
    fn no_part_of_a_name_is_that_of_another() {
        let (one, other) = (run_id(), run_id());
        assert!(one.len() == 40 && one.bytes().all(|digit| digit.is_ascii_hexdigit()), "{one}");
        for at in (0..40).step_by(8) {
            assert_ne!(
                one.get(at..at + 8).unwrap(),
                other.get(at..at + 8).unwrap(),
                "{one} {other}"
            );
        }
    }
}
