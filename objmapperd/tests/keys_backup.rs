//! `KV_BACKUP`: what comes is a backup of everything, and a file that nobody else can get at.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use objmapper::kv::{Keyspace, restore, verify_backup};
use objmapper_client::{Applied, Batch, Client, Put, Status};
use objmapper_os::memory;
use objmapper_proto::kv::Kv;
use objmapper_proto::{Delivery, Kind, Request};
use support::content::content;
use support::daemon::{Place, Setup};
use support::resp::keyspace;
use support::{PATIENCE, wait_for};

fn keeping(place: &Place) -> Setup {
    let dir = place.outside("kv");
    keyspace(Setup::default(), place).argument("--kv-dir").argument(dir.to_str().unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    fs::read_dir(dir).unwrap().map(|entry| name(entry).into_string().unwrap()).collect()
}

/// Values of all lengths in all databases, some with an end.
fn fill(client: &mut Client) {
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_millis(33_177_117_420_123);
    for db in 0..16 {
        let mut keys = client.keys(db);
        for length in [0, 5, 32 * 1024, 32 * 1024 + 1, 200_000] {
            let put = if length == 5 { Put::new().expires_at(moment) } else { Put::new() };
            let value = content(length, u64::from(db));
            assert!(keys.set_with(format!("{length} \u{0}"), value, &put).unwrap());
        }
    }
}

/// Long values are descriptors of the daemon's, which are counted when all is over.
fn empty(client: &mut Client) {
    for db in 0..16 {
        let keys: Vec<_> = client.keys(db).scan().map(|found| found.unwrap().key).collect();
        client.keys(db).delete(keys).unwrap();
    }
}

type Everything = BTreeMap<(u8, Vec<u8>), (Vec<u8>, Option<std::time::SystemTime>)>;

fn everything(client: &mut Client) -> Everything {
    let mut all = Everything::new();
    for db in 0..16 {
        for found in client.keys(db).scan().with_values() {
            let found = found.unwrap();
            all.insert((db, found.key), (found.value.unwrap(), found.expiry));
        }
    }
    all
}

/// Copies what came to a file.
fn copied(mut from: File, to: &Path) {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    fs::write(to, bytes).unwrap();
}

#[test]
fn it_holds_everything_and_has_no_name() {
    let place = Place::new();
    let (dir, copy) = (place.outside("kv"), place.outside("copy"));
    let mut daemon = keeping(&place).start_in(place);
    let mut client = daemon.client();
    fill(&mut client);
    let before = everything(&mut client);
    assert_eq!(before.len(), 80);

    let opened = client.backup().unwrap();
    let (size, metadata) = (opened.size(), *opened.metadata());
    let mut file = opened.into_file();
    let told = file.metadata().unwrap();
    assert_eq!((told.nlink(), told.dev()), (0, fs::metadata(&dir).unwrap().dev()));
    assert_eq!((told.len(), told.mode() & 0o7777), (size, 0o600));
    assert!(!metadata.is_shared());
    assert!(file.write(b"x").is_err(), "it is for reading");
    assert!(names(&dir).iter().all(|name| !name.contains("backup") && !name.contains("tmp")));
    copied(file, &copy);
    let said = verify_backup(&copy).unwrap();
    assert_eq!((said.keys, said.bytes), (80, size));

    // What is done later is not in it.
    client.keys(0).set("later", "x").unwrap();
    drop(client);
    assert!(daemon.stop().success());
    let place = daemon.kill();
    fs::remove_dir_all(&dir).unwrap();
    restore(&copy, &dir).unwrap();
    let daemon = keeping(&place).start_in(place);
    assert!(everything(&mut daemon.client()) == before);
}

/// What was answered before it was asked for is in it, and of what is changed meanwhile all or nothing.
#[test]
fn it_is_of_one_moment_however_much_is_written() {
    const TOGETHER: usize = 64;
    let place = Place::new();
    let daemon = keeping(&place).argument("--kv-sync=never").start_in(place);
    let mut client = daemon.client();
    // So that it takes a while.
    for round in 0..20 {
        let mut batch = Batch::new();
        for n in 0..1000 {
            batch.set(format!("other {round} {n}"), [7; 100]);
        }
        assert_eq!(client.keys(0).apply(&batch).unwrap(), Applied::Made(1000));
    }
    let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let moments: Vec<u64> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = daemon.client();
            while !over.load(Ordering::SeqCst) {
                let n = written.load(Ordering::SeqCst) + 1;
                let mut batch = Batch::new();
                for at in 0..TOGETHER {
                    batch.set(format!("together {at}"), n.to_string());
                }
                let made = client.keys(0).apply(&batch).unwrap();
                assert_eq!(made, Applied::Made(TOGETHER as u64));
                written.store(n, Ordering::SeqCst);
            }
        });
        let backup = |round| {
            let before = written.load(Ordering::SeqCst);
            let file = client.backup().unwrap().into_file();
            let (copy, dir) = (daemon.outside("copy"), daemon.outside(&format!("kv {round}")));
            copied(file, &copy);
            restore(&copy, &dir).unwrap();
            // A daemon that another test starts has our lock for a moment, between fork and exec.
            let keys = wait_for("it opens", || Keyspace::open(&dir).ok());
            let value = |at| keys.db(0).get(format!("together {at}")).unwrap();
            let all: Vec<_> = (0..TOGETHER).map(value).collect();
            assert!(all.iter().all(|value| *value == all[0]), "{all:?}");
            let text = all[0].clone().map(|value| String::from_utf8(value).unwrap());
            let moment: u64 = text.map_or(0, |text| text.parse().unwrap());
            assert!(moment >= before, "{moment} is in it, {before} was answered");
            moment
        };
        // The writer ends also if this fails.
        let done = catch_unwind(AssertUnwindSafe(|| (0..10).map(backup).collect()));
        over.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|failed| resume_unwind(failed))
    });
    assert!(moments.is_sorted() && moments[0] < moments[9], "others wrote: {moments:?}");
}

#[test]
fn keys_in_memory_come_in_memory_that_nobody_can_change() {
    let place = Place::new();
    let daemon = keyspace(Setup::default(), &place).start_in(place);
    let mut client = daemon.client();
    fill(&mut client);
    let file = client.backup().unwrap().into_file();
    let seals = memory::seals(file.as_fd()).unwrap().unwrap();
    assert!(seals.are_immutable());
    assert!((&file).write(b"x").is_err(), "it is for reading");
    let copy = daemon.outside("copy");
    copied(file, &copy);
    assert_eq!(verify_backup(&copy).unwrap().keys, 80);
    empty(&mut client);
}

#[test]
fn one_is_made_at_a_time_and_others_go_on() {
    let place = Place::new();
    // One user has more than one at a time.
    let daemon = keeping(&place).helpers(4).start_in(place);
    fill(&mut daemon.client());
    let (made, busy, begun) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    // Until it was both: some were made, and some came while one was.
    let ask = |n: usize| {
        let mut client = daemon.client();
        while made.load(Ordering::SeqCst) < 5 || busy.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < PATIENCE, "none was told to come later");
            match client.backup() {
                Ok(opened) => {
                    let copy = daemon.outside(&format!("copy {n}"));
                    copied(opened.into_file(), &copy);
                    assert!(verify_backup(&copy).unwrap().keys >= 80);
                    made.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => {
                    assert_eq!(error.status(), Some(Status::Busy), "{error}");
                    assert!(error.to_string().contains("one is made at a time"), "{error}");
                    busy.fetch_add(1, Ordering::SeqCst);
                }
            }
            // The connection is as good as before.
            client.keys(0).set(format!("key {n}"), "x").unwrap();
        }
    };
    thread::scope(|scope| {
        (0..4).for_each(|n| drop(scope.spawn(move || ask(n))));
    });
    daemon.client().backup().unwrap();
    empty(&mut daemon.client());
}

#[test]
fn replies_keep_their_order_and_who_leaves_leaves_nothing_behind() {
    let place = Place::new();
    let daemon = keeping(&place).start_in(place);
    fill(&mut daemon.client());
    for round in 0..6 {
        let mut peer = daemon.greeted();
        let mut bytes = Vec::new();
        let asked: Vec<u64> = [Request::Ping(b"a"), Request::Kv(Kv::BACKUP), Request::Ping(b"b")]
            .map(|request| peer.encode(request, &mut bytes))
            .to_vec();
        peer.send(&bytes);
        // Some do not wait for it: what was opened for them is closed, as the daemon's end sees.
        for &id in &asked[..round % 3] {
            let frame = peer.frame();
            assert_eq!(frame.header.id, id);
        }
    }
    let mut peer = daemon.greeted();
    let (backup, ping) = (peer.request(Request::Kv(Kv::BACKUP)), peer.request(Request::Ping(b"")));
    let answer = peer.object(backup);
    assert_eq!((answer.status(), answer.head.kind), (Status::Ok, Kind::File));
    assert_eq!(answer.head.delivery, Delivery::Descriptor);
    let file = answer.file.unwrap();
    assert_eq!(answer.head.size, file.metadata().unwrap().len());
    assert_eq!(peer.frame().header.id, ping);
    empty(&mut daemon.client());
}
