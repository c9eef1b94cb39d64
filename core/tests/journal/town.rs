//! What the tests share: verbs in short, and all that a keyspace holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use objmapper::kv::journal::{Disk, Failure, Report};
use objmapper::kv::{Expiry, Fault, JournalOptions, Keyspace, Options, SyncPolicy};
use parking_lot::Mutex;

pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Far in the future: does not end while a test runs.
pub(crate) const LATER: i64 = 9_000_000_000_000;

/// By database and key: value and end.
pub(crate) type Map = BTreeMap<(u8, Vec<u8>), (Vec<u8>, Option<i64>)>;

pub(crate) fn small() -> Options {
    Options { shards: 4, inline: 16, ..Options::default() }
}

/// A policy that does nothing by itself within a test.
pub(crate) const SELDOM: SyncPolicy = SyncPolicy::Interval(Duration::from_hours(1));

/// Bytes of zeros ahead: those of some ten records.
pub(crate) const PREFILL: u64 = 2000;

pub(crate) fn journal(sync: SyncPolicy) -> JournalOptions {
    JournalOptions { sync, compact_percent: 0, prefill: PREFILL, ..JournalOptions::default() }
}

pub(crate) fn open(
    disk: &Arc<impl Disk + 'static>,
    options: JournalOptions,
) -> Result<(Keyspace, Report), Failure> {
    Keyspace::open_on(disk.clone(), None, small(), options, |_, _| ())
}

/// As if its process were killed: what closing would write is not wanted. It is kept, lest it count
/// as lost.
pub(crate) fn abandon(keys: Keyspace) {
    static ABANDONED: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());
    ABANDONED.lock().push(keys);
}

pub(crate) fn set(
    keys: &Keyspace,
    db: u8,
    name: &[u8],
    value: &[u8],
    end: Option<i64>,
) -> Result<u64, Fault> {
    let key = keys.key(db, name);
    let mut hold = keys.hold(&key, NOW);
    hold.set(&key, keys.content(value)?, end.map_or(Expiry::Never, Expiry::At))?;
    Ok(hold.finish())
}

/// Sets, and waits for what the policy promises.
pub(crate) fn put(keys: &Keyspace, name: &str, value: &str) -> Result<(), Fault> {
    keys.settle(set(keys, 0, name.as_bytes(), value.as_bytes(), None)?)
}

pub(crate) fn get(keys: &Keyspace, name: &str) -> Option<String> {
    let key = keys.key(0, name.as_bytes());
    let mut hold = keys.hold(&key, NOW);
    hold.get(&key).map(|value| String::from_utf8(value.bytes().unwrap().into_owned()).unwrap())
}

/// Everything, also what has ended.
pub(crate) fn all(keys: &Keyspace) -> Map {
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
