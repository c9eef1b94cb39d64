//! Answers that overtake bodies, from the real daemon.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::Daemon;
use common::*;
use objmapper_client::{Answer, Client, Mode, Object, Request, Result};

/// More than two sockets hold.
const LARGE: usize = 16 << 20;

fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| seed.wrapping_add((at / 7 % 251).to_le_bytes()[0])).collect()
}

fn scene() -> Option<(Daemon, Client)> {
    let daemon = Daemon::start()?;
    daemon.put("a", &content(1, LARGE));
    daemon.put("b", &content(2, LARGE));
    daemon.put("half", &content(3, LARGE / 2));
    daemon.put("small", b"small");
    let client = daemon.builder().out_of_order(true).connect().unwrap();
    assert!(client.is_out_of_order());
    Some((daemon, client))
}

#[test]
fn a_ping_overtakes_a_body() {
    let _no_leak = no_leak();
    let Some((_daemon, mut client)) = scene() else { return };
    let mut pipeline = client.pipeline().unwrap();
    let body = pipeline.queue(A).unwrap();
    for _ in 0..10 {
        let ping = pipeline.queue(Request::ping()).unwrap();
        let (number, answer) = pipeline.next().unwrap();
        assert!(number == ping && matches!(answer, Ok(Answer::Pong)), "{number}: {answer:?}");
    }
    let (number, answer) = pipeline.next().unwrap();
    assert_eq!(number, body);
    assert!(bytes(answer) == content(1, LARGE));
    client.close().unwrap();
}

#[test]
fn bodies_take_turns_and_descriptors_pass_between() {
    let _no_leak = no_leak();
    let Some((_daemon, mut client)) = scene() else { return };
    let file = Request::get("/small", Mode::Fdpass);
    let answers = ask_all(&mut client, &[A, get("/half"), file, get("/none")]);
    let places: Vec<usize> = answers.iter().map(|answer| answer.0).collect();
    assert_eq!(places, [2, 3, 1, 0], "the shorter body is out before the longer one");
    for (place, answer) in answers {
        match (place, answer) {
            (0, answer) => assert!(bytes(answer) == content(1, LARGE)),
            (1, answer) => assert!(bytes(answer) == content(3, LARGE / 2)),
            (2, Ok(Answer::Object(Object::Descriptor(opened)))) => {
                assert_eq!(opened.read_to_vec().unwrap(), b"small");
            }
            (_, answer) => assert!(answer.unwrap_err().is_not_found()),
        }
    }
}

#[test]
fn what_is_ordered_waits_and_what_is_urgent_goes_first() {
    let _no_leak = no_leak();
    let Some((_daemon, mut client)) = scene() else { return };
    let order = |answers: Vec<(usize, Result<Answer>)>| -> Vec<usize> {
        answers.into_iter().map(|(place, answer)| answer.map(|_| place).unwrap()).collect()
    };
    let ordered = [A, Request::ping().ordered(), Request::ping()];
    assert_eq!(order(ask_all(&mut client, &ordered)), [0, 1, 2]);
    assert_eq!(order(ask_all(&mut client, &[A, B.priority()])), [1, 0]);
    assert_eq!(order(ask_all(&mut client, &[A, B])), [0, 1]);
}

#[test]
fn goodbye_does_not_wait_for_bodies() {
    let _no_leak = no_leak();
    let Some((_daemon, mut client)) = scene() else { return };
    let mut pipeline = client.pipeline().unwrap();
    for asked in [A, B, Request::ping()] {
        pipeline.queue(asked).unwrap();
    }
    assert!(matches!(pipeline.next(), Some((_, Ok(Answer::Pong)))), "both have begun");
    drop(pipeline);
    client.close().unwrap(); // the daemon's count of what is still to come is ours
}

#[test]
fn a_pipeline_that_is_dropped_leaves_nothing_in_the_way() {
    let _no_leak = no_leak();
    let Some((_daemon, mut client)) = scene() else { return };
    for _ in 0..3 {
        let mut pipeline = client.pipeline().unwrap();
        for asked in [A, B, get("/half"), Request::get("/small", Mode::Fdpass), Request::ping()] {
            pipeline.queue(asked).unwrap();
        }
        assert!(pipeline.next().unwrap().1.is_ok());
        drop(pipeline);
        assert_eq!(client.read("/small").unwrap(), b"small");
    }
    assert!(client.read("/a").unwrap() == content(1, LARGE));
    assert!(client.read_many(&["/half", "/small"]).iter().all(Result::is_ok));
    // And nothing of what is asked for now is thrown away.
    for (place, answer) in ask_all(&mut client, &[A, B]) {
        assert!(bytes(answer) == content(if place == 0 { 1 } else { 2 }, LARGE));
    }
}

#[test]
fn many_of_all_kinds_with_and_without_waiting() {
    let _no_leak = no_leak();
    let Some((daemon, mut client)) = scene() else { return };
    daemon.put("body", &content(9, 300_000));
    for wait in [true, false] {
        let mut pipeline = client.pipeline().unwrap();
        let kinds = [get("/body"), Request::get("/small", Mode::Fdpass), Request::stat("/none")];
        let first = pipeline.queue(kinds[0]).unwrap();
        for n in 1..900 {
            pipeline.queue(kinds[n % 3]).unwrap();
        }
        let mut seen = vec![false; 900];
        while pipeline.unanswered() > 0 {
            let next = if wait { pipeline.next() } else { pipeline.try_next() };
            let Some((number, answer)) = next else {
                std::thread::yield_now();
                continue;
            };
            let n = usize::try_from(number - first).unwrap();
            assert!(!std::mem::replace(&mut seen[n], true), "{n} is answered twice");
            match n % 3 {
                0 => assert!(bytes(answer) == content(9, 300_000)),
                1 => assert_eq!(bytes(answer), b"small"),
                _ => assert!(answer.unwrap_err().is_not_found()),
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
