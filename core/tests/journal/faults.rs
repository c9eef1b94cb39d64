//! A disk that fails, bytes that change, directories that cannot be used.

use std::path::Path;
use std::sync::Arc;

use objmapper::kv::journal::{Damage, Failure};
use objmapper::kv::{Fault, JournalOptions, Keyspace, Options, SyncPolicy};

use crate::disk::Fake;
use crate::town::{NOW, SELDOM, abandon, all, get, journal, open, put, set};

fn always() -> JournalOptions {
    journal(SyncPolicy::Always)
}

/// A journal of ten records, closed or not; gives its only segment's name.
fn ten(disk: &Arc<Fake>, close: bool) -> String {
    let keys = open(disk, always()).unwrap().0;
    for n in 0..10 {
        put(&keys, &format!("key {n}"), &format!("value {n}")).unwrap();
    }
    if close {
        drop(keys);
    } else {
        abandon(keys);
    }
    let names: Vec<_> = disk.files().into_keys().collect();
    assert_eq!(names.len(), 1);
    names.into_iter().next().unwrap()
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let disk = Arc::new(Fake::default());
    let name = ten(&disk, true);
    // Within the last record before the closing one.
    let whole = disk.files()[&name].len() - 28;
    disk.change(&name, |bytes| bytes.truncate(whole - 5));
    let (keys, report) = open(&disk, always()).unwrap();
    let torn = report.torn.unwrap();
    // All of it but the five: 28 bytes are each record's, 23 say what has changed.
    assert_eq!((torn.file, torn.bytes, torn.records), (name, 28 + 23 - 5, 0));
    assert_eq!(torn.offset + torn.bytes, whole as u64 - 5);
    assert_eq!(all(&keys).len(), 9);
    put(&keys, "key 9", "again").unwrap();
    drop(keys);
    let (keys, report) = open(&disk, always()).unwrap();
    assert_eq!((report.torn, all(&keys).len()), (None, 10));
}

#[test]
fn any_changed_bit_is_told_and_never_believed() {
    let disk = Arc::new(Fake::default());
    let name = ten(&disk, true);
    let whole = disk.files()[&name].clone();
    let map = all(&open(&Arc::new(disk.killed()), always()).unwrap().0);
    // The last record only says that all before it is durable.
    let closing = whole.len() - 28;
    for at in 0..whole.len() {
        let broken = Arc::new(disk.killed());
        broken.change(&name, |bytes| bytes[at] ^= 1 << (at % 8));
        match open(&broken, always()) {
            Err(Failure::Damaged { file, offset, .. }) => {
                assert_eq!(file, name);
                assert!(offset <= at as u64 && at < closing, "{at}: {offset}");
            }
            Ok((keys, report)) => {
                assert!(at >= closing && report.torn.is_some(), "{at} was not noticed");
                assert_eq!(all(&keys), map);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn damage_can_be_skipped_and_is_counted() {
    let disk = Arc::new(Fake::default());
    let name = ten(&disk, true);
    disk.change(&name, |bytes| bytes[100] ^= 1);
    let refused = open(&disk, always()).unwrap_err();
    assert!(
        refused.to_string().contains(&name) && refused.to_string().contains("byte 83"),
        "{refused}"
    );
    let options = JournalOptions { damage: Damage::Skip, ..always() };
    let (keys, report) = open(&disk, options).unwrap();
    assert_eq!((report.skipped_records, all(&keys).len()), (1, 9));
    assert_eq!(report.skipped_bytes, 51);
}

#[test]
fn a_segment_that_is_missing_is_told() {
    let disk = Arc::new(Fake::default());
    let options = JournalOptions { segment: 300, ..always() };
    let keys = open(&disk, options).unwrap().0;
    for n in 0..30 {
        put(&keys, &format!("key {n}"), "value").unwrap();
    }
    drop(keys);
    let files = disk.files();
    assert!(files.len() > 4);
    for missing in files.keys().take(files.len() - 1) {
        let mut rest = files.clone();
        rest.remove(missing);
        let refused = open(&Arc::new(Fake::with(rest)), options).unwrap_err();
        assert!(refused.to_string().contains("missing before it"), "{refused}");
    }
}

#[test]
fn a_segment_that_was_being_made_does_not_hide_what_is_missing() {
    let name = |first: u64| format!("journal-{first:020}.log");
    let disk = Arc::new(Fake::with([(name(45), Vec::new())].into()));
    for _ in 0..2 {
        let refused = open(&disk, always()).unwrap_err();
        assert!(refused.to_string().contains("missing before it"), "{refused}");
    }
    open(&Arc::new(Fake::with([(name(1), Vec::new())].into())), always()).unwrap();
}

#[test]
fn a_segment_whose_head_does_not_hold_can_be_skipped() {
    let disk = Arc::new(Fake::default());
    let name = ten(&disk, true);
    disk.change(&name, |bytes| bytes[20] ^= 1);
    let refused = open(&disk, always()).unwrap_err();
    assert!(refused.to_string().contains("its head does not hold"), "{refused}");
    let options = JournalOptions { damage: Damage::Skip, ..always() };
    for keys_before in 0..3 {
        let (keys, report) = open(&disk, options).unwrap();
        assert_eq!(all(&keys).len(), keys_before);
        assert!(report.skipped_records > 0 && report.skipped_bytes > 500, "{report:?}");
        put(&keys, &format!("{keys_before}"), "value").unwrap();
    }
}

#[test]
fn numbers_that_nobody_counts_to_are_refused() {
    for name in [
        "snapshot-00000000000000000000.kv",
        "snapshot-18446744073709551615.kv",
        "journal-00000000000000000000.log",
        "journal-18446744073709551615.log",
        // The next one would be none.
        "journal-04611686018427387904.log",
    ] {
        let files = [(name.to_owned(), vec![0; 100])];
        for damage in [Damage::Refuse, Damage::Skip] {
            let options = JournalOptions { damage, ..always() };
            let refused = open(&Arc::new(Fake::with(files.clone().into())), options).unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }
}

#[test]
fn a_changed_bit_of_a_snapshot_is_told() {
    let disk = Arc::new(Fake::default());
    ten(&disk, true);
    let keys = open(&disk, always()).unwrap().0;
    keys.compact().unwrap();
    drop(keys);
    let files = disk.files();
    let name = files.keys().find(|name| name.starts_with("snapshot")).unwrap();
    for at in 0..files[name].len() {
        let broken = Arc::new(disk.killed());
        broken.change(name, |bytes| bytes[at] ^= 0x10);
        let refused = open(&broken, always()).unwrap_err();
        assert!(matches!(refused, Failure::Damaged { .. }), "{at}: {refused}");
    }
    let short = Arc::new(disk.killed());
    short.change(name, |bytes| bytes.truncate(bytes.len() - 52));
    assert!(open(&short, always()).unwrap_err().to_string().contains("end is missing"));
}

/// A record with its checksums, as FORMAT.md has it.
fn record(salt: u64, number: u64, payload: &[u8]) -> Vec<u8> {
    let half = |bytes: &[u8], salt: u64| {
        let salt = u32::try_from(salt & u64::from(u32::MAX)).unwrap();
        crc32c::crc32c_append(salt, bytes).to_le_bytes()
    };
    let mut out = (payload.len() as u64).to_le_bytes().to_vec();
    out.extend(number.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(half(payload, salt >> 32));
    out.extend(half(&out, salt));
    out.extend(payload);
    out
}

#[test]
fn a_record_that_makes_no_sense_is_skipped_whole() {
    let set = |key: u8| [1, 0, 1, 0, 0, 0, key, 0, 1, 0, 0, 0, b'x'];
    let far = (1_u64 << 40).to_le_bytes();
    let write = [&[4, 0, 1, 0, 0, 0, b'a'][..], &far, &[1, 0, 0, 0, b'x']].concat();
    let unknown = [60, 0, 0, 0, 0, 0];
    for rest in [&unknown[..], &unknown[..3], &write] {
        let disk = Arc::new(Fake::default());
        drop(open(&disk, always()).unwrap());
        let name = disk.files().into_keys().next().unwrap();
        let salt = u64::from_le_bytes(disk.files()[&name][8..16].try_into().unwrap());
        disk.change(&name, |bytes| {
            bytes.truncate(32);
            bytes.extend(record(salt, 1, &[&set(b'a'), rest].concat()));
        });
        let refused = open(&disk, always()).unwrap_err();
        assert!(refused.to_string().contains("makes no sense"), "{refused}");
        let options = JournalOptions { damage: Damage::Skip, ..always() };
        for n in 0..3 {
            let (keys, report) = open(&disk, options).unwrap();
            assert_eq!((all(&keys).len(), report.skipped_records), (n, 1));
            put(&keys, &n.to_string(), "x").unwrap();
        }
    }
}

#[test]
fn what_is_refused_is_left_as_it_is() {
    let disk = Arc::new(Fake::default());
    let replaced = ten(&disk, true);
    let old = disk.files()[&replaced].clone();
    let keys = open(&disk, always()).unwrap().0;
    keys.compact().unwrap();
    drop(keys);
    // A compaction that was cut short leaves what it replaced.
    let mut files = disk.files();
    files.insert(replaced.clone(), old);
    let left = Arc::new(Fake::with(files.clone()));
    assert_eq!(all(&open(&left, always()).unwrap().0).len(), 10);
    assert!(!left.files().contains_key(&replaced), "it is not needed any more");

    let name = files.keys().find(|name| name.starts_with("snapshot")).unwrap().clone();
    files.get_mut(&name).unwrap()[60] ^= 1;
    let broken = Arc::new(Fake::with(files.clone()));
    open(&broken, always()).unwrap_err();
    assert_eq!(broken.files(), files, "what the snapshot replaced may be all that there is");
}

fn refuses(keys: &Keyspace) {
    let refused = put(keys, "later", "x").unwrap_err();
    assert!(matches!(refused, Fault::Journal { .. }), "{refused}");
    assert_eq!(get(keys, "later"), None, "refused before anything is changed");
}

#[test]
fn a_full_disk_stops_writes_and_not_reads() {
    for sync in [SyncPolicy::Always, SELDOM, SyncPolicy::Never] {
        for room in 0..200 {
            let disk = Arc::new(Fake::default());
            let options = JournalOptions { prefill: 0, ..journal(sync) };
            let keys = open(&disk, options).unwrap().0;
            put(&keys, "before", "kept").unwrap();
            disk.fill_up(room);
            let mut told = Vec::new();
            for n in 0..10 {
                if put(&keys, &format!("key {n}"), "value").is_err() {
                    break;
                }
                told.push(format!("key {n}"));
            }
            assert!(told.len() < 5);
            // Sticky, also when there is room again.
            disk.is_roomy_again();
            refuses(&keys);
            assert_eq!(get(&keys, "before").as_deref(), Some("kept"));
            drop(keys);
            let keys = open(&disk, journal(sync)).unwrap().0;
            assert_eq!(get(&keys, "before").as_deref(), Some("kept"));
            for name in &told {
                assert_eq!(get(&keys, name).as_deref(), Some("value"), "{room}");
            }
            assert!(all(&keys).len() <= told.len() + 2);
            put(&keys, "after", "x").unwrap();
        }
    }
}

#[test]
fn a_sync_that_failed_is_never_forgotten() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    put(&keys, "before", "kept").unwrap();
    disk.fail_syncs_after(1);
    put(&keys, "a", "kept").unwrap();
    assert!(matches!(put(&keys, "b", "lost?"), Err(Fault::Journal { .. })));
    // The kernel says from now on that all is well.
    disk.syncs_work_again();
    refuses(&keys);
    assert!(keys.sync().is_err() && keys.close().is_err());
    assert!(keys.compact().is_err());
    assert_eq!(get(&keys, "a").as_deref(), Some("kept"));
    let figures = keys.journal().unwrap().figures();
    assert!(figures.failed && figures.durable == 2, "{figures:?}");
}

#[test]
fn what_another_has_written_out_is_not_durable_yet() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    let position = set(&keys, 0, b"a", b"x", None).unwrap();
    let journal = keys.journal().unwrap();
    journal.write_out(position).unwrap();
    assert!(journal.promised() < position && journal.durable() < position);
    // Who reads it has to wait as well.
    let key = keys.key(0, b"a");
    let mut hold = keys.hold(&key, NOW);
    assert!(hold.has(&key));
    let seen = hold.finish();
    assert_eq!(seen, position);
    keys.settle(seen).unwrap();
    assert!(journal.durable() >= position);
}

#[test]
fn a_sync_that_fails_beside_stops_writes_as_well() {
    let disk = Arc::new(Fake::default());
    let interval = SyncPolicy::Interval(std::time::Duration::from_millis(1));
    let keys = open(&disk, journal(interval)).unwrap().0;
    disk.fail_syncs_after(0);
    put(&keys, "a", "written").unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while keys.may_write().is_ok() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    refuses(&keys);
}

/// fdatasync(2) tells an error once for each open file: others that sync through it hear that all is well.
#[test]
fn a_sync_that_failed_for_another_is_not_taken_for_one_that_did_not() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    put(&keys, "before", "kept").unwrap();
    disk.tell_one_of_two();
    let told = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let told = put(&keys, "a", "lost?");
            disk.first_is_through();
            told
        });
        disk.wait_for_the_first();
        assert!(keys.compact().is_err());
        writer.join().unwrap()
    });
    assert!(matches!(told, Err(Fault::Journal { .. })), "{told:?}");
    refuses(&keys);
}

#[test]
fn a_compaction_that_finds_no_room_leaves_everything_as_it_was() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, JournalOptions { prefill: 0, ..always() }).unwrap().0;
    for n in 0..10 {
        put(&keys, &format!("key {n}"), "value").unwrap();
    }
    // Room for the next segment's head, and some.
    disk.fill_up(100);
    let refused = keys.compact().unwrap_err();
    assert!(refused.to_string().contains("cannot write a snapshot"), "{refused}");
    disk.is_roomy_again();
    put(&keys, "later", "x").unwrap();
    assert!(disk.files().keys().all(|name| !name.contains(".tmp")));
    keys.compact().unwrap().unwrap();
    let before = all(&keys);
    drop(keys);
    assert_eq!(all(&open(&disk, always()).unwrap().0), before);
}

#[test]
fn a_disk_that_cannot_be_written_is_told_at_once() {
    let disk = Arc::new(Fake::default());
    ten(&disk, true);
    disk.make_read_only();
    let refused = open(&disk, always()).unwrap_err();
    assert!(refused.to_string().contains("Read-only file system"), "{refused}");
}

#[test]
fn two_cannot_have_one_directory() {
    let place = tempfile::tempdir().unwrap();
    let open = |path: &Path| Keyspace::open_with(path, Options::default(), always(), |_, _| ());
    let held = open(place.path()).unwrap();
    let refused = open(place.path()).unwrap_err();
    let told = format!("locked by pid {}", std::process::id());
    assert!(refused.to_string().contains(&told), "{refused}");
    drop(held);
    open(place.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_is_told() {
    let open = |path: &Path| Keyspace::open_with(path, Options::default(), always(), |_, _| ());
    let refused = open(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(refused.to_string().contains("No such file or directory"), "{refused}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = open(file.path()).unwrap_err();
    assert!(refused.to_string().contains("Not a directory"), "{refused}");
}
