//! OBJECT and MEMORY: what there is to know of a key besides its value.

use objmapper::kv::evict::{frequency, idle_seconds};
use objmapper::kv::{Policy, Value, integer};

use super::call::{Answer, Call, Oops};

/// The longest value that Redis keeps in one piece with its header.
const EMBEDDED: usize = 44;

pub(super) fn object(call: &mut Call<'_, '_>) -> Answer {
    match (lower(call, 1).as_str(), call.args.len()) {
        ("help", 2) => help(call, &OBJECT),
        ("encoding", 3) => encoding(call),
        ("freq", 3) => access(call, true),
        ("idletime", 3) => access(call, false),
        ("refcount", 3) => {
            let there = call.keys.first().is_some_and(|key| call.hold.has(key));
            number(call, there.then_some(1))
        }
        ("help" | "encoding" | "freq" | "idletime" | "refcount", _) => Err(arity(call)),
        _ => Err(unknown(call)),
    }
}

pub(super) fn memory(call: &mut Call<'_, '_>) -> Answer {
    match (lower(call, 1).as_str(), call.args.len()) {
        ("help", 2) => help(call, &MEMORY),
        ("usage", 3..) => usage(call),
        ("help" | "usage", _) => Err(arity(call)),
        _ => Err(unknown(call)),
    }
}

/// The names that Redis has for what a value of that kind would lie in there.
fn encoding(call: &mut Call<'_, '_>) -> Answer {
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

/// How often a key is used, or how long it was not: which of them is known is a matter of policy.
fn access(call: &mut Call<'_, '_>, frequent: bool) -> Answer {
    let policy = call.desk.keyspace.memory().policy();
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

fn usage(call: &mut Call<'_, '_>) -> Answer {
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

fn lower(call: &Call<'_, '_>, at: usize) -> String {
    String::from_utf8_lossy(call.args.at(at)).to_ascii_lowercase()
}

fn arity(call: &Call<'_, '_>) -> Oops {
    let (name, word) = (lower(call, 0), lower(call, 1));
    Oops::Told(format!("ERR wrong number of arguments for '{name}|{word}' command"))
}

fn unknown(call: &Call<'_, '_>) -> Oops {
    let word = String::from_utf8_lossy(call.args.at(1));
    let name = lower(call, 0).to_ascii_uppercase();
    Oops::Told(format!("ERR unknown subcommand '{word}'. Try {name} HELP."))
}

const OBJECT: [&str; 11] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the name that Redis has for how such a value is kept.",
    "FREQ <key>",
    "    Return how often the key is used, on a logarithmic scale, if the policy counts that.",
    "IDLETIME <key>",
    "    Return for how many seconds the key was not used, if the policy does not count uses.",
    "REFCOUNT <key>",
    "    Return 1.",
    "HELP",
    "    Return this help.",
];

const MEMORY: [&str; 5] = [
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return how many bytes the key takes with its value.",
    "HELP",
    "    Return this help.",
];

fn help(call: &mut Call<'_, '_>, lines: &[&str]) -> Answer {
    call.out.array(lines.len());
    for line in lines {
        call.out.simple(line);
    }
    Ok(())
}
