//! Commands on whole databases: what is there, and away with all of it.
//!
//! Outside of a transaction they hold one shard at a time, so that nobody waits long for them; what
//! they see is not of one moment. In a transaction all locks are held already, and no other may be
//! taken.

use objmapper::kv::{Value, glob};
use objmapper_proto::resp::Encoder;

use super::call::{Answer, Call, Oops, integer};
use crate::admission::Resource;
use crate::service::effort::{MUCH, SCAN_COUNT, STEPS};

pub(super) fn keys(call: &mut Call<'_, '_>) -> Answer {
    let mut found = Found::new(call.out.is_three(), Wanted::like(call.args.at(1)));
    let mut cursor = 0;
    loop {
        cursor = found.look(call, cursor, u64::MAX)?;
        if cursor == 0 {
            break;
        }
    }
    found.answer(call);
    Ok(())
}

pub(super) fn scan(call: &mut Call<'_, '_>) -> Answer {
    let mut cursor = cursor(call.args.at(1)).ok_or(Oops::Text("ERR invalid cursor"))?;
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
            count = number.unsigned_abs();
        } else if is(b"match") {
            wanted.like = Wanted::like(value).like;
        } else if is(b"type") {
            wanted.any = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(Oops::Syntax);
        }
        at += 2;
    }
    call.may_take((count, SCAN_COUNT.into()))?;
    let mut found = Found::new(call.out.is_three(), wanted);
    // The page ends where the reply would be too long: who goes on at the cursor gets the rest.
    let enough = call.talk.room / 2;
    while found.seen < count && found.text.len() < enough {
        cursor = found.look(call, cursor, count - found.seen)?;
        if cursor == 0 {
            break;
        }
    }
    call.out.array(2);
    call.out.text(cursor);
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

/// Keys that are looked at in one hold at first. Not tuned.
const AT_FIRST: u32 = 128;

/// Bytes of names that are looked at in one hold, about. Not tuned.
const NAMES: usize = 64 << 10;

/// Keys, as they will be answered.
struct Found<'a> {
    wanted: Wanted<'a>,
    text: Vec<u8>,
    three: bool,
    count: usize,
    /// Keys that were looked at.
    seen: u64,
    /// Bytes of the pattern times those of the names that it was compared with.
    effort: u64,
    /// Names that were copied in one hold, and where each ends.
    names: Vec<u8>,
    ends: Vec<usize>,
    /// How many to take in the next.
    next: u32,
}

impl<'a> Found<'a> {
    fn new(three: bool, wanted: Wanted<'a>) -> Self {
        let (text, names, ends) = (Vec::new(), Vec::new(), Vec::new());
        Self { wanted, text, three, count: 0, seen: 0, effort: 0, names, ends, next: AT_FIRST }
    }

    /// Looks at some keys from the cursor on, about `most` of them or fewer; gives the one to go on at.
    /// Names are copied, and compared when the locks are free: a pattern may be long.
    fn look(&mut self, call: &mut Call<'_, '_>, cursor: u64, most: u64) -> Result<u64, Oops> {
        let count = u32::try_from(most).unwrap_or(u32::MAX).min(self.next);
        // Names may be as long as values.
        let free = call.in_exec || call.talk.has(Resource::Time);
        let (names, ends, mut too_many) = (&mut self.names, &mut self.ends, false);
        names.clear();
        ends.clear();
        let each = |key: &[u8], _: Value<'_>, _: Option<i64>| {
            if too_many || !free && (names.len() + key.len()) as u64 > MUCH {
                too_many = true;
            } else {
                names.extend_from_slice(key);
                ends.push(names.len());
            }
        };
        let (keyspace, db) = (&call.key_service.keyspace, call.talk.db);
        let next = if call.in_exec {
            keyspace.scan_held(call.hold, db, cursor, count, each)
        } else {
            let (wait, now) = (call.talk.wait(), call.hold.now());
            let next = keyspace.try_scan((db, cursor, count), wait, now, each)?;
            seen(call);
            next
        };
        if too_many {
            return Err(Oops::Elsewhere(Resource::Time));
        }
        self.pick(call)?;
        self.next = match self.names.len() {
            0..NAMES => self.next.saturating_mul(2).min(SCAN_COUNT),
            _ => (self.next / 2).max(1),
        };
        Ok(next)
    }

    /// Takes those that are asked for, if that may be done here and now, and they may be told.
    fn pick(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let pattern = self.wanted.like.map_or(0, <[u8]>::len) as u64;
        self.effort = self.effort.saturating_add(pattern.saturating_mul(self.names.len() as u64));
        call.may_take((self.effort, STEPS))?;
        let mut begin = 0;
        for &end in &self.ends {
            let name = self.names.get(begin..end).unwrap_or_default();
            begin = end;
            if self.wanted.has(name) {
                Encoder::new(&mut self.text, self.three).bulk(name);
                self.count += 1;
            }
        }
        self.seen += self.ends.len() as u64;
        call.fits(self.text.len() as u64)
    }

    fn answer(self, call: &mut Call<'_, '_>) {
        call.out.array(self.count);
        call.out.out().extend_from_slice(&self.text);
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
