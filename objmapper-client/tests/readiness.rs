//! A pipeline that never waits: for programs that wait for many things at a time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::{Daemon, long_body};
use common::*;
use objmapper_client::{Answer, Error, Mode, Object};
use objmapper_os::poll::{Events, Interest, Poll, Token};
use objmapper_proto::reply::End;
use objmapper_proto::{Delivery, Reply, Status};

fn encoded(id: u64, replies: &[Reply<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for reply in replies {
        reply.encode(id, 0, &mut bytes);
    }
    bytes
}

fn body(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// An object of seven bytes in two DATA frames.
fn streamed(id: u64) -> Vec<u8> {
    encoded(
        id,
        &[
            Reply::Object(item(head(Delivery::Stream, 7))),
            Reply::Data(b"abcd"),
            Reply::Data(b"efg"),
            Reply::End(End { status: Status::Ok, length: 7, text: "" }),
        ],
    )
}

#[test]
fn every_byte_is_waited_for_elsewhere() {
    let _no_leak = no_leak();
    let (mut client, mut peer) = alone(0);
    let mut pipeline = client.pipeline().unwrap();
    for _ in 0..3 {
        pipeline.get("/x", Mode::Copy).unwrap();
    }
    pipeline.stat("/y").unwrap();
    assert!(pipeline.try_next().is_none());
    let ids: Vec<u64> = (0..4).map(|_| peer.request().unwrap().header.id).collect();
    let answers = [
        streamed(ids[0]),
        encoded(ids[1], &[Reply::Object(inline(b"in place"))]),
        encoded(ids[2], &[Reply::Object(refused(Status::NotFound, "none"))]),
        encoded(ids[3], &[Reply::Object(item(head(Delivery::None, 9)))]),
    ];
    let mut results = Vec::new();
    for (answer, id) in answers.iter().zip(&ids) {
        let (last, before) = answer.split_last().unwrap();
        for byte in before {
            peer.raw(&[*byte], &[]);
            assert!(pipeline.try_next().is_none());
        }
        peer.raw(&[*last], &[]);
        let (number, result) = pipeline.try_next().expect("all of it has arrived");
        assert_eq!(number, *id);
        results.push(result);
    }
    assert_eq!(pipeline.unanswered(), 0);
    assert!(pipeline.try_next().is_none());
    let bytes = |result: &objmapper_client::Result<Answer>| match result {
        Ok(Answer::Object(Object::Bytes(bytes, _))) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes(&results[0]), b"abcdefg");
    assert_eq!(bytes(&results[1]), b"in place");
    assert!(results[2].as_ref().unwrap_err().is_not_found());
    assert!(matches!(&results[3], Ok(Answer::Metadata(metadata)) if metadata.size() == 9));
}

#[test]
fn a_descriptor_waits_for_its_frame() {
    let _no_leak = no_leak();
    let (mut client, mut peer) = alone(0);
    let mut pipeline = client.pipeline().unwrap();
    pipeline.get("/x", Mode::Fdpass).unwrap();
    assert!(pipeline.try_next().is_none());
    let id = peer.request().unwrap().header.id;
    let mut bytes = Vec::new();
    Reply::Object(item(head(Delivery::Descriptor, 4))).encode(id, 1, &mut bytes);
    let file = file(b"four");
    peer.raw(&bytes[..1], &[borrow(&file)]);
    assert!(pipeline.try_next().is_none());
    peer.raw(&bytes[1..], &[]);
    let Some((_, Ok(Answer::Object(object)))) = pipeline.try_next() else { panic!() };
    assert_eq!(object.into_bytes().unwrap(), b"four");
}

/// Wherever an answer is cut, whoever waits for the rest or throws it away goes on from there.
#[test]
fn waiting_goes_on_where_looking_stopped() {
    let _no_leak = no_leak();
    let length = streamed(0).len();
    for cut in 0..length {
        for wait in [true, false] {
            let (mut client, mut peer) = alone(0);
            let mut pipeline = client.pipeline().unwrap();
            pipeline.get("/x", Mode::Copy).unwrap();
            pipeline.flush().unwrap();
            let id = peer.request().unwrap().header.id;
            let answer = streamed(id);
            peer.raw(&answer[..cut], &[]);
            assert!(pipeline.try_next().is_none());
            peer.raw(&answer[cut..], &[]);
            if wait {
                let (_, result) = pipeline.next().unwrap();
                let Ok(Answer::Object(object)) = result else { panic!("{cut}: {result:?}") };
                assert_eq!(object.into_bytes().unwrap(), body(&[b"abcd", b"efg"]));
            } else {
                drop(pipeline);
            }
            let peer = std::thread::spawn(move || {
                peer.pong();
            });
            client.ping().unwrap();
            peer.join().unwrap();
        }
    }
}

#[test]
fn the_end_of_the_connection_is_a_result_for_each() {
    let _no_leak = no_leak();
    let (mut client, mut peer) = alone(0);
    let mut pipeline = client.pipeline().unwrap();
    for _ in 0..3 {
        pipeline.get("/x", Mode::Copy).unwrap();
    }
    assert!(pipeline.socket().is_some() && pipeline.try_next().is_none());
    let answer = streamed(peer.request().unwrap().header.id);
    peer.raw(&answer[..answer.len() / 2], &[]);
    assert!(pipeline.try_next().is_none());
    drop(peer);
    for _ in 0..3 {
        let (_, result) = pipeline.try_next().unwrap();
        assert!(matches!(result, Err(Error::Closed { .. })), "{result:?}");
    }
    assert_eq!(pipeline.unanswered(), 0);
    assert!(pipeline.try_next().is_none() && pipeline.socket().is_none());
}

/// Two connections in one epoll instance, edge-triggered, with bodies larger than any buffer.
#[test]
fn two_pipelines_in_one_thread() {
    let _no_leak = no_leak();
    let Some(daemon) = Daemon::start() else { return };
    let content = long_body();
    daemon.put("large", &content);
    daemon.put("small", b"small");
    let mut clients = [daemon.client(), daemon.client()];
    let mut pipelines = clients.each_mut().map(|client| client.pipeline().unwrap());
    let poll = Poll::new().unwrap();
    for (at, pipeline) in pipelines.iter_mut().enumerate() {
        poll.registry().add(pipeline.socket().unwrap(), Token(at), Interest::READABLE).unwrap();
        for _ in 0..5 {
            pipeline.get("/large", Mode::Splice).unwrap();
            pipeline.get("/small", Mode::Fdpass).unwrap();
            pipeline.stat("/none").unwrap();
        }
    }
    let mut events = Events::with_capacity(2);
    let mut answers = [0, 0];
    let mut ready = vec![0, 1];
    while answers != [15, 15] {
        for at in ready.drain(..) {
            while let Some((_, answer)) = pipelines[at].try_next() {
                match answers[at] % 3 {
                    0 => {
                        let Ok(Answer::Object(object)) = answer else { panic!("{answer:?}") };
                        assert!(object.into_bytes().unwrap() == content);
                    }
                    1 => {
                        let Ok(Answer::Object(object)) = answer else { panic!("{answer:?}") };
                        assert_eq!(object.into_bytes().unwrap(), b"small");
                    }
                    _ => assert!(answer.unwrap_err().is_not_found()),
                }
                answers[at] += 1;
            }
        }
        if answers != [15, 15] {
            poll.wait(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "an edge is missing: {answers:?}");
            ready.extend(events.iter().map(|event| event.token.0));
        }
    }
}
