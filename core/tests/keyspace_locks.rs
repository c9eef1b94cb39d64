//! Locks that somebody holds for long: who may not wait is told so, and has none then.

#![allow(clippy::unwrap_used)] // a test that panics has failed

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use objmapper::kv::{Expiry, Fault, Keyspace, Options, Policy, Wait, Watch};

const NOW: i64 = 1_000_000;

fn keyspace() -> Keyspace {
    let keys = Keyspace::in_memory(Options { shards: 4, ..Options::default() });
    for n in 0..100 {
        set(&keys, &name(n));
    }
    keys
}

fn name(n: usize) -> String {
    format!("key:{n}")
}

fn set(keys: &Keyspace, name: &str) {
    let key = keys.key(0, name.as_bytes());
    let content = keys.content(b"value").unwrap();
    keys.hold(&key, NOW).set(&key, content, Expiry::Never).unwrap();
}

#[test]
fn who_waits_briefly_gets_all_locks_or_none() {
    let keys = keyspace();
    let names: Vec<String> = (0..100).map(name).collect();
    let all: Vec<_> = names.iter().map(|name| keys.key(0, name.as_bytes())).collect();
    let held = keys.hold(&all[0], NOW);
    let free = *all.iter().find(|key| !held.covers(key)).unwrap();
    let locked = |hold: Result<_, Fault>| hold.err() == Some(Fault::Locked);
    assert!(locked(keys.try_hold(&all[0], Wait::Briefly, NOW)));
    assert!(locked(keys.try_hold_keys(&all, Wait::Briefly, NOW)));
    assert!(locked(keys.try_hold_also(&[], &[0], Wait::Briefly, NOW)));
    let scan = keys.try_scan((0, 0, 1000), Wait::Briefly, NOW, |_, _, _| ());
    assert_eq!(scan, Err(Fault::Locked));
    // None was kept, and others go on.
    assert!(keys.try_hold(&free, Wait::Briefly, NOW).unwrap().has(&free));
    drop(held);
    assert!(keys.try_hold_keys(&all, Wait::Briefly, NOW).unwrap().has(&free));
}

#[test]
fn who_may_wait_gets_them_when_they_are_free() {
    let keys = keyspace();
    let first = name(0);
    let key = keys.key(0, first.as_bytes());
    let held = keys.hold(&key, NOW);
    thread::scope(|scope| {
        let (begins, begun) = mpsc::channel();
        let (keys, key) = (&keys, &key);
        let waits = scope.spawn(move || {
            begins.send(()).unwrap();
            keys.try_hold(key, Wait::Long, NOW).unwrap().remove(key)
        });
        begun.recv().unwrap();
        // A thousand times as long as a worker would wait.
        thread::sleep(Duration::from_millis(100));
        let mut held = held;
        held.remove(key);
        drop(held);
        assert!(!waits.join().unwrap(), "it came second");
    });
}

#[test]
fn room_is_made_where_locks_are_free() {
    let keys = keyspace();
    keys.set_memory(1, Policy::AllKeysRandom);
    let all = keys.hold_also(&[], &[0], NOW);
    assert_eq!(keys.make_room(Wait::Briefly, NOW), Err(Fault::Locked));
    drop(all);
    let first = name(0);
    let held = keys.hold(&keys.key(0, first.as_bytes()), NOW);
    let before = keys.memory().used();
    assert_eq!(keys.make_room(Wait::Briefly, NOW), Err(Fault::Locked), "all must go, and cannot");
    assert!(keys.memory().used() < before, "what can go has gone");
    drop(held);
}

#[test]
fn a_watch_ends_without_a_wait() {
    let keys = keyspace();
    let (first, told) = (name(0), Watch::default());
    let key = keys.key(0, first.as_bytes());
    let mut held = keys.hold(&key, NOW);
    held.watch(&key, &told);
    keys.unwatch(&key, &told);
    assert!(keys.has_to_tick(), "whoever ticks does the rest");
    drop(held);
    keys.tick(NOW);
    assert!(!keys.has_to_tick());
    set(&keys, &first);
    assert!(!told.load(Ordering::Acquire), "it is over");
}
