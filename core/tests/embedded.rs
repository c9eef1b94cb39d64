//! The keyspace inside a program: each verb, from many threads, over restarts, beside another process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use objmapper::kv::{self, Expiry, Fault, Keyspace, LONGEST, Options, Policy, Taken};
use proptest::prelude::*;

fn small() -> Keyspace {
    Keyspace::in_memory(Options { shards: 4, inline: 16, ..Options::default() })
}

fn names(db: kv::Db<'_>) -> Vec<String> {
    db.keys().map(|key| String::from_utf8(key.unwrap()).unwrap()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>),
    Insert(u8, Vec<u8>),
    Update(u8, Vec<u8>),
    Delete(u8),
    Batch(Vec<(u8, Vec<u8>)>),
    Stream(u8, Vec<u8>),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (key, bytes) = (|| 0_u8..8, || proptest::collection::vec(any::<u8>(), 0..40));
    let step = prop_oneof![
        6 => (key(), bytes()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (key(), bytes()).prop_map(|(k, v)| Step::Insert(k, v)),
        4 => (key(), bytes()).prop_map(|(k, v)| Step::Update(k, v)),
        4 => key().prop_map(Step::Delete),
        3 => proptest::collection::vec((key(), bytes()), 0..5).prop_map(Step::Batch),
        3 => (key(), bytes()).prop_map(|(k, v)| Step::Stream(k, v)),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn the_verbs_do_what_a_map_does(steps in steps()) {
        let keys = small();
        let (db, other) = (keys.db(3), keys.db(4));
        other.put("other", "x").unwrap();
        let mut map = BTreeMap::<Vec<u8>, Vec<u8>>::new();
        for step in steps {
            match step {
                Step::Put(k, v) => {
                    db.put([k], &v).unwrap();
                    map.insert(vec![k], v);
                }
                Step::Insert(k, v) => {
                    let absent = !map.contains_key(&vec![k]);
                    prop_assert_eq!(db.insert_if_absent([k], &v), Ok(absent));
                    map.entry(vec![k]).or_insert(v);
                }
                Step::Update(k, v) => {
                    let old = map.get_mut(&vec![k]);
                    prop_assert_eq!(db.update_if_present([k], &v), Ok(old.is_some()));
                    if let Some(old) = old {
                        *old = v;
                    }
                }
                Step::Delete(k) => {
                    prop_assert_eq!(db.delete([k]), Ok(map.remove(&vec![k]).is_some()));
                }
                Step::Batch(all) => {
                    let all: Vec<_> = all.into_iter().map(|(k, v)| (vec![k], v)).collect();
                    db.put_batch(&all).unwrap();
                    map.extend(all);
                }
                Step::Stream(k, v) => {
                    prop_assert_eq!(db.put_stream([k], &*v), Ok(v.len() as u64));
                    map.insert(vec![k], v);
                }
                Step::Clear => {
                    prop_assert_eq!(db.clear(), Ok(map.len()));
                    map.clear();
                }
            }
            prop_assert_eq!(db.count(), map.len());
            for k in 0..8 {
                let there = map.get(&vec![k]);
                let got = db.get([k]).unwrap();
                prop_assert_eq!(got.as_ref(), there);
                prop_assert_eq!(db.exists([k]), Ok(there.is_some()));
                let or = there.cloned().unwrap_or_else(|| b"none".to_vec());
                prop_assert_eq!(db.get_or_default([k], "none"), Ok(or));
            }
        }
        let all: Vec<[u8; 1]> = (0..8).map(|k| [k]).collect();
        let batch: Vec<_> = all.iter().map(|k| map.get(&k[..]).cloned()).collect();
        prop_assert_eq!(db.get_batch(&all).unwrap(), batch);
        let mut seen = BTreeMap::new();
        db.for_each(|key, value| {
            assert!(seen.insert(key.to_vec(), value.to_vec()).is_none());
        }).unwrap();
        prop_assert_eq!(&seen, &map);
        let sorted: BTreeMap<_, _> = db.prefix("").map(Result::unwrap).collect();
        prop_assert_eq!(&sorted, &map);
        let some: Vec<_> = db.range([2]..=[5]).map(|entry| entry.unwrap().0).collect();
        let expected: Vec<_> = map.range(vec![2]..=vec![5]).map(|(k, _)| k.clone()).collect();
        prop_assert_eq!(some, expected);
        prop_assert_eq!(other.count(), 1);
    }
}

#[test]
fn what_is_put_is_there_at_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kv");
    let long = vec![b'x'; 3 << 20];
    for round in 0..3 {
        let keys = Keyspace::open(&path).unwrap();
        let db = keys.db(0);
        assert_eq!(db.exists("short").unwrap(), round > 0);
        if round > 0 {
            assert_eq!(db.get("long").unwrap().as_ref(), Some(&long));
            assert_eq!(names(db), ["a", "b", "long", "short"]);
        }
        db.put("short", "1").unwrap();
        db.put_batch(&[("a", "1"), ("b", "2")]).unwrap();
        db.put_stream("long", &*long).unwrap();
        db.put("gone", "1").unwrap();
        db.delete("gone").unwrap();
        if round == 1 {
            keys.compact().unwrap().unwrap();
        }
    }
    assert_eq!(kv::verify(&path, kv::journal::Damage::Refuse, |_, _| ()).unwrap().skipped_bytes, 0);
}

#[test]
fn a_stream_is_what_the_value_was() {
    let keys = Keyspace::in_memory(Options::default());
    let db = keys.db(0);
    for length in [0, 1, 32 * 1024, 32 * 1024 + 1, 256 * 1024, 1 << 20, (3 << 20) + 17] {
        let bytes: Vec<u8> = (0..length).map(|n: u32| (n / 7 % 251) as u8).collect();
        assert_eq!(db.put_stream("k", &*bytes), Ok(u64::from(length)));
        let mut stream = db.get_stream("k").unwrap().unwrap();
        assert_eq!((stream.len(), stream.is_empty()), (u64::from(length), length == 0));
        let sealed = matches!(stream.clone().into_value(), Taken::Sealed(_));
        assert_eq!(sealed, length > 32 * 1024);
        // Whatever happens to its key.
        db.delete("k").unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
    assert!(db.get_stream("k").unwrap().is_none());
}

/// Gives so many bytes, and fails then.
struct Breaks(usize);

impl Read for Breaks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.0);
        if n == 0 {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.0 -= n;
        out[..n].fill(b'x');
        Ok(n)
    }
}

#[test]
fn a_source_that_fails_changes_nothing() {
    let keys = Keyspace::in_memory(Options::default());
    let db = keys.db(0);
    db.put("k", "before").unwrap();
    for bytes in [10, 1 << 20] {
        let fault = db.put_stream("k", Breaks(bytes)).unwrap_err();
        assert!(fault.to_string().contains("read: I/O error (EIO)"), "{fault}");
        assert_eq!(db.get("k").unwrap().unwrap(), b"before");
    }
}

#[test]
fn what_is_too_long_is_refused_and_said() {
    // Without sealed memory, so that nothing is left of it either.
    let keys = Keyspace::in_memory(Options::default());
    let endless = io::repeat(b'x');
    let fault = keys.db(0).put_stream("k", endless).unwrap_err();
    assert_eq!(fault, Fault::TooLong { limit: LONGEST });
    assert!(fault.to_string().contains("536870912 bytes: cut it into several"), "{fault}");
    assert_eq!((keys.db(0).count(), keys.totals().sealed), (0, 0));
}

#[test]
fn files_go_in_and_come_out() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let keys = Keyspace::in_memory(Options::default());
    let db = keys.db(0);
    for length in [0, 5, 1 << 20] {
        let bytes = vec![b'x'; length];
        std::fs::write(at("in"), &bytes).unwrap();
        assert_eq!(db.put_file("k", at("in")), Ok(length as u64));
        assert_eq!(db.get_file("k", at("out")), Ok(Some(length as u64)));
        assert_eq!(std::fs::read(at("out")).unwrap(), bytes);
    }
    assert_eq!(db.get_file("none", at("none")), Ok(None));
    assert!(!at("none").exists());
    let fault = db.put_file("k", at("nowhere/in")).unwrap_err();
    assert!(fault.to_string().contains("nowhere/in\"): No such file"), "{fault}");
    let fault = db.get_file("k", at("nowhere/out")).unwrap_err();
    assert!(fault.to_string().contains("No such file"), "{fault}");
    let left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_full_keyspace_says_so_and_takes_nothing() {
    let options = Options { max_memory: 100_000, policy: Policy::NoEviction, ..Options::default() };
    let keys = Keyspace::in_memory(options);
    let db = keys.db(0);
    let fault = (0..).find_map(|n| db.put(format!("{n}"), [0; 1000]).err()).unwrap();
    assert!(fault.to_string().contains("100000 allowed (maxmemory)"), "{fault}");
    let count = db.count();
    assert!(matches!(db.put_batch(&[("a", "1"), ("b", "2")]), Err(Fault::Full { .. })));
    assert!(matches!(db.insert_if_absent("a", "1"), Err(Fault::Full { .. })));
    assert_eq!(db.count(), count);
    db.delete("0").unwrap();
}

/// Nobody sees a part of a batch.
#[test]
fn a_batch_is_seen_whole() {
    let keys = Keyspace::in_memory(Options::default());
    let db = keys.db(0);
    let keys: Vec<String> = (0..20).map(|n| format!("key {n}")).collect();
    db.put_batch(&keys.iter().map(|key| (key, "0")).collect::<Vec<_>>()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..500 {
                    let value = round.to_string();
                    let all: Vec<_> = keys.iter().map(|key| (key, &value)).collect();
                    db.put_batch(&all).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        while !done.load(Ordering::Relaxed) {
            let seen = db.get_batch(&keys).unwrap();
            assert!(seen.iter().all(|value| *value == seen[0]), "{seen:?}");
        }
    });
}

/// A callback may use the keyspace that it is called for.
#[test]
fn no_lock_is_held_while_others_are_called() {
    let keys = small();
    let db = keys.db(0);
    for n in 0..100 {
        db.put(format!("key {n:02}"), vec![b'x'; n]).unwrap();
    }
    db.for_each(|key, value| {
        assert_eq!(db.get(key).unwrap().unwrap(), value);
        db.put(key, value).unwrap();
    })
    .unwrap();
    // One that has gone meanwhile is left out.
    let mut seen = 0;
    for (n, entry) in db.prefix("key 1").enumerate() {
        assert_eq!(entry.unwrap().1.len(), 10 + n);
        db.delete("key 19").unwrap();
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn an_end_is_gone_with_the_value_that_had_it() {
    let keys = small();
    let db = keys.db(0);
    let key = keys.key(0, b"k");
    keys.hold(&key, 0).set(&key, keys.content(b"1").unwrap(), Expiry::At(i64::MAX)).unwrap();
    assert!(db.update_if_present("k", "2").unwrap());
    assert_eq!(keys.hold(&key, 0).expiry(&key), Some(None));
}

const HOLDER: &str = "OBJMAPPER_TEST_HOLDS";

/// The other process of the next test; nothing by itself.
#[test]
fn the_holder() {
    let Some(path) = std::env::var_os(HOLDER) else { return };
    let keys = Keyspace::open(Path::new(&path)).unwrap();
    keys.db(0).put("held", "yes").unwrap();
    println!("\nholding");
    io::stdout().flush().unwrap();
    // Until it is killed, or its parent is gone.
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn a_second_process_is_told_who_has_it_and_gets_it_when_that_one_dies() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kv");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_holder", "--nocapture"])
        .env(HOLDER, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = io::BufReader::new(holder.stdout.take().unwrap());
    while !said.contains("holding") {
        assert!(io::BufRead::read_line(&mut lines, &mut said).unwrap() > 0, "{said}");
    }
    let refused = Keyspace::open(&path).unwrap_err().to_string();
    assert!(refused.contains(&format!("is locked by pid {}: ", holder.id())), "{refused}");
    let refused = kv::restore(&path, &path).unwrap_err().to_string();
    assert!(refused.contains(&format!("is locked by pid {}: ", holder.id())), "{refused}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let keys = Keyspace::open(&path).unwrap();
    assert_eq!(keys.db(0).get("held").unwrap().unwrap(), b"yes");
}
