//! The real daemon, loaded and killed without a word, again and again: what it acknowledged is there
//! after the next start, under each policy, with compaction in a third of the rounds.
//!
//! A few rounds in the ordinary tests; the long form is
//!
//! ```text
//! CRASH_ROUNDS=100 cargo test --release -p objmapperd --test crash_loop -- --nocapture
//! ```
//!
//! The checker is `support::writers`. (A kill keeps what the kernel has; a missing sync shows in a power
//! cut only: see `power_cuts`.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::daemon::{Place, Setup};
use support::resp::{Reply, Resp};
use support::writers::{Found, Writer, Writers};
use support::{until, wait_for};

/// Writes until the daemon is gone.
fn write(writer: &mut Writer, socket: &Path) {
    let Ok(mut redis) = Resp::connect(socket) else { return };
    loop {
        let (count, pipeline) = writer.pipeline();
        if redis.try_send(&pipeline).is_err() {
            return;
        }
        for _ in 0..count {
            match redis.try_reply() {
                Ok(Reply::Error(error)) => panic!("{error}"),
                Ok(_) => writer.promise(1),
                Err(_) => return,
            }
        }
    }
}

fn setup(policy: &str, compacting: bool, place: &Place) -> Setup {
    let often = "compact_from = 0\ncompact_percent = 1\nsegment = \"64KiB\"\n";
    let kv = format!(
        "[kv]\nsocket = \"{}\"\ndir = \"{}\"\nsync = \"{policy}\"\nsync_interval = \"20ms\"\n{}",
        place.outside("run/kv").display(),
        place.outside("kv").display(),
        if compacting { often } else { "compact_percent = 0\n" },
    );
    Setup::default().config(&kv)
}

fn rounds(policy: &str) {
    let rounds: u32 = std::env::var("CRASH_ROUNDS").map_or(3, |n| n.parse().unwrap());
    let mut writers = Writers::new();
    let (mut place, mut compacted) = (Place::new(), 0);
    let begun = Instant::now();
    for round in 0..=rounds {
        let compacting = round % 3 == 1;
        let socket = place.outside("run/kv");
        let mut daemon = setup(policy, compacting, &place).start_in(place);
        let mut redis = wait_for("it takes clients", || Resp::connect(&socket).ok());
        writers.check(Found::read(&mut redis));
        drop(redis);
        if round == rounds {
            assert!(daemon.stop().success());
            break;
        }
        let load = Duration::from_millis(50 + u64::from(round * 37 % 200));
        place = std::thread::scope(|scope| {
            for writer in &mut writers.all {
                let socket = &socket;
                scope.spawn(move || write(writer, socket));
            }
            // How long it is loaded is no condition of anything.
            std::thread::sleep(load);
            if compacting && compacted == 0 {
                // Once at least, however slow it is here.
                until("it has compacted", || daemon.log().contains("compacted the journal"));
            }
            compacted += usize::from(compacting && daemon.log().contains("compacted the journal"));
            daemon.kill()
        });
    }
    let took = begun.elapsed();
    eprintln!(
        "{policy}: {rounds} rounds in {took:?}, {compacted} with compactions, sum {}",
        writers.sum
    );
    assert!(compacted > 0, "none was long enough to compact in");
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_always() {
    rounds("always");
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_interval() {
    rounds("interval");
}

#[test]
fn killed_again_and_again_it_keeps_what_it_acknowledged_never() {
    rounds("never");
}
