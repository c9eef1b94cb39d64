//! Commands on keys, whatever their values are.

use objmapper::kv::{DATABASES, Fault, Value};
use objmapper_proto::resp::Args;

use super::call::{Answer, Call, Oops, integer};

pub(super) fn del(call: &mut Call<'_, '_>) -> Answer {
    let gone = call.keys.iter().filter(|key| call.hold.remove(key)).count();
    call.count(gone);
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_, '_>) -> Answer {
    let there = call.keys.iter().filter(|key| call.hold.has(key)).count();
    call.count(there);
    Ok(())
}

pub(super) fn touch(call: &mut Call<'_, '_>) -> Answer {
    let there = call.keys.iter().filter(|key| call.hold.get(key).is_some()).count();
    call.count(there);
    Ok(())
}

pub(super) fn kind(call: &mut Call<'_, '_>) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let there = call.hold.has(key);
    call.out.simple(if there { "string" } else { "none" });
    Ok(())
}

/// Whether a value may be moved here and now: where it lies it stays, but one of our own memory is
/// written to the journal from there.
fn may_move(call: &mut Call<'_, '_>) -> Answer {
    let value = call.keys.first().and_then(|key| call.hold.peek(key));
    let Some(Value::Bytes(bytes)) = value else { return Ok(()) };
    let length = bytes.len() as u64;
    if call.key_service.keyspace.journal().is_none() {
        return Ok(());
    }
    call.may_copy(length)
}

pub(super) fn rename(call: &mut Call<'_, '_>) -> Answer {
    may_move(call)?;
    let [from, to] = &call.keys[..] else { return Ok(()) };
    if !call.hold.rename(from, to)? {
        return Err(Fault::NoKey.into());
    }
    call.out.ok();
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_, '_>) -> Answer {
    may_move(call)?;
    let [from, to] = &call.keys[..] else { return Ok(()) };
    if !call.hold.has(from) {
        return Err(Fault::NoKey.into());
    }
    let done = !call.hold.has(to) && call.hold.rename(from, to)?;
    call.out.integer(i64::from(done));
    Ok(())
}

const SAME: Oops = Oops::Text("ERR source and destination objects are the same");

pub(super) fn copy(call: &mut Call<'_, '_>) -> Answer {
    let mut replace = false;
    let mut at = 3;
    while let Some(word) = call.args.get(at) {
        if word.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"db") && call.args.get(at + 1).is_some() {
            at += 1;
            database(call.args.at(at))?;
        } else {
            return Err(Oops::Syntax);
        }
        at += 1;
    }
    let [from, to] = &call.keys[..] else { return Ok(()) };
    if from.is(to) {
        return Err(SAME);
    }
    // In sealed memory it is shared; else copied under two locks.
    let length = call.hold.peek(from).map_or(0, |value| value.len());
    call.may_copy(length)?;
    let done = (replace || !call.hold.has(to)) && call.hold.copy(from, to)?;
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn relocate(call: &mut Call<'_, '_>) -> Answer {
    database(call.args.at(2))?;
    may_move(call)?;
    let [from, to] = &call.keys[..] else { return Ok(()) };
    if from.is(to) {
        return Err(SAME);
    }
    let done = !call.hold.has(to) && call.hold.rename(from, to)?;
    call.out.integer(i64::from(done));
    Ok(())
}

/// The number of a database.
fn database(word: &[u8]) -> Result<u8, Oops> {
    let number = integer(word)?;
    if i32::try_from(number).is_err() {
        return Err(Oops::Text(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    let number = u8::try_from(number).ok().filter(|number| *number < DATABASES);
    number.ok_or(Oops::Text("ERR DB index is out of range"))
}

/// The database that the second key of COPY or MOVE belongs to: the last that is said, or `db`.
pub(super) fn elsewhere(args: Args<'_>, db: u8) -> u8 {
    let is_move = args.len() == 3 && args.at(0).eq_ignore_ascii_case(b"move");
    let said = if is_move {
        Some(args.at(2))
    } else {
        let words = (3..args.len()).rev();
        let mut named = words.filter(|at| args.at(at - 1).eq_ignore_ascii_case(b"db"));
        named.find(|&at| at > 3).map(|at| args.at(at))
    };
    said.and_then(|word| database(word).ok()).unwrap_or(db)
}
