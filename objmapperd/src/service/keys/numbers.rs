//! Commands on values that are numbers.

use super::call::{Answer, Call, Oops, integer};

pub(super) fn incr(call: &mut Call<'_, '_>) -> Answer {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_, '_>) -> Answer {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_, '_>) -> Answer {
    let by = integer(call.args.at(2))?;
    add(call, by)
}

pub(super) fn decrby(call: &mut Call<'_, '_>) -> Answer {
    let by = integer(call.args.at(2))?;
    let by = by.checked_neg().ok_or(Oops::Text("ERR decrement would overflow"))?;
    add(call, by)
}

fn add(call: &mut Call<'_, '_>, by: i64) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let sum = call.hold.add(key, by)?;
    call.out.integer(sum);
    Ok(())
}

pub(super) fn incrbyfloat(call: &mut Call<'_, '_>) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let sum = call.hold.add_number(key, call.args.at(2))?;
    call.out.bulk(sum.as_bytes());
    Ok(())
}
