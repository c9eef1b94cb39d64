//! Any history of verbs, read back, is the same map.

use std::sync::Arc;

use objmapper::kv::{Keyspace, SyncPolicy};
use proptest::prelude::*;

use crate::disk::Fake;
use crate::town::{LATER, Map, NOW, all, journal, open, set};

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8, Vec<u8>, Option<u8>),
    Remove(u8, u8),
    Expire(u8, u8, Option<u8>),
    Write(u8, u8, u8, Vec<u8>),
    Add(u8, i64),
    /// Both at once.
    Move(u8, u8),
    Clear(u8),
    Compact,
    Reopen,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let (key, db) = (|| 0_u8..12, || 0_u8..2);
    let step = prop_oneof![
        6 => (db(), key(), bytes(), proptest::option::of(any::<u8>()))
            .prop_map(|(d, k, v, e)| Step::Set(d, k, v, e)),
        2 => (db(), key()).prop_map(|(d, k)| Step::Remove(d, k)),
        2 => (db(), key(), proptest::option::of(any::<u8>())).prop_map(|(d, k, e)| Step::Expire(d, k, e)),
        4 => (db(), key(), 0_u8..40, bytes()).prop_map(|(d, k, o, v)| Step::Write(d, k, o, v)),
        2 => (key(), -5_i64..5).prop_map(|(k, n)| Step::Add(k, n)),
        2 => (key(), key()).prop_map(|(a, b)| Step::Move(a, b)),
        1 => db().prop_map(Step::Clear),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 0..150)
}

fn name(k: u8) -> Vec<u8> {
    format!("key {k}").into_bytes()
}

fn end(e: Option<u8>) -> Option<i64> {
    e.map(|e| LATER + i64::from(e))
}

/// Does it; gives the position that it takes to keep it.
fn apply(keys: &Keyspace, step: &Step) -> u64 {
    match step {
        Step::Set(d, k, v, e) => set(keys, *d, &name(*k), v, end(*e)).unwrap(),
        Step::Remove(d, k) => {
            let name = name(*k);
            let key = keys.key(*d, &name);
            let mut hold = keys.hold(&key, NOW);
            hold.remove(&key);
            hold.finish()
        }
        Step::Expire(d, k, e) => {
            let name = name(*k);
            let key = keys.key(*d, &name);
            let mut hold = keys.hold(&key, NOW);
            hold.set_expiry(&key, end(*e));
            hold.finish()
        }
        Step::Write(d, k, o, v) => {
            let name = name(*k);
            let key = keys.key(*d, &name);
            let mut hold = keys.hold(&key, NOW);
            hold.write_at(&key, u64::from(*o), v).unwrap();
            hold.finish()
        }
        Step::Add(k, by) => {
            let name = name(*k);
            let key = keys.key(0, &name);
            let mut hold = keys.hold(&key, NOW);
            let _ = hold.add(&key, *by);
            hold.finish()
        }
        Step::Move(a, b) => {
            let (a, b) = (name(*a), name(*b));
            let both = [keys.key(0, &a), keys.key(0, &b)];
            let mut hold = keys.hold_keys(&both, NOW);
            let value = hold.get(&both[0]).map(|value| value.bytes().unwrap().into_owned());
            if let Some(value) = value {
                hold.remove(&both[0]);
                let content = keys.content(&value).unwrap();
                hold.set(&both[1], content, objmapper::kv::Expiry::Never).unwrap();
            }
            hold.finish()
        }
        Step::Clear(d) => keys.clear(&[*d], NOW).1,
        Step::Compact => {
            keys.compact().unwrap();
            0
        }
        Step::Reopen | Step::Crash => 0,
    }
}

fn same_after(steps: &[Step], sync: SyncPolicy, segment: u64) {
    let disk = Arc::new(Fake::default());
    let options = objmapper::kv::JournalOptions { segment, ..journal(sync) };
    let mut keys = open(&disk, options).unwrap().0;
    let mut disk = disk;
    for step in steps {
        keys.settle(apply(&keys, step)).unwrap();
        let before: Map = all(&keys);
        match step {
            Step::Reopen => {
                drop(keys);
                keys = open(&disk, options).unwrap().0;
            }
            Step::Crash => {
                // The process dies: what it handed to the kernel stays.
                disk = Arc::new(disk.killed());
                let (next, report) = open(&disk, options).unwrap();
                assert_eq!(report.torn, None);
                keys = next;
            }
            _ => continue,
        }
        assert_eq!(all(&keys), before);
        assert_eq!(keys.totals().keys, before.len() as u64);
    }
    let before = all(&keys);
    drop(keys);
    let (keys, report) = open(&disk, options).unwrap();
    assert_eq!(all(&keys), before);
    assert_eq!((report.torn, report.skipped_bytes), (None, 0));
}

proptest! {
    #[test]
    fn any_history_is_read_back(steps in steps(), policy in 0_u8..3, segment in 0_u64..2000) {
        let sync = [SyncPolicy::Always, crate::town::SELDOM, SyncPolicy::Never][usize::from(policy)];
        same_after(&steps, sync, segment);
    }
}

#[test]
fn what_has_ended_is_dropped_at_the_end_and_stays_dropped() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, journal(SyncPolicy::Always)).unwrap().0;
    let past = Keyspace::now() - 1000;
    for n in 0..500 {
        set(&keys, 0, format!("past {n}").as_bytes(), b"x", Some(past)).unwrap();
    }
    set(&keys, 0, b"stays", b"x", Some(LATER)).unwrap();
    drop(keys);
    let keys = open(&disk, journal(SyncPolicy::Always)).unwrap().0;
    assert_eq!(all(&keys).len(), 1);
    // Written anew, it is not what it was.
    let key = keys.key(0, b"past 7");
    let mut hold = keys.hold(&key, NOW);
    hold.write_at(&key, 2, b"y").unwrap();
    keys.settle(hold.finish()).unwrap();
    drop(keys);
    let keys = open(&disk, journal(SyncPolicy::Always)).unwrap().0;
    assert_eq!(all(&keys)[&(0, b"past 7".to_vec())], (b"\0\0y".to_vec(), None));
}

#[test]
fn large_values_come_back() {
    let place = tempfile::tempdir().unwrap();
    let options = objmapper::kv::Options::default();
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    for round in 0..3 {
        let (keys, _) = Keyspace::open_with(
            &place.path().join("kv"),
            options,
            journal(SyncPolicy::Never),
            |_, _| (),
        )
        .unwrap();
        if round > 0 {
            assert_eq!(all(&keys)[&(3, b"big".to_vec())].0, big);
            assert_eq!(all(&keys)[&(3, b"small".to_vec())].0, b"s");
        }
        keys.settle(set(&keys, 3, b"big", &big, None).unwrap()).unwrap();
        keys.settle(set(&keys, 3, b"small", b"s", None).unwrap()).unwrap();
        if round == 1 {
            keys.compact().unwrap();
        }
    }
}
