//! A disk that fails under the daemon: whichever call it is, and however often, nothing that was
//! acknowledged is lost, and what is refused stays refused until the next start.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use support::daemon::Place;
use support::failing::failing;
use support::refusing::{redis, refuses_from_then_on, setup};
use support::resp::{Reply, Resp, bulk, ok};
use support::{until, wait_for};

fn segment(place: &Place) -> PathBuf {
    place.outside("kv/journal-00000000000000000001.log")
}

/// The sixth of these calls fails, and no other.
fn fails_once(sync: &str, call: &str, error: &str) {
    let place = Place::new();
    let (segment, failure) = (segment(&place), (call, error, "6"));
    let Some(setup) = failing(setup(&place, sync), Some(&segment), failure) else { return };
    refuses_from_then_on(setup.start_in(place), |place| self::setup(&place, sync).start_in(place));
}

/// The kernel says of the next one that all is well, which it is not.
#[test]
fn a_sync_that_failed_once_is_never_forgotten() {
    fails_once("always", "fdatasync", "EIO");
}

#[test]
fn a_write_that_failed_once_is_never_forgotten() {
    for sync in ["always", "interval", "never"] {
        fails_once(sync, "write", "EIO");
    }
}

/// Of the record that does not fit the kernel takes a part.
#[test]
fn a_file_that_may_not_grow_keeps_what_was_acknowledged() {
    for sync in ["always", "interval", "never"] {
        let place = Place::new();
        let limit = "trap '' XFSZ; ulimit -f 8 && exec \"$0\" \"$@\"";
        let setup = setup(&place, sync).wrapper(&["/bin/sh", "-c", limit]);
        let again = |place: Place| self::setup(&place, sync).start_in(place);
        refuses_from_then_on(setup.start_in(place), again);
    }
}

#[test]
fn a_sync_that_fails_beside_stops_changes() {
    let place = Place::new();
    let often = setup(&place, "interval").argument("--kv-sync-interval").argument("1ms");
    let failure = ("fdatasync", "EIO", "3");
    let Some(setup) = failing(often, Some(&segment(&place)), failure) else { return };
    let daemon = setup.start_in(place);
    let mut client = redis(&daemon);
    let mut acknowledged = 0;
    until("changes are refused", || match client.ask(&["SET", &acknowledged.to_string(), "x"]) {
        Reply::Error(error) => error.starts_with("MISCONF"),
        reply => {
            assert_eq!(reply, ok());
            acknowledged += 1;
            false
        }
    });
    assert!(matches!(client.ask(&["SET", "later", "x"]), Reply::Error(_)));
    drop(client);
    let place = daemon.kill();
    let daemon = self::setup(&place, "interval").start_in(place);
    let mut client = redis(&daemon);
    for n in 0..acknowledged {
        assert_eq!(client.ask(&["GET", &n.to_string()]), bulk("x"), "{n}");
    }
}

/// Writes around a compaction; gives what was acknowledged.
fn write_and_compact(client: &mut Resp, log: impl Fn() -> String) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for n in 0..6 {
        match client.ask(&["SET", &n.to_string(), "x"]) {
            Reply::Error(error) => assert!(error.starts_with("MISCONF"), "{error}"),
            reply => {
                assert_eq!(reply, ok());
                acknowledged.push(n);
            }
        }
        if n == 3 && !matches!(client.ask(&["BGREWRITEAOF"]), Reply::Error(_)) {
            until("it has compacted, or not", || {
                let log = log();
                log.contains("compacted the journal") || log.contains("is not compacted")
            });
        }
    }
    acknowledged
}

/// Whichever call it is that fails, also while it starts or compacts.
#[test]
fn a_call_that_fails_anywhere_loses_nothing_that_was_acknowledged() {
    for calls in ["fdatasync,fsync", "renameat,renameat2,rename", "unlinkat"] {
        let (mut started, mut failed) = (0, 0);
        for nth in 1..=5 {
            let (place, when) = (Place::new(), nth.to_string());
            let failure = (calls, "EIO", when.as_str());
            let Some(failing) = failing(setup(&place, "always"), None, failure) else { return };
            let mut child = failing.spawn(&place);
            let connected = wait_for("it takes clients, or ends", || {
                let ended = child.try_wait().unwrap().is_some();
                let client = Resp::connect(&place.outside("run/kv")).ok();
                (ended || client.is_some()).then_some(client)
            });
            let log = || fs::read_to_string(place.outside("log")).unwrap();
            let mut acknowledged = Vec::new();
            if let Some(mut client) = connected {
                started += 1;
                acknowledged = write_and_compact(&mut client, log);
            }
            failed += u32::from(log().contains("EIO"));
            let _ = child.kill();
            child.wait().unwrap();
            let daemon = setup(&place, "always").start_in(place);
            let mut client = redis(&daemon);
            for n in acknowledged {
                assert_eq!(client.ask(&["GET", &n.to_string()]), bulk("x"), "{calls} {nth}: {n}");
            }
        }
        assert!(started > 0 && failed > 0, "{calls}: started {started} times, failed {failed}");
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let place = Place::new();
    let daemon = setup(&place, "always").start_in(place);
    let mut client = redis(&daemon);
    for n in 0..10 {
        assert_eq!(client.ask(&["SET", &n.to_string(), "value"]), ok());
    }
    drop(client);
    let place = daemon.kill();
    let segment = segment(&place);
    // Of the last record; zeros follow, which were ahead of the next ones.
    let bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    assert!(end < bytes.len());
    let file = fs::File::options().write(true).open(&segment).unwrap();
    file.write_all_at(&[0; 3], end as u64 - 3).unwrap();
    let daemon = setup(&place, "always").start_in(place);
    assert!(daemon.log().contains("cut off a torn tail"), "{}", daemon.log());
    let mut client = redis(&daemon);
    assert_eq!(client.ask(&["GET", "8"]), bulk("value"));
    assert_eq!(client.ask(&["GET", "9"]), Reply::Null);
    assert_eq!(client.ask(&["SET", "9", "value"]), ok());
}
