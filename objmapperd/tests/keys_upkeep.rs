//! `KV_COMPACT` and `KV_STATUS`: what whoever runs the daemon asks of all keys.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use objmapper_client::{Client, Compacted, Put, Status};
use objmapper_proto::kv::Kv;
use objmapper_proto::{Reply, Request};
use support::daemon::{Daemon, Place, Setup, counter};
use support::failing::failing;
use support::resp::keyspace;
use support::{PATIENCE, until};

fn keeping(place: &Place) -> Setup {
    let dir = place.outside("kv");
    keyspace(Setup::default(), place).argument("--kv-dir").argument(dir.to_str().unwrap())
}

/// Bytes of all files in the directory, by name.
fn files(daemon: &Place) -> BTreeMap<String, u64> {
    let each = fs::read_dir(daemon.outside("kv")).unwrap();
    each.map(Result::unwrap)
        .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
        .filter(|(name, _)| name != "LOCK")
        .collect()
}

fn fill(daemon: &Daemon, keys: u32) {
    let mut client = daemon.client();
    for n in 0..keys {
        client.keys(0).set(format!("key {n}"), "x").unwrap();
    }
}

fn status(client: &mut Client) -> BTreeMap<String, String> {
    let told = client.keyspace_status().unwrap();
    let count = told.len();
    let told: BTreeMap<_, _> = told.into_iter().collect();
    assert_eq!(told.len(), count, "each name once");
    told
}

#[test]
fn compacting_makes_the_journal_short_and_keeps_everything() {
    let place = Place::new();
    let daemon = keeping(&place).start_in(place);
    let mut client = daemon.client();
    let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(33_177_117_420_123);
    for n in 0..2000 {
        client.keys(3).set("same", vec![7; 1000]).unwrap();
        client.keys(3).add("sum", n).unwrap();
    }
    client.keys(15).set_with("ends", "x", &Put::new().expires_at(moment)).unwrap();
    let before: u64 = files(&daemon).values().sum();
    assert!(before > 2_000_000, "{before}");

    let told = client.compact().unwrap();
    let after = files(&daemon);
    let names: Vec<&str> = after.keys().map(|name| &name[..8]).collect();
    assert_eq!(names, ["journal-", "snapshot"], "{after:?}");
    // A segment's head is no record.
    assert_eq!(told.before, before - 32, "{told:?}");
    assert_eq!(told.after, *after.values().last().unwrap());
    assert!(told.after < 2000, "{told:?}");
    assert_eq!(counter(&mut client, "journal.snapshot_bytes"), told.after);
    assert_eq!(counter(&mut client, "journal.bytes"), 0);

    // Nothing has been written since: the next one is the same.
    let again = client.compact().unwrap();
    assert_eq!(again.after, told.after);

    drop(client);
    let place = daemon.kill();
    let daemon = keeping(&place).start_in(place);
    let mut client = daemon.client();
    assert_eq!(client.keys(3).get("same").unwrap().unwrap(), vec![7; 1000]);
    assert_eq!(client.keys(3).get("sum").unwrap().unwrap(), b"1999000");
    assert_eq!(client.keys(15).expiry("ends").unwrap(), Some(Some(moment)));
}

#[test]
fn others_write_while_one_compacts_and_a_second_is_told_to_wait() {
    let place = Place::new();
    // One user has more than one at a time.
    let daemon = keeping(&place).helpers(4).start_in(place);
    fill(&daemon, 3000);
    let over = AtomicBool::new(false);
    let (made, busy, begun) = (AtomicU32::new(0), AtomicU32::new(0), Instant::now());
    let last = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut client, mut n) = (daemon.client(), 0_u32);
            while !over.load(Ordering::Relaxed) {
                n += 1;
                client.keys(1).set("n", n.to_string()).unwrap();
            }
            n
        });
        // Until it was both: some were made, and some came while one was.
        let (made, busy) = (&made, &busy);
        let compact = || {
            let mut client = daemon.client();
            while made.load(Ordering::SeqCst) < 5 || busy.load(Ordering::SeqCst) == 0 {
                assert!(begun.elapsed() < PATIENCE, "none was told to come later");
                match client.compact() {
                    Ok(Compacted { after, .. }) => {
                        assert!(after > 0);
                        made.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => {
                        assert_eq!(error.status(), Some(Status::Busy), "{error}");
                        assert!(error.to_string().contains("one is made at a time"), "{error}");
                        busy.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(compact)).collect();
        let asked: Vec<_> = asking.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        asked.into_iter().for_each(Result::unwrap);
        writer.join().unwrap()
    });
    let place = daemon.kill();
    let daemon = keeping(&place).start_in(place);
    let mut client = daemon.client();
    assert_eq!(client.keys(1).get("n").unwrap().unwrap(), last.to_string().as_bytes());
    assert_eq!(client.keys(0).scan().count(), 3000);
}

#[test]
fn what_is_in_memory_only_cannot_be_compacted() {
    let place = Place::new();
    let daemon = keyspace(Setup::default(), &place).start_in(place);
    let mut client = daemon.client();
    let error = client.compact().unwrap_err();
    assert_eq!(error.status(), Some(Status::Unsupported));
    assert!(error.to_string().contains("kv.dir"), "{error}");
    assert!(!status(&mut client).contains_key("journal.sync"));
}

#[test]
fn a_compaction_that_fails_leaves_everything_as_it_was() {
    let place = Place::new();
    // That of the hundred records below; the journal itself is written as ever.
    let snapshot = place.outside("kv/snapshot-00000000000000000101.kv.tmp");
    let failure = ("write", "ENOSPC", "1+");
    let Some(setup) = failing(keeping(&place), Some(&snapshot), failure) else { return };
    let daemon = setup.start_in(place);
    fill(&daemon, 100);
    let mut client = daemon.client();
    let error = client.compact().unwrap_err();
    assert_eq!(error.status(), Some(Status::Busy), "{error}");
    assert!(error.to_string().contains("ENOSPC"), "{error}");
    assert!(files(&daemon).keys().all(|name| name.starts_with("journal-")), "{:?}", files(&daemon));
    assert_eq!(status(&mut client)["journal.snapshot_failed"], "1");
    client.keys(0).set("later", "x").unwrap();
    client.compact().unwrap();
    assert_eq!(status(&mut client)["journal.snapshot_failed"], "0");
    drop(client);
    let place = daemon.kill();
    let daemon = keeping(&place).start_in(place);
    assert_eq!(daemon.client().keys(0).scan().count(), 101);
}

#[test]
fn replies_keep_their_order_around_a_compaction() {
    let place = Place::new();
    let daemon = keeping(&place).start_in(place);
    fill(&daemon, 100);
    let mut peer = daemon.greeted();
    let mut bytes = Vec::new();
    let requests = [
        Request::Ping(b"a"),
        Request::Kv(Kv::COMPACT),
        Request::Kv(Kv::STATUS),
        Request::Ping(b"b"),
    ];
    let asked = requests.map(|request| peer.encode(request, &mut bytes));
    peer.send(&bytes);
    for (n, id) in asked.into_iter().enumerate() {
        let frame = peer.frame();
        assert_eq!(frame.header.id, id);
        match (n, frame.reply()) {
            (0, Reply::Pong(b"a")) | (1, Reply::KvCompacted(_)) | (3, Reply::Pong(b"b")) => {}
            (2, Reply::Stats(text)) => {
                assert!(text.contains("\njournal.snapshotting 0\n"), "{text}");
                assert!(!text.contains("\njournal.snapshot_at_ms 0\n"), "{text}");
            }
            (_, other) => panic!("{n}: {other:?}"),
        }
    }
    // Who does not wait for it leaves nothing behind, as the daemon's end sees.
    peer.request(Request::Kv(Kv::COMPACT));
}

#[test]
fn it_is_told_how_the_keyspace_is() {
    let place = Place::new();
    let setup = keeping(&place).argument("--kv-maxmemory=1MiB").argument("--kv-sync=always");
    let daemon = setup.argument("--kv-eviction=volatile-ttl").start_in(place);
    let mut client = daemon.client();
    let lasting = Put::new().expires_in(Duration::from_mins(150));
    fill(&daemon, 10);
    client.keys(7).set_with("ends", "x", &lasting).unwrap();
    client.keys(7).set_with("soon", "x", &Put::new().expires_in(Duration::from_millis(1))).unwrap();
    until("it has gone", || client.keys(7).scan().count() == 1);
    assert!(client.keys(0).get("key 1").unwrap().is_some());
    assert!(client.keys(0).get("none").unwrap().is_none());
    let told = status(&mut client);
    let dir = daemon.outside("kv");
    for (name, value) in [
        ("kv.keys", "11"),
        ("kv.keys_with_expiry", "1"),
        ("kv.expired", "1"),
        ("kv.evicted", "0"),
        ("kv.hits", "1"),
        ("kv.misses", "1"),
        ("kv.limit", "1048576"),
        ("kv.pressure", "0"),
        ("kv.clients", "0"),
        ("kv.eviction", "volatile-ttl"),
        ("kv.db0.keys", "10"),
        ("kv.db0.keys_with_expiry", "0"),
        ("kv.db7.keys", "1"),
        ("kv.db7.keys_with_expiry", "1"),
        ("journal.dir", dir.to_str().unwrap()),
        ("journal.sync", "always"),
        ("journal.appended", "13"),
        ("journal.written", "13"),
        ("journal.durable", "13"),
        ("journal.snapshot_at_ms", "0"),
        ("journal.failed", "0"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}: {told:?}");
    }
    assert!(!told.contains_key("kv.db1.keys") && !told.contains_key("journal.failure"));
    // The same figures as the daemon's counters have.
    let counters: BTreeMap<_, _> = client.stats().unwrap().into_iter().collect();
    for (name, value) in told.iter().filter(|(name, _)| counters.contains_key(*name)) {
        assert_eq!(&counters[name], value, "{name}");
    }

    // Until a write finds no room: what ends is evicted for it first.
    let mut n = 0;
    let full = loop {
        match client.keys(0).set(format!("long {n}"), vec![7; 10_000]) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.status(), Some(Status::Busy), "{full}");
    let told = status(&mut client);
    assert_eq!((told["kv.pressure"].as_str(), told["kv.evicted"].as_str()), ("3", "1"), "{told:?}");
    assert!(told["kv.bytes"].parse::<u64>().unwrap() > 1 << 20, "{told:?}");
}

#[test]
fn it_is_told_why_changes_are_refused() {
    let place = Place::new();
    let segment = place.outside("kv/journal-00000000000000000001.log");
    let failure = ("write", "ENOSPC", "6+");
    let Some(setup) = failing(keeping(&place), Some(&segment), failure) else { return };
    let daemon = setup.start_in(place);
    let mut client = daemon.client();
    let refused = (0..50).find_map(|n| client.keys(0).set("a", n.to_string()).err());
    assert_eq!(refused.unwrap().status(), Some(Status::Io));
    let told = status(&mut client);
    assert_eq!(told["journal.failed"], "1");
    assert!(told["journal.failure"].contains("ENOSPC"), "{told:?}");
    assert_eq!(client.compact().unwrap_err().status(), Some(Status::Io));
}
