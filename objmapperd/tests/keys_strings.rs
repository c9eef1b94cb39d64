//! Commands on values, as Redis clients know them: what they answer, what they leave behind, and in
//! which words they refuse.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use support::content::Numbers;
use support::resp::{Reply, connect, start};
use support::until;

#[test]
fn set_and_get() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        GET k                            => nil
        SET k v                          => +OK
        GET k                            => "v"
        set k "two\r\n\x00words"         => +OK
        get k                            => "two\r\n\x00words"
        SET "" ""                        => +OK
        GET ""                           => ""

        # If it is there, if it is not, and what it was.
        SET k a NX                       => nil
        SET k a XX                       => +OK
        SET new a XX                     => nil
        SET new a NX                     => +OK
        SET k b GET                      => "a"
        SET k c NX GET                   => "b"
        GET k                            => "b"
        SET other c NX GET               => nil
        GET other                        => "c"
        SET nothing c XX GET             => nil
        EXISTS nothing                   => :0
        SET k b nX nx                    => nil

        # When it ends.
        SET k v EX 100                   => +OK
        TTL k                            => :100
        SET k w KEEPTTL                  => +OK
        TTL k                            => :100
        SET k w PX 50000                 => +OK
        TTL k                            => :50
        SET k w EXAT 33177117420         => +OK
        EXPIRETIME k                     => :33177117420
        SET k w pxat 33177117420000      => +OK
        PEXPIRETIME k                    => :33177117420000
        SET k v                          => +OK
        TTL k                            => :-1
        SET k v EXAT 1                   => +OK
        GET k                            => nil
        SET k v EX 10 EX 20              => +OK
        TTL k                            => :20

        # What does not fit together.
        SET k v NX XX                    => -ERR syntax error
        SET k v EX                       => -ERR syntax error
        SET k v EX 1 PX 1                => -ERR syntax error
        SET k v EX 1 KEEPTTL             => -ERR syntax error
        SET k v KEEPTTL EX 1             => -ERR syntax error
        SET k v PERSIST                  => -ERR syntax error
        SET k v foo                      => -ERR syntax error
        SET k v EX 0                     => -ERR invalid expire time in 'set' command
        SET k v PX -1                    => -ERR invalid expire time in 'set' command
        SET k v EX 9223372036854775807   => -ERR invalid expire time in 'set' command
        SET k v PX 9223372036854775807   => -ERR invalid expire time in 'set' command
        SET k v EX x                     => -ERR value is not an integer or out of range
        SET k                            => -ERR wrong number of arguments for 'set' command
        GET                              => -ERR wrong number of arguments for 'get' command
        "#,
    );
}

#[test]
fn the_older_forms_of_set_and_get() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        SETNX k v                        => :1
        SETNX k w                        => :0
        GET k                            => "v"
        SETEX k 100 v                    => +OK
        TTL k                            => :100
        PSETEX k 50000 w                 => +OK
        TTL k                            => :50
        SETEX k 0 v                      => -ERR invalid expire time in 'setex' command
        PSETEX k -5 v                    => -ERR invalid expire time in 'psetex' command
        SETEX k x v                      => -ERR value is not an integer or out of range
        GETSET k x                       => "w"
        TTL k                            => :-1
        GETSET nothing y                 => nil
        GET nothing                      => "y"
        GETDEL k                         => "x"
        GETDEL k                         => nil

        SET k v                          => +OK
        GETEX k                          => "v"
        TTL k                            => :-1
        GETEX k EX 100                   => "v"
        TTL k                            => :100
        GETEX k                          => "v"
        TTL k                            => :100
        GETEX k PERSIST                  => "v"
        TTL k                            => :-1
        GETEX k PXAT 33177117420000      => "v"
        PEXPIRETIME k                    => :33177117420000
        GETEX k EX 0                     => -ERR invalid expire time in 'getex' command
        GETEX k EX 1 PERSIST             => -ERR syntax error
        GETEX k PERSIST PX 1             => -ERR syntax error
        GETEX k NX                       => -ERR syntax error
        GETEX k KEEPTTL                  => -ERR syntax error
        GETEX k EXAT 1                   => "v"
        EXISTS k                         => :0
        # There is nothing that could end.
        GETEX k EX x                     => nil

        MSET a 1 b 2 a 3                 => +OK
        MGET a nothing2 b a              => ["3" nil "2" "3"]
        MSETNX c 1 b 9                   => :0
        EXISTS c                         => :0
        MSETNX c 1 d 2                   => :1
        MGET c d                         => ["1" "2"]
        MSET a                           => -ERR wrong number of arguments for 'mset' command
        MSET a 1 b                       => -ERR wrong number of arguments for 'mset' command
        MSETNX a 1 b                     => -ERR wrong number of arguments for 'msetnx' command
        "#,
    );
}

#[test]
fn parts_of_values() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        APPEND k Hello                   => :5
        APPEND k " World"                => :11
        APPEND k ""                      => :11
        STRLEN k                         => :11
        STRLEN nothing                   => :0
        GETRANGE k 0 4                   => "Hello"
        GETRANGE k -5 -1                 => "World"
        SUBSTR k 6 100                   => "World"
        GETRANGE k 5 4                   => ""
        GETRANGE k -1 -5                 => ""
        GETRANGE k -100 1                => "He"
        GETRANGE k 11 20                 => ""
        GETRANGE nothing 0 -1            => ""
        GETRANGE k x 1                   => -ERR value is not an integer or out of range
        SETRANGE k 6 Redis               => :11
        GET k                            => "Hello Redis"
        SETRANGE new 3 x                 => :4
        GET new                          => "\x00\x00\x00x"
        SETRANGE new 10 ""               => :4
        SETRANGE nothing 10 ""           => :0
        EXISTS nothing                   => :0
        SETRANGE k -1 x                  => -ERR offset is out of range
        SETRANGE k 536870912 x           => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 9223372036854775807 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        EXPIRE k 100                     => :1
        APPEND k !                       => :12
        TTL k                            => :100
        "#,
    );
}

#[test]
fn numbers() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        INCR n                           => :1
        INCRBY n 41                      => :42
        DECR n                           => :41
        DECRBY n 50                      => :-9
        GET n                            => "-9"
        EXPIRE n 100                     => :1
        INCR n                           => :-8
        TTL n                            => :100
        SET n 9223372036854775807        => +OK
        INCR n                           => -ERR increment or decrement would overflow
        SET n -9223372036854775808       => +OK
        DECR n                           => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808    => -ERR decrement would overflow
        INCRBY n x                       => -ERR value is not an integer or out of range
        INCRBY n 9223372036854775808     => -ERR value is not an integer or out of range
        SET n " 1"                       => +OK
        INCR n                           => -ERR value is not an integer or out of range
        SET n 01                         => +OK
        INCR n                           => -ERR value is not an integer or out of range
        SET n ""                         => +OK
        INCR n                           => -ERR value is not an integer or out of range

        INCRBYFLOAT f 10.50              => "10.5"
        INCRBYFLOAT f 0.1                => "10.6"
        INCRBYFLOAT f -5                 => "5.6"
        INCRBYFLOAT f 5.0e3              => "5005.60000000000000009"
        INCRBYFLOAT f -5000              => "5.60000000000000009"
        SET f 3.0                        => +OK
        INCRBYFLOAT f 1.1                => "4.1"
        GET f                            => "4.1"
        SET f 1e400                      => +OK
        INCRBYFLOAT f -1e400             => "0"
        INCRBYFLOAT f x                  => -ERR value is not a valid float
        INCRBYFLOAT f ""                 => -ERR value is not a valid float
        INCRBYFLOAT f nan                => -ERR value is not a valid float
        INCRBYFLOAT f " 1"               => -ERR value is not a valid float
        INCRBYFLOAT f inf                => -ERR increment would produce NaN or Infinity
        SET f 1.1e4932                   => +OK
        INCRBYFLOAT f 1.1e4932           => -ERR increment would produce NaN or Infinity
        SET f abc                        => +OK
        INCRBYFLOAT f 1                  => -ERR value is not a valid float
        "#,
    );
}

#[test]
fn what_two_values_have_in_common() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.holds(
        r#"
        MSET a ohmytext b mynewtext      => +OK
        LCS a b                          => "mytext"
        LCS a b LEN                      => :6
        LCS a b IDX                      => ["matches" [[[:4 :7] [:5 :8]] [[:2 :3] [:0 :1]]] "len" :6]
        LCS a b IDX MINMATCHLEN 4        => ["matches" [[[:4 :7] [:5 :8]]] "len" :6]
        LCS a b IDX WITHMATCHLEN         => ["matches" [[[:4 :7] [:5 :8] :4] [[:2 :3] [:0 :1] :2]] "len" :6]
        LCS a b IDX MINMATCHLEN -1 LEN   => -ERR If you want both the length and indexes, please just use IDX.
        LCS a nothing                    => ""
        LCS a nothing LEN                => :0
        LCS nothing nothing IDX          => ["matches" [] "len" :0]
        LCS a b MINMATCHLEN              => -ERR syntax error
        LCS a b MINMATCHLEN x            => -ERR value is not an integer or out of range
        LCS a                            => -ERR wrong number of arguments for 'lcs' command
        "#,
    );
    // 12 000 times 12 000 pairs are too many for a table of Redis.
    let long = vec![b'x'; 12_000];
    keys.ask(&[b"SET", &b"long"[..], &long]);
    let text =
        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len".to_owned();
    assert_eq!(keys.line("LCS long long").to_string(), text);
    assert_eq!(keys.line("LCS long a LEN").to_string(), ":1");
}

#[test]
fn a_key_whose_time_is_up_is_gone_for_every_command() {
    let daemon = start();
    let mut keys = connect(&daemon);
    for (request, answer) in [
        ("GET k", "nil"),
        ("GETDEL k", "nil"),
        ("GETEX k PERSIST", "nil"),
        ("STRLEN k", ":0"),
        ("APPEND k x", ":1"),
        ("SETRANGE k 1 x", ":2"),
        ("INCRBY k 5", ":5"),
        ("INCRBYFLOAT k 1.5", "\"1.5\""),
        ("SETNX k x", ":1"),
        ("MSETNX k x", ":1"),
        ("SET k x XX", "nil"),
        ("SET k x KEEPTTL", "+OK"),
        ("GETSET k x", "nil"),
        ("DEL k", ":0"),
        ("EXISTS k", ":0"),
        ("TYPE k", "+none"),
        ("TTL k", ":-2"),
        ("EXPIRE k 100", ":0"),
        ("PERSIST k", ":0"),
        ("RENAME k new", "-ERR no such key"),
        ("COPY k new", ":0"),
        ("MOVE k 1", ":0"),
        ("TOUCH k", ":0"),
        ("KEYS *", "[]"),
        ("RANDOMKEY", "nil"),
        ("OBJECT ENCODING k", "nil"),
        ("MEMORY USAGE k", "nil"),
        ("LCS k k", "\"\""),
    ] {
        keys.line("FLUSHALL");
        keys.line("SET k 1 PXAT 1");
        assert_eq!(keys.line(request).to_string(), answer, "{request}");
        assert_ne!(keys.line("TTL k"), Reply::Integer(100), "{request}");
    }
}

#[test]
fn a_key_ends_when_its_time_is_up_and_not_before() {
    let daemon = start();
    let mut keys = connect(&daemon);
    keys.line("SET k v PX 50");
    keys.line("SET stays v PX 5000000");
    let end = keys.line("PEXPIRETIME k");
    until("it has ended", || {
        let there = keys.line("EXISTS k").integer() == 1;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let over = i64::try_from(now.as_millis()).unwrap() >= end.integer();
        assert!(there || over, "it ended early");
        !there
    });
    assert_eq!(keys.line("GET stays").to_string(), "\"v\"");
}

/// Values of all lengths around those where they are kept in another way, changed in all ways,
/// against a vector.
#[test]
fn a_long_value_is_a_value_like_any_other() {
    let daemon = start();
    let mut keys = connect(&daemon);
    let mut numbers = Numbers::new(7);
    for length in [0, 1, 100, 32 * 1024, 32 * 1024 + 1, 300_000] {
        let mut value = numbers.bytes(length);
        assert_eq!(keys.ask(&[b"SET", &b"k"[..], &value]).to_string(), "+OK");
        for round in 0..20 {
            let some = numbers.below(20_000);
            let some = numbers.bytes(some);
            match numbers.below(5) {
                0 => {
                    value.extend_from_slice(&some);
                    let said = keys.ask(&[b"APPEND", &b"k"[..], &some]);
                    assert_eq!(said.integer(), i64::try_from(value.len()).unwrap());
                }
                1 if !some.is_empty() => {
                    let at = numbers.below(value.len() + 1000);
                    value.resize(value.len().max(at + some.len()), 0);
                    value[at..at + some.len()].copy_from_slice(&some);
                    keys.ask(&[b"SETRANGE", &b"k"[..], at.to_string().as_bytes(), &some]);
                }
                2 => {
                    assert_eq!(keys.line("RENAME k l").to_string(), "+OK");
                    assert_eq!(keys.line("COPY l k").to_string(), ":1");
                    assert_eq!(keys.line("GETDEL l").bytes(), value);
                }
                3 => {
                    // From bytes of our own into sealed memory again, where it is long.
                    let said = keys.ask(&[b"SET", &b"k"[..], &value, b"GET", b"KEEPTTL"]);
                    assert_eq!(said.bytes(), value);
                }
                _ => {
                    assert_eq!(keys.line("MOVE k 3").to_string(), ":1");
                    keys.holds(
                        "SELECT 3 => +OK
                         COPY k k DB 0 => :1
                         DEL k => :1
                         SELECT 0 => +OK",
                    );
                }
            }
            let (from, to) = (numbers.below(value.len() + 1), numbers.below(value.len() + 1));
            let part = keys.line(&format!("GETRANGE k {from} {to}"));
            let expected = value.get(from..(to + 1).min(value.len())).unwrap_or_default();
            assert_eq!(part.bytes(), expected, "{round}: {from} to {to} of {}", value.len());
            assert_eq!(keys.line("GET k").bytes(), value);
            let said = keys.line("MGET k nothing k");
            assert_eq!(
                said.array(),
                [Reply::Bulk(value.clone()), Reply::Null, Reply::Bulk(value.clone())]
            );
            let said = keys.line("STRLEN k").integer();
            assert_eq!(said, i64::try_from(value.len()).unwrap());
            if length > 20 {
                assert!(
                    keys.line("INCR k").to_string().starts_with("-ERR value is not an integer")
                );
                assert!(
                    keys.line("INCRBYFLOAT k 1").to_string().starts_with("-ERR value is not a")
                );
                let bytes = keys.line("MEMORY USAGE k").integer();
                assert!(bytes >= i64::try_from(value.len()).unwrap(), "{bytes}");
            }
        }
    }
    keys.line("FLUSHALL");
}
