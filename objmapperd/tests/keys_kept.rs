//! Whatever commands have done is there when the daemon was killed and started again: each of them
//! tells the journal what it changed, also those that change many keys, or a part of a value.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeMap;

use support::content::Numbers;
use support::daemon::{Daemon, Place, Setup};
use support::resp::{Resp, connect, keyspace};

const DATABASES: u8 = 3;

fn start_in(place: Place) -> Daemon {
    let dir = place.outside("journal");
    let setup = Setup::default().config(&format!("[kv]\ndir = \"{}\"\n", dir.display()));
    keyspace(setup, &place).start_in(place)
}

/// Some command, its arguments drawn.
fn command(numbers: &mut Numbers) -> Vec<Vec<u8>> {
    const COMMANDS: [&str; 38] = [
        "SET k v",
        "SET k v",
        "SET k v EX 1000",
        "SET k v XX KEEPTTL",
        "SET k v GET PXAT 33177117420000",
        "SETNX k v",
        "SETEX k 5000 v",
        "PSETEX k 9000000 v",
        "GETSET k v",
        "GETDEL k",
        "GETEX k EX 7000",
        "GETEX k PERSIST",
        "MSET k v k v k v",
        "MSETNX k v k v",
        "APPEND k v",
        "APPEND k v",
        "SETRANGE k 70 v",
        "SETRANGE k 100000 v",
        "INCR n",
        "DECRBY n 7",
        "INCRBYFLOAT n 1.5",
        "DEL k",
        "UNLINK k k",
        "EXPIRE k 1000",
        "EXPIRE k 9000 GT",
        "PEXPIREAT k 33177117420123",
        "EXPIREAT k 1",
        "PERSIST k",
        "RENAME k k",
        "RENAMENX k k",
        "COPY k k",
        "COPY k k REPLACE",
        "COPY k k DB 1 REPLACE",
        "MOVE k 2",
        "SELECT 0",
        "SELECT 1",
        "SELECT 2",
        "FLUSHDB",
    ];
    // To empty all is rare, else there would be nothing to lose.
    let text = match numbers.below(500) {
        0 => "FLUSHALL",
        n => COMMANDS[n % (COMMANDS.len() - usize::from(n > 30))],
    };
    let mut word = |word: &str| match word {
        "k" => format!("key {}", numbers.below(30)).into_bytes(),
        "n" => format!("number {}", numbers.below(5)).into_bytes(),
        "v" => {
            let length = if numbers.below(20) == 0 { 70_000 } else { 60 };
            let length = numbers.below(length);
            numbers.bytes(length)
        }
        other => other.as_bytes().to_vec(),
    };
    text.split(' ').map(&mut word).collect()
}

type Everything = BTreeMap<(u8, Vec<u8>), (Vec<u8>, i64)>;

fn everything(keys: &mut Resp) -> Everything {
    let mut all = Everything::new();
    for db in 0..DATABASES {
        keys.line(&format!("SELECT {db}"));
        for name in keys.line("KEYS *").array() {
            let name = name.bytes();
            let value = keys.ask(&[b"GET", name]).bytes().to_vec();
            let end = keys.ask(&[b"PEXPIRETIME", name]).integer();
            all.insert((db, name.to_vec()), (value, end));
        }
    }
    keys.line("SELECT 0");
    all
}

#[test]
fn what_commands_did_is_there_after_a_kill() {
    let mut numbers = Numbers::new(11);
    let mut daemon = start_in(Place::new());
    let mut most = 0;
    for round in 0..6 {
        let mut keys = connect(&daemon);
        for step in 0..400 {
            let transaction = step % 10 == 0;
            if transaction {
                keys.line("MULTI");
                for _ in 0..4 {
                    keys.ask(&command(&mut numbers));
                }
                keys.line("EXEC");
            } else {
                keys.ask(&command(&mut numbers));
            }
            if step == 200 && round % 2 == 0 {
                keys.line("BGREWRITEAOF");
            }
        }
        let before = everything(&mut keys);
        most = most.max(before.len());
        drop(keys);
        daemon = start_in(daemon.kill());
        assert_eq!(everything(&mut connect(&daemon)), before, "round {round}");
    }
    assert!(most > 30, "{most} keys at most: that proves little");
    // Long values that were there at the start count as descriptors that it should end with.
    drop(daemon.kill());
}
