//! What there is to tell of the keyspace by the names of our own counters: numbers for STATS, and with
//! words beside them for `KV_STATUS`. INFO has the names of Redis.
//!
//! What must stay true: nobody is made to wait for a disk, nor for keys that somebody holds for long where
//! others are served; and nothing is counted for this alone.

use std::fmt::{Display, Write};

use objmapper::kv::{DATABASES, SyncPolicy, Wait};

use super::KeyService;
use crate::metrics;

impl KeyService {
    /// Appends the counters, as STATS tells them: one a line. What shards count is as it was last where
    /// somebody holds one of them longer than this waits.
    pub fn write_figures(&self, wait: Wait, out: &mut String) {
        let (keyspace, memory) = (&self.keyspace, self.keyspace.memory());
        let totals = match keyspace.try_totals(wait) {
            Ok(totals) => {
                *self.totals.lock() = totals;
                totals
            }
            Err(_) => *self.totals.lock(),
        };
        let journal = keyspace.journal().map(|journal| journal.figures()).unwrap_or_default();
        let lines = [
            ("kv.keys", totals.keys),
            ("kv.keys_with_expiry", totals.volatile),
            ("kv.sealed_values", totals.sealed),
            ("kv.hits", totals.hits),
            ("kv.misses", totals.misses),
            ("kv.expired", totals.expired),
            ("kv.evicted", totals.evicted),
            ("kv.bytes", memory.used()),
            ("kv.peak", memory.peak()),
            ("kv.limit", memory.limit()),
            ("kv.pressure", memory.pressure() as u64),
            ("kv.clients", self.clients.count() as u64),
            ("journal.appended", journal.appended),
            ("journal.written", journal.written),
            ("journal.durable", journal.durable),
            ("journal.syncs", journal.syncs),
            ("journal.bytes", journal.since_snapshot),
            ("journal.snapshot_bytes", journal.snapshot),
            ("journal.snapshot_at_ms", journal.snapshot_at.unsigned_abs()),
            ("journal.snapshotting", journal.snapshotting.into()),
            ("journal.snapshot_failed", journal.snapshot_failed.into()),
            ("journal.failed", journal.failed.into()),
            ("journal.skipped_bytes", journal.skipped_bytes),
            ("journal.skipped_records", journal.skipped_records),
        ];
        for (name, value) in lines {
            metrics::line(out, name, value);
        }
    }

    /// The same, and what is no number: how it is kept, why it failed, the keys of each database.
    pub fn status(&self) -> String {
        let mut out = String::with_capacity(1024);
        self.write_figures(Wait::Long, &mut out);
        line(&mut out, "kv.eviction", self.keyspace.memory().policy().name());
        if let Some(journal) = self.keyspace.journal() {
            let (sync, interval) = match journal.options().sync {
                SyncPolicy::Always => ("always", None),
                SyncPolicy::Interval(interval) => ("interval", Some(interval.as_millis())),
                SyncPolicy::Never => ("never", None),
            };
            line(&mut out, "journal.dir", super::durability::directory(self));
            line(&mut out, "journal.sync", sync);
            if let Some(ms) = interval {
                line(&mut out, "journal.sync_interval_ms", ms);
            }
            if let Some(why) = journal.failure() {
                line(&mut out, "journal.failure", why);
            }
        }
        for db in 0..DATABASES {
            let (keys, volatile) = self.keyspace.size(db);
            if keys > 0 {
                line(&mut out, &format!("kv.db{db}.keys"), keys);
                line(&mut out, &format!("kv.db{db}.keys_with_expiry"), volatile);
            }
        }
        out
    }
}

/// One line, whatever the value is.
fn line(out: &mut String, name: &str, value: impl Display) {
    let value = value.to_string().replace(char::is_control, "?");
    // Into a String: cannot fail.
    let _ = writeln!(out, "{name} {value}");
}
