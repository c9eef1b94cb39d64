//! What holds for a pipeline beside that: records of the journal, order, a kill.

use std::os::fd::AsFd;
use std::thread;

use objmapper_os::memory;
use objmapper_proto::hello::PASS_FDS;
use objmapper_proto::kv::{self, Change, Given, Set, Verb};
use objmapper_proto::{Hello, KvDone, Mode, Reply, Request, Status};

use crate::scene::{DONE, Said, add, get, journalled, kv, list, piece, set};
use crate::support::content::content;
use crate::support::daemon::{Daemon, Place, Setup, counter};
use crate::support::held::Held;
use crate::support::resp::{self, bulk, connect, keyspace, ok};
use crate::support::skip;

/// Records of the journal that these requests made, all of which say that they are done.
fn records(daemon: &Daemon, requests: &[Request<'_>]) -> u64 {
    let (mut client, mut peer) = (daemon.client(), daemon.greeted());
    let before = counter(&mut client, "journal.appended");
    let bytes = piece(&mut peer, requests);
    assert_eq!(peer.stream.send(&bytes, &[], false).unwrap(), bytes.len());
    for _ in requests {
        let frame = peer.frame();
        let done = matches!(frame.reply(), Reply::KvDone(KvDone { done: true, .. }));
        assert!(done || matches!(frame.reply(), Reply::Object(_)), "{frame:?}");
    }
    counter(&mut client, "journal.appended") - before
}

#[test]
fn what_comes_together_is_one_record() {
    let daemon = journalled(Place::new(), "interval");
    let names: Vec<String> = (0..100).map(|n| format!("key {n}")).collect();
    let set = |n: usize| set(names[n].as_bytes(), b"value");
    let sets = |numbers: std::ops::Range<usize>| numbers.map(set).collect::<Vec<_>>();
    assert_eq!(records(&daemon, &sets(0..1)), 1);
    assert_eq!(records(&daemon, &sets(0..16)), 1);
    assert_eq!(records(&daemon, &sets(0..40)), 3);
    // Verbs of all kinds.
    let gone = list(&[b"key 3"]);
    let verbs = [
        set(1),
        add(b"sum", 7),
        get(Mode::Copy, b"sum"),
        kv(0, Verb::Expire { change: Change::At(33_177_117_420_000), key: b"key 1" }),
        kv(0, Verb::Delete(kv::Keys::new(&gone).unwrap())),
        kv(7, Verb::Set(Set::new(b"of another database", b"value"))),
    ];
    assert_eq!(records(&daemon, &verbs), 1);
    // Reads make none; and what only reads is no hindrance.
    let gets: Vec<_> = (0..8).map(|n| get(Mode::Copy, names[n + 8].as_bytes())).collect();
    assert_eq!(records(&daemon, &gets), 0);
    // What is too long is by itself, and so are a change of many and a value that is wanted open.
    let long = content(5000, 1);
    let two = list(&[b"key 0", b"key 1"]);
    let apart = [
        (crate::scene::set(b"long", &long), 3),
        (kv(0, Verb::Delete(kv::Keys::new(&two).unwrap())), 3),
        (get(Mode::Fdpass, b"sum"), 2),
    ];
    for (apart, expected) in apart {
        let requests = [sets(0..8), vec![apart], sets(8..16)].concat();
        assert_eq!(records(&daemon, &requests), expected, "{apart:?}");
    }
}

/// A batch ends where the turn does: with 72 requests, and then with every eighteenth.
#[test]
fn a_turn_has_its_quantum_all_the_same() {
    let daemon = journalled(Place::new(), "interval");
    let requests: Vec<_> = (0..100).map(|_| add(b"sum", 1)).collect();
    // 4 * 16 + 8, 16 + 2, 10.
    assert_eq!(records(&daemon, &requests), 5 + 2 + 1);
}

/// The same key, by bytes, by a descriptor of a memory file, and again.
#[test]
fn a_large_value_in_between_has_its_place() {
    let place = Place::new();
    let daemon = keyspace(Setup::default(), &place).start_in(place);
    let mut peer = daemon.peer();
    let ack = peer.greet_with(Hello { capabilities: PASS_FDS, ..Hello::default() });
    assert_eq!(ack.capabilities, PASS_FDS);
    let large = content(1 << 20, 1);
    let file = memory::sealed("large", &large).unwrap();
    let by_file = Set { value: Given::Passed, ..Set::new(b"k", b"") };
    let requests = [
        set(b"k", b"first"),
        get(Mode::Copy, b"k"),
        kv(0, Verb::Set(by_file)),
        get(Mode::Copy, b"k"),
        get(Mode::Auto, b"k"),
        set(b"other", b"small"),
        get(Mode::Fdpass, b"k"),
        get(Mode::Auto, b"other"),
        set(b"k", b"7"),
        get(Mode::Auto, b"k"),
        add(b"k", 1),
    ];
    for _ in 0..5 {
        let bytes = piece(&mut peer, &requests);
        let sent = peer.send_with(&bytes, &[file.as_fd()]).unwrap();
        assert_eq!(sent, bytes.len());
        let mut answers = Vec::new();
        for _ in &requests {
            let mut said = Said::default();
            while !said.take(&peer.frame()) {}
            answers.push(said);
        }
        let first = ["first", "small", "7"].map(|text| text.as_bytes().to_vec());
        let values: Vec<_> = [1, 3, 4, 6, 7, 9].iter().map(|&n| &answers[n].bytes).collect();
        assert!(values == [&first[0], &large, &large, &large, &first[1], &first[2]]);
        for n in [0, 2, 5, 8] {
            assert_eq!(answers[n].done, Some(KvDone { done: true, number: 0 }), "{n}");
        }
        assert_eq!(answers[10].done, Some(KvDone { done: true, number: 8 }));
    }
    connect(&daemon).say("FLUSHALL");
}

/// What a value was used for is counted once, in whatever way it is answered.
#[test]
fn a_use_is_one_use() {
    let place = Place::new();
    let daemon = keyspace(Setup::default(), &place).start_in(place);
    let (mut peer, mut resp) = (daemon.greeted(), connect(&daemon));
    let long = content(100_000, 1);
    assert_eq!(resp.ask(&[&b"SET"[..], b"long", &long]), ok());
    assert_eq!(resp.say("SET short x"), ok());
    let mut requests = Vec::new();
    for mode in [Mode::Copy, Mode::Auto, Mode::Fdpass] {
        for key in [&b"short"[..], b"long", b"none"] {
            requests.push(get(mode, key));
        }
    }
    let bytes = piece(&mut peer, &requests);
    peer.send(&bytes);
    for _ in &requests {
        let mut said = Said::default();
        while !said.take(&peer.frame()) {}
    }
    let info = resp.say("INFO stats").text();
    assert!(info.contains("keyspace_hits:6\r\n"), "{info}");
    assert!(info.contains("keyspace_misses:3\r\n"), "{info}");
    resp.say("FLUSHALL");
}

/// One that cannot be done is refused, and the others are done.
#[test]
fn each_is_refused_for_itself() {
    let place = Place::new();
    let setup = Setup::default().argument("--kv-maxmemory=1MiB");
    let daemon = keyspace(setup, &place).start_in(place);
    let (mut client, mut peer) = (daemon.client(), daemon.greeted());
    let mut keys = client.keys(0);
    keys.set("n", "7").unwrap();
    keys.set("text", "x").unwrap();
    let value = content(1000, 1);
    let full = (0..5000).find_map(|n| keys.set(format!("key {n}"), &value).err());
    assert_eq!(full.and_then(|error| error.status()), Some(Status::Busy));
    let gone = list(&[b"key 0"]);
    let ended = Verb::Expire { change: Change::At(1), key: b"key 1" };
    let (busy, bad) = (Err(Status::Busy), Err(Status::BadValue));
    let (done, told) = (Ok(Some(0)), Ok(None));
    // Nothing may grow, and so the first of each kind is by itself; then there is room.
    let first = [
        (get(Mode::Copy, b"n"), told),
        (set(b"a", b"1"), busy),
        (add(b"n", 1), busy),
        (kv(0, Verb::Expire { change: Change::Tell, key: b"n" }), done),
        (kv(0, Verb::Delete(kv::Keys::new(&gone).unwrap())), Ok(Some(1))),
        (kv(0, ended), Ok(Some(1))),
        (add(b"n", 1), Ok(Some(8))),
        (add(b"text", 1), bad),
        (get(Mode::Copy, b"text"), told),
        (add(b"n", i64::MAX), bad),
        (get(Mode::Copy, b"nothing"), Err(Status::NotFound)),
        (add(b"n", 1), Ok(Some(9))),
    ];
    let bytes = piece(&mut peer, &first.map(|(request, _)| request));
    peer.send(&bytes);
    for (request, expected) in first {
        let frame = peer.frame();
        let said = match frame.reply() {
            Reply::KvDone(done) => Ok(Some(done.number)),
            Reply::Error(error) => Err(error.status),
            _ => Ok(None),
        };
        assert_eq!(said, expected, "{request:?}");
    }
}

/// Nobody sees a later write of a pipeline before an earlier one.
#[test]
fn program_order_is_what_others_see() {
    let place = Place::new();
    let daemon = keyspace(Setup::default(), &place).start_in(place);
    let mut resp = connect(&daemon);
    let mut writer = daemon.greeted();
    let names = ["first", "second", "third", "fourth"];
    thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for n in 1..2000 {
                let n = n.to_string();
                let sets = names.map(|name| set(name.as_bytes(), n.as_bytes()));
                let bytes = piece(&mut writer, &sets);
                writer.send(&bytes);
                for _ in names {
                    assert_eq!(writer.frame().reply(), DONE);
                }
            }
        });
        while !writing.is_finished() {
            let reply = resp.say("MGET first second third fourth");
            let number = |reply: &resp::Reply| match reply {
                resp::Reply::Null => 0,
                other => other.text().parse::<u64>().unwrap(),
            };
            let seen: Vec<u64> = reply.array().iter().map(number).collect();
            assert!(seen.is_sorted_by(|a, b| a >= b), "{seen:?}");
        }
    });
}

/// Replies of changes wait for the disk, and so do those that tell of them; others do not.
#[test]
fn replies_wait_for_the_journal() {
    let daemon = journalled(Place::new(), "always");
    let mut resp = connect(&daemon);
    for n in 0..8 {
        assert_eq!(resp.ask(&["SET", &format!("key {n}"), "old"]), ok());
    }
    let held = Held::at(&daemon, "committer", ("fdatasync", 1), 600);
    let Some(held) = held else { return skip("strace is missing, or may not trace") };
    let (mut peer, mut reader) = (daemon.greeted(), daemon.greeted());
    let names: Vec<String> = (0..8).map(|n| format!("key {n}")).collect();
    let gets: Vec<_> = names.iter().map(|name| get(Mode::Copy, name.as_bytes())).collect();
    let sets = names[..4].iter().map(|name| set(name.as_bytes(), b"new"));
    let bytes = piece(&mut peer, &sets.collect::<Vec<_>>());
    peer.send(&bytes);
    held.is_caught();
    // Another database is behind other locks.
    let mut other = daemon.client();
    assert_eq!(other.keys(1).get("key 0").unwrap(), None);
    let bytes = piece(&mut reader, &gets[..4]);
    reader.send(&bytes);
    assert!(!peer.has_come());
    drop(held);
    (0..4).for_each(|_| assert_eq!(peer.frame().reply(), DONE));
    for _ in 0..4 {
        let frame = reader.frame();
        let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
        assert_eq!(item.inline, b"new");
    }
    assert_eq!(resp.ask(&["GET", "key 3"]), bulk("new"));
}

/// Answered in batches while it is killed: what was acknowledged is there, and no later one without
/// all that came before it.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut place = Place::new();
    for round in 0..5_u32 {
        let daemon = journalled(place, "always");
        let mut peer = daemon.greeted();
        let names: Vec<String> = (0..20_000).map(|n| format!("{round} {n}")).collect();
        let mut stream = Vec::new();
        for name in &names {
            peer.encode(set(name.as_bytes(), name.as_bytes()), &mut stream);
        }
        let writer = peer.writer();
        let sent = thread::spawn(move || {
            let mut rest = &stream[..];
            while let Ok(sent) = writer.send(rest, &[], false) {
                rest = &rest[sent..];
                if rest.is_empty() {
                    break;
                }
            }
        });
        let enough = 500 + 300 * round as usize;
        (0..enough).for_each(|_| assert_eq!(peer.frame().reply(), DONE));
        place = daemon.kill();
        sent.join().unwrap();
        let daemon = journalled(place, "always");
        let mut client = daemon.client();
        let there = client.keys(0).get_many(&names[..4096]).unwrap();
        let kept = there.iter().take_while(|value| value.is_some()).count();
        assert!(there[kept..].iter().all(Option::is_none), "a later one without an earlier one");
        assert!(kept >= enough, "{kept} of {enough}");
        for (name, value) in names.iter().zip(&there[..kept]) {
            assert_eq!(value.as_deref(), Some(name.as_bytes()));
        }
        place = daemon.kill();
    }
}
