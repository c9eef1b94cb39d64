//! Requests that come together: answered as if they had come one by one, in their order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::content::Numbers;
use support::daemon::{Place, Setup, counter};
use support::resp::{Reply, Resp, connect, encoded, keyspace, ok, start};

/// Mostly commands on one key; what is between them is answered by itself.
fn request(chance: &mut Numbers) -> Vec<Vec<u8>> {
    let mut name = || char::from(b"abcdefgh"[chance.below(8)]).to_string();
    let (one, two) = (name(), name());
    let number = chance.below(40).to_string();
    let long = "x".repeat(100_000);
    let middle = "y".repeat(5000);
    let words: &[&str] = match chance.below(26) {
        0..4 => &["GET", &one],
        4..7 => &["SET", &one, &number],
        7 => &["SET", &one, &long],
        8 => &["SET", &one, &middle, "NX", "GET"],
        9 => &["SET", &one, &number, "XX", "KEEPTTL"],
        10 => &["APPEND", &one, &number],
        11 => &["INCRBY", &one, &number],
        12 => &["SETRANGE", &one, &number, "zz"],
        13 => &["GETRANGE", &one, "-3", "-1"],
        14 => &["STRLEN", &one],
        15 => &["GETDEL", &one],
        16 => &["EXPIRE", &one, "1000"],
        17 => &["EXPIRE", &one, "-1"],
        18 => &["PERSIST", &one],
        19 => &["SETNX", &one, &number],
        20 => &["DEL", &one, &two],
        21 => &["MGET", &one, &two],
        22 => &["RENAME", &one, &two],
        23 => &["GET"],
        24 => &["NOSUCH", &one],
        _ => &["PING"],
    };
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn selected(mut keys: Resp, db: &str) -> Resp {
    assert_eq!(keys.say(&format!("SELECT {db}")), ok());
    keys
}

/// A transaction around some of the requests.
fn with_transactions(chance: &mut Numbers, requests: &[Vec<Vec<u8>>]) -> Vec<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    for piece in requests.chunks(20) {
        let inside = chance.below(3) == 0;
        out.extend(inside.then(|| vec![b"MULTI".to_vec()]));
        out.extend(piece.iter().cloned());
        out.extend(inside.then(|| vec![b"EXEC".to_vec()]));
    }
    out
}

#[test]
fn a_pipeline_is_answered_as_its_requests_one_by_one() {
    let daemon = start();
    let mut single = selected(connect(&daemon), "1");
    let mut together = selected(connect(&daemon), "2");
    let mut chance = Numbers::new(1);
    for round in 0..30 {
        let requests: Vec<_> = (0..100).map(|_| request(&mut chance)).collect();
        let requests = with_transactions(&mut chance, &requests);
        let stream: Vec<u8> = requests.iter().flat_map(|words| encoded(words)).collect();
        together.send(&stream);
        for (n, words) in requests.iter().enumerate() {
            let (expected, got) = (single.ask(words), together.reply());
            let said = words.iter().map(|word| String::from_utf8_lossy(word));
            let said: Vec<_> = said.map(|word| word.chars().take(20).collect::<String>()).collect();
            assert!(expected == got, "round {round}, request {n}: {said:?}");
        }
    }
}

#[test]
fn what_comes_together_is_one_record() {
    let place = Place::new();
    let dir = place.outside("journal");
    let config = format!("[kv]\ndir = \"{}\"\n", dir.display());
    let daemon = keyspace(Setup::default().config(&config), &place).start_in(place);
    let (mut keys, mut client) = (connect(&daemon), daemon.client());
    let long = "x".repeat(5000);
    let set = |n: usize| encoded(&["SET", &format!("key {n}"), "value"]);
    let sets = |numbers: std::ops::Range<usize>| numbers.flat_map(set).collect::<Vec<u8>>();
    let alone = encoded(&["SET", "long", &long]);
    let apart = [sets(0..8), alone, sets(8..16)].concat();
    for (stream, requests, records) in [(sets(0..16), 16, 1), (sets(0..40), 40, 3), (apart, 17, 3)]
    {
        let before = counter(&mut client, "journal.appended");
        keys.send(&stream);
        (0..requests).for_each(|_| assert_eq!(keys.reply(), ok()));
        assert_eq!(counter(&mut client, "journal.appended") - before, records);
    }
}

#[test]
fn replies_that_nobody_wants_are_left_out() {
    let daemon = start();
    let mut keys = connect(&daemon);
    let said = ["SET k 1", "CLIENT REPLY SKIP", "INCR k", "INCR k", "CLIENT REPLY OFF", "INCR k"];
    let more = ["GET k", "CLIENT REPLY ON", "GET k"];
    let encode = |line: &&str| encoded(&line.split(' ').collect::<Vec<_>>());
    keys.send(&said.iter().chain(&more).flat_map(encode).collect::<Vec<u8>>());
    for expected in ["+OK", ":3", "+OK", "\"4\""] {
        assert_eq!(keys.reply().to_string(), expected);
    }
}

#[test]
fn nobody_sees_a_later_write_before_an_earlier_one() {
    let daemon = start();
    let (mut writer, mut reader) = (connect(&daemon), connect(&daemon));
    let done = AtomicBool::new(false);
    let number = |reply: &Reply| match reply {
        Reply::Null => 0,
        other => other.text().parse::<u64>().unwrap(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..2000 {
                let n = n.to_string();
                let names = ["first", "second", "third", "fourth"];
                let stream: Vec<u8> =
                    names.iter().flat_map(|name| encoded(&["SET", name, &n])).collect();
                writer.send(&stream);
                for _ in names {
                    assert_eq!(writer.reply(), ok());
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let reply = reader.say("MGET first second third fourth");
            let seen: Vec<u64> = reply.array().iter().map(number).collect();
            assert!(seen.is_sorted_by(|a, b| a >= b), "{seen:?}");
        }
    });
}
