//! Commands on parts of values.

use objmapper::kv::Value;

use super::call::{Answer, Call, Oops, copying, integer};

pub(super) fn append(call: &mut Call<'_, '_>) -> Answer {
    may_write(call, 0)?;
    let Some(key) = call.keys.first() else { return Ok(()) };
    let length = call.hold.append(key, call.args.at(2))?;
    length_is(call, length)
}

pub(super) fn strlen(call: &mut Call<'_, '_>) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let length = call.hold.get(key).map_or(0, |value| value.len());
    length_is(call, length)
}

pub(super) fn setrange(call: &mut Call<'_, '_>) -> Answer {
    let offset = u64::try_from(integer(call.args.at(2))?)
        .map_err(|_| Oops::Text("ERR offset is out of range"))?;
    may_write(call, offset)?;
    let Some(key) = call.keys.first() else { return Ok(()) };
    let bytes = call.args.at(3);
    let length = if bytes.is_empty() {
        call.hold.peek(key).map_or(0, |value| value.len())
    } else {
        call.hold.write_at(key, offset, bytes)?
    };
    length_is(call, length)
}

fn length_is(call: &mut Call<'_, '_>, length: u64) -> Answer {
    call.out.integer(i64::try_from(length).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_, '_>) -> Answer {
    let (start, end) = (integer(call.args.at(2))?, integer(call.args.at(3))?);
    let Some(key) = call.keys.first() else { return Ok(()) };
    let room = (call.talk.room as u64).saturating_sub(call.out.out().len() as u64);
    let Some(value) = call.hold.get(key) else {
        call.out.bulk(b"");
        return Ok(());
    };
    let (from, length) = within(start, end, value.len());
    // Before anything is copied.
    if length > room {
        return Err(call.too_long());
    }
    if let Some(need) = call.talk.lacks(copying(length)).filter(|_| !call.in_exec) {
        return Err(Oops::Elsewhere(need));
    }
    if let Value::Sealed(sealed) = value {
        let sealed = sealed.clone();
        call.let_go();
        return call.part_of(Value::Sealed(&sealed), from, length);
    }
    call.out.bulk_head(length);
    value.read_into(call.out.out(), from, length).map_err(|error| Oops::Fault(error.into()))?;
    call.out.end();
    Ok(())
}

/// Whether a value may be written to here and now, from there on: zeros may be needed before that, and
/// a copy of what lies in sealed memory.
fn may_write(call: &mut Call<'_, '_>, offset: u64) -> Answer {
    let bytes = match call.keys.first().and_then(|key| call.hold.peek(key)) {
        Some(Value::Sealed(sealed)) => offset.max(sealed.size()),
        Some(Value::Bytes(bytes)) => offset.saturating_sub(bytes.len() as u64),
        None => offset,
    };
    call.may_copy(bytes)
}

/// Where the bytes from `start` to `end` are, both among them, and how many; negative ones count
/// from the end.
fn within(start: i64, end: i64, length: u64) -> (u64, u64) {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |n: i64| if n < 0 { n.saturating_add(length).max(0) } else { n };
    // Of two that count from the end, the order is looked at before they are cut.
    if length == 0 || start < 0 && end < 0 && start > end {
        return (0, 0);
    }
    let (start, end) = (place(start), place(end).min(length - 1));
    if start > end {
        return (0, 0);
    }
    (start.unsigned_abs(), (end - start).unsigned_abs() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_among_them_and_cut_where_there_is_nothing() {
        for (start, end, expected) in [
            (0, 3, (0, 4)),
            (0, -1, (0, 10)),
            (-3, -1, (7, 3)),
            (5, 3, (0, 0)),
            (5, 5000, (5, 5)),
            (-100, -100, (0, 1)),
            (-1, -3, (0, 0)),
            (-100, 2, (0, 3)),
            (10, 10, (0, 0)),
            (i64::MIN, i64::MAX, (0, 10)),
        ] {
            assert_eq!(within(start, end, 10), expected, "{start} {end}");
        }
        assert_eq!(within(0, -1, 0), (0, 0));
    }
}
