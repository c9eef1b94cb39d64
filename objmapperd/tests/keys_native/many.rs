//! Verbs on many keys: lists of them, batches, and all keys in their order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use objmapper_client::{Applied, Batch, Mode, Put, Status};
use objmapper_proto::kv::{self, Kv, Verb};
use objmapper_proto::{Hello, Reply as Answer, Request};

use crate::scene::{scene, status};
use crate::support::content::{Numbers, content};
use crate::support::resp::{Reply, bulk};

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
