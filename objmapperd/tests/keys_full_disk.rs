//! A file system that is full under the keyspace, as the kernel has it: nothing that could not be
//! written is acknowledged, who writes is told what to do, and with room again all is there that was
//! acknowledged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use objmapper_client::Status;
use support::daemon::Place;
use support::refusing::{redis, refuses_from_then_on, setup, write_until_refused};
use support::resp::{Reply, ok};
use support::small_disk::SmallDisk;

/// What there is at first: the journal has begun, and some thousand keys fit.
const SMALL: u64 = 256 << 10;

/// And later.
const ROOM: u64 = 64 << 20;

#[test]
fn what_does_not_fit_is_refused_and_what_was_acknowledged_is_kept() {
    for sync in ["always", "interval", "never"] {
        let place = Place::new();
        let at = place.outside("kv");
        let Some(disk) = SmallDisk::mount(&at, SMALL) else { return };
        let start = |place: Place| disk.under(setup(&place, sync)).start_in(place);
        let again = |place| {
            disk.resize(&at, ROOM);
            start(place)
        };
        let said = refuses_from_then_on(start(place), again);
        assert!(said.contains("No space left on device (ENOSPC)"), "{said}");
        assert!(said.contains("make room where the journal is, then start again"), "{said}");
    }
}

/// A value of which the disk has room for a part: of our own protocol, and long.
#[test]
fn a_long_value_that_does_not_fit_is_refused_whole() {
    for sync in ["always", "interval"] {
        let place = Place::new();
        let at = place.outside("kv");
        let Some(disk) = SmallDisk::mount(&at, SMALL) else { return };
        let daemon = disk.under(setup(&place, sync)).start_in(place);
        let mut client = daemon.client();
        client.keys(0).set("before", vec![1; 50_000]).unwrap();
        client.keys(0).set("count", "1").unwrap();
        let error = client.keys(0).set("long", vec![2; 220_000]).unwrap_err();
        assert_eq!(error.status(), Some(Status::Io), "{error}");
        assert!(error.to_string().contains("make room where the journal is"), "{error}");
        // All changes are refused now, whether they fit or not; reads go on.
        let mut keys = client.keys(0);
        let refused = [
            keys.set("short", "x").unwrap_err(),
            keys.add("count", 1).unwrap_err(),
            keys.delete(["before"]).unwrap_err(),
        ];
        assert!(refused.iter().all(|error| error.status() == Some(Status::Io)), "{refused:?}");
        assert_eq!(keys.get("before").unwrap().unwrap(), vec![1; 50_000]);
        let told = client.keyspace_status().unwrap();
        assert!(told.iter().any(|(name, why)| name == "journal.failure" && why.contains("ENOSPC")));
        drop(client);

        let place = daemon.kill();
        disk.resize(&at, ROOM);
        let daemon = disk.under(setup(&place, sync)).start_in(place);
        let mut client = daemon.client();
        let mut keys = client.keys(0);
        assert_eq!(keys.get("before").unwrap().unwrap(), vec![1; 50_000]);
        assert_eq!(keys.add("count", 1).unwrap(), 2);
        assert_eq!(keys.get("short").unwrap(), None);
        // It was refused and may be there, but not in part.
        let long = keys.get("long").unwrap();
        assert!(long.is_none_or(|long| long == vec![2; 220_000]));
    }
}

/// The journal itself has room then.
#[test]
fn a_snapshot_that_does_not_fit_is_given_up_and_writing_goes_on() {
    let place = Place::new();
    let at = place.outside("kv");
    let Some(disk) = SmallDisk::mount(&at, SMALL) else { return };
    let daemon = disk.under(setup(&place, "always")).start_in(place);
    let mut client = daemon.client();
    for n in 0..3 {
        client.keys(0).set(format!("long {n}"), vec![n; 50_000]).unwrap();
    }
    let error = client.compact().unwrap_err();
    assert_eq!(error.status(), Some(Status::Busy), "{error}");
    assert!(error.to_string().contains("ENOSPC"), "{error}");
    client.keys(0).set("later", "x").unwrap();
    disk.resize(&at, ROOM);
    let told = client.compact().unwrap();
    assert!(told.after > 150_000, "{told:?}");
    client.keys(0).set("last", "x").unwrap();
    drop(client);
    let place = daemon.kill();
    let daemon = disk.under(setup(&place, "always")).start_in(place);
    let mut client = daemon.client();
    assert_eq!(client.keys(0).scan().count(), 5);
}

/// The same disk, still full: the next start says so, and changes nothing.
#[test]
fn a_start_without_room_says_so_and_harms_nothing() {
    let place = Place::new();
    let at = place.outside("kv");
    let Some(disk) = SmallDisk::mount(&at, SMALL) else { return };
    let daemon = disk.under(setup(&place, "interval")).start_in(place);
    let mut client = redis(&daemon);
    assert_eq!(client.ask(&["SET", "before", "kept"]), ok());
    let acknowledged = write_until_refused(&mut client);
    drop(client);
    let place = daemon.kill();
    for _ in 0..2 {
        let mut child = disk.under(setup(&place, "interval")).spawn(&place);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let log = std::fs::read_to_string(place.outside("log")).unwrap();
        assert!(log.contains("cannot begin a segment") && log.contains("ENOSPC"), "{log}");
    }
    disk.resize(&at, ROOM);
    let daemon = disk.under(setup(&place, "interval")).start_in(place);
    let mut client = redis(&daemon);
    for name in acknowledged {
        assert_ne!(client.ask(&["GET", &name]), Reply::Null, "{name}");
    }
}
