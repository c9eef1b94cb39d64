//! `objmapper kv status` and `compact`, with a real objmapperd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::command::kv;
use common::daemon::Daemon;
use serde_json::Value;

#[test]
fn a_journal_is_compacted_and_it_is_said_what_that_saved() {
    let Some(mut daemon) = Daemon::start_keeping() else { return };
    for n in 0..200 {
        daemon.client().keys(0).set("same", vec![b'x'; 10_000 + n]).unwrap();
    }
    let said = kv(&daemon, ["compact"]).fine();
    assert!(said.starts_with("compacted the journal: from 1.9 MiB to 10.1 KiB, 1.9 MiB"), "{said}");
    assert!(said.ends_with(" saved\n"), "{said}");
    let json: Value = serde_json::from_str(&kv(&daemon, ["compact", "--json"]).fine()).unwrap();
    assert_eq!(json["bytes_before"], json["bytes_after"].as_u64().unwrap());

    let page = kv(&daemon, ["status"]).fine();
    for line in [
        "state          ok",
        "durability     always: a change is on the disk before it is answered",
        &format!("directory      {}/kv", daemon.dir().display()),
        "records        200 appended, 200 written, 200 on the disk; ",
        "snapshot       10.1 KiB, of 20",
        "since then     0 B of records",
        "eviction       noeviction, 0 evicted",
        "keys           1, 0 with an expiry, 0 expired",
        "       0     1            0",
    ] {
        assert!(page.lines().any(|told| told.starts_with(line)), "{line}: {page}");
    }
    let json: Value = serde_json::from_str(&kv(&daemon, ["status", "--json"]).fine()).unwrap();
    assert_eq!((&json["journal.sync"], &json["journal.durable"]), (&"always".into(), &200.into()));

    daemon.stop();
    kv(&daemon, ["compact"]).fails(3);
    kv(&daemon, ["status"]).fails(3);
}

#[test]
fn keys_in_memory_are_said_to_be_lost() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.client().keys(5).set("a", "1").unwrap();
    let page = kv(&daemon, ["status"]).fine();
    assert!(page.contains("none: keys are in memory only (start objmapperd with --kv-dir DIR)"));
    assert!(page.ends_with("\n       5     1            0\n"), "{page}");
    assert!(page.contains("\nreads          0 hits, 0 misses\n"), "{page}");
    for (args, rounds) in
        [(&["--watch", "0.01", "-c", "3"][..], 3), (&["--json", "-w", "0.01", "-c", "2"], 2)]
    {
        let said = kv(&daemon, [&["status"], args].concat()).fine();
        let begin = if rounds == 3 { "\nstate " } else { "\"time_ns\":" };
        assert_eq!(said.matches(begin).count(), rounds, "{said}");
    }
    let said = kv(&daemon, ["compact"]).fails(1);
    assert!(said.contains("keys are in memory only: start the daemon with kv.dir"), "{said}");
}
