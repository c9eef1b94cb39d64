//! A daemon that lies, one lie per test: frames that are none, descriptors that do not fit, the end
//! at the wrong time. The client says so, closes the connection and keeps no descriptor.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use objmapper_client::{Client, Error, Mode};
use objmapper_proto::frame::{Header, Op};
use objmapper_proto::reply::{ErrorReply, Objects};
use objmapper_proto::{Delivery, HelloAck, Reply, Status, limits};
use std::time::{Duration, Instant};

fn opening(answer: impl FnOnce(&mut Peer, u64) + Send + 'static, expected: &str) {
    lie(|client| client.open("/x"), answer, expected);
}

fn reading(answer: impl FnOnce(&mut Peer, u64) + Send + 'static, expected: &str) {
    lie(|client| client.read("/x"), answer, expected);
}

// Frames that are none.

#[test]
fn a_length_beyond_all_bounds() {
    let header = Header::new(Op::Object, 2, u32::MAX, 0).encode();
    opening(move |peer, _| peer.raw(&header, &[]), "over this side's limit");
}

#[test]
fn an_op_that_does_not_exist() {
    let mut header = Header::new(Op::Object, 2, 0, 0).encode();
    header[4] = 0x77;
    opening(move |peer, _| peer.raw(&header, &[]), "no reply of version 1");
}

#[test]
fn a_request_as_an_answer() {
    opening(
        |peer, id| peer.raw(&Header::new(Op::Get, id, 0, 0).encode(), &[]),
        "no reply of version 1",
    );
}

#[test]
fn flags_that_nobody_agreed_on() {
    opening(
        |peer, id| {
            let mut header = Header::new(Op::Object, id, 0, 0).encode();
            header[5] = 1;
            peer.raw(&header, &[]);
        },
        "flags that were not agreed on",
    );
}

#[test]
fn a_frame_that_is_too_short_inside() {
    opening(
        |peer, id| {
            peer.raw(&Header::new(Op::Object, id, 10, 0).encode(), &[]);
            peer.raw(&[0; 10], &[]);
        },
        "malformed OBJECT",
    );
}

#[test]
fn the_end_in_the_middle_of_a_frame() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        peer.raw(&Header::new(Op::Object, id, 64, 1).encode(), &[borrow(&file(b""))]);
    });
    let error = client.open("/x").unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    peer.join().unwrap();
}

#[test]
fn an_answer_to_somebody_else() {
    opening(
        |peer, id| peer.reply(id + 1, Reply::Object(item(head(Delivery::Inline, 0))), &[]),
        "another request than the oldest",
    );
}

#[test]
fn an_answer_of_the_wrong_kind() {
    opening(|peer, id| peer.reply(id, Reply::Pong(b""), &[]), "does not answer a GET");
    lie(
        Client::ping,
        |peer, id| peer.reply(id, Reply::Pong(b"something else"), &[]),
        "does not answer what was asked",
    );
}

// Descriptors.

#[test]
fn a_declared_descriptor_that_does_not_come() {
    opening(
        |peer, id| {
            let mut bytes = Vec::new();
            Reply::Object(item(head(Delivery::Descriptor, 1))).encode(id, 1, &mut bytes);
            peer.raw(&bytes, &[]);
        },
        "did not come",
    );
}

#[test]
fn a_descriptor_that_no_header_declares() {
    opening(
        |peer, id| {
            let mut bytes = Vec::new();
            Reply::Object(item(head(Delivery::Descriptor, 1))).encode(id, 0, &mut bytes);
            peer.raw(&bytes, &[borrow(&file(b"x"))]);
        },
        "do not agree",
    );
}

#[test]
fn more_descriptors_than_declared() {
    opening(
        |peer, id| {
            let mut bytes = Vec::new();
            Reply::Object(item(head(Delivery::Descriptor, 1))).encode(id, 1, &mut bytes);
            let file = file(b"x");
            peer.raw(&bytes, &[borrow(&file), borrow(&file), borrow(&file)]);
        },
        "no frame declares them",
    );
}

#[test]
fn a_descriptor_where_none_was_asked_for() {
    let with_one = |peer: &mut Peer, id| {
        let file = file(b"x");
        peer.reply(id, Reply::Object(item(head(Delivery::Descriptor, 1))), &[borrow(&file)]);
    };
    lie(|client| client.stat("/x"), with_one, "a form that was not asked for");
    reading(with_one, "a form that was not asked for");
    let on_a_pong = |peer: &mut Peer, id| {
        peer.raw(&Header::new(Op::Pong, id, 0, 1).encode(), &[borrow(&file(b"x"))]);
    };
    lie(Client::ping, on_a_pong, "do not agree");
}

#[test]
fn a_descriptor_with_a_refusal() {
    opening(
        |peer, id| {
            let item = refused(Status::NotFound, "but here is one");
            peer.reply(id, Reply::Object(item), &[borrow(&file(b"x"))]);
        },
        "do not agree",
    );
    opening(
        |peer, id| {
            let refusal = ErrorReply { status: Status::Denied, retry_after_ms: 0, text: "" };
            peer.reply(id, Reply::Error(refusal), &[borrow(&file(b"x"))]);
        },
        "no frame declares them",
    );
}

#[test]
fn an_unannounced_descriptor_behind_a_good_answer() {
    lie(
        Client::ping,
        |peer, id| {
            let mut bytes = Vec::new();
            Reply::Pong(b"are you there").encode(id, 0, &mut bytes);
            peer.raw(&bytes, &[borrow(&file(b"x"))]);
        },
        "no frame declares them",
    );
}

#[test]
fn a_flood_of_descriptors() {
    opening(
        |peer, id| {
            let file = file(b"x");
            let many = vec![borrow(&file); limits::DESCRIPTORS];
            // A frame that never ends, a message full of descriptors with every byte of it.
            peer.raw(&Header::new(Op::Object, id, 500, 1).encode(), &many);
            for _ in 0..40 {
                peer.raw(&[0], &many);
            }
        },
        "more are waiting than any frame may declare",
    );
}

/// Runs in a process of its own with few descriptors, see below.
#[test]
#[ignore = "started by the next test with a limit on descriptors"]
fn at_the_limit_of_descriptors() {
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        let file = file(b"x");
        let many = vec![borrow(&file); 60];
        let mut items = Vec::new();
        for _ in 0..60 {
            item(head(Delivery::Descriptor, 1)).encode(&mut items);
        }
        peer.reply(id, Reply::Objects(Objects::new(0, true, &items).unwrap()), &many);
        peer.listen();
    });
    let before = objmapper_os::fds::count_open().unwrap();
    let uris: Vec<String> = (0..60).map(|i| format!("/{i}")).collect();
    let results = client.open_many(&uris);
    assert_eq!(results.len(), 60);
    assert!(matches!(results.first(), Some(Err(Error::DescriptorsLost))), "{results:?}");
    assert!(matches!(results.last(), Some(Err(Error::Closed { .. }))));
    peer.join().unwrap();
    // Ours, the peer's and its file are closed.
    assert!(objmapper_os::fds::count_open().unwrap() < before);
}

#[test]
fn descriptors_that_this_process_may_not_have() {
    let _no_leak = no_leak();
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" --exact at_the_limit_of_descriptors --ignored"])
        .arg(program)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

// The end, silence, and what is not the daemon's fault.

#[test]
fn a_last_word_is_heard() {
    let last = ErrorReply { status: Status::Stopping, retry_after_ms: 0, text: "back at noon" };
    opening(move |peer, _| peer.reply(0, Reply::Error(last), &[]), "STOPPING: back at noon");
    // Also when it was said before the question.
    let _no_leak = no_leak();
    let (mut client, peer) = against(move |mut peer| peer.reply(0, Reply::Error(last), &[]));
    peer.join().unwrap();
    let error = client.open("/x").unwrap_err();
    assert_eq!(error.status(), Some(Status::Stopping));
    assert!(matches!(error, Error::Ended { .. }) && error.may_retry());
}

#[test]
fn silence() {
    let _no_leak = no_leak();
    let patience = Duration::from_millis(50);
    let start = Instant::now();
    let (client, peer) = against_raw(patience, |mut peer| {
        peer.greet();
        let id = peer.request().unwrap().header.id;
        peer.raw(&Header::new(Op::Object, id, 64, 0).encode(), &[]);
        peer.listen();
    });
    let mut client = client.unwrap();
    assert!(matches!(client.open("/x"), Err(Error::Timeout)));
    assert!(start.elapsed() >= patience && start.elapsed() < PATIENCE);
    // The answer may still come: nobody would take it for the answer to this.
    assert!(matches!(client.open("/y"), Err(Error::Closed { .. })));
    peer.join().unwrap();
    let (client, peer) = against_raw(patience, |mut peer| peer.listen());
    assert!(matches!(client, Err(Error::Timeout)));
    peer.join().unwrap();
}

#[test]
fn a_greeting_that_is_none() {
    let _no_leak = no_leak();
    let greeting = |expected: &str, bytes: Vec<u8>| {
        let (client, peer) = against_raw(PATIENCE, move |mut peer| {
            peer.request().unwrap();
            peer.raw(&bytes, &[]);
        });
        let text = client.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        peer.join().unwrap();
    };
    let encoded = |ack: HelloAck, id| {
        let mut bytes = Vec::new();
        ack.encode(id, &mut bytes);
        bytes
    };
    greeting("flags that were not agreed on", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    greeting("closed it", Vec::new());
    greeting("OBJM version 1 only", encoded(HelloAck { version: 2, ..ack() }, 1));
    greeting("not offered", encoded(HelloAck { capabilities: 1, ..ack() }, 1));
    greeting("no room", encoded(HelloAck { max_payload: 100, ..ack() }, 1));
    greeting("does not answer the HELLO", encoded(ack(), 9));
    let mut bytes = Vec::new();
    Reply::Pong(b"").encode(1, 0, &mut bytes);
    greeting("HELLO must be the first", bytes);
    let mut bytes = Vec::new();
    let busy = ErrorReply { status: Status::Busy, retry_after_ms: 0, text: "1024 connections" };
    Reply::Error(busy).encode(0, 0, &mut bytes);
    greeting("BUSY: 1024 connections", bytes);
}

#[test]
fn what_is_no_uri_is_not_sent() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| peer.pong());
    for uri in ["", "a/b", "/a b", "/../x"] {
        let error = client.get(uri, Mode::Auto).unwrap_err();
        assert!(matches!(error, Error::Uri { .. }), "{error:?}");
    }
    client.ping().unwrap();
    peer.join().unwrap();
}
