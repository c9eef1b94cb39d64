//! How segments follow each other, and the zeros that are written ahead of their records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use objmapper::kv::journal::Torn;
use objmapper::kv::{Fault, JournalOptions, Keyspace, SyncPolicy};

use crate::disk::{Event, Fake};
use crate::town::{PREFILL, SELDOM, abandon, all, journal, open, put};

const HEAD: usize = 32;

fn always() -> JournalOptions {
    journal(SyncPolicy::Always)
}

fn fill(keys: &Keyspace, n: usize) {
    for n in 0..n {
        put(keys, &format!("key {n}"), &format!("value {n}")).unwrap();
    }
}

/// The segments in order: names, and what is in them.
fn segments(disk: &Fake) -> Vec<(String, Vec<u8>)> {
    disk.files().into_iter().filter(|(name, _)| name.starts_with("journal-")).collect()
}

/// Where the zeros begin that it ends with. No record here ends with any.
fn end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1
}

/// A killed process's only segment.
fn killed(n: usize) -> (Arc<Fake>, String, usize) {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    fill(&keys, n);
    abandon(keys);
    let (name, bytes) = segments(&disk).pop().unwrap();
    let end = end(&bytes);
    assert!(bytes.len() > end + 100, "there are zeros");
    (disk, name, end)
}

#[test]
fn a_sync_does_not_make_the_file_longer() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    fill(&keys, 1);
    let filled = segments(&disk)[0].1.len();
    fill(&keys, 20);
    let (name, bytes) = segments(&disk).pop().unwrap();
    assert_eq!(bytes.len(), filled, "written over");
    while segments(&disk)[0].1.len() == filled {
        fill(&keys, 1);
        assert!(end(&segments(&disk)[0].1) < filled, "before it is used up");
    }
    drop(keys);
    let closed = segments(&disk);
    assert_eq!((closed.len(), &closed[0].0), (1, &name));
    // The closing record is empty: 28 bytes, of which the last are a checksum.
    assert!(closed[0].1.len() - end(&closed[0].1) < 4, "none is left");
}

#[test]
fn zeros_are_no_damage_and_cut_off_at_the_next_start() {
    let (disk, name, end) = killed(10);
    for _ in 0..2 {
        let (keys, report) = open(&disk, always()).unwrap();
        let heads = (report.files - 1) * HEAD;
        assert_eq!((&report.torn, report.bytes), (&None, (end + heads) as u64), "{report:?}");
        assert_eq!((all(&keys).len(), disk.files()[&name].len()), (10, end));
        abandon(keys);
    }
}

#[test]
fn what_is_torn_is_told_without_the_zeros() {
    let (disk, name, end) = killed(10);
    disk.change(&name, |bytes| bytes[end - 4..end].fill(0));
    let (keys, report) = open(&disk, always()).unwrap();
    let Torn { file, offset, bytes, records } = report.torn.unwrap();
    assert_eq!((&file, offset + bytes, records), (&name, end as u64 - 4, 0));
    assert_eq!((all(&keys).len(), disk.files()[&name].len() as u64), (9, offset));
}

#[test]
fn what_was_promised_and_became_zeros_is_missed() {
    let (disk, name, end) = killed(10);
    // The next start's segment says by its number what was before it.
    abandon(open(&disk, always()).unwrap().0);
    disk.change(&name, |bytes| bytes[end - 40..].fill(0));
    let refused = open(&disk, always()).unwrap_err();
    assert!(refused.to_string().contains("does not hold"), "{refused}");
    disk.change(&name, |bytes| bytes[HEAD..].fill(0));
    let refused = open(&disk, always()).unwrap_err();
    assert!(refused.to_string().contains("records are missing before it"), "{refused}");
}

#[test]
fn zeros_may_be_left_in_a_segment_that_others_follow() {
    let (disk, name, end) = killed(10);
    let keys = open(&disk, always()).unwrap().0;
    put(&keys, "later", "x").unwrap();
    abandon(keys);
    disk.change(&name, |bytes| bytes.resize(end + 500, 0));
    let (keys, report) = open(&disk, always()).unwrap();
    assert_eq!((report.torn, all(&keys).len()), (None, 11));
}

#[test]
fn none_are_written_ahead_of_long_records_or_for_other_policies() {
    let long = "x".repeat(usize::try_from(PREFILL / 4).unwrap());
    for (options, value) in [(always(), &*long), (journal(SELDOM), "short")] {
        let disk = Arc::new(Fake::default());
        let keys = open(&disk, options).unwrap().0;
        for _ in 0..20 {
            put(&keys, "key", value).unwrap();
        }
        let bytes = segments(&disk).pop().unwrap().1;
        assert_eq!(bytes.len(), end(&bytes));
    }
}

#[test]
fn a_disk_without_room_for_zeros_has_some_for_records() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    disk.fill_up(usize::try_from(PREFILL).unwrap() - 1);
    fill(&keys, 20);
    assert_eq!(all(&keys).len(), 20);
}

#[test]
fn a_segment_goes_on_while_no_other_can_be_begun() {
    let disk = Arc::new(Fake::default());
    for prefill in [0, PREFILL] {
        let options = JournalOptions { segment: 300, prefill, ..always() };
        let keys = open(&disk, options).unwrap().0;
        let before = segments(&disk).len();
        disk.has_no_descriptors(true);
        fill(&keys, 30);
        assert_eq!(segments(&disk).len(), before);
        let refused = keys.compact().unwrap_err().to_string();
        assert!(refused.contains("cannot begin a segment"), "{refused}");
        assert!(refused.contains("Too many open files"), "{refused}");
        disk.has_no_descriptors(false);
        fill(&keys, 30);
        assert!(segments(&disk).len() > before + 2);
        let map = all(&keys);
        abandon(keys);
        assert_eq!(all(&open(&Arc::new(disk.killed()), options).unwrap().0), map);
    }
}

#[test]
fn a_compaction_that_cannot_begin_changes_nothing_for_its_segment() {
    let disk = Arc::new(Fake::default());
    let options = JournalOptions { segment: 10_000, ..always() };
    let keys = open(&disk, options).unwrap().0;
    disk.has_no_descriptors(true);
    for _ in 0..3 {
        fill(&keys, 1);
        keys.compact().unwrap_err();
    }
    disk.has_no_descriptors(false);
    fill(&keys, 1);
    let bytes = segments(&disk).pop().unwrap().1;
    assert!(bytes.len() > end(&bytes) + 100, "it is filled ahead again");
    fill(&keys, 50);
    assert_eq!(segments(&disk).len(), 1);
    fill(&keys, 200);
    assert_eq!(segments(&disk).len(), 2);
}

#[test]
fn zeros_are_left_where_they_are_if_what_follows_is_refused() {
    let (disk, name, end) = killed(10);
    let keys = open(&disk, always()).unwrap().0;
    fill(&keys, 3);
    abandon(keys);
    disk.change(&name, |bytes| bytes.resize(end + 500, 0));
    disk.change(&segments(&disk)[1].0, |bytes| bytes[HEAD + 30] ^= 1);
    let files = disk.files();
    assert!(open(&disk, always()).unwrap_err().to_string().contains("does not hold"));
    assert_eq!(disk.files(), files);
}

/// ext4 with `data=writeback`, for one, may make a file's length durable before its bytes.
#[test]
fn a_segment_that_was_being_made_may_have_the_head_of_one_that_is_gone() {
    let (disk, name, _) = killed(10);
    let head = disk.files()[&name][..HEAD].to_vec();
    let (keys, report) = open(&disk, always()).unwrap();
    let being_made = segments(&disk).pop().unwrap().0;
    abandon(keys);
    disk.change(&being_made, |bytes| *bytes = head);
    let (keys, again) = open(&disk, always()).unwrap();
    assert_eq!((again.last, again.torn, all(&keys).len()), (report.last, None, 10));
}

#[test]
fn who_writes_does_not_wait_for_the_disk_where_a_thread_does() {
    let disk = Arc::new(Fake::default());
    let options = JournalOptions { segment: 300, ..journal(SELDOM) };
    let keys = open(&disk, options).unwrap().0;
    let held = disk.hold_syncs();
    fill(&keys, 30);
    assert_eq!(segments(&disk).len(), 1);
    drop(held);
    let end = Instant::now() + Duration::from_mins(1);
    while segments(&disk).len() < 2 {
        assert!(Instant::now() < end, "no other segment is begun");
        std::thread::yield_now();
    }
    fill(&keys, 30);
    let map = all(&keys);
    drop(keys);
    assert_eq!(all(&open(&disk, options).unwrap().0), map);
}

#[test]
fn a_segment_that_was_half_begun_is_removed_before_anything_else_is_written() {
    for room in 0..HEAD {
        let disk = Arc::new(Fake::default());
        let keys = open(&disk, journal(SELDOM)).unwrap().0;
        fill(&keys, 3);
        disk.fill_up(room);
        let refused = keys.compact().unwrap_err().to_string();
        assert!(refused.contains("cannot begin a segment"), "{refused}");
        assert_eq!(segments(&disk).len(), 1);
        disk.is_roomy_again();
        // Durably: behind a power cut its name would say that what comes now is missing.
        let removed =
            |event: &Event| matches!(event, Event::Remove(name) if name.starts_with("journal-"));
        let events = disk.events();
        let at = events.iter().position(removed).unwrap();
        assert_eq!(events[at + 1], Event::SyncNames);
        put(&keys, "later", "x").unwrap();
        abandon(keys);
        assert_eq!(all(&open(&disk, journal(SELDOM)).unwrap().0).len(), 4);
    }
}

#[test]
fn a_directory_that_cannot_be_written_any_more_stops_the_journal() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, always()).unwrap().0;
    fill(&keys, 3);
    disk.make_read_only();
    assert!(keys.compact().unwrap_err().to_string().contains("Read-only file system"));
    assert!(matches!(put(&keys, "later", "x"), Err(Fault::Journal { .. })));
}

#[test]
fn what_came_since_a_snapshot_was_begun_is_counted_over_all_segments() {
    let disk = Arc::new(Fake::default());
    let options = JournalOptions { segment: 300, prefill: 0, ..always() };
    let keys = open(&disk, options).unwrap().0;
    fill(&keys, 10);
    keys.compact_while(&|| {
        fill(&keys, 20);
        true
    })
    .unwrap();
    let files = segments(&disk);
    assert!(files.len() > 2, "{}", files.len());
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len() - HEAD).sum();
    assert_eq!(keys.journal().unwrap().figures().since_snapshot, bytes as u64);
}
