//! CONFIG: what of the settings clients may know by the names that Redis has for it, and the few
//! that they may change while the daemon runs.
//!
//! Changes last until the daemon stops: its file belongs to whoever runs it.

use objmapper::kv::{self, LONGEST, Memory, Policy, glob};

use super::call::{Answer, Call, Oops};
use super::slowlog::{self, SlowLog};
use super::{KeyService, durability};
use crate::service::effort::STEPS;

/// One of them.
struct Parameter {
    name: &'static str,
    value: fn(&KeyService) -> String,
    /// How it is changed; `None` if it is not.
    change: Option<Change>,
}

/// Reads a value, or says why it is none.
type Change = fn(&[u8], &mut Wish) -> Result<(), &'static str>;

/// What is to change, all of it or nothing: what was named, since others may change the rest meanwhile.
#[derive(Debug, Default)]
struct Wish {
    limit: Option<u64>,
    policy: Option<Policy>,
    slower_than: Option<i64>,
    longest: Option<usize>,
}

impl Wish {
    fn fulfil(&self, memory: &Memory, slow: &SlowLog) {
        if let Some(policy) = self.policy {
            memory.set_policy(policy);
        }
        if let Some(limit) = self.limit {
            memory.set_limit(limit);
        }
        if let Some(micros) = self.slower_than {
            slow.set_slower_than(micros);
        }
        if let Some(longest) = self.longest {
            slow.set_longest(longest);
        }
    }
}

const fn fixed(name: &'static str, value: fn(&KeyService) -> String) -> Parameter {
    Parameter { name, value, change: None }
}

/// All of them.
static PARAMETERS: &[Parameter] = &[
    fixed("appendfsync", |key_service| durability::sync_policy(key_service).to_owned()),
    fixed("appendonly", |key_service| yes(durability::is_kept(key_service))),
    fixed("bind", |key_service| {
        key_service
            .facts
            .settings
            .kv
            .listen
            .map(|address| address.ip().to_string())
            .unwrap_or_default()
    }),
    fixed("databases", |_| objmapper::kv::DATABASES.to_string()),
    fixed("dir", durability::directory),
    fixed("hz", |_| "10".to_owned()),
    fixed("lfu-decay-time", |_| "1".to_owned()),
    fixed("lfu-log-factor", |_| "10".to_owned()),
    fixed("maxclients", |key_service| key_service.facts.settings.limits.connections.to_string()),
    Parameter {
        name: "maxmemory",
        value: |key_service| key_service.keyspace.memory().limit().to_string(),
        change: Some(|text, wish| {
            wish.limit = Some(bytes(text).ok_or("argument must be a memory value")?);
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory-policy",
        value: |key_service| key_service.keyspace.memory().policy().name().to_owned(),
        change: Some(|text, wish| {
            let policy = str::from_utf8(text).ok().and_then(Policy::of).ok_or(
                "argument(s) must be one of the following: volatile-lru, volatile-lfu, \
                 volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, \
                 noeviction",
            )?;
            wish.policy = Some(policy);
            Ok(())
        }),
    },
    fixed("port", |key_service| {
        key_service.facts.settings.kv.listen.map_or(0, |address| address.port()).to_string()
    }),
    fixed("proto-max-bulk-len", |_| LONGEST.to_string()),
    fixed("save", |_| String::new()),
    Parameter {
        name: "slowlog-log-slower-than",
        value: |key_service| key_service.slow.slower_than().to_string(),
        change: Some(|text, wish| {
            let micros = kv::integer(text).filter(|micros| *micros >= -1);
            let why = "argument must be between -1 and 9223372036854775807 inclusive";
            wish.slower_than = Some(micros.ok_or(why)?);
            Ok(())
        }),
    },
    Parameter {
        name: "slowlog-max-len",
        value: |key_service| key_service.slow.longest().to_string(),
        change: Some(|text, wish| {
            let entries = kv::integer(text).and_then(|entries| usize::try_from(entries).ok());
            let entries = entries.filter(|entries| *entries <= slowlog::MOST);
            wish.longest = Some(entries.ok_or("argument must be between 0 and 1024 inclusive")?);
            Ok(())
        }),
    },
    fixed("tcp-backlog", |key_service| key_service.facts.settings.listen.backlog.to_string()),
    fixed("timeout", |key_service| key_service.facts.settings.timeouts.idle.as_secs().to_string()),
    fixed("unixsocket", |key_service| {
        let path = key_service.facts.settings.kv.socket.as_deref();
        path.map(|path| path.display().to_string()).unwrap_or_default()
    }),
    fixed("unixsocketperm", |key_service| format!("{:o}", key_service.facts.settings.kv.mode)),
];

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let names: usize = PARAMETERS.iter().map(|parameter| parameter.name.len()).sum();
    call.may_take(((call.args.span() * names) as u64, STEPS))?;
    let mut found: Vec<(Vec<u8>, String)> = Vec::new();
    for pattern in call.args.from(2).iter() {
        // By its very name it is called as it was asked for.
        let literal = !pattern.iter().any(|byte| b"*?[\\".contains(byte));
        for parameter in PARAMETERS {
            let name = parameter.name.as_bytes();
            let known = found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if !known && glob::matches_in_any_case(pattern, name) {
                let name = if literal { pattern } else { name };
                found.push((name.into(), (parameter.value)(call.key_service)));
            }
        }
    }
    call.out.map(found.len());
    for (name, value) in found {
        call.out.bulk(&name);
        call.out.text(value);
    }
    Ok(())
}

pub(super) fn set(call: &mut Call<'_, '_>) -> Answer {
    let words: Vec<&[u8]> = call.args.from(2).iter().collect();
    if !words.len().is_multiple_of(2) {
        return Err(Oops::Syntax);
    }
    let mut wish = Wish::default();
    let mut seen = Vec::new();
    for pair in words.chunks(2) {
        let [name, text] = pair else { return Err(Oops::Syntax) };
        let shown = String::from_utf8_lossy(name);
        let known =
            PARAMETERS.iter().find(|known| name.eq_ignore_ascii_case(known.name.as_bytes()));
        let parameter = known.ok_or_else(|| {
            let what = "ERR Unknown option or number of arguments for CONFIG SET";
            Oops::Told(format!("{what} - '{shown}'"))
        })?;
        let changed = match parameter.change {
            _ if seen.contains(&parameter.name) => Err("duplicate parameter"),
            Some(change) => change(text, &mut wish),
            // What it is already may be said.
            None if (parameter.value)(call.key_service).as_bytes() == *text => Ok(()),
            None => Err("can't set immutable config"),
        };
        changed.map_err(|why| {
            let what = format!("CONFIG SET failed (possibly related to argument '{shown}')");
            Oops::Told(format!("ERR {what} - {why}"))
        })?;
        seen.push(parameter.name);
    }
    let keyspace = &call.key_service.keyspace;
    wish.fulfil(keyspace.memory(), &call.key_service.slow);
    // Whoever evicts ahead of need looks again.
    keyspace.rouse();
    call.out.ok();
    Ok(())
}

pub(super) fn resetstat(call: &mut Call<'_, '_>) -> Answer {
    call.key_service.facts.reset();
    if call.in_exec {
        call.hold.reset_counters();
    } else {
        call.key_service.keyspace.reset_counters();
    }
    call.out.ok();
    Ok(())
}

pub(super) fn rewrite(_: &mut Call<'_, '_>) -> Answer {
    Err(Oops::Text(
        "ERR The server is running without a config file that it may write: change kv.max_memory \
         and kv.eviction in the daemon's own",
    ))
}

/// A number of bytes as Redis reads it: `1k` is 1000, `1kb` is 1024.
fn bytes(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // fails its test
mod tests {
    use super::*;
    use objmapper::kv::{Keyspace, Options};

    #[test]
    fn sizes_are_read_as_redis_reads_them() {
        assert_eq!(bytes(b"0"), Some(0));
        assert_eq!(bytes(b"100b"), Some(100));
        assert_eq!((bytes(b"2K"), bytes(b"2kB")), (Some(2000), Some(2048)));
        assert_eq!((bytes(b"3m"), bytes(b"3MB")), (Some(3_000_000), Some(3 << 20)));
        assert_eq!((bytes(b"4g"), bytes(b"4Gb")), (Some(4_000_000_000), Some(4 << 30)));
        for wrong in [&b""[..], b"x", b"-1", b"1.5g", b"1t", b"\xff", b"99999999999999999999"] {
            assert_eq!(bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_was_not_named_stays_as_others_have_set_it() {
        let keyspace = Keyspace::in_memory(Options::default());
        let of = |name: &str, text: &str| {
            let mut wish = Wish::default();
            let parameter = PARAMETERS.iter().find(|known| known.name == name).unwrap();
            parameter.change.unwrap()(text.as_bytes(), &mut wish).unwrap();
            wish
        };
        let (limit, policy) = (of("maxmemory", "1mb"), of("maxmemory-policy", "allkeys-lru"));
        // Both were read before either is done.
        let slow = SlowLog::default();
        limit.fulfil(keyspace.memory(), &slow);
        policy.fulfil(keyspace.memory(), &slow);
        let memory = keyspace.memory();
        assert_eq!((memory.limit(), memory.policy()), (1 << 20, Policy::AllKeysLru));
    }

    #[test]
    fn names_are_in_order_and_known_once() {
        assert!(PARAMETERS.is_sorted_by(|one, other| one.name < other.name));
    }
}
