//! Transactions: all or nothing of what is queued, seen at once, and not at all if what was watched
//! has changed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::thread;

use support::daemon::{Daemon, Place, Setup, counter};
use support::resp::{Reply, Resp, bulk, connect, encoded, error, keyspace, ok, queued};
use support::until;

fn start_with(setup: Setup) -> Daemon {
    let place = Place::new();
    keyspace(setup, &place).start_in(place)
}

fn start() -> Daemon {
    start_with(Setup::default())
}

#[track_caller]
fn queue(client: &mut Resp, commands: &[&str]) {
    assert_eq!(client.say("MULTI"), ok());
    for command in commands {
        assert_eq!(client.say(command), queued(), "{command}");
    }
}

#[track_caller]
fn exec(client: &mut Resp) -> Vec<Reply> {
    client.say("EXEC").array().to_vec()
}

#[test]
fn what_is_queued_is_done_in_order_and_errors_of_one_stop_no_other() {
    let daemon = start();
    let mut client = connect(&daemon);
    queue(&mut client, &["SET a x", "INCR a", "GET a", "DEL a", "INCR a"]);
    assert_eq!(connect(&daemon).say("EXISTS a"), Reply::Integer(0), "not before EXEC");
    let replies = exec(&mut client);
    let refused = error("ERR value is not an integer or out of range");
    assert_eq!(replies, [ok(), refused, bulk("x"), Reply::Integer(1), Reply::Integer(1)]);
    assert_eq!(client.say("EXEC"), error("ERR EXEC without MULTI"));
    queue(&mut client, &[]);
    assert_eq!(exec(&mut client), []);
}

#[test]
fn what_cannot_be_queued_ends_all_of_it() {
    let daemon = start();
    let mut client = connect(&daemon);
    let aborted = error("EXECABORT Transaction discarded because of previous errors.");
    for (wrong, said) in [
        ("NOSUCH a", "ERR unknown command 'NOSUCH', with args beginning with: 'a' "),
        ("SET a", "ERR wrong number of arguments for 'set' command"),
        ("CONFIG NOSUCH", "ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP."),
        ("SHUTDOWN", "ERR Command not allowed inside a transaction"),
    ] {
        queue(&mut client, &["SET a 1"]);
        assert_eq!(client.say(wrong), error(said));
        assert_eq!(client.say("SET b 1"), queued());
        assert_eq!(client.say("EXEC"), aborted, "{wrong}");
        assert_eq!(client.say("EXISTS a b"), Reply::Integer(0));
    }
    queue(&mut client, &["SET a 1"]);
    let said = "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
                command";
    assert_eq!(client.say("EXEC now"), error(said));
    assert_eq!(client.say("EXISTS a"), Reply::Integer(0), "it is over");
    queue(&mut client, &[]);
    assert_eq!(client.say("MULTI"), error("ERR MULTI calls can not be nested"));
    assert_eq!(client.say("WATCH a"), error("ERR WATCH inside MULTI is not allowed"));
    assert_eq!(exec(&mut client), [], "these two do no harm");
}

#[test]
fn discard_and_reset_forget_what_was_queued() {
    let daemon = start();
    let mut client = connect(&daemon);
    assert_eq!(client.say("DISCARD"), error("ERR DISCARD without MULTI"));
    queue(&mut client, &["SET a 1"]);
    assert_eq!(client.say("DISCARD"), ok());
    queue(&mut client, &["SET a 1"]);
    assert_eq!(client.say("RESET"), Reply::Simple("RESET".to_owned()));
    assert_eq!(client.say("EXISTS a"), Reply::Integer(0));
}

#[test]
fn a_transaction_may_go_through_several_databases() {
    let daemon = start();
    let mut client = connect(&daemon);
    queue(
        &mut client,
        &["SET a 0", "SELECT 3", "SET a 3", "SELECT 15", "SET a 15", "INFO keyspace"],
    );
    let replies = exec(&mut client);
    assert_eq!(replies[..5], [ok(), ok(), ok(), ok(), ok()]);
    for database in ["db0:keys=1", "db3:keys=1", "db15:keys=1"] {
        assert!(replies[5].text().contains(database), "{:?}", replies[5]);
    }
    assert_eq!(client.say("GET a"), bulk("15"), "the database stays selected");
    client.say("SELECT 0");
    assert_eq!(client.say("GET a"), bulk("0"));
    queue(&mut client, &["SELECT 99", "GET a", "SELECT x"]);
    let range = error("ERR DB index is out of range");
    let number = error("ERR value is not an integer or out of range");
    assert_eq!(exec(&mut client), [range, bulk("0"), number]);
}

/// Keys of many shards, in two databases.
const KEYS: usize = 16;

#[test]
fn nobody_sees_a_part() {
    let daemon = start_with(Setup::default().workers(4));
    let write = |value: usize| -> Vec<String> {
        let half = (0..KEYS).map(|n| format!("SET key:{n} {value}"));
        let other = half.clone();
        half.chain(["SELECT 1".to_owned()]).chain(other).chain(["SELECT 0".to_owned()]).collect()
    };
    let read: Vec<String> = write(0)
        .iter()
        .map(|command| command.replace("SET ", "GET ").trim_end_matches(" 0").to_owned())
        .map(|command| if command == "SELECT" { "SELECT 0".to_owned() } else { command })
        .collect();
    let run = |client: &mut Resp, commands: &[String]| {
        let mut bytes = encoded(&["MULTI"]);
        for command in commands {
            bytes.extend(encoded(&command.split(' ').collect::<Vec<_>>()));
        }
        bytes.extend(encoded(&["EXEC"]));
        client.send(&bytes);
        let mut last = client.reply();
        for _ in 0..=commands.len() {
            last = client.reply();
        }
        last.array().to_vec()
    };
    run(&mut connect(&daemon), &write(0));
    thread::scope(|scope| {
        for writer in 1..=2 {
            let (daemon, write, run) = (&daemon, &write, &run);
            scope.spawn(move || {
                let mut client = connect(daemon);
                for round in 0..200 {
                    run(&mut client, &write(round * 2 + writer));
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = connect(&daemon);
                for _ in 0..200 {
                    let replies = run(&mut client, &read);
                    let seen: Vec<_> =
                        replies.iter().filter(|reply| matches!(reply, Reply::Bulk(_))).collect();
                    assert_eq!(seen.len(), 2 * KEYS);
                    assert!(seen.iter().all(|value| *value == seen[0]), "{seen:?}");
                }
            });
        }
    });
}

#[test]
fn what_was_watched_and_changed_lets_it_fail() {
    let daemon = start();
    let (mut client, mut other) = (connect(&daemon), connect(&daemon));
    // How it changes, and whether that counts.
    for (before, change, fails) in [
        ("", "GET a", false),
        ("", "SET a 2", true),
        ("", "SET b 2", false),
        ("", "DEL a", true),
        ("DEL a", "DEL a", false),
        ("DEL a", "SET a 2", true),
        ("", "SELECT 1", false),
    ] {
        other.say("SELECT 0");
        client.say("SET a 1");
        if !before.is_empty() {
            client.say(before);
        }
        assert_eq!(client.say("WATCH a a c"), ok());
        other.say(change);
        queue(&mut client, &["SET done yes"]);
        let done = client.say("EXEC");
        let expected = if fails { Reply::Null } else { Reply::Array(vec![ok()]) };
        assert_eq!(done, expected, "{before} {change}");
    }
    // In another database a key of that name is another.
    client.say("WATCH a");
    other.say("SELECT 1");
    other.say("SET a 2");
    queue(&mut client, &["PING"]);
    assert_eq!(exec(&mut client).len(), 1);
    // One's own change counts as well.
    client.say("WATCH a");
    client.say("SET a 3");
    queue(&mut client, &["PING"]);
    assert_eq!(client.say("EXEC"), Reply::Null);
}

#[test]
fn watching_ends_with_exec_discard_unwatch_and_reset() {
    let daemon = start();
    let (mut client, mut other) = (connect(&daemon), connect(&daemon));
    let ends: [&[&str]; 4] = [&["MULTI", "EXEC"], &["MULTI", "DISCARD"], &["UNWATCH"], &["RESET"]];
    for end in ends {
        client.say("WATCH a");
        for command in end {
            client.say(command);
        }
        other.say("SET a 1");
        queue(&mut client, &["PING"]);
        assert_eq!(exec(&mut client).len(), 1, "{end:?}");
    }
    // An EXEC that fails ends it too.
    client.say("WATCH a");
    other.say("SET a 2");
    queue(&mut client, &[]);
    assert_eq!(client.say("EXEC"), Reply::Null);
    queue(&mut client, &["PING"]);
    assert_eq!(exec(&mut client).len(), 1);
    // And so does one that was spoilt.
    client.say("WATCH a");
    client.say("MULTI");
    client.say("NOSUCH");
    client.say("EXEC");
    other.say("SET a 3");
    queue(&mut client, &["PING"]);
    assert_eq!(exec(&mut client).len(), 1);
}

#[test]
fn watches_of_who_has_gone_are_forgotten() {
    let daemon = start();
    let mut client = connect(&daemon);
    let used = |client: &mut Resp| {
        let info = client.say("INFO memory").text();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.parse::<u64>().unwrap()
    };
    client.say("SET a 1");
    let before = used(&mut client);
    for _ in 0..50 {
        let mut other = connect(&daemon);
        let words: Vec<String> =
            ["WATCH".to_owned()].into_iter().chain((0..200).map(|n| format!("key:{n}"))).collect();
        assert_eq!(other.ask(&words), ok());
    }
    until("they are gone", || client.say("CLIENT LIST").text().lines().count() == 1);
    assert_eq!(used(&mut client), before);
    // What they watched can be changed as before.
    assert_eq!(client.say("SET key:1 x"), ok());
}

/// What is kept is counted when a turn ends, a moment after its replies have left.
#[track_caller]
fn nothing_is_queued(daemon: &Daemon) {
    let mut client = daemon.client();
    until("nothing is queued", || counter(&mut client, "queued.bytes") == 0);
}

#[test]
fn what_may_be_queued_is_bounded() {
    let daemon = start_with(Setup::default().config("[limits]\nqueued_bytes = \"1MiB\"\n"));
    let mut client = connect(&daemon);
    assert_eq!(client.say("MULTI"), ok());
    let value = vec![b'x'; 10_000];
    let refused = (0..200).find_map(|n| {
        let reply = client.ask(&[&b"SET"[..], format!("key:{n}").as_bytes(), &value]);
        matches!(reply, Reply::Error(_)).then_some((n, reply))
    });
    let (n, said) = refused.expect("it is bounded");
    assert!(n > 20, "{n} were queued");
    assert!(said.text().starts_with("ERR no more can be queued: uid "), "{said:?}");
    assert!(said.text().contains("limits.queued_bytes is 1048576"), "{said:?}");
    // None of it will be done, so none of it is kept.
    nothing_is_queued(&daemon);
    assert_eq!(client.say("PING"), said, "why is told again");
    assert!(client.say("EXEC").text().starts_with("EXECABORT"));
    assert_eq!(client.say("EXISTS key:0"), Reply::Integer(0));
    // What fits counts as long as it is queued.
    queue(&mut client, &[]);
    for _ in 0..10 {
        assert_eq!(client.ask(&[&b"SET"[..], b"a", &value]), queued());
    }
    assert!(counter(&mut daemon.client(), "queued.bytes") >= 100_000);
    assert_eq!(exec(&mut client).len(), 10);
    nothing_is_queued(&daemon);
}

#[test]
fn too_many_watches_count_as_a_change() {
    let daemon = start_with(Setup::default().config("[limits]\nqueued_bytes = \"1MiB\"\n"));
    let mut client = connect(&daemon);
    let told = (0..50).find_map(|round| {
        let words = ["WATCH".to_owned()].into_iter();
        let words: Vec<_> = words.chain((0..100).map(|n| format!("{round}:{n}"))).collect();
        let reply = client.ask(&words);
        matches!(reply, Reply::Error(_)).then_some(reply)
    });
    let told = told.expect("it is bounded").text();
    assert!(told.starts_with("ERR no more can be watched: uid "), "{told}");
    queue(&mut client, &["SET a 1"]);
    assert_eq!(client.say("EXEC"), Reply::Null);
    client.say("WATCH a");
    queue(&mut client, &["SET a 1"]);
    assert_eq!(exec(&mut client), [ok()]);
}

#[test]
fn without_room_nothing_is_queued_that_needs_some() {
    let daemon = start();
    let mut client = connect(&daemon);
    client.say("SET a 1");
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    queue(&mut client, &["SET b 1"]);
    let mut other = connect(&daemon);
    assert_eq!(other.say("CONFIG SET maxmemory 1"), ok());
    let said = format!("EXECABORT Transaction discarded because of: {oom}");
    assert_eq!(client.say("EXEC"), error(&said));
    queue(&mut client, &["GET a"]);
    assert_eq!(client.say("SET b 1"), error(oom));
    assert!(client.say("EXEC").text().starts_with("EXECABORT"));
    queue(&mut client, &["GET a"]);
    assert_eq!(exec(&mut client), [bulk("1")], "reading is allowed");
    assert_eq!(other.say("CONFIG SET maxmemory 0"), ok());
    assert_eq!(client.say("EXISTS b"), Reply::Integer(0));
}
