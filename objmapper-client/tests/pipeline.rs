//! Many requests under way: neither side waits for the other for ever, and every request gets its
//! own answer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use objmapper_client::{Answer, Error, Mode};
use objmapper_proto::{Delivery, Reply, Request, Status};

/// Answers every GET with 4 KiB inline and every STAT with metadata, one at a time: as long as an
/// answer cannot be sent, no request is read.
fn answer_in_order(mut peer: Peer) -> usize {
    let body = [7; 4096];
    let mut count = 0;
    while let Some(asked) = peer.request() {
        let reply = match Request::decode(asked.frame()) {
            Ok(Request::Get(get)) if get.uri.starts_with(b"/no") => {
                Reply::Object(refused(Status::NotFound, "nothing there"))
            }
            Ok(Request::Get(_)) => Reply::Object(inline(&body)),
            Ok(Request::Stat(_)) => Reply::Object(item(head(Delivery::None, 4096))),
            Ok(Request::Ping(bytes)) => Reply::Pong(bytes),
            other => panic!("{other:?}"),
        };
        peer.reply(asked.header.id, reply, &[]);
        count += 1;
    }
    count
}

#[test]
fn a_long_pipeline_does_not_lock_up() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|peer| assert_eq!(answer_in_order(peer), 20_000));
    let mut pipeline = client.pipeline().unwrap();
    let mut numbers = std::collections::VecDeque::new();
    for i in 0..20_000 {
        let uri = format!("/{}/{i}", if i % 1000 == 0 { "no" } else { "yes" });
        numbers.push_back(match i % 3 {
            0 => pipeline.get(&uri, Mode::Auto).unwrap(),
            1 => pipeline.stat(&uri).unwrap(),
            _ => pipeline.get(&uri, Mode::Copy).unwrap(),
        });
        if i % 7 == 0 {
            pipeline.flush().unwrap(); // many small sends, nobody reads
        }
    }
    assert_eq!(pipeline.unanswered(), 20_000);
    for (i, (number, answer)) in pipeline.by_ref().enumerate() {
        assert_eq!(Some(number), numbers.pop_front());
        match answer {
            Ok(Answer::Metadata(metadata)) => assert_eq!((i % 3, metadata.size()), (1, 4096)),
            Ok(Answer::Object(object)) => {
                assert_ne!(i % 3, 1);
                assert_eq!(object.into_bytes().unwrap().len(), 4096);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(error.is_not_found() && i % 1000 == 0, "{error}");
                assert_eq!(error.to_string(), format!("/no/{i}: NOT_FOUND: nothing there"));
            }
        }
    }
    assert!(numbers.is_empty());
    assert!(pipeline.next().is_none());
    drop(client);
    peer.join().unwrap();
}

#[test]
fn what_a_dropped_pipeline_leaves_behind_disturbs_nobody() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|peer| assert_eq!(answer_in_order(peer), 12));
    let mut pipeline = client.pipeline().unwrap();
    for i in 0..10 {
        pipeline.get(&format!("/{i}"), Mode::Copy).unwrap();
    }
    assert!(pipeline.next().unwrap().1.is_ok());
    for i in 10..500 {
        pipeline.get(&format!("/{i}"), Mode::Copy).unwrap(); // never sent
    }
    drop(pipeline);
    client.ping().unwrap();
    assert_eq!(client.read("/x").unwrap().len(), 4096);
    drop(client);
    peer.join().unwrap();
}

#[test]
fn every_request_of_a_broken_pipeline_gets_a_result() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        peer.reply(id, Reply::Object(inline(b"x")), &[]);
        peer.request().unwrap();
    });
    let mut pipeline = client.pipeline().unwrap();
    for i in 0..5000 {
        pipeline.get(&format!("/{i}"), Mode::Copy).unwrap();
    }
    let results: Vec<_> = pipeline.map(|(_, result)| result).collect();
    assert_eq!(results.len(), 5000);
    assert!(results[0].is_ok());
    assert!(results[1..].iter().all(|r| matches!(r, Err(Error::Closed { .. }))));
    peer.join().unwrap();
}
