//! The verbs of an embedded keyspace: durable as promised, whole after a crash, told when it fails.

use std::sync::Arc;

use objmapper::kv::{Db, Fault, SyncPolicy};

use crate::disk::Fake;
use crate::town::{SELDOM, journal, open};

/// Each verb that changes something.
const CHANGES: [fn(Db<'_>) -> Result<(), Fault>; 7] = [
    |db| db.put("key", "new"),
    |db| db.insert_if_absent("new", "1").map(drop),
    |db| db.update_if_present("key", "newer").map(drop),
    |db| db.put_batch(&[("a", "1"), ("b", "2"), ("c", "3")]),
    |db| db.put_stream("long", &[b'x'; 5000][..]).map(drop),
    |db| db.delete("key").map(drop),
    |db| db.clear().map(drop),
];

/// Everything.
fn all(db: Db<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    db.prefix("").map(Result::unwrap).collect()
}

#[test]
fn what_a_verb_has_done_is_as_durable_as_was_promised_when_it_returns() {
    for policy in [SyncPolicy::Always, SELDOM, SyncPolicy::Never] {
        let disk = Arc::new(Fake::default());
        let keys = open(&disk, journal(policy)).unwrap().0;
        for change in CHANGES {
            change(keys.db(0)).unwrap();
            // Nothing is handed over after this.
            let copy = open(&Arc::new(disk.killed()), journal(policy)).unwrap().0;
            assert_eq!(all(copy.db(0)), all(keys.db(0)));
            let figures = keys.journal().unwrap().figures();
            assert!(policy != SyncPolicy::Always || figures.durable == figures.appended);
        }
    }
}

#[test]
fn a_batch_is_whole_or_not_there_wherever_its_record_is_torn() {
    let disk = Arc::new(Fake::default());
    let keys = open(&disk, journal(SELDOM)).unwrap().0;
    keys.db(0).put("a", "0").unwrap();
    let before: usize = disk.files().values().map(Vec::len).sum();
    keys.db(0).put_batch(&[("a", "1"), ("b", "1"), ("c", "1")]).unwrap();
    let name = disk.files().into_keys().next().unwrap();
    let whole = disk.files()[&name].len();
    for length in before..=whole {
        let torn = Arc::new(disk.killed());
        torn.change(&name, |bytes| bytes.truncate(length));
        let keys = open(&torn, journal(SELDOM)).unwrap().0;
        let seen = keys.db(0).get_batch(&["a", "b", "c"]).unwrap();
        let one = Some(b"1".to_vec());
        if length == whole {
            assert_eq!(seen, [one.clone(), one.clone(), one]);
        } else {
            assert_eq!(seen, [Some(b"0".to_vec()), None, None], "{length} of {whole}");
        }
    }
}

#[test]
fn a_disk_that_fails_is_told_by_the_verb_and_reads_go_on() {
    for change in CHANGES {
        let disk = Arc::new(Fake::default());
        let keys = open(&disk, journal(SyncPolicy::Always)).unwrap().0;
        let db = keys.db(0);
        db.put("key", "old").unwrap();
        disk.fail_syncs_after(0);
        assert!(matches!(change(db), Err(Fault::Journal { .. })));
        disk.syncs_work_again();
        let before = all(db);
        for change in CHANGES {
            let fault = change(db).unwrap_err();
            assert!(
                fault.to_string().contains("nothing is changed until the next start"),
                "{fault}"
            );
        }
        assert_eq!(all(db), before);
        // Who only reads waits for nothing that will never come.
        assert_eq!(db.exists("elsewhere"), Ok(false));
    }
}
