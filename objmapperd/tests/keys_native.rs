//! Keys in our own protocol: the same ones that clients of Redis have, verb by verb, and for whom.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use objmapper_client::{Applied, Batch, Client, Error, Mode, Object, Put, Status};
use objmapper_proto::kv::{self, Kv, Set, Verb};
use objmapper_proto::{KvDone, Reply as Answer, Request};
use support::content::{Numbers, content};
use support::daemon::{Daemon, Place, Setup, counter};
use support::resp::{Reply, Resp, bulk, connect, keyspace, ok};
use support::{PATIENCE, is_root, skip};

fn scene() -> (Daemon, Client, Resp) {
    scene_with(Setup::default())
}

fn scene_with(setup: Setup) -> (Daemon, Client, Resp) {
    let place = Place::new();
    let daemon = keyspace(setup, &place).start_in(place);
    let (client, resp) = (daemon.client(), connect(&daemon));
    (daemon, client, resp)
}

fn status<T: std::fmt::Debug>(answered: Result<T, Error>) -> Status {
    answered.unwrap_err().status().unwrap()
}

/// Small, longer than lies beside its key, and too long for one reply.
fn lengths() -> [usize; 7] {
    [0, 5, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 64 * 1024 + 1, 700_001]
}

#[test]
fn a_key_is_the_same_one_at_every_door() {
    let (daemon, mut client, mut resp) = scene();
    for length in lengths() {
        let value = content(length, 1);
        assert_eq!(resp.ask(&[&b"SET"[..], b"a/key \xff", &value]), ok());
        let mut keys = client.keys(0);
        assert!(keys.get(b"a/key \xff").unwrap().unwrap() == value, "{length}");
        let open = keys.open(b"a/key \xff").unwrap().unwrap();
        assert!(open.read_to_vec().unwrap() == value, "{length}");
        let auto = keys.fetch(b"a/key \xff", Mode::Auto).unwrap().unwrap();
        assert_eq!(matches!(auto, Object::Descriptor(_)), length > 32 * 1024, "{length}");
        assert!(auto.into_bytes().unwrap() == value);
        assert!(client.read("kv:a/key%20%FF").unwrap() == value);
        let by_name = client.open("kv:a/key%20%FF").unwrap();
        assert_eq!(by_name.metadata().version(), open.metadata().version());
        assert!(by_name.read_to_vec().unwrap() == value);
    }
    let mut passing = Client::builder().path(daemon.socket()).timeout(PATIENCE);
    passing = passing.pass_descriptors(true);
    let mut client = passing.connect().unwrap();
    for length in lengths() {
        let value = content(length, 2);
        client.keys(0).set("b", &value).unwrap();
        assert!(resp.say("GET b") == Reply::Bulk(value.clone()), "{length}");
        assert!(client.read("kv:b").unwrap() == value, "{length}");
        assert!(client.open("kv:b").unwrap().read_to_vec().unwrap() == value, "{length}");
    }
    assert_eq!(client.keys(0).get("c").unwrap(), None);
    assert!(client.keys(0).open("c").unwrap().is_none());
    resp.say("FLUSHALL");
}

#[test]
fn databases_are_apart() {
    let (_daemon, mut client, mut resp) = scene();
    for db in 0..16 {
        client.keys(db).set("db", db.to_string()).unwrap();
    }
    for db in 0..16_u8 {
        assert_eq!(resp.say(&format!("SELECT {db}")), ok());
        assert_eq!(resp.say("GET db"), bulk(db.to_string()));
    }
    assert_eq!(status(client.keys(16).get("db")), Status::BadRequest);
}

#[test]
fn conditions_and_ends() {
    let (_daemon, mut client, mut resp) = scene();
    let mut keys = client.keys(0);
    let (absent, present) = (Put::new().if_absent(), Put::new().if_present());
    assert!(!keys.set_with("a", "1", &present).unwrap());
    assert_eq!(keys.get("a").unwrap(), None);
    assert!(keys.set_with("a", "2", &absent).unwrap());
    assert!(!keys.set_with("a", "3", &absent).unwrap());
    assert!(keys.set_with("a", "4", &present).unwrap());
    assert_eq!(resp.say("GET a"), bulk("4"));
    assert_eq!(keys.expiry("a").unwrap(), Some(None));
    assert_eq!(keys.expiry("b").unwrap(), None);

    let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(33_177_117_420_123);
    assert!(keys.set_with("a", "5", &Put::new().expires_at(moment)).unwrap());
    assert_eq!(resp.say("PEXPIRETIME a").integer(), 33_177_117_420_123);
    assert!(keys.set_with("a", "6", &Put::new().keep_expiry()).unwrap());
    assert_eq!(keys.expiry("a").unwrap(), Some(Some(moment)));
    assert!(keys.set_expiry("a", None).unwrap());
    assert_eq!(resp.say("TTL a").integer(), -1);
    assert!(!keys.set_expiry("b", Some(moment)).unwrap());
    assert!(keys.set_expiry("a", Some(moment)).unwrap());
    assert_eq!(resp.say("PEXPIRETIME a").integer(), 33_177_117_420_123);
    keys.set("a", "7").unwrap();
    assert_eq!(keys.expiry("a").unwrap(), Some(None), "a set without an end takes it away");
    assert!(keys.set_expiry("a", Some(SystemTime::UNIX_EPOCH)).unwrap());
    assert_eq!(keys.get("a").unwrap(), None, "that has passed");
    assert!(keys.set_with("a", "8", &Put::new().expires_at(SystemTime::UNIX_EPOCH)).unwrap());
    assert_eq!(keys.get("a").unwrap(), None, "so has that");
}

#[test]
fn numbers_are_added_to() {
    let (_daemon, mut client, mut resp) = scene();
    let mut keys = client.keys(0);
    assert_eq!(keys.add("n", i64::MAX).unwrap(), i64::MAX);
    assert_eq!(status(keys.add("n", 1)), Status::BadValue);
    assert_eq!(keys.add("n", i64::MIN).unwrap(), -1);
    assert_eq!(resp.say("INCRBY n 3"), Reply::Integer(2));
    assert_eq!(resp.say("EXPIRE n 1000"), Reply::Integer(1));
    assert_eq!(keys.add("n", -5).unwrap(), -3);
    assert!(resp.say("TTL n").integer() > 0);
    keys.set("n", "x").unwrap();
    let error = keys.add("n", 1).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");
    assert_eq!(keys.get("n").unwrap().unwrap(), b"x");
}

#[test]
fn many_at_a_time() {
    let (_daemon, mut client, mut resp) = scene();
    let large = content(300_000, 3);
    resp.ask(&[&b"SET"[..], b"large", &large]);
    let names: Vec<String> = (0..1000).map(|n| format!("key {n}")).collect();
    let mut keys = client.keys(0);
    for name in names.iter().step_by(2) {
        keys.set(name, name.repeat(60)).unwrap();
    }
    let mut wanted = names.clone();
    wanted.insert(500, "large".to_owned());
    let values = keys.get_many(&wanted).unwrap();
    for (name, value) in wanted.iter().zip(&values) {
        let number = name.strip_prefix("key ").and_then(|n| n.parse::<usize>().ok());
        match number {
            None => assert!(value.as_ref() == Some(&large)),
            Some(n) if n % 2 == 0 => {
                assert_eq!(value.as_deref(), Some(name.repeat(60).as_bytes()), "{name}");
            }
            Some(_) => assert_eq!(*value, None, "{name}"),
        }
    }
    assert_eq!(keys.delete(&wanted).unwrap(), 501);
    assert_eq!(keys.delete(&wanted).unwrap(), 0);
    assert_eq!(keys.delete([""; 0]).unwrap(), 0);
    assert_eq!(keys.get_many::<&str>(&[]).unwrap(), []);
    let too_many = vec!["k"; 4097];
    assert_eq!(status(keys.get_many(&too_many)), Status::BadRequest);
    assert_eq!(status(keys.get(vec![b'k'; 65537])), Status::TooLarge);
    assert_eq!(resp.say("DBSIZE"), Reply::Integer(0));
}

/// Two keys of different shards always have the same value, whoever looks.
#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    let (_daemon, mut client, mut resp) = scene();
    let names: Vec<String> = (0..20).map(|n| format!("key {n}")).collect();
    let all = |value: u32| {
        let mut batch = Batch::new();
        for name in &names {
            batch.set(name, value.to_string());
        }
        batch
    };
    assert_eq!(client.keys(0).apply(&all(0)).unwrap(), Applied::Made(20));
    let done = AtomicBool::new(false);
    let mget: Vec<&str> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
    let mut seen = std::collections::BTreeSet::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..3000 {
                assert_eq!(client.keys(0).apply(&all(value)).unwrap(), Applied::Made(20));
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let reply = resp.ask(&mget);
            let values: Vec<&[u8]> = reply.array().iter().map(Reply::bytes).collect();
            assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
            seen.insert(values[0].to_vec());
        }
    });
    assert!(seen.len() > 10, "only {} batches were seen: that proves little", seen.len());
}

#[test]
fn a_batch_whose_condition_is_not_met_does_nothing() {
    let (_daemon, mut client, mut resp) = scene();
    let mut keys = client.keys(3);
    let mut batch = Batch::new();
    batch.set("a", "1").set_with("b", "2", &Put::new().if_present()).delete("c");
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Unmet { change: 1 });
    assert_eq!(keys.get_many(&["a", "b"]).unwrap(), [None, None]);
    keys.set("b", "0").unwrap();
    keys.set("c", "0").unwrap();
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Made(3));
    assert_eq!(
        keys.get_many(&["a", "b", "c"]).unwrap(),
        [Some(b"1".into()), Some(b"2".into()), None]
    );
    // Conditions are about what was before; changes are made in their order.
    let absent = Put::new().if_absent();
    let mut batch = Batch::new();
    batch.set_with("d", "1", &absent).set_with("d", "2", &absent).set("e", "1").delete("e");
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Made(4));
    assert_eq!(keys.get_many(&["d", "e"]).unwrap(), [Some(b"2".into()), None]);
    let mut batch = Batch::new();
    batch.delete_present("e").set("d", "3");
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Unmet { change: 0 });
    assert_eq!(keys.apply(&Batch::new()).unwrap(), Applied::Made(0));
    resp.say("SELECT 3");
    assert_eq!(resp.say("GET d"), bulk("2"));
    // Longer than lies beside its key.
    let value = content(100_000, 4);
    let mut batch = Batch::new();
    batch.set("x", &value).set("y", &value);
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Made(2));
    assert!(keys.get("y").unwrap().unwrap() == value);
    resp.say("FLUSHALL");
}

#[test]
fn keys_come_in_order() {
    let (_daemon, mut client, mut resp) = scene();
    let mut numbers = Numbers::new(5);
    let mut model = BTreeMap::new();
    for _ in 0..3000 {
        let length = 1 + numbers.below(4);
        let key: Vec<u8> = (0..length).map(|_| b"ab\x00\xff"[numbers.below(4)]).collect();
        let length = numbers.below(300);
        let value = numbers.bytes(length);
        resp.ask(&[&b"SET"[..], &key, &value]);
        model.insert(key, value);
    }
    model.insert(b"a long one".to_vec(), content(200_000, 5));
    resp.ask(&[&b"SET"[..], b"a long one", &content(200_000, 5)]);
    // One that no request of ours could name, and one with an end.
    resp.ask(&[&b"SET"[..], &vec![b'a'; 65_537], b"x"]);
    resp.say("PEXPIREAT ab 33177117420123");
    for page in [1, 7, 4096] {
        if page == 1 && model.len() > 400 {
            continue;
        }
        let mut keys = client.keys(0);
        let scan = keys.scan().at_a_time(page).with_values();
        let found: Vec<_> = scan.map(Result::unwrap).collect();
        assert_eq!(found.len(), model.len());
        for (found, (key, value)) in found.iter().zip(&model) {
            assert_eq!((&found.key, found.size), (key, value.len() as u64));
            assert!(found.value.as_ref() == Some(value), "{key:?}");
            assert_eq!(found.expiry.is_some(), key == b"ab");
        }
    }
    let mut keys = client.keys(0);
    let only = |found: Vec<objmapper_client::Found>| -> Vec<Vec<u8>> {
        found.into_iter().map(|found| found.key).collect()
    };
    for prefix in [&b"a"[..], b"\xff", b"ab", b"\xff\xff\xff\xff", b"zz", b""] {
        let found =
            keys.scan().prefix(prefix).at_a_time(50).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(found.iter().all(|found| found.value.is_none()));
        let wanted = model.keys().filter(|key| key.starts_with(prefix)).cloned();
        assert_eq!(only(found), wanted.collect::<Vec<_>>(), "{prefix:?}");
    }
    let (from, to) = (b"a\xff".to_vec(), b"b\x00".to_vec());
    let found = keys.scan().range(from.clone()..to.clone()).collect::<Result<Vec<_>, _>>().unwrap();
    let wanted = model.range(from.clone()..to.clone()).map(|(key, _)| key.clone());
    assert_eq!(only(found), wanted.collect::<Vec<_>>());
    let found =
        keys.scan().range(from.clone()..=to.clone()).collect::<Result<Vec<_>, _>>().unwrap();
    let wanted = model.range(from..=to).map(|(key, _)| key.clone());
    assert_eq!(only(found), wanted.collect::<Vec<_>>());
    assert_eq!(client.keys(7).scan().count(), 0);
    resp.say("FLUSHALL");
}

/// With a page of one key it is likely that it goes between being found and being told.
#[test]
fn a_page_whose_keys_have_gone_is_not_the_last() {
    let (daemon, mut client, _) = scene();
    let mut batch = Batch::new();
    (0..2000).for_each(|n| _ = batch.set(format!("key:{n}"), "1"));
    assert_eq!(client.keys(0).apply(&batch).unwrap(), Applied::Made(2000));
    let (over, mut other) = (AtomicBool::new(false), daemon.client());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for name in ["a", "b"] {
                    other.keys(0).set(name, "1").unwrap();
                    other.keys(0).delete([name]).unwrap();
                }
            }
        });
        for _ in 0..300 {
            let mut keys = client.keys(0);
            let first = keys.scan().at_a_time(1).next().map(|found| found.map(|found| found.key));
            let known = |key: &Vec<u8>| [&b"a"[..], b"b", b"key:0"].contains(&&**key);
            let fine = matches!(&first, Some(Ok(key)) if known(key));
            if !fine {
                over.store(true, Ordering::Relaxed);
            }
            assert!(fine, "{first:?}");
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_reply_is_never_larger_than_the_client_takes() {
    use objmapper_proto::Hello;
    let (daemon, mut client, mut resp) = scene();
    let names: Vec<String> = (0..100).map(|n| format!("key {n:02}")).collect();
    for name in &names {
        client.keys(0).set(name, content(500, 1)).unwrap();
    }
    let mut peer = daemon.peer();
    peer.greet_with(Hello { max_payload: 8192, ..Hello::default() });
    let mut raw = Vec::new();
    for name in &names {
        kv::Keys::push(&mut raw, name.as_bytes());
    }
    let verb = Verb::GetMany(kv::Keys::new(&raw).unwrap());
    peer.request(Request::Kv(Kv { db: 0, verb }));
    let frame = peer.frame();
    let Answer::KvEntries(entries) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(entries.count(), 100);
    let inline = entries.entries().filter(|entry| !entry.value.is_empty()).count();
    assert!((5..12).contains(&inline), "{inline}");
    assert!(entries.entries().all(|entry| entry.size == 500));
    let scan = kv::Scan { limit: 4096, values: true, from: b"", after: false, to: None };
    peer.request(Request::Kv(Kv { db: 0, verb: Verb::Scan(scan) }));
    let frame = peer.frame();
    let Answer::KvEntries(entries) = frame.reply() else { panic!("{frame:?}") };
    assert!(entries.more && entries.count() > 5 && frame.borrowed().payload.len() <= 8192);
    // Keys that do not fit are told.
    for _ in 0..200 {
        kv::Keys::push(&mut raw, b"k");
    }
    let verb = Verb::GetMany(kv::Keys::new(&raw).unwrap());
    peer.request(Request::Kv(Kv { db: 0, verb }));
    let frame = peer.frame();
    let Answer::Error(error) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(error.status, Status::TooLarge);
    assert!(error.text.contains("max_payload"), "{}", error.text);
    resp.ask(&[&b"SET"[..], &vec![b' '; 60_000], b"x"]);
    peer.request(Request::Kv(Kv { db: 0, verb: Verb::Scan(scan) }));
    let frame = peer.frame();
    assert!(matches!(frame.reply(), Answer::Error(e) if e.status == Status::TooLarge), "{frame:?}");
    // A value that does not fit one reply is streamed.
    resp.ask(&[&b"SET"[..], b"v", &content(30_000, 2)]);
    let id =
        peer.request(Request::Kv(Kv { db: 0, verb: Verb::Get { mode: Mode::Copy, key: b"v" } }));
    assert!(peer.object(id).bytes == content(30_000, 2));
}

/// Pipelined, mixed with others, and in order.
#[test]
fn a_pipeline_is_answered_in_order() {
    let (daemon, _client, mut resp) = scene();
    daemon.write("file", b"of a tree");
    let mut peer = daemon.greeted();
    let mut bytes = Vec::new();
    let mut ids = Vec::new();
    for n in 0..500_i64 {
        let key = b"n".as_slice();
        ids.push(
            peer.encode(Request::Kv(Kv { db: 0, verb: Verb::Add { by: 1, key } }), &mut bytes),
        );
        let value = n.to_string();
        let set = Verb::Set(Set::new(b"v", value.as_bytes()));
        ids.push(peer.encode(Request::Kv(Kv { db: 0, verb: set }), &mut bytes));
        let get = Verb::Get { mode: Mode::Copy, key: b"v" };
        ids.push(peer.encode(Request::Kv(Kv { db: 0, verb: get }), &mut bytes));
    }
    peer.send(&bytes);
    let mut ids = ids.into_iter();
    for n in 0..500_i64 {
        let frame = peer.frame();
        assert_eq!(frame.reply(), Answer::KvDone(KvDone { done: true, number: n + 1 }));
        assert_eq!(Some(frame.header.id), ids.next());
        let frame = peer.frame();
        assert_eq!(frame.reply(), Answer::KvDone(KvDone { done: true, number: 0 }));
        assert_eq!(Some(frame.header.id), ids.next());
        assert_eq!(peer.object(ids.next().unwrap()).bytes, n.to_string().as_bytes());
    }
    assert_eq!(resp.say("GET n"), bulk("500"));
    assert_eq!(counter(&mut daemon.client(), "requests.keys"), 1500);
}

fn kept(sync: &str) -> impl Fn(Place) -> Daemon + use<> {
    let sync = sync.to_owned();
    move |place| {
        let dir = place.outside("journal");
        let config = format!("[kv]\ndir = \"{}\"\nsync = \"{sync}\"\n", dir.display());
        Setup::default().config(&config).start_in(place)
    }
}

/// Also that a directory alone makes a keyspace: nobody speaks RESP here.
#[test]
fn what_was_answered_is_there_after_a_kill() {
    for sync in ["always", "interval"] {
        let start = kept(sync);
        let mut daemon = start(Place::new());
        for round in 0..3_i64 {
            let mut peer = daemon.greeted();
            let mut bytes = Vec::new();
            for n in 0..300 {
                let (key, value) = (format!("key {n}"), format!("{round} {n}"));
                let set = Verb::Set(Set::new(key.as_bytes(), value.as_bytes()));
                peer.encode(Request::Kv(Kv { db: 1, verb: set }), &mut bytes);
                // A body, and a descriptor, of what is not durable yet.
                for mode in [Mode::Copy, Mode::Fdpass] {
                    let get = Verb::Get { mode, key: key.as_bytes() };
                    peer.encode(Request::Kv(Kv { db: 1, verb: get }), &mut bytes);
                }
                let add = Verb::Add { by: 1, key: b"sum" };
                peer.encode(Request::Kv(Kv { db: 1, verb: add }), &mut bytes);
            }
            let writer = peer.writer();
            let sent = thread::spawn(move || {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    rest = &rest[writer.send(rest, &[], false).unwrap()..];
                }
            });
            let mut last = 0;
            for n in 0..300 {
                let frame = peer.frame();
                assert_eq!(frame.reply(), Answer::KvDone(KvDone { done: true, number: 0 }));
                for _ in 0..2 {
                    let frame = peer.frame();
                    let value = format!("{round} {n}");
                    let Answer::Object(item) = frame.reply() else { panic!("{frame:?}") };
                    assert_eq!(item.head.size, value.len() as u64);
                }
                let frame = peer.frame();
                let Answer::KvDone(done) = frame.reply() else { panic!("{frame:?}") };
                assert_eq!(done.number, round * 300 + n + 1);
                last = done.number;
            }
            sent.join().unwrap();
            drop(peer);
            daemon = start(daemon.kill());
            let mut client = daemon.client();
            let mut keys = client.keys(1);
            assert_eq!(keys.add("sum", 0).unwrap(), last, "{sync}");
            for n in 0..300 {
                let value = keys.get(format!("key {n}")).unwrap().unwrap();
                assert_eq!(value, format!("{round} {n}").as_bytes());
            }
        }
    }
}

#[test]
fn without_a_keyspace_there_are_no_verbs() {
    let daemon = Daemon::start();
    let error = daemon.client().keys(0).get("a").unwrap_err();
    assert_eq!(error.status(), Some(Status::Unsupported));
    assert!(error.to_string().contains("kv.socket"), "{error}");
    assert_eq!(daemon.client().keyspace_status().unwrap_err().status(), Some(Status::Unsupported));
}

/// What another user is told who asks for a key by a verb, and by its name, for a backup,
/// for a compaction, and how the keyspace is.
fn as_another(daemon: &Daemon) -> Option<String> {
    let script = "import os, socket, struct, sys\n\
        os.setgroups([]); os.setgid(12345); os.setuid(12345)\n\
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
        def frame(op, id, payload): s.sendall(struct.pack('<IBBHQ', len(payload), op, 0, 0, id) + payload)\n\
        def read(n):\n\
        \x20   data = b''\n\
        \x20   while len(data) < n: data += s.recv(n - len(data)) or sys.exit('the end')\n\
        \x20   return data\n\
        def reply():\n\
        \x20   length, op = struct.unpack('<IBxxxxxxxxxxx', read(16)); data = read(length)\n\
        \x20   return '%#x %#x %s' % (op, struct.unpack('<H', data[:2])[0], data[8:].decode() if op == 0x8f else '')\n\
        frame(1, 1, b'OBJM' + struct.pack('<HHQIIH6x', 1, 1, 0, 524288, 1024, 253)); reply()\n\
        frame(0x20, 2, bytes([0, 2, 0, 0, 0, 0, 0, 0]) + b'a'); print(reply())\n\
        uri = b'kv:a'\n\
        frame(2, 3, struct.pack('<BxHxxxxQQ', 2, len(uri), 0, 2**64 - 1) + uri); print(reply())\n\
        for op in (0x28, 0x29, 0x2a): frame(op, op, b''); print(reply())\n";
    let said = Command::new("python3").args(["-c", script]).arg(daemon.socket()).output();
    let said = said.ok()?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(String::from_utf8(said.stdout).unwrap())
}

#[test]
fn for_whom() {
    if !is_root() {
        return skip("only root can be another user");
    }
    let config = "[listen]\nmode = \"0666\"\n";
    let (daemon, mut client, _resp) = scene_with(Setup::default().config(config));
    client.keys(0).set("a", "1").unwrap();
    let Some(said) = as_another(&daemon) else { return skip("python3 is not installed") };
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("0x8f 0x103 no rule of the keyspace allows uid 12345"), "{said}");
    assert!(lines[0].contains("kv.allow") && lines[1].starts_with("0x8f 0x103 "), "{said}");
    assert_eq!(lines[2..], [lines[0]; 3]);
    let config = "[listen]\nmode = \"0666\"\n[kv]\nallow = [\"uid:12345\"]\n";
    let (daemon, mut client, _resp) = scene_with(Setup::default().config(config));
    // Whom it names, and nobody else.
    assert_eq!(status(client.keys(0).set("a", "1")), Status::Denied);
    let said = as_another(&daemon).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[..2].iter().all(|line| line.starts_with("0x8f 0x102 ")), "NOT_FOUND: {said}");
    assert!(lines[2].starts_with("0x8f 0x103 backups are for root and the user"), "{said}");
    assert!(lines[3].starts_with("0x8f 0x103 compacting is for root and the user"), "{said}");
    assert!(lines[4].starts_with("0x88 "), "whoever may use keys: {said}");
}

#[test]
fn a_full_keyspace_says_so() {
    let (_daemon, mut client, mut resp) =
        scene_with(Setup::default().argument("--kv-maxmemory=1MiB"));
    let mut keys = client.keys(0);
    let error = (0..2000).find_map(|n| keys.set(format!("key {n}"), content(1000, 1)).err());
    let error = error.expect("it fills up");
    assert_eq!(error.status(), Some(Status::Busy));
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert!(keys.get("key 0").unwrap().is_some());
    let mut batch = Batch::new();
    batch.delete("key 0").set("key 1", "");
    assert_eq!(status(keys.apply(&batch)), Status::Busy);
    let mut batch = Batch::new();
    batch.delete("key 0").delete_present("key 1");
    assert_eq!(keys.apply(&batch).unwrap(), Applied::Made(2), "room can be made");
    let error = (2000..4000).find_map(|n| keys.set(format!("key {n}"), content(1000, 1)).err());
    assert_eq!(error.and_then(|error| error.status()), Some(Status::Busy));
    assert!(keys.delete(["key 2", "key 3"]).unwrap() == 2, "room can be made");
    resp.say("FLUSHALL");
    keys.set("a", "1").unwrap();
}
