//! Backups, restored; and reading through without changing anything.

use std::fs;

use objmapper::kv::journal::{Damage, Failure};
use objmapper::kv::{Keyspace, Options, SyncPolicy, restore, verify, verify_backup};

use crate::town::{LATER, all, journal, put, set};

fn open(path: &std::path::Path) -> Keyspace {
    Keyspace::open_with(path, Options::default(), journal(SyncPolicy::Always), |_, _| ()).unwrap().0
}

#[test]
fn a_backup_taken_while_others_write_is_of_one_moment() {
    let place = tempfile::tempdir().unwrap();
    let keys = open(&place.path().join("kv"));
    for n in 0..2000 {
        set(&keys, 0, format!("old {n}").as_bytes(), b"x", Some(LATER)).unwrap();
    }
    let backup = place.path().join("backup");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0_u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                let value = n.to_le_bytes();
                // Always the same in both.
                let both = [keys.key(0, b"one"), keys.key(5, b"two")];
                let mut hold = keys.hold_keys(&both, 0);
                for key in &both {
                    let content = keys.content(&value).unwrap();
                    hold.set(key, content, objmapper::kv::Expiry::Never).unwrap();
                }
            }
        });
        for _ in 0..5 {
            keys.backup(&backup).unwrap();
            let restored = tempfile::tempdir().unwrap();
            let told = restore(&backup, restored.path()).unwrap();
            assert_eq!(told, verify_backup(&backup).unwrap());
            let copy = all(&open(restored.path()));
            assert_eq!(copy.get(&(0, b"one".to_vec())), copy.get(&(5, b"two".to_vec())));
            assert_eq!(copy.iter().filter(|(_, (_, end))| *end == Some(LATER)).count(), 2000);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
    });
}

#[test]
fn what_is_restored_goes_on_as_any_other() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let keys = open(&from);
    put(&keys, "a", "1").unwrap();
    keys.compact().unwrap();
    put(&keys, "b", "2").unwrap();
    let backup = place.path().join("backup");
    keys.backup(&backup).unwrap();
    let before = all(&keys);
    restore(&backup, &to).unwrap();
    for _ in 0..2 {
        let copy = open(&to);
        assert_eq!(all(&copy), before);
    }
    let copy = open(&to);
    put(&copy, "c", "3").unwrap();
    copy.compact().unwrap();
    put(&copy, "d", "4").unwrap();
    drop(copy);
    assert_eq!(all(&open(&to)).len(), 4);
    assert!(matches!(restore(&backup, &to), Err(Failure::NotEmpty { .. })));
    let held = open(&to);
    assert!(matches!(restore(&backup, &to), Err(Failure::Locked { .. })));
    drop(held);
}

#[test]
fn a_keyspace_in_memory_is_copied_as_well() {
    let place = tempfile::tempdir().unwrap();
    let keys = Keyspace::in_memory(Options::default());
    put(&keys, "a", "1").unwrap();
    keys.backup(&place.path().join("backup")).unwrap();
    restore(&place.path().join("backup"), &place.path().join("kv")).unwrap();
    assert_eq!(all(&open(&place.path().join("kv"))), all(&keys));
}

#[test]
fn a_backup_with_a_changed_bit_is_not_restored() {
    let place = tempfile::tempdir().unwrap();
    let keys = Keyspace::in_memory(Options::default());
    put(&keys, "a", "1").unwrap();
    let backup = place.path().join("backup");
    keys.backup(&backup).unwrap();
    let whole = fs::read(&backup).unwrap();
    for at in 0..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 4;
        fs::write(&backup, broken).unwrap();
        let to = place.path().join("kv");
        assert!(restore(&backup, &to).is_err() && verify_backup(&backup).is_err(), "{at}");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "only the lock's file");
    }
}

#[test]
fn reading_through_changes_nothing_and_finds_everything() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kv");
    let keys = open(&path);
    for n in 0..10 {
        put(&keys, &format!("{n}"), "value").unwrap();
    }
    drop(keys);
    let read = |path: &std::path::Path| {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.map(|path| (fs::read(&path).unwrap(), path)).collect();
        files.sort();
        files
    };
    let before = read(&path);
    let report = verify(&path, Damage::Refuse, |_, _| ()).unwrap();
    // And one that says that it was closed.
    assert_eq!((report.keys, report.records, report.files, report.torn), (10, 11, 1, None));
    let (mut bytes, name) = before.iter().max().unwrap().clone();
    bytes.truncate(bytes.len() - 3);
    fs::write(&name, &bytes).unwrap();
    assert!(verify(&path, Damage::Refuse, |_, _| ()).unwrap().torn.is_some());
    bytes[60] ^= 1;
    fs::write(&name, &bytes).unwrap();
    let torn = verify(&path, Damage::Refuse, |_, _| ());
    assert!(matches!(torn, Err(Failure::Damaged { .. })), "{torn:?}");
    assert_eq!(fs::read(&name).unwrap(), bytes);
}

#[test]
fn a_snapshot_and_what_follows_are_counted_as_they_are_opened() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kv");
    let keys = open(&path);
    for n in 0..10 {
        put(&keys, &format!("{n}"), "value").unwrap();
    }
    keys.compact().unwrap();
    put(&keys, "0", "again").unwrap();
    put(&keys, "new", "value").unwrap();
    let gone = keys.key(0, b"1");
    let mut hold = keys.hold(&gone, Keyspace::now());
    hold.remove(&gone);
    let position = hold.finish();
    keys.settle(position).unwrap();
    drop(keys);
    let verified = verify(&path, Damage::Refuse, |_, _| ()).unwrap();
    let journal = journal(SyncPolicy::Always);
    let (_, opened) = Keyspace::open_with(&path, Options::default(), journal, |_, _| ()).unwrap();
    assert_eq!((verified.keys, opened.keys), (10, 10));
}

#[test]
fn another_file_is_no_backup() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("picture.png");
    for content in [&b""[..], b"short", &[b'x'; 1000]] {
        fs::write(&file, content).unwrap();
        let refused = verify_backup(&file).unwrap_err();
        assert!(matches!(refused, Failure::NoBackup { .. }), "{refused}");
        assert!(refused.to_string().starts_with("picture.png is not a backup"), "{refused}");
    }
}
