//! What the targets share: a disk in memory, the journal's files by its FORMAT.md, and opening them.

#![forbid(unsafe_code)]

pub mod disk;
pub mod format;

use std::collections::BTreeMap;
use std::sync::Arc;

use objmapper::kv::journal::{Damage, Failure, Report};
use objmapper::kv::{JournalOptions, Keyspace, Options, SyncPolicy};

use disk::Memory;

/// By database and key: value and end.
pub type Map = BTreeMap<(u8, Vec<u8>), (Vec<u8>, Option<i64>)>;

/// Opens what is there.
pub fn open(disk: &Arc<Memory>, damage: Damage) -> Result<(Map, Report), Failure> {
    let options = Options { shards: 4, inline: 16, ..Options::default() };
    let journal =
        JournalOptions { sync: SyncPolicy::Always, compact_percent: 0, damage, ..JournalOptions::default() };
    let (keys, report) = Keyspace::open_on(disk.clone(), None, options, journal, |done, all| {
        assert!(done <= all, "{done} of {all}");
    })?;
    Ok((all(&keys), report))
}

fn all(keys: &Keyspace) -> Map {
    let mut map = Map::new();
    for db in 0..16 {
        let mut cursor = 0;
        loop {
            cursor = keys.scan(db, cursor, 100, i64::MIN, |name, value, end| {
                map.insert((db, name.to_vec()), (value.bytes().unwrap().into_owned(), end));
            });
            if cursor == 0 {
                break;
            }
        }
    }
    map
}

/// Opens files that anything may have happened to: whatever is taken for true is so from then on, and what
/// was refused is refused again.
pub fn open_twice(disk: &Arc<Memory>) -> Option<(Map, Report)> {
    let damaged = Arc::new(disk.copy());
    if let Ok((map, report)) = open(&damaged, Damage::Skip)
        // Who is so close to the last number has none next time.
        && report.last < 1 << 60
    {
        // What was skipped is still there.
        let again = open(&damaged, Damage::Skip).expect("it was opened before");
        assert_eq!(again.0, map, "skipped otherwise the second time");
    }
    match open(disk, Damage::Refuse) {
        Ok((map, report)) if report.last < 1 << 60 => {
            let again = open(disk, Damage::Refuse).expect("it was opened before");
            assert_eq!((&again.0, &again.1.torn), (&map, &None), "not the same again");
            Some((map, report))
        }
        Ok(_) => None,
        Err(refused) => {
            let again = open(disk, Damage::Refuse).expect_err("it was refused before");
            assert_eq!(again, refused);
            None
        }
    }
}
