//! Commands that take long, and those that wait for what others hold: nobody else waits with them.
//!
//! A transaction is held back in its middle, with the locks of all keys: at a call that it makes to
//! keep a large value.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use objmapper_client::{Applied, Batch, Client, Mode};
use objmapper_proto::Range;
use support::content::content;
use support::daemon::{Daemon, Place, Setup, counter};
use support::held::Held;
use support::resp::{Reply, Resp, bulk, connect, encoded, keyspace, ok, queued};
use support::{skip, until};

/// Enough keys for all shards, and enough commands to take long.
const KEYS: usize = 2000;

/// Longer than what lies beside its key.
const LARGE: usize = 40 << 10;

/// Longer than what is copied in a worker's turn.
const HUGE: usize = 2 << 20;

/// One worker: whoever keeps it, keeps everybody.
fn start(setup: Setup) -> Daemon {
    let place = Place::new();
    let daemon = keyspace(setup.workers(1), &place).start_in(place);
    daemon.write("x", &content(100, 1));
    daemon
}

fn key(n: usize) -> String {
    format!("key:{n}")
}

/// A command on so many keys.
fn many(verb: &str, count: usize) -> String {
    let keys: Vec<String> = (0..count).map(key).collect();
    format!("{verb} {}", keys.join(" "))
}

/// Queues a transaction on all keys, which keeps a large value first.
fn queue(client: &mut Resp) {
    let mut bytes = encoded(&["MULTI"]);
    bytes.extend(encoded(&[b"SET", b"large".as_slice(), &content(LARGE, 1)]));
    (0..KEYS).for_each(|n| bytes.extend(encoded(&["INCR", &key(n)])));
    client.send(&bytes);
    assert_eq!(client.reply(), ok());
    (0..=KEYS).for_each(|_| assert_eq!(client.reply(), queued()));
}

/// Its replies, by the number of others that were done before.
fn done_after(client: &mut Resp, others: usize) {
    let replies = client.reply();
    let replies = replies.array();
    assert_eq!((replies.len(), &replies[0]), (KEYS + 1, &ok()));
    let sum = i64::try_from(others + 1).unwrap();
    assert!(replies[1..].iter().all(|reply| *reply == Reply::Integer(sum)), "{others}");
}

/// Both are answered, whoever has the keys.
fn others_are_served(daemon: &Daemon) {
    let mut peer = daemon.greeted();
    assert_eq!(peer.get(Mode::Copy, b"/x", Range::ALL).bytes, content(100, 1));
    assert!(peer.get(Mode::Fdpass, b"/x", Range::ALL).file.is_some());
    assert_eq!(connect(daemon).say("PING"), Reply::Simple("PONG".to_owned()));
}

/// Large values have descriptors, which the daemon must not have open at its end.
fn away_with_all(client: &mut Resp) {
    assert_eq!(client.say("FLUSHALL"), ok());
}

/// Waits until so many more went to a helper than `before`.
fn have_left(files: &mut Client, name: &str, before: u64, count: u64) {
    until(name, || counter(files, name) >= before + count);
}

#[test]
fn files_do_not_wait_for_transactions_nor_for_those_who_do() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let mut long: Vec<Resp> = (0..3).map(|_| connect(&daemon)).collect();
    long.iter_mut().for_each(queue);
    let before = ["pool.long", "pool.locked", "requests.commands"];
    let before = before.map(|name| counter(&mut files, name));

    let Some(held) = Held::whoever(&daemon, "memfd_create", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    long[0].send(&encoded(&["EXEC"]));
    held.is_caught();
    long[1..].iter_mut().for_each(|client| client.send(&encoded(&["EXEC"])));
    others_are_served(&daemon);

    // More of them than there are helpers, one command each and many.
    let mut short: Vec<Resp> = (0..8).map(|_| connect(&daemon)).collect();
    for (n, client) in short.iter_mut().enumerate() {
        let mut bytes = encoded(&["GET", &key(n)]);
        bytes.extend(encoded(&["PING"]));
        bytes.extend(encoded(&["MGET", &key(n), &key(n + 1), &key(KEYS - 1)]));
        bytes.extend(encoded(&["SET", &format!("own:{n}"), "1"]));
        client.send(&bytes);
    }
    have_left(&mut files, "pool.locked", before[1], 8);
    others_are_served(&daemon);

    drop(held);
    for client in &mut short {
        // In order, and of one moment.
        let first: i64 = client.reply().text().parse().unwrap();
        assert!((1..=3).contains(&first), "the first transaction was done: {first}");
        assert_eq!(client.reply().text(), "PONG");
        let reply = client.reply();
        let all: Vec<String> = reply.array().iter().map(Reply::text).collect();
        assert!(all.iter().all(|value| *value == all[0]), "{all:?}");
        assert!(all[0].parse::<i64>().unwrap() >= first);
        assert_eq!(client.reply(), ok());
    }
    done_after(&mut long[0], 0);
    let rest: Vec<Reply> = long[1..].iter_mut().map(Resp::reply).collect();
    let mut sums: Vec<i64> = rest.iter().map(|reply| reply.array()[KEYS].integer()).collect();
    sums.sort_unstable();
    assert_eq!(sums, [2, 3]);

    assert_eq!(counter(&mut files, "pool.long") - before[0], 3);
    // Three times EXEC, eight times four, and two times PING.
    assert_eq!(counter(&mut files, "requests.commands") - before[2], 3 + 32 + 2);
    away_with_all(&mut long[0]);
}

#[test]
fn verbs_wait_where_nobody_else_does() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let mut long = connect(&daemon);
    queue(&mut long);
    let Some(held) = Held::whoever(&daemon, "memfd_create", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    long.send(&encoded(&["EXEC"]));
    held.is_caught();

    let before = ["pool.locked", "pool.errands"].map(|name| counter(&mut files, name));
    std::thread::scope(|scope| {
        let say = |verb: fn(&mut Client)| {
            let mut client = daemon.client();
            scope.spawn(move || verb(&mut client));
        };
        say(|c| assert_eq!(c.keys(0).get("key:1").unwrap().unwrap(), b"1"));
        say(|c| assert!(c.keys(0).set("own:1", "1").is_ok()));
        say(|c| assert_eq!(c.keys(0).add("own:2", 7).unwrap(), 7));
        say(|c| assert_eq!(c.keys(0).delete(["own:3"]).unwrap(), 0));
        say(|c| {
            let values = c.keys(0).get_many(&["key:1", "key:2"]).unwrap();
            assert_eq!(values, [Some(b"1".to_vec()), Some(b"1".to_vec())], "of one moment");
        });
        have_left(&mut files, "pool.locked", before[0], 5);
        // By its name among files it waits as for a mount that is slow.
        let mut peer = daemon.greeted();
        scope.spawn(move || {
            assert_eq!(peer.get(Mode::Copy, b"kv:key:1", Range::ALL).bytes, b"1");
        });
        have_left(&mut files, "pool.errands", before[1], 6);
        others_are_served(&daemon);
        drop(held);
    });
    done_after(&mut long, 0);
    away_with_all(&mut long);
}

#[test]
fn who_watches_and_parts_waits_for_nobody() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let [mut long, mut modest, mut gone] = [(); 3].map(|()| connect(&daemon));
    for client in [&mut modest, &mut gone] {
        let keys: Vec<String> = (0..100).map(key).collect();
        assert_eq!(client.say(&format!("WATCH {}", keys.join(" "))), ok());
    }
    queue(&mut long);
    let Some(held) = Held::whoever(&daemon, "memfd_create", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    long.send(&encoded(&["EXEC"]));
    held.is_caught();
    let open = counter(&mut files, "connections.open");
    drop(gone);
    until("it is closed", || counter(&mut files, "connections.open") < open);
    assert_eq!(modest.say("UNWATCH"), ok());
    assert_eq!(modest.say("MULTI"), ok());
    assert_eq!(modest.say("SET own 1"), queued());
    others_are_served(&daemon);
    drop(held);
    done_after(&mut long, 0);
    // What was watched has changed, and was watched no more.
    assert_eq!(modest.say("EXEC").array(), [ok()]);
    away_with_all(&mut long);
}

#[test]
fn room_is_made_elsewhere_while_the_keys_are_held() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let [mut long, mut modest] = [(); 2].map(|()| connect(&daemon));
    for n in 0..100 {
        assert_eq!(modest.say(&format!("SET old:{n} 1")), ok());
    }
    queue(&mut long);
    let Some(held) = Held::whoever(&daemon, "memfd_create", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    long.send(&encoded(&["EXEC"]));
    held.is_caught();
    let say = "CONFIG SET maxmemory 1 maxmemory-policy allkeys-random";
    assert_eq!(modest.say(say), ok());
    let before = counter(&mut files, "pool.locked");
    modest.send(&encoded(&["SET", "new", "1"]));
    have_left(&mut files, "pool.locked", before, 1);
    others_are_served(&daemon);
    drop(held);
    let reply = modest.reply().text();
    assert!(reply == "OK" || reply.starts_with("OOM"), "{reply}");
    long.reply();
    away_with_all(&mut long);
}

#[test]
fn what_takes_long_is_known_before_it_begins() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let huge = String::from_utf8(vec![b'a'; HUGE]).unwrap();
    // All of it is compared with each byte of a name.
    let pattern = format!("*[{}", "_".repeat(20_000));
    let mut leaves = |client: &mut Resp, words: &str| {
        let before = counter(&mut files, "pool.long");
        let reply = client.say(words);
        assert!(!matches!(reply, Reply::Error(_)), "{words:.40}: {reply:.100}");
        counter(&mut files, "pool.long") > before
    };
    // A connection of its own for each: the helper may answer what comes next as well.
    // What it needs first is said before it.
    for (words, expected) in [
        ("SET short 1".to_owned(), false),
        (many("MSET", 200), false),
        (many("MSET", 1000), true),
        (many("MGET", 200), false),
        (many("MGET", 1000), true),
        (many("EXISTS", 1000), true),
        ("KEYS *".to_owned(), false),
        ("INFO".to_owned(), false),
        ("DBSIZE".to_owned(), false),
        ("SCAN 0 COUNT 100".to_owned(), false),
        ("SCAN 0 COUNT 100000".to_owned(), true),
        ("SCAN 0 COUNT 100 MATCH *1*".to_owned(), false),
        (format!("SCAN 0 COUNT 100 MATCH {pattern}"), true),
        (format!("KEYS {pattern}"), true),
        ("CONFIG GET *".to_owned(), false),
        (format!("CONFIG GET {pattern}"), true),
        ("COMMAND LIST FILTERBY PATTERN *".to_owned(), false),
        (format!("COMMAND LIST FILTERBY PATTERN {pattern}"), true),
        ("SCAN 0 COUNT 1000 MATCH key:*1".to_owned(), false),
        ("KEYS *:*".to_owned(), false),
        (format!("SET huge {huge}"), true),
        ("STRLEN huge".to_owned(), false),
        ("GET huge".to_owned(), true),
        ("GETRANGE huge 0 99".to_owned(), false),
        ("GETRANGE huge 1 -2".to_owned(), true),
        ("MGET short huge".to_owned(), true),
        ("APPEND huge x".to_owned(), true),
        ("APPEND huge x".to_owned(), false),
        ("COPY huge other".to_owned(), true),
        ("SETRANGE short 10 x".to_owned(), false),
        (format!("SETRANGE hole {HUGE} x"), true),
        ("KEYS *".to_owned(), true),
        ("LCS short key:1".to_owned(), false),
        (format!("SET a {}", "ab".repeat(2000)), false),
        (format!("SET b {}", "ba".repeat(2000)), false),
        ("LCS a b LEN".to_owned(), true),
        (many("DEL", 1000), true),
        ("FLUSHALL".to_owned(), true),
        ("FLUSHALL".to_owned(), false),
    ] {
        assert_eq!(leaves(&mut connect(&daemon), &words), expected, "{words:.40}");
    }
    leaves(&mut connect(&daemon), &format!("SET huge {huge}"));
    // In a pipeline, behind what is short.
    let mut client = connect(&daemon);
    let before = counter(&mut files, "pool.long");
    let pipeline = ["SET n 1", "GET n", "GET huge", "INCR n", "GET huge", "GET n"];
    let words = pipeline.map(|words| encoded(&words.split(' ').collect::<Vec<_>>()));
    client.send(&words.concat());
    assert_eq!([(); 2].map(|()| client.reply()), [ok(), bulk("1")]);
    assert_eq!(client.reply().bytes().len(), HUGE);
    assert_eq!(client.reply(), Reply::Integer(2));
    assert_eq!(client.reply().bytes().len(), HUGE);
    assert_eq!(client.reply(), bulk("2"));
    assert!(counter(&mut files, "pool.long") > before);
    away_with_all(&mut client);
}

#[test]
fn what_a_transaction_takes_is_known_before_it_begins() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let huge = String::from_utf8(vec![b'a'; HUGE]).unwrap();
    let mut leaves = |client: &mut Resp, words: &str| {
        let before = counter(&mut files, "pool.long");
        let reply = client.say(words);
        assert!(!matches!(reply, Reply::Error(_)), "{words:.40}: {reply:.100}");
        counter(&mut files, "pool.long") > before
    };
    let half = format!("SET half {}", &huge[..HUGE / 4]);
    assert!(!leaves(&mut connect(&daemon), &half));
    for (queued, expected) in [
        (vec!["INCR a"; 200], false),
        (vec!["INCR a"; 300], true),
        (vec!["KEYS *"], true),
        (vec!["LCS a b"], true),
        (vec!["INFO server", "INFO clients"], false),
        (vec!["INFO"], true),
        // What is not there before: made long, written to its end, or read again and again.
        (vec!["SETRANGE b 1000 x"; 100], false),
        (vec!["SETRANGE b 10000 x"; 200], true),
        (vec![&format!("SETRANGE b {HUGE} x")], true),
        (repeated(&format!("SET c {}", &huge[..1000]), "GET c", 100), false),
        (repeated(&format!("SET d {}", &huge[..HUGE / 4]), "GET d", 4), true),
        (repeated(&format!("APPEND e {}", &huge[..HUGE / 4]), "GETRANGE e 0 -1", 4), true),
        (repeated(&format!("MSET a 1 f {}", &huge[..HUGE / 4]), "MGET a f", 2), true),
        // By another name.
        (repeated("COPY half g", "GET g", 4), true),
        (repeated("COPY c h", "GET h", 100), false),
    ] {
        let mut client = connect(&daemon);
        leaves(&mut client, "MULTI");
        let long = queued.iter().any(|words| leaves(&mut client, words));
        assert!(!long, "{queued:?} while it is queued");
        assert_eq!(leaves(&mut client, "EXEC"), expected, "{:?}", queued[0]);
    }
    // What was watched is forgotten one by one.
    for (count, expected) in [(200, false), (300, true)] {
        for words in ["UNWATCH", "DISCARD", "RESET", "EXEC"] {
            let mut client = connect(&daemon);
            let (half, rest) = (count / 2, count - count / 2);
            leaves(&mut client, &many("WATCH", half));
            let others: Vec<String> = (half..half + rest).map(key).collect();
            leaves(&mut client, &format!("WATCH {}", others.join(" ")));
            if words != "UNWATCH" {
                leaves(&mut client, "MULTI");
            }
            assert_eq!(leaves(&mut client, words), expected, "{words} with {count}");
        }
    }
    leaves(&mut connect(&daemon), &format!("SET huge {huge}"));
    let mut client = connect(&daemon);
    leaves(&mut client, "MULTI");
    leaves(&mut client, "GET huge");
    assert!(leaves(&mut client, "EXEC"), "a huge value");
    away_with_all(&mut client);
}

/// One command, and another so often.
fn repeated<'a>(first: &'a str, then: &'a str, times: usize) -> Vec<&'a str> {
    std::iter::once(first).chain(std::iter::repeat_n(then, times)).collect()
}

#[test]
fn a_long_value_is_read_while_the_same_user_goes_over_all_keys() {
    let daemon = start(Setup::default());
    let [mut long, mut other, mut third] = [(); 3].map(|()| connect(&daemon));
    let huge = content(HUGE, 3);
    assert_eq!(other.say("SELECT 1"), ok());
    assert_eq!(other.ask(&[b"SET".as_slice(), b"huge", &huge]), ok());
    queue(&mut long);
    let Some(held) = Held::whoever(&daemon, "memfd_create", 600) else {
        return skip("strace is needed to hold a thread back");
    };
    long.send(&encoded(&["EXEC"]));
    held.is_caught();
    // One that has to wait for its turn behind it.
    third.send(&encoded(&["KEYS", "*"]));
    for words in ["GET huge", "GETRANGE huge 0 -1"] {
        assert!(other.say(words).bytes() == huge, "{words}");
    }
    others_are_served(&daemon);
    drop(held);
    done_after(&mut long, 0);
    assert_eq!(third.reply().array().len(), KEYS + 1);
    away_with_all(&mut long);
}

#[test]
fn who_asks_all_shards_has_not_found_them_held() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    assert_eq!(connect(&daemon).say("SET a 1"), ok());
    let names = ["pool.locked", "pool.errands"];
    let before = names.map(|name| counter(&mut files, name));
    for words in ["INFO server", "INFO clients persistence", "INFO Replication"] {
        assert!(!connect(&daemon).say(words).text().is_empty(), "{words}");
    }
    assert_eq!(names.map(|name| counter(&mut files, name)), before, "no lock is needed");
    let all = ["DBSIZE", "RANDOMKEY", "INFO", "INFO stats", "MEMORY STATS", "CONFIG RESETSTAT"];
    for words in all.into_iter().chain(["KEYS *", "FLUSHDB"]) {
        let reply = connect(&daemon).say(words);
        assert!(!matches!(reply, Reply::Error(_)), "{words}: {reply}");
    }
    daemon.client().keyspace_status().unwrap();
    let after = names.map(|name| counter(&mut files, name));
    assert_eq!(after, [before[0], before[1] + 9]);
}

#[test]
fn a_reply_that_would_be_too_long_takes_no_memory() {
    const NAMES: usize = 30_000;
    let daemon = start(Setup::default().config("[limits]\nqueued_bytes = \"4MiB\"\n"));
    let mut client = connect(&daemon);
    let name = |n: usize| format!("{n:0>1000}");
    for some in (0..NAMES).collect::<Vec<_>>().chunks(100) {
        let words = some.iter().flat_map(|&n| [name(n), String::new()]);
        let words: Vec<String> = std::iter::once("MSET".to_owned()).chain(words).collect();
        assert_eq!(client.ask(&words), ok());
    }
    daemon.forget_peaks();
    let before = daemon.memory("VmHWM");
    let too_long = client.say("KEYS *").text();
    assert!(too_long.contains("limits.queued_bytes"), "{too_long}");
    // Pages end earlier than was asked for, and are all there is.
    let (mut cursor, mut found, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = client.say(&format!("SCAN {cursor} COUNT 1000000"));
        cursor = reply.array()[0].text();
        found.extend(reply.array()[1].array().iter().map(Reply::text));
        pages += 1;
        if cursor == "0" {
            break;
        }
    }
    found.sort_unstable();
    assert!(found.iter().eq(&(0..NAMES).map(name).collect::<Vec<_>>()), "{}", found.len());
    assert!(pages > 5, "{pages}");
    let grown = daemon.memory("VmHWM") - before;
    assert!(grown < 16 << 20, "{grown} bytes");
}

#[test]
fn a_value_that_is_written_again_with_its_new_name_takes_long() {
    let place = Place::new();
    let journal = place.outside("kv").to_str().unwrap().to_owned();
    let setup = keyspace(Setup::default().workers(1), &place);
    let daemon = setup.argument("--kv-dir").argument(journal).start_in(place);
    let mut files = daemon.client();
    let mut leaves = |words: &str, expected: Reply| {
        let before = counter(&mut files, "pool.long");
        assert_eq!(connect(&daemon).say(words), expected, "{words}");
        counter(&mut files, "pool.long") > before
    };
    leaves(&format!("SETRANGE hole {HUGE} x"), Reply::Integer(i64::try_from(HUGE).unwrap() + 1));
    assert!(leaves("RENAME hole other", ok()));
    assert!(leaves("RENAMENX other hole", Reply::Integer(1)));
    assert!(leaves("MOVE hole 1", Reply::Integer(1)));
    leaves("SET short 1", ok());
    assert!(!leaves("RENAME short other", ok()));
}

#[test]
fn names_are_found_by_who_takes_long_as_by_others() {
    let daemon = start(Setup::default());
    let mut client = connect(&daemon);
    let mut names: Vec<String> = (0..3 * KEYS).map(key).collect();
    let pairs: Vec<&str> = names.iter().flat_map(|name| [name.as_str(), "1"]).collect();
    assert_eq!(client.say(&format!("MSET {}", pairs.join(" "))), ok());
    names.sort_unstable();
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let texts = |reply: &Reply| reply.array().iter().map(Reply::text).collect::<Vec<_>>();
    // Every name has a digit.
    let pattern = format!("*[{}0-9]*", "_".repeat(5000));
    assert_eq!(sorted(texts(&client.say(&format!("KEYS {pattern}")))), names);
    for (count, rest) in [(10, ""), (1000, ""), (KEYS, ""), (KEYS, &*pattern), (100_000, "")] {
        let like = if rest.is_empty() { String::new() } else { format!(" MATCH {rest}") };
        let (mut cursor, mut found, mut pages) = ("0".to_owned(), Vec::new(), 0);
        while pages == 0 || cursor != "0" {
            let page = client.say(&format!("SCAN {cursor} COUNT {count}{like}"));
            let [next, some] = page.array() else { panic!("{page:?}") };
            found.extend(texts(some));
            (cursor, pages) = (next.text(), pages + 1);
        }
        assert!(pages >= names.len().div_ceil(2 * count), "{pages} pages of {count}");
        assert!(pages <= names.len() / count + 1, "{pages} pages of {count}");
        assert_eq!(sorted(found), names, "{count}");
    }
}

#[test]
fn verbs_that_take_long_are_known_too() {
    let daemon = start(Setup::default());
    let mut files = daemon.client();
    let mut leaves = |verb: &dyn Fn(&mut Client)| {
        let before = counter(&mut files, "pool.long");
        // Of its own: the helper may answer what comes next as well.
        verb(&mut daemon.client());
        counter(&mut files, "pool.long") > before
    };
    let names = |count: usize| (0..count).map(key).collect::<Vec<String>>();
    for (count, expected) in [(100, false), (1000, true)] {
        let names = names(count);
        let batch = |client: &mut Client| {
            let mut batch = Batch::new();
            for name in &names {
                batch.set(name, "1");
            }
            let made = client.keys(0).apply(&batch).unwrap();
            assert_eq!(made, Applied::Made(count as u64));
        };
        assert_eq!(leaves(&batch), expected, "batch of {count}");
        let get = |client: &mut Client| {
            assert_eq!(client.keys(0).get_many(&names).unwrap().len(), count);
        };
        assert_eq!(leaves(&get), expected, "{count} values");
        let delete = |client: &mut Client| {
            assert_eq!(client.keys(0).delete(&names).unwrap(), count as u64);
        };
        assert_eq!(leaves(&delete), expected, "{count} keys");
    }
}
