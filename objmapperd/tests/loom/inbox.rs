//! The transfer path's inbox.

use std::sync::Arc;

use loom::thread;
use objmapper_os::poll::Events;
use objmapperd::sync::Poll;
use objmapperd::transfer_path::inbox::Inbox;

#[test]
fn what_is_sent_is_taken_with_nobody_to_wake_the_taker_later() {
    loom::model(|| {
        let poll = Poll::new().unwrap();
        let inbox = Arc::new(Inbox::new(&poll).unwrap());
        let senders = [1, 2].map(|letter| {
            let inbox = inbox.clone();
            thread::spawn(move || inbox.send(letter))
        });
        let mut events = Events::with_capacity(4);
        let mut taken = Vec::new();
        loop {
            taken.extend(inbox.take().0);
            if taken.len() == 2 {
                break;
            }
            poll.wait(&mut events, None).unwrap();
        }
        for sender in senders {
            sender.join().unwrap();
        }
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn who_is_told_to_end_does() {
    loom::model(|| {
        let poll = Poll::new().unwrap();
        let inbox = Arc::new(Inbox::<u8>::new(&poll).unwrap());
        let stopper = {
            let inbox = inbox.clone();
            thread::spawn(move || inbox.stop())
        };
        let mut events = Events::with_capacity(4);
        while !inbox.take().1 {
            poll.wait(&mut events, None).unwrap();
        }
        stopper.join().unwrap();
    });
}
