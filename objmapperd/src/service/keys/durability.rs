//! What clients say about files: it maps onto the journal.
//!
//! Everything in this directory that depends on whether there is a journal, and on how it is kept,
//! asks here.

use std::sync::Arc;
use std::time::Duration;

use objmapper::kv::SyncPolicy;
use objmapper::kv::journal::{Failure, Journal};

use super::KeyService;
use super::call::{Answer, Call, Oops};
use crate::admission::Resource;

/// What is said where it takes a journal.
const NONE: Oops = Oops::Text(
    "ERR there is no journal, keys are kept in memory only: start the daemon with kv.dir (--kv-dir)",
);

/// One at a time.
const UNDER_WAY: Oops = Oops::Text("ERR Background save already in progress");

fn journal(key_service: &KeyService) -> Option<&Arc<Journal>> {
    key_service.keyspace.journal()
}

/// Whether what is written outlives the daemon.
pub(super) fn is_kept(key_service: &KeyService) -> bool {
    journal(key_service).is_some()
}

/// When it is on disk, in the words of Redis.
pub(super) fn sync_policy(key_service: &KeyService) -> &'static str {
    match journal(key_service).map(|journal| journal.options().sync) {
        Some(SyncPolicy::Always) => "always",
        Some(SyncPolicy::Interval(_)) => "everysec",
        Some(SyncPolicy::Never) | None => "no",
    }
}

/// Where it is.
pub(super) fn directory(key_service: &KeyService) -> String {
    let dir = &key_service.facts.settings.kv.dir;
    dir.as_ref().map_or_else(String::new, |dir| dir.display().to_string())
}

/// Names and figures for INFO.
pub(super) fn figures(key_service: &KeyService) -> Vec<(&'static str, String)> {
    let number = |yes: bool| u8::from(yes).to_string();
    let word = |fine: bool| if fine { "ok" } else { "err" }.to_owned();
    let figures = journal(key_service).map(|journal| journal.figures()).unwrap_or_default();
    let mut all = vec![
        ("loading", number(false)),
        ("rdb_bgsave_in_progress", number(figures.snapshotting)),
        ("rdb_last_save_time", saved_at(key_service).to_string()),
        ("rdb_last_bgsave_status", word(!figures.snapshot_failed)),
        ("aof_enabled", number(is_kept(key_service))),
        ("aof_rewrite_in_progress", number(figures.snapshotting)),
        ("aof_last_write_status", word(!figures.failed)),
    ];
    if is_kept(key_service) {
        all.extend([
            ("aof_current_size", (figures.snapshot + figures.since_snapshot).to_string()),
            ("aof_base_size", figures.snapshot.to_string()),
            ("objmapper_journal_records", figures.appended.to_string()),
            ("objmapper_journal_written", figures.written.to_string()),
            ("objmapper_journal_durable", figures.durable.to_string()),
            ("objmapper_journal_syncs", figures.syncs.to_string()),
            ("objmapper_journal_skipped_bytes", figures.skipped_bytes.to_string()),
            ("objmapper_journal_skipped_records", figures.skipped_records.to_string()),
        ]);
    }
    all
}

pub(super) fn save(call: &mut Call<'_, '_>) -> Answer {
    compact(call)?;
    call.out.ok();
    Ok(())
}

/// All that was answered is in the journal already: this makes it short, and waits for that.
pub(super) fn compact(call: &mut Call<'_, '_>) -> Answer {
    let journal = journal(call.key_service).ok_or(NONE)?;
    if !call.talk.has(Resource::Time) {
        return Err(Oops::Elsewhere(Resource::Time));
    }
    call.let_go();
    match call.key_service.keyspace.compact_while(&|| !journal.has_stopped()) {
        Ok(_) => Ok(()),
        Err(Failure::UnderWay) => Err(UNDER_WAY),
        Err(failure) => Err(Oops::Told(format!("ERR {failure}"))),
    }
}

pub(super) fn bgsave(call: &mut Call<'_, '_>) -> Answer {
    let schedule = match (call.args.len(), call.args.get(1)) {
        (1, _) => false,
        (2, Some(word)) if word.eq_ignore_ascii_case(b"schedule") => true,
        _ => return Err(Oops::Syntax),
    };
    let journal = journal(call.key_service).ok_or(NONE)?;
    let under_way = journal.is_copied();
    if under_way && !schedule {
        return Err(UNDER_WAY);
    }
    journal.wish_for_compaction();
    call.out.simple(if under_way {
        "Background saving scheduled"
    } else {
        "Background saving started"
    });
    Ok(())
}

pub(super) fn bgrewriteaof(call: &mut Call<'_, '_>) -> Answer {
    let journal = journal(call.key_service).ok_or(NONE)?;
    let under_way = journal.is_copied();
    journal.wish_for_compaction();
    call.out.simple(if under_way {
        "Background append only file rewriting scheduled"
    } else {
        "Background append only file rewriting started"
    });
    Ok(())
}

/// Before anything was saved: the start. In seconds since 1970.
fn saved_at(key_service: &KeyService) -> i64 {
    let at = journal(key_service).map_or(0, |journal| journal.figures().snapshot_at);
    if at > 0 { at / 1000 } else { key_service.facts.started_at }
}

pub(super) fn lastsave(call: &mut Call<'_, '_>) -> Answer {
    call.out.integer(saved_at(call.key_service));
    Ok(())
}

/// Waits until all that was written before is on the disk, or the time is up. There are no replicas,
/// and none will come: nobody waits for these.
pub(super) fn waitaof(call: &mut Call<'_, '_>) -> Answer {
    let [local, replicas, timeout] = [1, 2, 3].map(|at| super::call::integer(call.args.at(at)));
    let (local, replicas, timeout) = (local?, replicas?, timeout?);
    if !(0..=1).contains(&local) {
        return Err(Oops::Text("ERR value is out of range, must be between 0 and 1"));
    }
    if replicas < 0 {
        return Err(Oops::Text("ERR value is out of range, must be positive"));
    }
    if timeout < 0 {
        return Err(Oops::Text("ERR timeout is negative"));
    }
    let journal = journal(call.key_service);
    if local > 0 && journal.is_none() {
        return Err(Oops::Text(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    let on_disk = match journal.cloned() {
        None => false,
        // In a transaction it tells how it is.
        Some(journal) if local == 0 || call.in_exec => journal.durable() >= journal.appended(),
        Some(journal) => {
            let Some((since, position)) = call.talk.may_wait(journal.appended()) else {
                return Ok(());
            };
            call.let_go();
            // 0 is for as long as it takes; so is what no clock goes to.
            let timeout = (timeout > 0).then(|| Duration::from_millis(timeout.unsigned_abs()));
            let until = timeout.and_then(|timeout| since.checked_add(timeout));
            call.key_service.keyspace.wait_until_durable(position, until)?
        }
    };
    call.out.array(2);
    call.out.integer(i64::from(on_disk));
    call.out.integer(0);
    Ok(())
}

/// Reads everything back from the journal.
pub(super) fn reload(call: &mut Call<'_, '_>) -> Answer {
    journal(call.key_service).ok_or(NONE)?;
    Err(Oops::Text("ERR what is in the journal is read at the start of the daemon only"))
}
