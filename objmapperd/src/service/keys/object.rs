//! OBJECT and MEMORY: what there is to know of a key besides its value.

use objmapper::kv::evict::{frequency, idle_seconds};
use objmapper::kv::{Policy, Value, integer};

use super::call::{Answer, Call, Oops};

/// The longest value that Redis keeps in one piece with its header.
const EMBEDDED: usize = 44;

/// The names that Redis has for what a value of that kind would lie in there.
pub(super) fn encoding(call: &mut Call<'_, '_>) -> Answer {
    let name = call.keys.first().and_then(|key| call.hold.peek(key)).map(|value| match value {
        Value::Bytes(bytes) if integer(bytes).is_some() => "int",
        Value::Bytes(bytes) if bytes.len() <= EMBEDDED => "embstr",
        _ => "raw",
    });
    match name {
        Some(name) => call.out.bulk(name.as_bytes()),
        None => call.out.null(),
    }
    Ok(())
}

pub(super) fn refcount(call: &mut Call<'_, '_>) -> Answer {
    let there = call.keys.first().is_some_and(|key| call.hold.has(key));
    number(call, there.then_some(1))
}

pub(super) fn freq(call: &mut Call<'_, '_>) -> Answer {
    access(call, true)
}

pub(super) fn idletime(call: &mut Call<'_, '_>) -> Answer {
    access(call, false)
}

/// How often a key is used, or how long it was not: which of them is known is a matter of policy.
fn access(call: &mut Call<'_, '_>, frequent: bool) -> Answer {
    let policy = call.key_service.keyspace.memory().policy();
    let counted = matches!(policy, Policy::AllKeysLfu | Policy::VolatileLfu);
    let now = call.hold.now();
    let Some(access) = call.keys.first().and_then(|key| call.hold.access(key)) else {
        return number(call, None);
    };
    match (frequent, counted) {
        (true, true) => number(call, Some(frequency(access, now).into())),
        (false, false) => number(call, Some(idle_seconds(access, now).into())),
        (true, false) => Err(Oops::Text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
        (false, true) => Err(Oops::Text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

pub(super) fn usage(call: &mut Call<'_, '_>) -> Answer {
    match call.args.len() {
        3 => {}
        5 if call.args.at(3).eq_ignore_ascii_case(b"samples") => {
            // Of values with many parts some are looked at; here there is one.
            if super::call::integer(call.args.at(4))? < 0 {
                return Err(Oops::Syntax);
            }
        }
        _ => return Err(Oops::Syntax),
    }
    let bytes = call.keys.first().and_then(|key| call.hold.footprint(key));
    number(call, bytes.and_then(|bytes| i64::try_from(bytes).ok()))
}

fn number(call: &mut Call<'_, '_>, number: Option<i64>) -> Answer {
    match number {
        Some(number) => call.out.integer(number),
        None => call.out.null(),
    }
    Ok(())
}
