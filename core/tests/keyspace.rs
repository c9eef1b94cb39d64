//! The keyspace against a plain map, and what a map does not have: passes, ends, memory, watches.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use objmapper::kv::{Expiry, Fault, Keyspace, Options, Policy, Wait, evict};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;

fn small() -> Keyspace {
    Keyspace::in_memory(Options { shards: 4, inline: 16, ..Options::default() })
}

fn set(keys: &Keyspace, key: &[u8], value: &[u8], expiry: Expiry, now: i64) {
    let key = keys.key(0, key);
    keys.hold(&key, now).set(&key, keys.content(value).unwrap(), expiry).unwrap();
}

fn get(keys: &Keyspace, key: &[u8], now: i64) -> Option<Vec<u8>> {
    let key = keys.key(0, key);
    let mut hold = keys.hold(&key, now);
    hold.get(&key).map(|value| value.bytes().unwrap().into_owned())
}

fn all(keys: &Keyspace, count: u32, now: i64) -> Vec<Vec<u8>> {
    let (mut seen, mut cursor) = (Vec::new(), 0);
    loop {
        cursor = keys.scan(0, cursor, count, now, |key, _, _| seen.push(key.to_vec()));
        if cursor == 0 {
            return seen;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, Vec<u8>, Option<u8>),
    Keep(u8, Vec<u8>),
    Remove(u8),
    Expire(u8, Option<u8>),
    Write(u8, u8, Vec<u8>),
    Add(u8, i64),
    Rename(u8, u8),
    Copy(u8, u8),
    Pass(u8),
    Tick,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let key = || 0_u8..20;
    let step = prop_oneof![
        4 => (key(), bytes(), proptest::option::of(1_u8..20)).prop_map(|(k, v, e)| Step::Set(k, v, e)),
        1 => (key(), bytes()).prop_map(|(k, v)| Step::Keep(k, v)),
        2 => key().prop_map(Step::Remove),
        1 => (key(), proptest::option::of(0_u8..20)).prop_map(|(k, e)| Step::Expire(k, e)),
        2 => (key(), 0_u8..40, bytes()).prop_map(|(k, o, v)| Step::Write(k, o, v)),
        2 => (key(), -5_i64..5).prop_map(|(k, n)| Step::Add(k, n)),
        1 => (key(), key()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (key(), key()).prop_map(|(a, b)| Step::Copy(a, b)),
        1 => (1_u8..10).prop_map(Step::Pass),
        1 => Just(Step::Tick),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 0..200)
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn apply(keys: &Keyspace, model: &mut Model, step: Step, now: &mut i64) {
    let name = |k: u8| format!("key {k}").into_bytes();
    model.retain(|_, (_, end)| end.is_none_or(|end| end > *now));
    match step {
        Step::Set(k, v, e) => {
            let end = e.map(|e| *now + i64::from(e));
            set(keys, &name(k), &v, end.map_or(Expiry::Never, Expiry::At), *now);
            model.insert(name(k), (v, end));
        }
        Step::Keep(k, v) => {
            set(keys, &name(k), &v, Expiry::Kept, *now);
            let end = model.get(&name(k)).and_then(|(_, end)| *end);
            model.insert(name(k), (v, end));
        }
        Step::Remove(k) => {
            let name = name(k);
            let key = keys.key(0, &name);
            assert_eq!(keys.hold(&key, *now).remove(&key), model.remove(&name).is_some());
        }
        Step::Expire(k, e) => {
            let name = name(k);
            let key = keys.key(0, &name);
            let end = e.map(|e| *now + i64::from(e));
            let found = keys.hold(&key, *now).set_expiry(&key, end);
            assert_eq!(found, model.contains_key(&name));
            if let Some(entry) = model.get_mut(&name) {
                entry.1 = end;
            }
        }
        Step::Write(k, offset, bytes) => {
            let name = name(k);
            let key = keys.key(0, &name);
            let length = keys.hold(&key, *now).write_at(&key, offset.into(), &bytes).unwrap();
            let (value, _) = model.entry(name).or_default();
            let end = usize::from(offset) + bytes.len();
            value.resize(value.len().max(end), 0);
            value[usize::from(offset)..end].copy_from_slice(&bytes);
            assert_eq!(length, value.len() as u64);
        }
        Step::Add(k, by) => {
            let name = name(k);
            let key = keys.key(0, &name);
            let sum = keys.hold(&key, *now).add(&key, by);
            let old = model.get(&name).map_or(Some(0), |(v, _)| objmapper::kv::integer(v));
            assert_eq!(sum.ok(), old.map(|old| old + by));
            if let Some(old) = old {
                model.entry(name).or_default().0 = (old + by).to_string().into_bytes();
            }
        }
        Step::Rename(from, to) | Step::Copy(from, to) => {
            let (a, b) = (name(from), name(to));
            let (from, to) = (keys.key(0, &a), keys.key(0, &b));
            let mut hold = keys.hold_keys(&[from, to], *now);
            let found = model.get(&a).cloned();
            let copies = matches!(step, Step::Copy(..));
            let done = if copies { hold.copy(&from, &to) } else { hold.rename(&from, &to) };
            assert_eq!(done, Ok(found.is_some()));
            if let Some(entry) = found {
                if !copies {
                    model.remove(&a);
                }
                model.insert(b, entry);
            }
        }
        Step::Pass(ms) => *now += i64::from(ms),
        Step::Tick => while keys.tick(*now) {},
        Step::Clear => {
            keys.clear(&[0], *now);
            model.clear();
        }
    }
}

proptest! {
    #[test]
    fn is_a_map_whose_keys_end(steps in steps()) {
        let (keys, mut model, mut now) = (small(), Model::new(), NOW);
        for step in steps {
            apply(&keys, &mut model, step, &mut now);
            let alive = model.iter().filter(|(_, (_, end))| end.is_none_or(|end| end > now));
            let alive: BTreeMap<_, _> = alive.map(|(k, (v, _))| (k.clone(), v.clone())).collect();
            for k in 0..20_u8 {
                let name = format!("key {k}").into_bytes();
                prop_assert_eq!(get(&keys, &name, now), alive.get(&name).cloned());
            }
            let mut seen = all(&keys, 3, now);
            seen.sort();
            prop_assert_eq!(seen, alive.keys().cloned().collect::<Vec<_>>());
            prop_assert_eq!(keys.size(0).0, alive.len());
            prop_assert_eq!(keys.hold_also(&[], &[0], now).size(0), keys.size(0));
        }
        keys.clear(&[0], now);
        prop_assert_eq!(keys.totals().sealed, 0);
        prop_assert_eq!(keys.totals().volatile, 0);
    }
}

#[test]
fn a_pass_sees_what_was_there_all_the_time_whatever_comes_and_goes() {
    let keys = small();
    for n in 0..1000 {
        set(&keys, format!("stays {n}").as_bytes(), b"x", Expiry::Never, NOW);
    }
    let (mut seen, mut cursor, mut round) = (Vec::new(), 0, 0);
    loop {
        cursor = keys.scan(0, cursor, 10, NOW, |key, _, _| seen.push(key.to_vec()));
        for n in 0..100 {
            let name = format!("goes {} {n}", round % 3).into_bytes();
            let key = keys.key(0, &name);
            if round % 2 == 0 {
                set(&keys, &name, b"y", Expiry::Never, NOW);
            } else {
                keys.hold(&key, NOW).remove(&key);
            }
        }
        round += 1;
        if cursor == 0 {
            break;
        }
    }
    let stays: HashSet<_> = seen.iter().filter(|key| key.starts_with(b"stays")).collect();
    assert_eq!(stays.len(), 1000);
}

#[test]
fn any_cursor_ends() {
    let keys = small();
    set(&keys, b"a", b"x", Expiry::Never, NOW);
    for cursor in [0, 1, 5, 1 << 20, 1 << 40, u64::MAX] {
        let mut next = cursor;
        for _ in 0..1000 {
            next = keys.scan(0, next, 10, NOW, |_, _, _| ());
            if next == 0 {
                break;
            }
        }
        assert_eq!(next, 0, "{cursor}");
    }
}

#[test]
fn a_watch_is_told_of_changes_and_of_nothing_else() {
    let keys = small();
    let watched = |doing: &dyn Fn()| {
        let watch = Arc::new(AtomicBool::new(false));
        set(&keys, b"k", b"v", Expiry::At(NOW + 10), NOW);
        let key = keys.key(0, b"k");
        keys.hold(&key, NOW).watch(&key, &watch);
        doing();
        keys.hold(&key, NOW).unwatch(&key, &watch);
        watch.load(Ordering::Acquire)
    };
    let key = keys.key(0, b"k");
    assert!(!watched(&|| {
        get(&keys, b"k", NOW);
    }));
    assert!(!watched(&|| set(&keys, b"other", b"v", Expiry::Never, NOW)));
    assert!(watched(&|| set(&keys, b"k", b"v", Expiry::Never, NOW)));
    assert!(watched(&|| {
        keys.hold(&key, NOW).remove(&key);
    }));
    assert!(watched(&|| {
        keys.hold(&key, NOW).write_at(&key, 0, b"w").unwrap();
    }));
    assert!(watched(&|| {
        keys.hold(&key, NOW).set_expiry(&key, None);
    }));
    assert!(watched(&|| {
        keys.clear(&[0], NOW);
    }));
    assert!(
        watched(&|| {
            get(&keys, b"k", NOW + 20);
        }),
        "its time was up"
    );
}

#[test]
fn many_keys_are_held_at_once_and_nobody_waits_for_ever() {
    let keys = Keyspace::in_memory(Options { shards: 8, ..Options::default() });
    let names: Vec<String> = (0..32).map(|n| format!("{n}")).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (keys, names) = (&keys, &names);
            scope.spawn(move || {
                for round in 0..500 {
                    let some: Vec<_> = (0..5)
                        .map(|n| {
                            keys.key(0, names[(thread * 7 + round * 3 + n * 11) % 32].as_bytes())
                        })
                        .collect();
                    let mut hold = keys.hold_keys(&some, NOW);
                    for key in &some {
                        hold.add(key, 1).unwrap();
                    }
                }
            });
        }
    });
    let sum: i64 = names
        .iter()
        .filter_map(|name| objmapper::kv::integer(&get(&keys, name.as_bytes(), NOW)?))
        .sum();
    assert_eq!(sum, 4 * 500 * 5);
}

#[test]
fn what_is_over_the_limit_goes_by_the_policy_or_is_refused() {
    for (policy, _) in Policy::ALL {
        let keys = Keyspace::in_memory(Options {
            shards: 4,
            max_memory: 200_000,
            policy,
            ..Options::default()
        });
        let mut refused = 0;
        for n in 0..5000 {
            let now = NOW + i64::from(n) * 1000;
            match keys.make_room(Wait::Long, now) {
                Ok(()) => {
                    let end = Expiry::At(now + 1_000_000_000 - i64::from(n) * 10_000);
                    set(&keys, format!("{n}").as_bytes(), &[b'x'; 100], end, now);
                }
                Err(Fault::Full { used, limit }) => {
                    assert!(used > limit);
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(keys.memory().used() < 230_000, "{policy:?}: {}", keys.memory().used());
        assert_eq!(refused > 0, policy == Policy::NoEviction, "{policy:?}");
        let evicted = keys.totals().evicted;
        assert_eq!(evicted > 1000, policy != Policy::NoEviction, "{policy:?}: {evicted}");
    }
}

/// How often a key was used is what a policy goes by: writing it over must not make it look new.
#[test]
fn what_is_known_of_a_key_outlives_its_value() {
    let options = Options { policy: Policy::AllKeysLfu, inline: 16, ..Options::default() };
    let keys = Keyspace::in_memory(options);
    let key = keys.key(0, b"k");
    let set = |value: &[u8]| {
        let content = keys.content(value).unwrap();
        keys.hold(&key, NOW).set(&key, content, Expiry::Never).unwrap();
    };
    let count = || evict::frequency(keys.hold(&key, NOW).access(&key).unwrap(), NOW);
    set(b"1");
    let first = count();
    // What chance says is another thing at each moment.
    for n in 0..5000 {
        keys.hold(&key, NOW + n).get(&key);
    }
    let used = count();
    assert!(used > first + 5, "{used} after {first}");
    // In place, in another place, and in memory of its own.
    for value in [&b"2"[..], b"a longer one", &[b'x'; 100], &[b'x'; 200], b"3"] {
        set(value);
        assert!(count() >= used);
    }
    keys.hold(&key, NOW).write_at(&key, 200, b"more").unwrap();
    keys.hold(&key, NOW).write_at(&key, 300, b"more").unwrap();
    assert!(count() >= used);
    // One that comes again is new.
    keys.hold(&key, NOW).remove(&key);
    set(b"4");
    assert_eq!(count(), first);

    let mut hold = keys.hold(&key, NOW);
    hold.touch_nothing();
    for _ in 0..5000 {
        hold.set(&key, keys.content(b"5").unwrap(), Expiry::Never).unwrap();
    }
    drop(hold);
    assert_eq!(count(), first);
}

#[test]
fn of_few_keys_none_comes_much_more_often_than_others() {
    for _ in 0..100 {
        // Of the usual size: most shards have none.
        let keys = Keyspace::in_memory(Options::default());
        let names = [b"a", b"b", b"c"];
        for name in names {
            set(&keys, name, b"", Expiry::Never, NOW);
        }
        let mut whole = keys.hold_also(&[], &[0], NOW);
        let count = |name: Option<Box<[u8]>>, counts: &mut [u32; 3]| {
            let name = name.unwrap();
            counts[names.iter().position(|known| known[..] == *name).unwrap()] += 1;
        };
        let mut held = [0; 3];
        (0..1000).for_each(|_| count(keys.random_held(&mut whole, 0), &mut held));
        drop(whole);
        let mut free = [0; 3];
        (0..1000).for_each(|_| count(keys.random(0, NOW), &mut free));
        // A quarter, where two share a shard.
        for counts in [held, free] {
            assert!(counts.iter().all(|&count| count > 120), "{counts:?}");
        }
    }
    assert_eq!(Keyspace::in_memory(Options::default()).random(0, NOW), None);
}
