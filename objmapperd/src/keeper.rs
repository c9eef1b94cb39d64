//! The keyspace's journal from the daemon's side: opened with lines in the log, and compacted by a
//! thread that sleeps until it is worth its while.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use objmapper::kv::journal::{Damage, Failure};
use objmapper::kv::{self, JournalOptions, Keyspace, SyncPolicy};

use crate::config::{Kv, KvSync};

/// Time between two lines about how far it is.
const TELL: Duration = Duration::from_secs(1);

/// Time until it is tried again after it failed. Not tuned.
const AGAIN: Duration = Duration::from_secs(10);

/// The keyspace that these settings say; reads it back if it is kept somewhere.
pub fn open(settings: &Kv, is_served: bool) -> anyhow::Result<Keyspace> {
    let options = kv::Options {
        max_memory: settings.max_memory,
        policy: settings.eviction,
        ..kv::Options::default()
    };
    let Some(dir) = &settings.dir else {
        if is_served {
            tracing::info!(
                "keys are kept in memory only and are lost when this daemon stops (kv.dir)"
            );
        }
        return Ok(Keyspace::in_memory(options));
    };
    let sync = match settings.sync {
        KvSync::Always => SyncPolicy::Always,
        KvSync::Interval => SyncPolicy::Interval(settings.sync_interval),
        KvSync::Never => SyncPolicy::Never,
    };
    let journal = JournalOptions {
        sync,
        segment: settings.segment,
        compact_from: settings.compact_from,
        compact_percent: settings.compact_percent,
        compact_every: settings.compact_every,
        damage: settings.damage,
        ..JournalOptions::default()
    };
    let begun = Instant::now();
    let mut told = begun;
    let progress = |done: u64, total: u64| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            tracing::info!(%percent, mib = total >> 20, "reading keys back");
        }
    };
    let cannot = || format!("the keyspace in {} cannot be opened", dir.display());
    let (keys, report) = match Keyspace::open_with(dir, options, journal, progress) {
        Err(damaged @ Failure::Damaged { .. }) if settings.damage == Damage::Refuse => {
            const HOW: &str = "restore a backup, or copy the directory and start with --kv-damage \
                               skip (kv.damage = \"skip\") to go on without what is damaged";
            return Err(damaged).with_context(|| format!("{}: {HOW}", cannot()));
        }
        opened => opened.with_context(cannot)?,
    };
    let (bytes, records) = (report.skipped_bytes, report.skipped_records);
    if bytes > 0 || records > 0 {
        tracing::error!(
            bytes,
            records,
            "skipped what is damaged, as kv.damage says: what it held is lost; 'objmapper kv \
             compact' or BGREWRITEAOF writes a journal without the damage"
        );
    }
    if let Some(torn) = &report.torn {
        let kv::journal::Torn { file, offset, bytes, records } = torn;
        tracing::warn!(file, offset, bytes, records, "cut off a torn tail, as a crash leaves it");
    }
    tracing::info!(
        dir = %dir.display(),
        sync = settings.sync.as_str(),
        keys = keys.totals().keys,
        mib = report.bytes >> 20,
        took = ?begun.elapsed(),
        "opened the keyspace"
    );
    Ok(keys)
}

/// Starts the thread that compacts; it ends with [`objmapper::kv::journal::Journal::stop`].
pub fn start(keys: Arc<Keyspace>) -> std::io::Result<Option<JoinHandle<()>>> {
    let Some(journal) = keys.journal().cloned() else { return Ok(None) };
    let compact = move || {
        let mut not_before = Instant::now();
        while journal.wait_to_compact(not_before) {
            let begun = Instant::now();
            match keys.compact_while(&|| !journal.has_stopped()) {
                Ok(Some(kv::Compacted { before, after })) => {
                    tracing::info!(before, after, took = ?begun.elapsed(), "compacted the journal");
                }
                Ok(None) => {}
                Err(_) if journal.has_stopped() => {}
                Err(Failure::UnderWay) => {
                    journal.wish_for_compaction();
                    not_before = Instant::now() + TELL;
                }
                Err(error) => {
                    tracing::error!(%error, "the journal is not compacted");
                    not_before = Instant::now() + AGAIN;
                }
            }
        }
    };
    thread::Builder::new().name("compactor".to_owned()).spawn(compact).map(Some)
}
