//! What clients say about files: it maps onto the journal.
//!
//! Everything in this directory that depends on whether there is a journal, and on how it is kept,
//! asks here.

use super::Desk;
use super::call::{Answer, Call, Oops};

/// What is said where it takes a journal.
const NONE: Oops = Oops::Text(
    "ERR there is no journal, keys are kept in memory only: start the daemon with kv.dir (--kv-dir)",
);

/// Whether what is written outlives the daemon.
pub(super) const fn is_kept(_: &Desk) -> bool {
    false
}

/// When it is on disk, in the words of Redis.
pub(super) const fn sync_policy(_: &Desk) -> &'static str {
    "no"
}

/// Where it is.
pub(super) const fn directory(_: &Desk) -> &'static str {
    ""
}

/// Names and figures for INFO.
pub(super) fn figures(desk: &Desk) -> Vec<(&'static str, String)> {
    let number = |yes: bool| u8::from(yes).to_string();
    vec![
        ("loading", number(false)),
        ("rdb_bgsave_in_progress", number(false)),
        ("rdb_last_save_time", desk.facts.started_at.to_string()),
        ("rdb_last_bgsave_status", "ok".to_owned()),
        ("aof_enabled", number(is_kept(desk))),
        ("aof_rewrite_in_progress", number(false)),
    ]
}

pub(super) fn save(_: &mut Call<'_, '_>) -> Answer {
    Err(NONE)
}

pub(super) fn bgsave(call: &mut Call<'_, '_>) -> Answer {
    match (call.args.len(), call.args.get(1)) {
        (1, _) => Err(NONE),
        (2, Some(word)) if word.eq_ignore_ascii_case(b"schedule") => Err(NONE),
        _ => Err(Oops::Syntax),
    }
}

pub(super) fn bgrewriteaof(_: &mut Call<'_, '_>) -> Answer {
    Err(NONE)
}

/// Before anything was saved: the start.
pub(super) fn lastsave(call: &mut Call<'_, '_>) -> Answer {
    call.out.integer(call.desk.facts.started_at);
    Ok(())
}

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
    if local > 0 {
        return Err(Oops::Text(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    call.out.array(2);
    call.out.integer(0);
    call.out.integer(0);
    Ok(())
}

/// Reads everything back from the journal.
pub(super) fn reload(_: &mut Call<'_, '_>) -> Answer {
    Err(NONE)
}
