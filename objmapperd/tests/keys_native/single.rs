//! Verbs on one key.

use std::thread;
use std::time::{Duration, SystemTime};

use objmapper_client::{Client, Mode, Object, Put, Status};
use objmapper_proto::kv::{Kv, Set, Verb};
use objmapper_proto::{KvDone, Reply as Answer, Request};

use crate::scene::{scene, status};
use crate::support::PATIENCE;
use crate::support::content::content;
use crate::support::daemon::{Daemon, Place, Setup, counter};
use crate::support::resp::{Reply, bulk, ok};

/// Small, longer than lies beside its key, and too long for one reply.
fn lengths() -> [usize; 7] {
    [0, 5, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 64 * 1024 + 1, 700_001]
}

#[test]
fn a_key_is_the_same_one_in_either_protocol() {
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
