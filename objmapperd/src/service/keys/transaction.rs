//! Transactions: what is said between MULTI and EXEC is kept, and done under one hold of all its
//! keys' locks.
//!
//! What must stay true:
//! - all locks are taken before the first command runs, those of watched keys among them: nobody
//!   sees a part, across shards and databases, and the journal gets one record;
//! - which database a key is in is known before: SELECT moves those that follow it;
//! - a command that takes locks by itself says so in its row ([`Flags::WHOLE`],
//!   [`Flags::EVERYTHING`]) and uses what is held instead.

use objmapper::kv::{DATABASES, Hold, Key, Keyspace};
use objmapper_proto::resp::{Args, Encoder};

use super::call::{Answer, Call, Oops, integer};
use super::info;
use super::table::{self, Command, Flags};
use crate::admission::Resource;
use crate::service::effort::{MANY, MUCH};
use crate::session::keys::{Making, Talk, Transaction};

/// Keeps a command until EXEC, if it may be kept.
#[cold]
pub(super) fn queue(
    talk: &mut Talk,
    command: &Command,
    args: Args<'_>,
    out: &mut Encoder<'_>,
) -> bool {
    let oops = if command.flags.has(Flags::NO_MULTI) {
        Some(Oops::Text("ERR Command not allowed inside a transaction"))
    } else {
        let over = talk.transaction.as_ref().and_then(|transaction| transaction.over);
        let over = over.or(talk.crowded);
        over.map(|over| Oops::Told(format!("ERR no more can be queued: {over}")))
    };
    if let Some(oops) = oops {
        out.error(spoil(talk, args, oops));
        return false;
    }
    if let Some(transaction) = &mut talk.transaction {
        transaction.writes |= command.flags.has(Flags::WRITES);
        transaction.grows |= command.flags.has(Flags::GROWS);
        transaction.long |= takes_long(command, args);
        foresee(&mut transaction.making, command, args);
        transaction.push(args);
    }
    out.simple("QUEUED");
    true
}

/// Whether it takes long by itself, or takes all locks.
fn takes_long(command: &Command, args: Args<'_>) -> bool {
    let long = [Flags::MAY_TAKE_LONG, Flags::WHOLE].iter().any(|flag| command.flags.has(*flag));
    long && (command.name != "info" || info::looks_inside(args))
}

/// Notes what a command may make of values that are not there yet: EXEC sees only those that are.
fn foresee(making: &mut Making, command: &Command, args: Args<'_>) {
    making.keys += command.count_keys(args) as u64;
    making.moves |= command.gives_another_key();
    let longest = args.from(1).iter().map(<[u8]>::len).max().unwrap_or(0) as u64;
    match command.name {
        "setrange" => {
            // One that is no number is refused.
            let offset = integer(args.at(2)).ok().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            making.zeros = making.zeros.saturating_add(offset);
            making.longest = making.longest.max(offset.saturating_add(args.at(3).len() as u64));
        }
        "append" => making.appended = making.appended.saturating_add(args.at(2).len() as u64),
        _ if command.flags.has(Flags::GROWS) => making.longest = making.longest.max(longest),
        _ => {}
    }
}

/// A command was refused: what it does to a transaction, and what is said.
#[cold]
pub(super) fn spoil(talk: &mut Talk, args: Args<'_>, oops: Oops) -> Oops {
    if args.at(0).eq_ignore_ascii_case(b"exec") {
        end(talk);
        let told = oops.to_string();
        let told = told.strip_prefix("ERR ").unwrap_or(&told);
        return Oops::Told(format!("EXECABORT Transaction discarded because of: {told}"));
    }
    if let Some(transaction) = &mut talk.transaction {
        transaction.broken = true;
    }
    oops
}

fn end(talk: &mut Talk) {
    talk.transaction = None;
    talk.watched.release();
}

pub(super) fn multi(call: &mut Call<'_, '_>) -> Answer {
    if call.talk.transaction.is_some() {
        return Err(Oops::Text("ERR MULTI calls can not be nested"));
    }
    call.talk.transaction = Some(Transaction::default());
    call.out.ok();
    Ok(())
}

/// Whether what is watched may be forgotten here and now.
pub(super) fn may_release(call: &Call<'_, '_>) -> Answer {
    call.may_take((call.talk.watched.count() as u64, MANY as u64))
}

pub(super) fn discard(call: &mut Call<'_, '_>) -> Answer {
    if call.talk.transaction.is_none() {
        return Err(Oops::Text("ERR DISCARD without MULTI"));
    }
    may_release(call)?;
    end(call.talk);
    call.out.ok();
    Ok(())
}

pub(super) fn watch(call: &mut Call<'_, '_>) -> Answer {
    if call.talk.transaction.is_some() {
        return Err(Oops::Text("ERR WATCH inside MULTI is not allowed"));
    }
    if let Some(over) = call.talk.watched.lost.or(call.talk.crowded) {
        return Err(Oops::Told(format!("ERR no more can be watched: {over}")));
    }
    let db = call.talk.db;
    for key in &call.keys {
        call.talk.watched.add(&call.key_service.keyspace, call.hold, db, key);
    }
    call.out.ok();
    Ok(())
}

pub(super) fn unwatch(call: &mut Call<'_, '_>) -> Answer {
    if !call.in_exec {
        may_release(call)?;
        call.talk.watched.release();
    }
    call.out.ok();
    Ok(())
}

pub(super) fn exec(call: &mut Call<'_, '_>) -> Answer {
    let Some(transaction) = call.talk.transaction.take() else {
        return Err(Oops::Text("ERR EXEC without MULTI"));
    };
    if transaction.broken {
        call.talk.watched.release();
        return Err(Oops::Text("EXECABORT Transaction discarded because of previous errors."));
    }
    let keyspace = &*call.key_service.keyspace;
    let mut hold = match hold_for(call, &transaction) {
        Ok(hold) => hold,
        Err(oops @ Oops::Elsewhere(_)) => {
            call.talk.transaction = Some(transaction);
            return Err(oops);
        }
        Err(oops) => return Err(spoil(call.talk, call.args, oops)),
    };
    if call.talk.watched.settle(&mut hold) {
        *call.hold = hold;
        call.out.null_array();
        return Ok(());
    }
    call.out.array(transaction.requests.len());
    for request in &transaction.requests {
        let args = request.args();
        let three = call.talk.three;
        let mut out = Encoder::new(call.out.out(), three);
        let Some(command) = table::of(args) else {
            out.error(table::unknown(args));
            continue;
        };
        if command.flags.has(Flags::GROWS)
            && let Err(fault) = hold.may_go_on_growing()
        {
            out.error(Oops::Fault(fault));
            continue;
        }
        let keys = command.keys(keyspace, call.talk.db, args);
        let (talk, caller, key_service) = (&mut *call.talk, call.caller, call.key_service);
        let hold = &mut hold;
        let mut inner = Call { args, keys, out, talk, caller, key_service, hold, in_exec: true };
        inner.run(command);
    }
    *call.hold = hold;
    Ok(())
}

/// Takes all locks of a transaction, if it may be done here and now.
fn hold_for<'k>(call: &mut Call<'_, 'k>, transaction: &Transaction) -> Result<Hold<'k>, Oops> {
    let keyspace = &*call.key_service.keyspace;
    // It was asked when they were queued: that may be long ago.
    if transaction.writes {
        keyspace.may_write()?;
    }
    if transaction.grows {
        keyspace.make_room(call.talk.wait(), call.hold.now())?;
    }
    let mut wanted = Wanted::of(transaction, keyspace, call.talk.db);
    let watched = call.talk.watched.keys(keyspace);
    wanted.keys.extend(&watched);
    let (wait, now) = (call.talk.wait(), Keyspace::now());
    let mut hold = keyspace.try_hold_also(&wanted.keys, &wanted.databases, wait, now)?;
    if !call.talk.has(Resource::Time) {
        let lengths = wanted.keys.iter().map(|key| hold.peek(key).map_or(0, |value| value.len()));
        let (all, longest) = lengths.fold((0_u64, 0_u64), |(all, longest), length| {
            (all.saturating_add(length), longest.max(length))
        });
        // Values may be compared with each other as well.
        if transaction.making.effort(all, longest) > MUCH {
            return Err(Oops::Elsewhere(Resource::Time));
        }
    }
    if call.talk.touches_nothing {
        hold.touch_nothing();
    }
    Ok(hold)
}

/// The locks that a transaction takes.
struct Wanted<'a> {
    keys: Vec<Key<'a>>,
    databases: Vec<u8>,
}

impl<'a> Wanted<'a> {
    /// Those of all its commands, the first of which is said in this database.
    fn of(transaction: &'a Transaction, keyspace: &Keyspace, mut db: u8) -> Self {
        let mut wanted = Self { keys: Vec::new(), databases: Vec::new() };
        for request in &transaction.requests {
            let args = request.args();
            let Some(command) = table::of(args) else { continue };
            wanted.keys.extend(command.keys(keyspace, db, args));
            if command.name == "info" && !info::looks_inside(args) {
                continue;
            }
            if command.flags.has(Flags::EVERYTHING) {
                wanted.databases = (0..DATABASES).collect();
            } else if command.flags.has(Flags::WHOLE) && !wanted.databases.contains(&db) {
                wanted.databases.push(db);
            }
            if command.name == "select"
                && let Ok(other) = database(args)
            {
                db = other;
            }
        }
        wanted
    }
}

/// The database that SELECT names.
pub(super) fn database(args: Args<'_>) -> Result<u8, Oops> {
    let db = integer(args.at(1))?;
    let db = u8::try_from(db).ok().filter(|db| *db < DATABASES);
    db.ok_or(Oops::Text("ERR DB index is out of range"))
}
