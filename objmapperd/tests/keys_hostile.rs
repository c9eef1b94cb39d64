//! Clients of the keyspace that ask for more than there is: of memory, and of others' time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;

use support::daemon::{Daemon, Place, Setup, counter};
use support::resp::{Reply, Resp, connect, encoded, keyspace, queued, start};
use support::{skip, until};

/// What one user may have queued is little.
fn start_small() -> Daemon {
    let place = Place::new();
    let config = "[limits]\nqueued_bytes = \"8MiB\"\nsend_buffer = \"64KiB\"\n";
    keyspace(Setup::default().config(config), &place).start_in(place)
}

fn info(client: &mut Resp, name: &str) -> u64 {
    let text = client.say("INFO").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    value.parse().unwrap()
}

#[test]
fn a_request_of_many_short_words_is_taken_in_whole() {
    let daemon = start();
    let mut client = connect(&daemon);
    for count in [20_000, 30_000, 200_000] {
        let mut words = vec!["DEL".to_owned()];
        words.extend((0..count).map(|n| format!("key:{n}")));
        client.say("SET key:7 x");
        assert_eq!(client.ask(&words), Reply::Integer(1), "{count} keys");
    }
    // While it is not whole it counts with all that is kept of it.
    client.send(b"*200000\r\n");
    client.send(&b"$0\r\n\r\n".repeat(100_000));
    let kept = 100_000 * (6 + size_of::<std::ops::Range<usize>>() as u64);
    let mut own = daemon.client();
    until("all of it has come", || counter(&mut own, "queued.bytes") >= kept);
}

#[test]
fn long_replies_that_nobody_reads_are_bounded() {
    let daemon = start_small();
    let mut owner = connect(&daemon);
    owner.ask(&[&b"SET"[..], b"long", &vec![b'x'; 1 << 20]]);
    let before = daemon.memory("VmHWM");
    let mut lazy = Vec::new();
    for _ in 0..64 {
        let mut client = connect(&daemon);
        client.send(b"GET long\r\n");
        lazy.push(client);
    }
    until("all were answered", || info(&mut owner, "total_commands_processed") > 64);
    let grown = daemon.memory("VmHWM") - before;
    assert!(grown < 24 << 20, "64 MiB were asked for, {grown} bytes were kept");
    // What is short is answered, and what is not is told why.
    assert_eq!(owner.say("GETRANGE long 0 1").text(), "xx");
    let said = owner.say("GET long").text();
    assert!(said.contains("bytes queued") && said.contains("limits.queued_bytes"), "{said}");
    // Nothing is lost with a reply that is not given.
    assert!(matches!(owner.say("GETDEL long"), Reply::Error(_)));
    assert!(matches!(owner.say("GETSET long b"), Reply::Error(_)));
    assert_eq!(owner.say("STRLEN long"), Reply::Integer(1 << 20));
    drop(lazy);
    until("they are gone", || owner.say("GET long").text().len() == 1 << 20);
    owner.say("DEL long");
}

#[test]
fn one_value_a_thousand_times_is_too_much() {
    let daemon = start_small();
    let mut client = connect(&daemon);
    for size in [16 << 10, 1 << 20] {
        client.ask(&[&b"SET"[..], b"long", &vec![b'x'; size]]);
        let mut words = vec!["MGET"];
        words.resize(1 + (64 << 20) / size, "long");
        let said = client.ask(&words).text();
        assert!(said.contains("limits.queued_bytes"), "{said}");
        assert_eq!(client.ask(&words[..3]).array().len(), 2);
        client.say("MULTI");
        for _ in 0..3 {
            assert_eq!(client.ask(&words), queued());
        }
        assert_eq!(client.say("STRLEN long"), queued());
        let replies = client.say("EXEC");
        assert!(matches!(replies.array()[2], Reply::Error(_)), "{replies}");
        assert_eq!(replies.array()[3].integer(), i64::try_from(size).unwrap());
    }
    for words in ["DOCS", "INFO"] {
        let mut words = vec!["COMMAND", words];
        words.resize(100_000, "client");
        let said = client.ask(&words).text();
        assert!(said.contains("limits.queued_bytes"), "{said}");
    }
    let peak = daemon.memory("VmHWM");
    assert!(peak < 64 << 20, "{peak} bytes");
    client.say("DEL long");
}

#[test]
fn a_transaction_takes_no_more_than_the_limit_again() {
    let daemon = start();
    let mut client = connect(&daemon);
    client.say("CONFIG SET maxmemory 4mb");
    client.say("MULTI");
    for n in 0..64 {
        assert_eq!(client.say(&format!("SETRANGE key{n} 1000000 x")), queued());
    }
    client.say("GET none");
    let replies = client.say("EXEC");
    assert_eq!(replies.array()[4], Reply::Integer(1_000_001), "it was let begin");
    assert!(replies.array()[63].text().starts_with("OOM "));
    assert_eq!(replies.array()[64], Reply::Null);
    let used = info(&mut client, "used_memory");
    assert!(used < 10_000_000, "{used} bytes");
    client.say("FLUSHALL");
}

#[test]
fn requests_that_take_long_do_not_hold_a_turn() {
    let place = Place::new();
    let daemon = keyspace(Setup::default().workers(1), &place).start_in(place);
    let mut slow = connect(&daemon);
    // As much as LCS does at once.
    slow.ask(&[&b"SET"[..], b"a", &vec![b'a'; 11_500]]);
    slow.ask(&[&b"SET"[..], b"b", &vec![b'b'; 11_500]]);
    let mut other = connect(&daemon);
    let before = info(&mut other, "total_commands_processed");
    slow.send(&encoded(&["LCS", "a", "b", "LEN"]).repeat(400));
    until("they have begun", || info(&mut other, "total_commands_processed") > before + 3);
    assert_eq!(other.say("PING"), Reply::Simple("PONG".to_owned()));
    let done = info(&mut other, "total_commands_processed") - before;
    assert!(done < 200, "{done} requests were done in a row");
    drop(slow);
}

/// Whether all workers sleep until they are woken: with no timeout in epoll_wait(2) or epoll_pwait(2).
fn all_sleep(daemon: &Daemon) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    tasks.map(|task| task.unwrap().path()).all(|task| {
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
        let call = read("syscall");
        !read("comm").starts_with("worker") || call.split(' ').nth(4) == Some("0xffffffff")
    })
}

#[test]
fn who_shares_a_worker_with_a_long_request_is_served_by_another() {
    let place = Place::new();
    let daemon = keyspace(Setup::default().workers(2), &place).start_in(place);
    if fs::read_to_string(format!("/proc/{}/syscall", daemon.pid())).is_err() {
        return skip("/proc does not say what a thread waits for");
    }
    let mut slow = connect(&daemon);
    for (name, byte) in [("a", b'a'), ("b", b'b')] {
        slow.ask(&[&b"SET"[..], name.as_bytes(), &vec![byte; 11_500]]);
    }
    slow.say("MULTI");
    for _ in 0..1200 {
        assert_eq!(slow.say("LCS a b LEN"), queued());
    }
    let mut others: Vec<Resp> = (0..4).map(|_| connect(&daemon)).collect();
    for other in &mut others {
        other.say("PING");
        until("nobody has anything to do", || all_sleep(&daemon));
    }
    // Each on its own: who comes by another worker would rouse that one.
    let mut own = daemon.client();
    let before = counter(&mut own, "requests.commands");
    until("nobody has anything to do", || all_sleep(&daemon));
    slow.send(b"EXEC\r\n");
    for other in others.iter_mut().rev() {
        assert_eq!(other.say("PING"), Reply::Simple("PONG".to_owned()));
    }
    assert_eq!(counter(&mut own, "requests.commands"), before + 4, "it is still at it");
    daemon.kill();
}
