//! The word that a connection's owner and the sweeper write.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use objmapper_os::socket::Stream;
use objmapperd::config::Timeouts;
use objmapperd::deadline::watch::Watch;
use objmapperd::deadline::{Deadline, Deadlines, Expected};

use crate::town::Gate;

/// When everything that was expected is late, in milliseconds.
const LATER: u64 = 1 << 50;

fn connection() -> (Arc<Deadlines>, Deadline, Arc<Stream>, Stream) {
    let minute = Duration::from_mins(1);
    let deadlines =
        Deadlines::new(Timeouts { hello: minute, request: minute, idle: minute, send: minute });
    let (ours, theirs) = Stream::pair().unwrap();
    let ours = Arc::new(ours);
    ours.set_nonblocking(true).unwrap();
    let deadline = deadlines.of(1, ours.clone());
    (deadlines, deadline, ours, theirs)
}

/// Whether the sweeper has shut it.
fn is_shut(stream: &Stream) -> bool {
    matches!(stream.recv_bytes(&mut [0; 1]), Ok(0))
}

#[test]
fn who_was_in_time_is_left_alone_and_who_was_not_finds_the_mark() {
    loom::model(|| {
        let (all, mut deadline, ours, _theirs) = connection();
        let sweeper = {
            let all = all.clone();
            thread::spawn(move || all.sweep(LATER))
        };
        // HELLO has come.
        deadline.clear();
        let late = deadline.is_late().is_some();
        sweeper.join().unwrap();
        assert_eq!(late, is_shut(&ours), "one of them has won, and both know");
        assert_eq!(deadline.is_late().is_some(), late, "the verdict stands");
        assert_eq!((all.missed(), all.ahead()), (u64::from(late), 0));
    });
}

#[test]
fn what_is_expected_next_is_not_judged_by_what_was_before() {
    loom::model(|| {
        let (all, mut deadline, ours, _theirs) = connection();
        let sweeper = {
            let all = all.clone();
            thread::spawn(move || all.sweep(LATER))
        };
        deadline.expect(Expected::Request);
        let late = deadline.is_late();
        sweeper.join().unwrap();
        // Either for the one or for the other; never for both, and never half.
        let verdict = deadline.is_late();
        assert!(late.is_none() || late == verdict);
        assert_eq!(verdict.is_some(), is_shut(&ours));
        drop(deadline);
        assert_eq!((all.missed(), all.ahead()), (u64::from(verdict.is_some()), 0));
    });
}

#[test]
fn one_who_has_read_is_not_late_whatever_its_owner_does() {
    loom::model(|| {
        let (all, mut deadline, ours, _theirs) = connection();
        deadline.expect(Expected::Reading);
        let sweeper = {
            let all = all.clone();
            // Nothing is unread: the time is put off.
            thread::spawn(move || all.sweep(LATER))
        };
        deadline.clear();
        sweeper.join().unwrap();
        assert!(deadline.is_late().is_none() && !is_shut(&ours));
        assert_eq!((all.missed(), all.ahead()), (0, 0));
        all.sweep(LATER);
        assert_eq!(all.missed(), 0, "what was taken back stays so");
    });
}

#[test]
fn a_connection_that_ends_takes_its_deadline_along() {
    loom::model(|| {
        let (all, deadline, _ours, _theirs) = connection();
        let sweeper = {
            let all = all.clone();
            thread::spawn(move || all.sweep(LATER))
        };
        drop(deadline);
        sweeper.join().unwrap();
        assert_eq!(all.ahead(), 0);
    });
}

#[test]
fn the_sweeper_does_not_sleep_while_there_is_something_ahead() {
    loom::model(|| {
        let (watch, looked) = (Arc::new(Watch::default()), Gate::new(false));
        let sweeper = {
            let (watch, looked) = (watch.clone(), looked.clone());
            thread::spawn(move || {
                // As often as it is told to look, and no oftener.
                let more = watch.wait(Duration::ZERO);
                looked.change(|looked| *looked = more);
            })
        };
        let other = {
            let watch = watch.clone();
            thread::spawn(move || {
                watch.one_more();
                watch.one_less();
            })
        };
        watch.one_more();
        looked.wait(|&mut looked| looked.then_some(()));
        other.join().unwrap();
        sweeper.join().unwrap();
        assert_eq!(watch.ahead(), 1);
    });
}

#[test]
fn a_sweeper_that_sleeps_can_be_stopped() {
    loom::model(|| {
        let watch = Arc::new(Watch::default());
        let sweeper = {
            let watch = watch.clone();
            thread::spawn(move || assert!(!watch.wait(Duration::ZERO)))
        };
        watch.stop();
        sweeper.join().unwrap();
    });
}
