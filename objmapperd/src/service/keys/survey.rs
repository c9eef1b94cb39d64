//! Commands on whole databases: what is there, and away with all of it.
//!
//! Outside of a transaction they hold one shard at a time, so that nobody waits long for them; what
//! they see is not of one moment. In a transaction all locks are held already, and no other may be
//! taken.

use objmapper::kv::{Value, glob};
use objmapper_proto::resp::Encoder;

use super::call::{Answer, Call, Oops, integer};
use crate::service::effort::{SLOTS, STEPS};
use crate::session::keys::Need;

pub(super) fn keys(call: &mut Call<'_, '_>) -> Answer {
    let mut found = Found::new(call.out.is_three());
    let mut cursor = 0;
    loop {
        cursor = look(call, cursor, SLOTS, Wanted::like(call.args.at(1)), &mut found)?;
        if cursor == 0 {
            break;
        }
    }
    found.answer(call);
    Ok(())
}

pub(super) fn scan(call: &mut Call<'_, '_>) -> Answer {
    let cursor = cursor(call.args.at(1)).ok_or(Oops::Text("ERR invalid cursor"))?;
    let (mut count, mut wanted) = (10, Wanted::ALL);
    let mut at = 2;
    while let Some(word) = call.args.get(at) {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let Some(value) = call.args.get(at + 1) else { return Err(Oops::Syntax) };
        if is(b"count") {
            let number = integer(value)?;
            if number < 1 {
                return Err(Oops::Syntax);
            }
            count = u32::try_from(number).unwrap_or(u32::MAX);
        } else if is(b"match") {
            wanted.like = Wanted::like(value).like;
        } else if is(b"type") {
            wanted.any = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(Oops::Syntax);
        }
        at += 2;
    }
    call.may_take((count.into(), SLOTS.into()))?;
    let mut found = Found::new(call.out.is_three());
    let next = look(call, cursor, count, wanted, &mut found)?;
    call.out.array(2);
    call.out.text(next);
    found.answer(call);
    Ok(())
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    like: Option<&'a [u8]>,
    /// Those of the only type that there is.
    any: bool,
}

impl<'a> Wanted<'a> {
    const ALL: Self = Self { like: None, any: true };

    fn like(pattern: &'a [u8]) -> Self {
        Self { like: (pattern != b"*").then_some(pattern), any: true }
    }

    fn has(&self, key: &[u8]) -> bool {
        self.any && self.like.is_none_or(|pattern| glob::matches(pattern, key))
    }
}

/// Keys, as they will be answered.
struct Found {
    text: Vec<u8>,
    three: bool,
    count: usize,
    /// Pairs of bytes that may have been compared.
    steps: u64,
}

impl Found {
    const fn new(three: bool) -> Self {
        Self { text: Vec::new(), three, count: 0, steps: 0 }
    }

    /// Takes a key if it is wanted.
    fn judge(&mut self, wanted: &Wanted<'_>, key: &[u8]) {
        if wanted.has(key) {
            self.add(key);
        }
    }

    /// Whether comparing one more takes no longer than it may.
    fn may_judge(&mut self, wanted: &Wanted<'_>, key: &[u8]) -> bool {
        let pattern = wanted.like.map_or(0, <[u8]>::len);
        self.steps = self.steps.saturating_add(pattern as u64 * key.len() as u64);
        self.steps <= STEPS
    }

    fn add(&mut self, key: &[u8]) {
        Encoder::new(&mut self.text, self.three).bulk(key);
        self.count += 1;
    }

    fn answer(self, call: &mut Call<'_, '_>) {
        call.out.array(self.count);
        call.out.out().extend_from_slice(&self.text);
    }
}

/// Looks at some `count` slots from the cursor on; gives the one to go on at.
fn look(
    call: &mut Call<'_, '_>,
    cursor: u64,
    count: u32,
    wanted: Wanted<'_>,
    found: &mut Found,
) -> Result<u64, Oops> {
    let (keyspace, db) = (&call.key_service.keyspace, call.talk.db);
    if call.in_exec {
        let each = |key: &[u8], _: Value<'_>, _: Option<i64>| found.judge(&wanted, key);
        return Ok(keyspace.scan_held(call.hold, db, cursor, count, each));
    }
    let (wait, now) = (call.talk.wait(), call.hold.now());
    if call.talk.may_take_long() {
        return look_long(call, (cursor, count), wanted, found);
    }
    let mut short = true;
    let next = keyspace.try_scan((db, cursor, count), wait, now, |key, _, _| {
        short = short && found.may_judge(&wanted, key);
        if short {
            found.judge(&wanted, key);
        }
    })?;
    seen(call);
    if short { Ok(next) } else { Err(Oops::Elsewhere(Need::Time)) }
}

/// The same where that may take long: names are compared when the locks are free.
fn look_long(
    call: &mut Call<'_, '_>,
    (mut cursor, count): (u64, u32),
    wanted: Wanted<'_>,
    found: &mut Found,
) -> Result<u64, Oops> {
    let (keyspace, db) = (&call.key_service.keyspace, call.talk.db);
    let (wait, now) = (call.talk.wait(), call.hold.now());
    let (mut left, mut names) = (count, Vec::<Box<[u8]>>::new());
    loop {
        let some = left.min(SLOTS);
        cursor = keyspace.try_scan((db, cursor, some), wait, now, |key, _, _| {
            names.push(key.into());
        })?;
        seen(call);
        left = left.saturating_sub(u32::try_from(names.len()).unwrap_or(u32::MAX));
        names.drain(..).for_each(|key| found.judge(&wanted, &key));
        if cursor == 0 || left == 0 {
            return Ok(cursor);
        }
    }
}

/// What was seen without the command's own locks is not to be told before it is as durable as the
/// policy promises: of that is known that it was appended by now.
fn seen(call: &mut Call<'_, '_>) {
    if let Some(journal) = call.key_service.keyspace.journal() {
        call.talk.position = call.talk.position.max(journal.appended());
    }
}

/// A cursor as C reads an unsigned number: a sign or not, any digits that fit.
fn cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let mut sum: u64 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum = sum.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(if negative { sum.wrapping_neg() } else { sum })
}

pub(super) fn randomkey(call: &mut Call<'_, '_>) -> Answer {
    let (keyspace, db) = (&call.key_service.keyspace, call.talk.db);
    let found = if call.in_exec {
        keyspace.random_held(call.hold, db)
    } else {
        let found = keyspace.random(db, call.hold.now());
        seen(call);
        found
    };
    match found {
        Some(name) => call.out.bulk(&name),
        None => call.out.null(),
    }
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_, '_>) -> Answer {
    let db = call.talk.db;
    let (keys, _) = if call.in_exec {
        call.hold.size(db)
    } else {
        let size = call.key_service.keyspace.size(db);
        seen(call);
        size
    };
    call.count(keys);
    Ok(())
}

pub(super) fn flushdb(call: &mut Call<'_, '_>) -> Answer {
    let db = call.talk.db;
    flush(call, &[db])
}

pub(super) fn flushall(call: &mut Call<'_, '_>) -> Answer {
    let all: Vec<u8> = call.key_service.keyspace.databases().collect();
    flush(call, &all)
}

/// ASYNC or not, what takes long is done when the locks are free.
fn flush(call: &mut Call<'_, '_>, databases: &[u8]) -> Answer {
    let known =
        |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    if call.args.len() > 2 || call.args.get(1).is_some_and(|word| !known(word)) {
        return Err(Oops::Syntax);
    }
    if call.in_exec {
        for &db in databases {
            call.hold.clear(db);
        }
    } else {
        let (_, position) = call.key_service.keyspace.clear(databases, call.hold.now());
        call.talk.position = call.talk.position.max(position);
    }
    call.out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::cursor;

    #[test]
    fn cursors_are_read_as_c_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("+17", Some(17)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1 ", None),
            ("x", None),
            ("-", None),
        ] {
            assert_eq!(cursor(text.as_bytes()), expected, "{text}");
        }
    }
}
