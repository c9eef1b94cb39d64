//! The keyspace on a disk, end to end: what is answered when the disk fails, and who may open it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use objmapper_client::{Batch, Mode, Status};
use objmapper_proto::kv::{Kv, Set, Verb};
use objmapper_proto::{Reply as Answer, Request};
use support::daemon::{Place, Setup};
use support::refusing::{redis, refuses_from_then_on, setup};
use support::resp::{Reply, bulk, ok, queued};
use support::{is_root, skip, wait_for};

#[test]
fn keys_are_there_after_a_stop_and_after_a_kill() {
    let place = Place::new();
    let daemon = setup(&place, "interval").start_in(place);
    let mut client = redis(&daemon);
    assert_eq!(client.ask(&["SET", "a", "1"]), ok());
    assert_eq!(client.ask(&["INCR", "a"]), Reply::Integer(2));
    let place = daemon.kill();
    let mut daemon = setup(&place, "always").start_in(place);
    let mut client = redis(&daemon);
    assert_eq!(client.ask(&["INCR", "a"]), Reply::Integer(3));
    drop(client);
    assert!(daemon.stop().success());
    assert!(daemon.log().contains("opened the keyspace dir="));
}

#[test]
fn who_has_no_directory_is_told_that_keys_are_lost() {
    let place = Place::new();
    let socket = format!("[kv]\nsocket = \"{}\"\n", place.outside("run/kv").display());
    let daemon = Setup::default().config(&socket).start_in(place);
    assert!(daemon.log().contains("keys are kept in memory only"));
}

#[test]
fn a_shutdown_that_is_to_save_first_does_nothing_if_that_fails() {
    let place = Place::new();
    let mut daemon = setup(&place, "interval").start_in(place);
    let mut client = redis(&daemon);
    assert_eq!(client.say("SET a 1"), ok());
    fs::remove_dir_all(daemon.outside("kv")).unwrap();
    for _ in 0..2 {
        let reply = client.say("SHUTDOWN SAVE").text();
        assert!(reply.starts_with("ERR the journal cannot be written"), "{reply}");
        assert_eq!(redis(&daemon).say("GET a"), bulk("1"));
    }
    client.send(b"SHUTDOWN NOSAVE\r\n");
    client.expect_end();
    assert!(daemon.wait().success());
}

/// What was queued was allowed then.
#[test]
fn a_transaction_changes_nothing_if_the_journal_has_failed_meanwhile() {
    let place = Place::new();
    let daemon = setup(&place, "interval").start_in(place);
    let mut reader = redis(&daemon);
    assert_eq!(reader.say("MSET a 1 b 2 c 3"), ok());
    let late = ["DEL a", "GETDEL b", "EXPIRE c 1000", "FLUSHALL"].map(|words| {
        let mut client = redis(&daemon);
        assert_eq!(client.say("MULTI"), ok());
        assert_eq!(client.say(words), queued());
        (words, client)
    });
    assert_eq!(reader.say("MULTI"), ok());
    assert_eq!(reader.say("MGET a b c"), queued());
    assert_eq!(reader.say("TTL c"), queued());
    fs::remove_dir_all(daemon.outside("kv")).unwrap();
    assert!(matches!(redis(&daemon).say("SAVE"), Reply::Error(_)));
    for (words, mut client) in late {
        let reply = client.say("EXEC").text();
        let expected = "EXECABORT Transaction discarded because of: MISCONF the journal cannot";
        assert!(reply.starts_with(expected), "{words}: {reply}");
    }
    let values = Reply::Array(vec![bulk("1"), bulk("2"), bulk("3")]);
    assert_eq!(reader.say("EXEC"), Reply::Array(vec![values, Reply::Integer(-1)]));
}

#[test]
fn a_shutdown_that_saves_says_no_more() {
    let place = Place::new();
    let mut daemon = setup(&place, "interval").start_in(place);
    let mut client = redis(&daemon);
    assert_eq!(client.say("SET a 1"), ok());
    client.send(b"SHUTDOWN SAVE\r\n");
    client.expect_end();
    assert!(daemon.wait().success());
}

/// Makes this call fail for the daemon from its sixth on, if it is about the journal's first segment.
fn failing(setup: Setup, place: &Place, call: &str, error: &str) -> Option<Setup> {
    let segment = place.outside("kv/journal-00000000000000000001.log");
    support::failing::failing(setup, Some(&segment), (call, error, "6+"))
}

fn never_acknowledges_what_is_lost(sync: &str, call: &str, error: &str) {
    let place = Place::new();
    let Some(setup) = failing(setup(&place, sync), &place, call, error) else { return };
    refuses_from_then_on(setup.start_in(place), |place| self::setup(&place, sync).start_in(place));
}

#[test]
fn a_sync_that_fails_is_answered_with_an_error() {
    never_acknowledges_what_is_lost("always", "fdatasync", "EIO");
}

#[test]
fn a_full_disk_is_answered_with_an_error() {
    never_acknowledges_what_is_lost("interval", "write", "ENOSPC");
}

#[test]
fn a_full_disk_is_answered_with_an_error_under_always() {
    never_acknowledges_what_is_lost("always", "write", "ENOSPC");
}

/// The same in our own protocol, where replies have descriptors among them.
fn verbs_never_acknowledge_what_is_lost(sync: &str, call: &str, error: &str) {
    let place = Place::new();
    let Some(setup) = failing(setup(&place, sync), &place, call, error) else { return };
    let daemon = setup.start_in(place);
    let mut client = daemon.client();
    client.keys(0).set("before", "kept").unwrap();
    let mut peer = daemon.greeted();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for round in 0..50 {
        if refused > 0 {
            break;
        }
        let (mut bytes, mut ids, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..3 {
            let name = format!("key {}", round * 3 + n);
            let set = Verb::Set(Set::new(name.as_bytes(), b"value"));
            ids.push(peer.encode(Request::Kv(Kv { db: 0, verb: set }), &mut bytes));
            for mode in [Mode::Fdpass, Mode::Copy] {
                let get = Verb::Get { mode, key: b"before" };
                ids.push(peer.encode(Request::Kv(Kv { db: 0, verb: get }), &mut bytes));
            }
            names.push(name);
        }
        peer.send(&bytes);
        let mut ids = ids.into_iter();
        for name in names {
            let frame = peer.frame();
            assert_eq!(Some(frame.header.id), ids.next());
            match frame.reply() {
                Answer::KvDone(done) if done.done => acknowledged.push(name),
                Answer::Error(error) => {
                    assert_eq!(error.status, Status::Io, "{}", error.text);
                    assert!(error.text.contains("journal"), "{}", error.text);
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
            for _ in 0..2 {
                let answer = peer.object(ids.next().unwrap());
                assert_eq!(answer.head.status, Status::Ok);
                assert_eq!(answer.head.size, 4);
            }
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty());
    let mut keys = client.keys(0);
    let refused = [
        keys.set("later", "x").unwrap_err(),
        keys.add("later", 1).unwrap_err(),
        keys.delete(["before"]).unwrap_err(),
        keys.set_expiry("before", Some(std::time::SystemTime::UNIX_EPOCH)).unwrap_err(),
        keys.apply(Batch::new().set("later", "x")).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.status(), Some(Status::Io), "{error}");
    }
    assert_eq!(keys.get_many(&["later", "before"]).unwrap(), [None, Some(b"kept".to_vec())]);
    assert_eq!(keys.open("before").unwrap().unwrap().read_to_vec().unwrap(), b"kept");
    drop((client, peer));
    let place = daemon.kill();
    let daemon = self::setup(&place, sync).start_in(place);
    let mut client = daemon.client();
    for name in &acknowledged {
        assert_eq!(client.keys(0).get(name).unwrap().as_deref(), Some(&b"value"[..]), "{name}");
    }
}

#[test]
fn a_sync_that_fails_is_told_in_our_own_protocol_too() {
    verbs_never_acknowledge_what_is_lost("always", "fdatasync", "EIO");
}

#[test]
fn a_full_disk_is_told_in_our_own_protocol_too() {
    verbs_never_acknowledge_what_is_lost("interval", "write", "ENOSPC");
}

/// Starts a daemon that cannot; gives what it said.
fn refused(setup: &Setup, place: &Place) -> String {
    let mut child = setup.spawn(place);
    let status = wait_for("it has ended", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    fs::read_to_string(place.outside("log")).unwrap()
}

#[test]
fn two_daemons_cannot_have_one_directory() {
    let place = Place::new();
    let dir = place.outside("kv");
    let daemon = setup(&place, "always").start_in(place);
    let other = Place::new();
    let kv = format!("[kv]\ndir = \"{}\"\n", dir.display());
    let said = refused(&Setup::default().config(&kv), &other);
    assert!(said.contains(&format!("locked by pid {}", daemon.pid())), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    if !is_root() {
        return skip("only root can make a directory that is another user's");
    }
    let place = Place::new();
    fs::create_dir(place.outside("kv")).unwrap();
    fs::set_permissions(place.outside("kv"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = refused(&setup(&place, "always").unprivileged(), &place);
    assert!(said.contains("cannot write in the directory"), "{said}");
    assert!(said.contains("EACCES"), "{said}");
}

#[test]
fn damage_is_told_with_its_place() {
    let place = Place::new();
    let mut daemon = setup(&place, "always").start_in(place);
    let mut client = redis(&daemon);
    for n in 0..10 {
        assert_eq!(client.ask(&["SET", &n.to_string(), "value"]), ok());
    }
    drop(client);
    assert!(daemon.stop().success());
    let place = Place::new();
    fs::create_dir(place.outside("kv")).unwrap();
    let name = "journal-00000000000000000001.log";
    let mut bytes = fs::read(daemon.outside("kv").join(name)).unwrap();
    bytes[100] ^= 1;
    fs::write(place.outside("kv").join(name), bytes).unwrap();
    let said = refused(&setup(&place, "always"), &place);
    assert!(said.contains(name) && said.contains("is damaged at byte"), "{said}");
}
