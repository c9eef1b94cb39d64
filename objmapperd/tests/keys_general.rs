//! Commands on keys, whatever their values are, and on whole databases.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeSet;

use support::resp::{Reply, Resp, bulk, connect, encoded, ok, start};
use support::until;

#[test]
fn what_is_there_and_what_is_not() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        MSET a 1 b 2 c 3                 => +OK
        EXISTS a b nothing a             => :3
        TOUCH a b nothing                => :2
        TYPE a                           => +string
        TYPE nothing                     => +none
        DBSIZE                           => :3
        DEL a nothing a                  => :1
        UNLINK b c                       => :2
        DBSIZE                           => :0
        RANDOMKEY                        => nil
        SET only x                       => +OK
        RANDOMKEY                        => "only"
        DEL                              => -ERR wrong number of arguments for 'del' command
        "#,
    );
}

#[test]
fn when_keys_end() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r"
        TTL k                            => :-2
        PTTL k                           => :-2
        EXPIRETIME k                     => :-2
        PEXPIRETIME k                    => :-2
        EXPIRE k 100                     => :0
        SET k v                          => +OK
        TTL k                            => :-1
        PEXPIRETIME k                    => :-1
        PERSIST k                        => :0
        EXPIRE k 100                     => :1
        TTL k                            => :100
        PERSIST k                        => :1
        TTL k                            => :-1
        PEXPIRE k 100000                 => :1
        TTL k                            => :100
        EXPIREAT k 33177117420           => :1
        EXPIRETIME k                     => :33177117420
        PEXPIRETIME k                    => :33177117420000
        PEXPIREAT k 33177117420123       => :1
        PEXPIRETIME k                    => :33177117420123

        # On conditions: without an end is later than any.
        PERSIST k                        => :1
        EXPIRE k 100 XX                  => :0
        EXPIRE k 100 GT                  => :0
        EXPIRE k 100 LT                  => :1
        EXPIRE k 200 NX                  => :0
        EXPIRE k 200 LT                  => :0
        EXPIRE k 200 gt                  => :1
        EXPIRE k 100 GT                  => :0
        EXPIRE k 300 XX GT               => :1
        PERSIST k                        => :1
        EXPIRE k 100 LT XX               => :0
        EXPIRE k 100 NX                  => :1
        TTL k                            => :100

        EXPIRE k 1 NX XX                 => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 NX GT                 => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT                 => -ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 foo                   => -ERR Unsupported option foo
        EXPIRE k x                       => -ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807     => -ERR invalid expire time in 'expire' command
        EXPIRE k -9223372036854775808    => -ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807    => -ERR invalid expire time in 'pexpire' command
        EXPIREAT k 9223372036854775807   => -ERR invalid expire time in 'expireat' command
        TTL k                            => :100

        # What has passed is the end.
        EXPIRE k 0                       => :1
        EXISTS k                         => :0
        SET k v                          => +OK
        EXPIRE k -1                      => :1
        EXISTS k                         => :0
        SET k v                          => +OK
        EXPIREAT k 1                     => :1
        EXISTS k                         => :0
        ",
    );
}

#[test]
fn other_names_and_other_databases() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        RENAME a b                       => -ERR no such key
        RENAMENX a b                     => -ERR no such key
        SET a 1 EX 100                   => +OK
        SET b 2                          => +OK
        RENAME a b                       => +OK
        GET b                            => "1"
        TTL b                            => :100
        EXISTS a                         => :0
        RENAME b b                       => +OK
        RENAMENX b b                     => :0
        SET c 3                          => +OK
        RENAMENX b c                     => :0
        RENAMENX b d                     => :1
        MGET b c d                       => [nil "3" "1"]
        TTL d                            => :100

        COPY d e                         => :1
        TTL e                            => :100
        COPY d c                         => :0
        COPY d c REPLACE                 => :1
        MGET c d e                       => ["1" "1" "1"]
        COPY nothing x                   => :0
        COPY d d                         => -ERR source and destination objects are the same
        COPY d d DB 0                    => -ERR source and destination objects are the same
        COPY d d DB 5                    => :1
        COPY d d DB 5                    => :0
        COPY d d REPLACE db 5            => :1
        COPY d x DB 16                   => -ERR DB index is out of range
        COPY d x DB x                    => -ERR value is not an integer or out of range
        COPY d x DB                      => -ERR syntax error
        COPY d x foo                     => -ERR syntax error
        SELECT 5                         => +OK
        KEYS *                           => ["d"]
        TTL d                            => :100

        MOVE d 5                         => -ERR source and destination objects are the same
        MOVE d 0                         => :0
        MOVE nothing 0                   => :0
        MOVE d 6                         => :1
        MOVE d 16                        => -ERR DB index is out of range
        MOVE d x                         => -ERR value is not an integer or out of range
        DBSIZE                           => :0
        SELECT 6                         => +OK
        TTL d                            => :100
        SET mine x                       => +OK
        FLUSHDB                          => +OK
        DBSIZE                           => :0
        SELECT 0                         => +OK
        DBSIZE                           => :3
        FLUSHDB foo                      => -ERR syntax error
        FLUSHALL SYNC ASYNC              => -ERR syntax error
        FLUSHALL async                   => +OK
        DBSIZE                           => :0
        "#,
    );
}

fn scan(keys: &mut Resp, terms: &str) -> Vec<Vec<u8>> {
    let (mut all, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let said = keys.line(&format!("SCAN {cursor} {terms}"));
        let [Reply::Bulk(next), Reply::Array(some)] = said.array() else { panic!("{said}") };
        all.extend(some.iter().map(|name| name.bytes().to_vec()));
        cursor = String::from_utf8(next.clone()).unwrap();
        if cursor == "0" {
            return all;
        }
    }
}

#[test]
fn all_keys_are_seen_page_by_page() {
    let daemon = start();
    let mut keys = connect(&daemon);
    assert_eq!(scan(&mut keys, ""), Vec::<Vec<u8>>::new());
    let names: BTreeSet<Vec<u8>> = (0..3000).map(|n| format!("key:{n}").into_bytes()).collect();
    for name in &names {
        keys.send(&encoded(&[b"SET", &name[..], b"x"]));
    }
    for _ in &names {
        assert_eq!(keys.reply().to_string(), "+OK");
    }
    keys.line("SET ended x PXAT 1");
    for terms in ["", "COUNT 1", "COUNT 77", "COUNT 100000000000", "MATCH * COUNT 5", "TYPE STRING"]
    {
        let seen = scan(&mut keys, terms);
        assert_eq!(seen.len(), names.len(), "{terms}: each once");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), names, "{terms}");
    }
    assert_eq!(scan(&mut keys, "MATCH key:7? COUNT 1000").len(), 10);
    assert_eq!(scan(&mut keys, "MATCH key:2[5-7]9").len(), 3);
    assert_eq!(scan(&mut keys, "TYPE list COUNT 1000").len(), 0);
    assert_eq!(keys.line("KEYS *").array().len(), names.len());
    assert_eq!(keys.line("KEYS key:29?[13]").array().len(), 20);
    keys.holds(
        r#"
        SCAN                             => -ERR wrong number of arguments for 'scan' command
        SCAN x                           => -ERR invalid cursor
        SCAN 18446744073709551616        => -ERR invalid cursor
        SCAN 0 COUNT                     => -ERR syntax error
        SCAN 0 COUNT 0                   => -ERR syntax error
        SCAN 0 COUNT x                   => -ERR value is not an integer or out of range
        SCAN 0 foo bar                   => -ERR syntax error
        SCAN 18446744073709551615        => ["0" []]
        "#,
    );
}

#[test]
fn any_key_may_be_the_random_one() {
    let daemon = start();
    let mut keys = connect(&daemon);
    let names: BTreeSet<_> = (0..20).map(|n| format!("{n}").into_bytes()).collect();
    for name in &names {
        keys.ask(&[b"SET", &name[..], b"x"]);
    }
    let mut seen = BTreeSet::new();
    until("each was it", || {
        seen.insert(keys.line("RANDOMKEY").bytes().to_vec());
        seen == names
    });
}

#[test]
fn what_there_is_to_know_of_a_key() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        MSET n 12345 s text              => +OK
        OBJECT ENCODING n                => "int"
        OBJECT encoding s                => "embstr"
        OBJECT REFCOUNT n                => :1
        OBJECT IDLETIME n                => :0
        OBJECT ENCODING nothing          => nil
        OBJECT REFCOUNT nothing          => nil
        OBJECT IDLETIME nothing          => nil
        OBJECT FREQ nothing              => nil
        OBJECT FREQ n                    => -ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        OBJECT ENCODING                  => -ERR wrong number of arguments for 'object|encoding' command
        OBJECT foo n                     => -ERR unknown subcommand 'foo'. Try OBJECT HELP.
        OBJECT                           => -ERR wrong number of arguments for 'object' command
        MEMORY USAGE nothing             => nil
        MEMORY USAGE n SAMPLES x         => -ERR value is not an integer or out of range
        MEMORY USAGE n foo 1             => -ERR syntax error
        MEMORY foo                       => -ERR unknown subcommand 'foo'. Try MEMORY HELP.
        "#,
    );
    keys.ask(&[b"SET", &b"s"[..], &[b'x'; 45]]);
    assert_eq!(keys.line("OBJECT ENCODING s").to_string(), "\"raw\"");
    let (short, long) =
        (keys.line("MEMORY USAGE n").integer(), keys.line("MEMORY USAGE s").integer());
    assert!(short > 0 && long >= short + 40, "{short} {long}");
    assert!(keys.line("OBJECT HELP").array().len() > 5);
}

#[test]
fn in_a_transaction_whole_databases_are_one_moment() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        MULTI                            => +OK
        MSET a 1 b 2                     => +QUEUED
        KEYS a*                          => +QUEUED
        DBSIZE                           => +QUEUED
        SCAN 0 MATCH b* COUNT 1000       => +QUEUED
        DEL b                            => +QUEUED
        RANDOMKEY                        => +QUEUED
        COPY a c DB 7                    => +QUEUED
        SELECT 7                         => +QUEUED
        RENAME c d                       => +QUEUED
        KEYS *                           => +QUEUED
        MOVE d 8                         => +QUEUED
        RANDOMKEY                        => +QUEUED
        FLUSHDB                          => +QUEUED
        SELECT 8                         => +QUEUED
        LCS d d                          => +QUEUED
        FLUSHALL ASYNC                   => +QUEUED
        DBSIZE                           => +QUEUED
        SELECT 0                         => +QUEUED
        DBSIZE                           => +QUEUED
        EXEC                             => [+OK ["a"] :2 ["0" ["b"]] :1 "a" :1 +OK +OK ["d"] :1 nil +OK +OK "1" +OK :0 +OK :0]
        "#,
    );
    // A long value goes in, and comes out, while all locks stay.
    let long = vec![b'x'; 200_000];
    keys.line("MULTI");
    keys.ask(&[b"SET", &b"k"[..], &long]);
    keys.line("GETRANGE k 199999 -1");
    keys.line("GET k");
    let replies = keys.line("EXEC");
    assert_eq!(replies.array(), [ok(), bulk("x"), bulk(&long)]);
    // It has a descriptor.
    keys.line("DEL k");
}

#[test]
fn many_who_take_many_locks_come_to_an_end() {
    let daemon = start();
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut keys = connect(daemon);
                keys.line(&format!("SELECT {}", n % 2));
                for round in 0..200 {
                    let other = 1 - n % 2;
                    for request in [
                        format!("MSET a {round} b {round} c {round}"),
                        format!("COPY a x{n} DB {other} REPLACE"),
                        format!("MOVE x{n} {other}"),
                        "RENAME b c".to_owned(),
                        "MULTI".to_owned(),
                        "FLUSHALL".to_owned(),
                        format!("COPY c b DB {other}"),
                        "KEYS *".to_owned(),
                        "EXEC".to_owned(),
                        "KEYS *".to_owned(),
                        "FLUSHALL".to_owned(),
                    ] {
                        keys.line(&request);
                    }
                }
            });
        }
    });
}
