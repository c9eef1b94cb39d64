//! Readiness: when an edge comes, and when it does not.
#![cfg(feature = "poll")]
#![allow(clippy::unwrap_used)] // a helper that fails fails its test

mod common;

use common::{Balance, directory, file, pair};
use objmapper_os::errno;
use objmapper_os::poll::{Event, Events, Interest, Poll, Token, Waker};
use objmapper_os::signal::{Signal, Signals};
use objmapper_os::socket::{BindOptions, Listener, Stream};
use std::os::fd::AsFd;
use std::time::Duration;

/// What is ready now; the kernel has it before the call that caused it returns.
fn ready(poll: &Poll) -> Vec<Event> {
    let mut events = Events::with_capacity(8);
    poll.wait(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().collect()
}

fn watching(stream: &Stream, interest: Interest) -> Poll {
    let poll = Poll::new().unwrap();
    poll.registry().add(stream, Token(7), interest).unwrap();
    poll
}

#[test]
fn an_edge_comes_once_until_something_more_arrives() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let poll = watching(&other, Interest::READABLE);
    assert!(ready(&poll).is_empty());
    one.send(b"ab", &[], false).unwrap();
    let events = ready(&poll);
    assert_eq!(events.len(), 1);
    assert!(events[0].token == Token(7) && events[0].readable && !events[0].read_closed);
    other.recv_bytes(&mut [0; 1]).unwrap();
    assert!(ready(&poll).is_empty(), "a byte is left, and no edge tells of it");
    one.send(b"c", &[], false).unwrap();
    assert_eq!(ready(&poll).len(), 1);
}

#[test]
fn after_a_short_receive_new_data_is_a_new_edge() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let poll = watching(&other, Interest::READABLE);
    one.send(b"abc", &[], false).unwrap();
    assert_eq!(ready(&poll).len(), 1);
    assert_eq!(other.recv_bytes(&mut [0; 8]).unwrap(), 3, "short: so the socket is empty");
    one.send(b"d", &[], false).unwrap();
    assert_eq!(ready(&poll).len(), 1, "without having read until EAGAIN");
}

#[test]
fn data_and_the_end_can_be_one_event() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let poll = watching(&other, Interest::READABLE);
    one.send(b"last", &[], false).unwrap();
    drop(one);
    let events = ready(&poll);
    assert_eq!(events.len(), 1);
    assert!(events[0].readable && events[0].read_closed);
    assert_eq!(other.recv_bytes(&mut [0; 8]).unwrap(), 4, "a short receive, but not the end");
    assert!(ready(&poll).is_empty(), "and no second event for it");
    assert_eq!(other.recv_bytes(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_half_close_is_read_closed_only() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let poll = watching(&other, Interest::READABLE);
    one.shutdown_write().unwrap();
    let events = ready(&poll);
    assert!(events[0].read_closed && !events[0].write_closed && !events[0].error);
    drop(one);
    let events = ready(&poll);
    assert!(events[0].read_closed && events[0].write_closed);
}

/// A deadline is kept so: whoever marks a connection as late shuts it down, and its owner wakes.
#[test]
fn shutting_down_ones_own_socket_wakes_whoever_watches_it() {
    let _balance = Balance::new();
    for interest in [Interest::READABLE, Interest::BOTH] {
        let (one, other) = pair();
        one.set_nonblocking(true).unwrap();
        other.send(b"not read before", &[], false).unwrap();
        let poll = watching(&one, interest);
        ready(&poll);
        one.shutdown().unwrap();
        let events = ready(&poll);
        assert!(events[0].read_closed && events[0].write_closed, "{events:?}");
        assert_eq!(one.recv_bytes(&mut [0; 64]).unwrap(), 15, "what had come can be read");
        assert_eq!(one.recv_bytes(&mut [0; 64]).unwrap(), 0);
        assert_eq!(one.send(b"x", &[], false).unwrap_err().errno(), errno::EPIPE);

        let (one, other) = pair();
        let poll = watching(&one, interest);
        ready(&poll);
        one.shutdown_read().unwrap();
        let events = ready(&poll);
        assert!(events[0].read_closed && !events[0].write_closed, "{events:?}");
        one.send(b"a last word", &[], false).unwrap();
        assert_eq!(other.recv_bytes(&mut [0; 64]).unwrap(), 11);
    }
}

/// A connection changes hands between two instances without looking whether something came.
#[test]
fn adding_tells_what_holds_already() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.send(b"ab", &[], false).unwrap();
    let poll = watching(&other, Interest::READABLE);
    assert_eq!(ready(&poll).len(), 1);
    poll.registry().remove(&other).unwrap();
    let poll = watching(&other, Interest::READABLE);
    assert_eq!(ready(&poll).len(), 1, "another instance, the same byte");
}

#[test]
fn events_that_do_not_fit_come_with_the_next_wait() {
    let _balance = Balance::new();
    let poll = Poll::new().unwrap();
    let pairs = [pair(), pair(), pair()];
    for (token, (one, other)) in pairs.iter().enumerate() {
        poll.registry().add(other, Token(token), Interest::READABLE).unwrap();
        one.send(b"x", &[], false).unwrap();
    }
    let mut events = Events::with_capacity(2);
    let mut seen = Vec::new();
    for expected in [2, 1, 0] {
        poll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        let before = seen.len();
        seen.extend(events.iter().map(|event| event.token.0));
        assert_eq!(seen.len() - before, expected);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
fn writable_comes_back_when_three_quarters_have_been_read() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.set_nonblocking(true).unwrap();
    let mut sent = 0_usize;
    let chunk = [0; 1024];
    while let Ok(bytes) = one.send(&chunk, &[], false) {
        sent += bytes;
    }
    let full = one.unread().unwrap();
    let poll = watching(&one, Interest::BOTH);
    assert!(ready(&poll).is_empty());
    let (mut buf, mut read) = ([0; 1024], 0_usize);
    let left = loop {
        read += other.recv_bytes(&mut buf).unwrap();
        if ready(&poll).iter().any(|event| event.writable) {
            break one.unread().unwrap();
        }
        assert!(read < sent, "writable at the latest when all is read");
    };
    assert!(left <= full / 3, "{left} of {full} left");
}

#[test]
fn readable_interest_is_quiet_about_what_the_peer_reads() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let poll = watching(&one, Interest::READABLE);
    one.send(b"reply", &[], false).unwrap();
    other.recv_bytes(&mut [0; 8]).unwrap();
    assert!(ready(&poll).is_empty());
    poll.registry().modify(&one, Token(8), Interest::BOTH).unwrap();
    let events = ready(&poll);
    assert!(events[0].token == Token(8) && events[0].writable, "told anew what holds already");
    poll.registry().remove(&one).unwrap();
    other.send(b"x", &[], false).unwrap();
    assert!(ready(&poll).is_empty());
}

#[test]
fn closing_a_descriptor_that_others_hold_does_not_end_the_watch() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let held = other.as_fd().try_clone_to_owned().unwrap();
    let poll = watching(&other, Interest::READABLE);
    drop(other);
    one.send(b"x", &[], false).unwrap();
    assert_eq!(ready(&poll).len(), 1, "an event for a number that is closed");
    drop(held);
    assert!(ready(&poll).is_empty());
}

#[test]
fn regular_files_cannot_be_polled() {
    let _balance = Balance::new();
    let directory = directory();
    let file = std::fs::File::open(file(&directory, "a", b"")).unwrap();
    let poll = Poll::new().unwrap();
    let error = poll.registry().add(&file, Token(1), Interest::READABLE).unwrap_err();
    assert_eq!(error.errno(), errno::EPERM);
    let (one, _other) = pair();
    poll.registry().add(&one, Token(1), Interest::READABLE).unwrap();
    let error = poll.registry().add(&one, Token(1), Interest::READABLE).unwrap_err();
    assert_eq!(error.errno(), errno::EEXIST);
}

#[test]
fn an_event_goes_to_one_of_those_who_wait() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let poll = Poll::new().unwrap();
    poll.registry().add(&one, Token(7), Interest::READABLE).unwrap();
    other.send(b"x", &[], false).unwrap();
    let mut seen: Vec<Token> = Vec::new();
    std::thread::scope(|scope| {
        let look = || {
            let mut events = Events::with_capacity(8);
            poll.wait(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().map(|event| event.token).collect::<Vec<_>>()
        };
        let threads = [scope.spawn(look), scope.spawn(look)];
        seen.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
    });
    assert_eq!(seen, [Token(7)]);
}

#[test]
fn a_waker_ends_another_threads_wait() {
    let _balance = Balance::new();
    let poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), Token(usize::MAX - 1)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| waker.wake().unwrap());
        let mut events = Events::with_capacity(8);
        while events.is_empty() {
            poll.wait(&mut events, None).unwrap();
        }
        assert_eq!(events.iter().next().unwrap().token, Token(usize::MAX - 1));
    });
    waker.wake().unwrap();
    waker.wake().unwrap();
    assert_eq!(ready(&poll).len(), 1);
    assert!(ready(&poll).is_empty());
}

#[test]
fn each_connection_is_an_edge_of_the_listener() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let listener = Listener::bind(&path, BindOptions::default()).unwrap();
    let poll = Poll::new().unwrap();
    poll.registry().add(&listener, Token(0), Interest::READABLE).unwrap();
    let _one = Stream::connect(&path, None).unwrap();
    let _two = Stream::connect(&path, None).unwrap();
    assert_eq!(ready(&poll).len(), 1, "two connections, one event: accept until EAGAIN");
    listener.accept().unwrap();
    assert!(ready(&poll).is_empty());
    listener.accept().unwrap();
    let _three = Stream::connect(&path, None).unwrap();
    assert_eq!(ready(&poll).len(), 1);
}

#[test]
fn a_blocked_signal_is_an_event() {
    let _balance = Balance::new();
    let signals = Signals::block(&[Signal::User1, Signal::Hangup]).unwrap();
    let poll = Poll::new().unwrap();
    poll.registry().add(&signals, Token(3), Interest::READABLE).unwrap();
    assert_eq!(signals.next().unwrap(), None);
    // To this thread: the others of this process have not blocked it.
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
    assert_eq!(ready(&poll)[0].token, Token(3));
    assert_eq!(signals.next().unwrap(), Some(Signal::User1));
    assert_eq!(signals.next().unwrap(), None, "twice the same is told once");
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
    assert_eq!(signals.next().unwrap(), Some(Signal::Hangup));
}

#[test]
fn a_child_inherits_the_signal_mask() {
    let _balance = Balance::new();
    let _signals = Signals::block(&[Signal::Terminate]).unwrap();
    let status =
        std::process::Command::new("cat").arg("/proc/self/status").output().unwrap().stdout;
    let status = String::from_utf8(status).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    assert_ne!(mask & (1 << (libc::SIGTERM - 1)), 0, "{mask:x}");
}
