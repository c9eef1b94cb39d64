//! Who waits for the journal's disk, and for how long; and a journal that is damaged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::path::Path;

use objmapper_proto::{Get, Mode, Range, Reply, Request, Status};
use support::daemon::{Daemon, Place, Setup, counter};
use support::held::Held;
use support::resp::{self, Resp, bulk, connect, encoded, keyspace, ok, queued};
use support::{skip, until, wait_for};

/// A keyspace that is kept, under these further settings.
fn setup(place: &Place, settings: &str) -> Setup {
    let dir = place.outside("journal");
    let kv = format!("[kv]\ndir = \"{}\"\ncompact_percent = 0\n{settings}\n", dir.display());
    keyspace(Setup::default().config(&kv), place)
}

fn start(settings: &str) -> Daemon {
    let place = Place::new();
    setup(&place, settings).start_in(place)
}

/// A figure of INFO.
fn figure(keys: &mut Resp, name: &str) -> u64 {
    let info = keys.say("INFO persistence").text();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {info}")).parse().unwrap()
}

fn snapshots(daemon: &Daemon) -> Vec<String> {
    let names = fs::read_dir(daemon.outside("journal")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("snapshot-")).collect();
    names.sort();
    names
}

/// The thread that syncs, held back at that.
fn hold(daemon: &Daemon, thread: &str, nth: usize) -> Option<Held> {
    let held = Held::at(daemon, thread, ("fdatasync", nth), 600);
    if held.is_none() {
        skip("strace is missing, or may not trace");
    }
    held
}

#[test]
fn a_uri_of_a_key_is_answered_when_what_it_says_is_durable() {
    for mode in Mode::ALL {
        let daemon = start("sync = \"always\"");
        let mut keys = connect(&daemon);
        assert_eq!(keys.say("SET k old"), ok());
        let Some(held) = hold(&daemon, "committer", 1) else { return };
        keys.send(b"SET k new-and-longer\r\n");
        held.is_caught();

        let mut peer = daemon.greeted();
        let uri = b"kv:k";
        let get = Get { mode, range: Range::ALL, uri, unless: None, shared: false, to: false };
        let id = peer.request(Request::Get(get));
        let mut other = daemon.client();
        let mut early = false;
        until("somebody waits for the disk, or does not", || {
            early = peer.has_come();
            early || counter(&mut other, "helpers.running") == 1
        });
        assert!(!early && !peer.has_come(), "{mode}: answered before it is durable");
        // Another key of the keyspace, that nobody writes, may be in the same shard; another
        // connection goes on in any case.
        assert_eq!(daemon.greeted().stat(b"/nothing").status(), Status::NotFound);

        drop(held);
        let frame = peer.frame();
        assert_eq!(frame.header.id, id);
        let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
        assert_eq!((item.head.status, item.head.size), (Status::Ok, 14), "{mode}");
        assert_eq!(keys.reply(), ok());
        assert_eq!(daemon.client().stat("kv:k").unwrap().size(), 14);
    }
}

#[test]
fn save_answers_when_the_snapshot_is_there() {
    let daemon = start("");
    let mut keys = connect(&daemon);
    let started = keys.say("LASTSAVE").integer();
    let mut last = Vec::new();
    for round in 0..10 {
        keys.ask(&["SET", "k", &"x".repeat(20_000 + round)]);
        assert_eq!(keys.say("SAVE"), ok());
        let now = snapshots(&daemon);
        assert!(now.len() == 1 && now != last && !now[0].contains(".tmp"), "{now:?}, {last:?}");
        last = now;
    }
    assert!(keys.say("LASTSAVE").integer() >= started);
    assert_eq!(figure(&mut keys, "rdb_bgsave_in_progress"), 0);
    // In the middle of a pipeline, and where the reply is not wanted.
    keys.send(b"SET a 1\r\nSAVE\r\nGET a\r\nCLIENT REPLY SKIP\r\nSAVE\r\nGET a\r\n");
    let replies: Vec<resp::Reply> = (0..4).map(|_| keys.reply()).collect();
    assert_eq!(replies, [ok(), ok(), bulk("1"), bulk("1")]);
    assert_ne!(snapshots(&daemon), last);
    keys.say("MULTI");
    assert!(keys.say("SAVE").text().starts_with("ERR"));
}

#[test]
fn bgsave_and_bgrewriteaof_answer_at_once_and_lastsave_tells_when_it_is_done() {
    let daemon = start("");
    let mut keys = connect(&daemon);
    for words in ["BGSAVE", "BGREWRITEAOF"] {
        keys.say("SET k v");
        // Behind those of two segments: the snapshot's own, without which it is not finished.
        let Some(held) = hold(&daemon, "compactor", 3) else { return };
        let before = snapshots(&daemon);
        assert!(keys.say(words).text().starts_with("Background"));
        held.is_caught();
        assert_eq!(figure(&mut keys, "rdb_bgsave_in_progress"), 1);
        assert_eq!(keys.say("GET k"), bulk("v"));
        drop(held);
        until("it is done", || figure(&mut keys, "aof_rewrite_in_progress") == 0);
        assert_ne!(snapshots(&daemon), before, "{words}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ago = now.as_secs().cast_signed() - keys.say("LASTSAVE").integer();
    assert!((0..=120).contains(&ago), "{ago} s ago");
}

#[test]
fn one_snapshot_is_made_at_a_time_whoever_asks() {
    let daemon = start("");
    let (mut keys, mut client) = (connect(&daemon), daemon.client());
    keys.say("SET k v");
    let Some(held) = hold(&daemon, "compactor", 3) else { return };
    assert!(keys.say("BGSAVE").text().starts_with("Background"));
    held.is_caught();
    for words in ["SAVE", "BGSAVE", "SHUTDOWN SAVE"] {
        assert_eq!(keys.say(words).text(), "ERR Background save already in progress", "{words}");
    }
    assert_eq!(client.compact().unwrap_err().status(), Some(Status::Busy));
    assert_eq!(client.backup().unwrap_err().status(), Some(Status::Busy));
    let later = "Background append only file rewriting scheduled";
    assert_eq!(keys.say("BGREWRITEAOF").text(), later);
    keys.say("SET k w");
    assert_eq!(keys.say("BGSAVE SCHEDULE").text(), "Background saving scheduled");
    let next = figure(&mut keys, "objmapper_journal_records") + 1;
    drop(held);
    // The number that it begins at is in its name: behind what was set while the first was made.
    until("the second is made", || snapshots(&daemon) == [format!("snapshot-{next:020}.kv")]);
    until("one can be made again", || keys.say("SAVE") == ok());
}

#[test]
fn a_stop_does_not_wait_for_a_snapshot() {
    let mut daemon = start("");
    let mut keys = connect(&daemon);
    keys.say("SET k v");
    let Some(held) = hold(&daemon, "compactor", 2) else { return };
    assert!(keys.say("BGSAVE").text().starts_with("Background"));
    held.is_caught();
    daemon.signal("TERM");
    let tasks = format!("/proc/{}/task", daemon.pid());
    let is_there = |thread: &str| {
        let names = fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path().join("comm"));
        names.flat_map(fs::read_to_string).any(|name| name.trim() == thread)
    };
    // It is told together with the thread that syncs.
    until("the journal is told to stop", || !is_there("journal"));
    assert!(is_there("compactor"));
    drop(held);
    assert!(daemon.wait().success());
    assert_eq!(snapshots(&daemon), Vec::<String>::new());
    assert!(!daemon.log().contains("compacted"), "{}", daemon.log());
}

#[test]
fn a_snapshot_that_fails_is_told() {
    let daemon = start("");
    let mut keys = connect(&daemon);
    keys.say("SET k v");
    // In the way of what it would be written into.
    let last = figure(&mut keys, "objmapper_journal_records") + 1;
    let name = format!("snapshot-{last:020}.kv.tmp");
    fs::create_dir(daemon.outside("journal").join(&name)).unwrap();
    let refused = keys.say("SAVE").text();
    assert!(refused.starts_with("ERR cannot write a snapshot"), "{refused}");
    let info = keys.say("INFO persistence").text();
    assert!(info.contains("rdb_last_bgsave_status:err"), "{info}");
    fs::remove_dir(daemon.outside("journal").join(&name)).unwrap();
    assert_eq!(keys.say("SAVE"), ok());
    let info = keys.say("INFO persistence").text();
    assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
}

#[test]
fn waitaof_answers_when_the_disk_has_it() {
    let both = |local, replicas| {
        resp::Reply::Array(vec![resp::Reply::Integer(local), resp::Reply::Integer(replicas)])
    };
    for settings in ["sync_interval = \"1m\"", "sync = \"never\"", "sync = \"always\""] {
        let daemon = start(settings);
        let mut keys = connect(&daemon);
        // There are no replicas, and none is waited for.
        for (n, words) in ["WAITAOF 1 0 0", "WAITAOF 1 0 60000", "WAITAOF 1 3 0"].iter().enumerate()
        {
            assert_eq!(keys.ask(&["SET", "k", &n.to_string()]), ok());
            let position = figure(&mut keys, "objmapper_journal_records");
            assert_eq!(keys.say(words), both(1, 0), "{settings}: {words}");
            assert!(figure(&mut keys, "objmapper_journal_durable") >= position);
        }
        // Who waits for nothing is told how it is. So is who may not wait: what a transaction does
        // is written when it ends.
        keys.send(b"MULTI\r\nSET k v\r\nWAITAOF 1 0 0\r\nEXEC\r\n");
        for _ in 0..3 {
            keys.reply();
        }
        assert_eq!(keys.reply().array()[1], both(1, 0), "{settings}");
        assert_eq!(keys.say("WAITAOF 1 0 0"), both(1, 0));
        assert_eq!(keys.say("WAITAOF 0 0 0"), both(1, 0));
    }
}

#[test]
fn waitaof_gives_up_when_its_time_is_up() {
    let daemon = start("sync_interval = \"1m\"");
    let mut keys = connect(&daemon);
    let Some(held) = hold(&daemon, "journal", 1) else { return };
    keys.say("SET k v");
    assert_eq!(
        keys.say("WAITAOF 1 0 50").array(),
        [resp::Reply::Integer(0), resp::Reply::Integer(0)]
    );
    held.is_caught();
    // Others wait on, and everybody else is served, also who waits for a while.
    let mut patient: Vec<_> = (0..10).map(|_| connect(&daemon)).collect();
    for patient in &mut patient {
        patient.send(b"WAITAOF 1 0 0\r\nGET k\r\n");
    }
    until("they wait", || counter(&mut daemon.client(), "helpers.running") == 10);
    assert_eq!(keys.say("GET k"), bulk("v"));
    assert_eq!(
        keys.say("WAITAOF 1 0 50").array(),
        [resp::Reply::Integer(0), resp::Reply::Integer(0)]
    );
    drop(held);
    for patient in &mut patient {
        assert_eq!(patient.reply().array(), [resp::Reply::Integer(1), resp::Reply::Integer(0)]);
        assert_eq!(patient.reply(), bulk("v"));
    }
}

#[test]
fn who_waits_for_the_disk_does_not_hold_up_the_end() {
    let mut daemon = start("sync_interval = \"1m\"");
    let mut keys = connect(&daemon);
    let Some(held) = hold(&daemon, "journal", 1) else { return };
    keys.send(b"SET k v\r\nWAITAOF 1 0 0\r\n");
    held.is_caught();
    assert_eq!(keys.reply(), ok());
    daemon.signal("TERM");
    // Told again, it does not wait for anybody.
    until("it stops", || daemon.log().contains("stopping"));
    daemon.signal("TERM");
    drop(held);
    assert!(daemon.wait().success());
}

/// Changes a byte of a journal's first file.
fn damage(dir: &Path) {
    let name = dir.join("journal-00000000000000000001.log");
    let mut bytes = fs::read(&name).unwrap();
    bytes[100] ^= 1;
    fs::write(name, bytes).unwrap();
}

#[test]
fn damage_is_refused_with_a_way_to_go_on_and_then_skipped_and_counted() {
    let daemon = start("sync = \"always\"");
    let mut keys = connect(&daemon);
    for n in 0..10 {
        assert_eq!(keys.ask(&["SET", &format!("key {n}"), "value"]), ok());
    }
    drop(keys);
    let place = daemon.kill();
    damage(&place.outside("journal"));

    let mut child = setup(&place, "").spawn(&place);
    let status = wait_for("it has ended", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let said = fs::read_to_string(place.outside("log")).unwrap();
    for part in [
        "journal-00000000000000000001.log is damaged at byte",
        "cannot be opened: restore a backup, or copy the directory and start with --kv-damage skip",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }

    let daemon = setup(&place, "").argument("--kv-damage=skip").start_in(place);
    assert!(daemon.log().contains("skipped what is damaged"), "{}", daemon.log());
    let mut keys = connect(&daemon);
    let there = keys.say("DBSIZE").integer();
    let records = figure(&mut keys, "objmapper_journal_skipped_records");
    assert_eq!((there, records), (9, 1));
    assert!(figure(&mut keys, "objmapper_journal_skipped_bytes") > 20);
    assert_eq!(counter(&mut daemon.client(), "journal.skipped_records"), 1);

    // Written anew it is whole.
    assert_eq!(keys.say("SAVE"), ok());
    drop(keys);
    let place = daemon.kill();
    let daemon = setup(&place, "").start_in(place);
    assert_eq!(connect(&daemon).say("DBSIZE").integer(), 9);
    assert_eq!(daemon.log().matches("skipped what is damaged").count(), 1, "{}", daemon.log());
}

#[test]
fn who_comes_from_a_helper_is_not_kept_waiting_for_as_many_as_the_last_time() {
    let daemon = start("sync = \"always\"");
    let mut clients: Vec<_> = (0..4).map(|_| connect(&daemon)).collect();
    let Some(held) = hold(&daemon, "committer", 1) else { return };
    clients[0].send(b"SET k0 v\r\n");
    held.is_caught();
    for (n, client) in clients.iter_mut().enumerate().skip(1) {
        client.send(format!("SET k{n} v\r\n").as_bytes());
    }
    let mut other = daemon.client();
    until("three more wait", || counter(&mut other, "journal.appended") == 4);
    drop(held);
    assert!(clients.iter_mut().all(|client| client.reply() == ok()));

    // Long, so that no worker does it, and none comes by.
    let first = &mut clients[0];
    let mut bytes = encoded(&["MULTI"]);
    (0..2000).for_each(|_| bytes.extend(encoded(&["INCR", "n"])));
    bytes.extend(encoded(&["EXEC"]));
    first.send(&bytes);
    assert_eq!(first.reply(), ok());
    (0..2000).for_each(|_| assert_eq!(first.reply(), queued()));
    assert_eq!(first.reply().array().len(), 2000);
    assert!(counter(&mut other, "pool.long") > 0, "a worker has done it");
}
