//! Frames that make no sense.

use objmapper_proto::hello::{OUT_OF_ORDER, PASS_FDS};
use objmapper_proto::{Get, GetMany, Hello, Mode, Op, Range, Reply, Request, Status, limits};

use crate::support::content::{Numbers, content};
use crate::support::peer::uri_list;
use crate::town::{a_get, all_is_well, dismissed, header, town};

#[test]
fn random_bytes() {
    let (daemon, mut neighbour) = town();
    let mut numbers = Numbers::new(1);
    for round in 0..300 {
        let mut peer = if round % 2 == 0 { daemon.peer() } else { daemon.greeted() };
        let length = 1 + numbers.below(3000);
        let mut bytes = numbers.bytes(length);
        if round % 4 < 2 {
            // Lengths that can be: whole frames of nonsense.
            for at in (0..bytes.len().saturating_sub(16)).step_by(48) {
                bytes[at..at + 4].copy_from_slice(&32_u32.to_le_bytes());
                bytes[at + 5..at + 8].fill(0);
            }
        }
        // The daemon may have had enough before all of it is sent.
        let _ = peer.try_send(&bytes);
        peer.stream.shutdown_write().unwrap();
        while let Some(frame) = peer.frame_or_end() {
            let refusal = matches!(frame.reply(), Reply::Error(_));
            let answer =
                matches!(frame.reply(), Reply::Pong(_) | Reply::Stats(_) | Reply::CloseAck(_));
            assert!(refusal || answer, "{frame:?}");
        }
        if round % 50 == 0 {
            neighbour.check();
        }
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_sound_conversation_with_one_byte_wrong() {
    let (daemon, mut neighbour) = town();
    let mut numbers = Numbers::new(2);
    for _ in 0..400 {
        let mut peer = daemon.peer();
        let mut bytes = peer.hello(Hello::default());
        let uris = uri_list(&["/neighbour/small", "/missing"]);
        for request in [
            Request::Get(Get::new(Mode::Copy, Range::ALL, b"/neighbour/small")),
            Request::GetMany(GetMany::new(Mode::Copy, &uris).unwrap()),
            Request::Stat(b"/neighbour/large"),
            Request::Ping(b"x"),
        ] {
            peer.encode(request, &mut bytes);
        }
        let at = numbers.below(bytes.len());
        bytes[at] ^= 1 << numbers.below(8);
        let _ = peer.try_send(&bytes);
        peer.stream.shutdown_write().unwrap();
        // Whatever it means now: frames come, and then the end.
        while peer.frame_or_end().is_some() {}
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn frames_that_are_too_long() {
    let (daemon, mut neighbour) = town();
    let most = u32::try_from(limits::REQUEST_PAYLOAD).unwrap();
    for length in [most + 1, 1 << 30, u32::MAX] {
        for op in [Op::Get as u8, Op::Ping as u8, 0x7f] {
            // Seen as soon as the header is there.
            let (status, text) = dismissed(&daemon, &header(length, op, 0, 0, 2));
            assert_eq!(status, Status::FrameTooLarge);
            assert!(text.contains(&length.to_string()) && text.contains("262144"), "{text}");
        }
    }
    let mut peer = daemon.peer();
    peer.send(&header(most + 1, Op::Hello as u8, 0, 0, 1));
    assert_eq!(peer.expect_dismissal().0, Status::FrameTooLarge);
    // As long as it may be, and nonsense: an answer, and the connection goes on.
    let mut peer = daemon.greeted();
    let mut bytes = header(most, Op::GetMany as u8, 0, 0, 2);
    bytes.resize(16 + limits::REQUEST_PAYLOAD, 0xff);
    peer.send(&bytes);
    assert_eq!(peer.object(2).status(), Status::Unsupported);
    peer.ping();
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_second_hello_and_none_at_all() {
    let (daemon, mut neighbour) = town();
    let hello = daemon.peer().hello(Hello::default());
    assert_eq!(dismissed(&daemon, &hello).0, Status::HelloExpected);

    let mut ping = Vec::new();
    Request::Ping(b"").encode(1, &mut ping);
    for first in [ping, header(0, 0x7f, 0, 0, 1), header(0, Op::Close as u8, 0, 0, 1)] {
        let mut peer = daemon.peer();
        peer.send(&first);
        assert_eq!(peer.expect_dismissal().0, Status::HelloExpected);
    }
    // What was asked before the breach may be answered; what comes behind it is not.
    let mut peer = daemon.greeted();
    let mut bytes = a_get(&mut peer, Mode::Copy, "/neighbour/small");
    bytes.extend(&hello);
    bytes.extend(a_get(&mut peer, Mode::Copy, "/neighbour/small"));
    peer.send(&bytes);
    assert_eq!(peer.object(2).bytes, content(300, 1));
    assert_eq!(peer.expect_dismissal().0, Status::HelloExpected);
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_hello_that_makes_no_sense() {
    let (daemon, mut neighbour) = town();
    let good = Hello::default();
    let told = |hello: Hello| {
        let mut peer = daemon.peer();
        let bytes = peer.hello(hello);
        peer.send(&bytes);
        peer.expect_dismissal().0
    };
    let least = u32::try_from(limits::REPLY_PAYLOAD_MIN).unwrap();
    assert_eq!(told(Hello { version_min: 2, version_max: 9, ..good }), Status::BadVersion);
    assert_eq!(told(Hello { version_min: 0, version_max: 0, ..good }), Status::BadVersion);
    assert_eq!(told(Hello { max_payload: least - 1, ..good }), Status::BadFrame);
    assert_eq!(told(Hello { max_descriptors: 0, ..good }), Status::BadFrame);
    assert_eq!(told(Hello { max_descriptors: 254, ..good }), Status::BadFrame);

    let mut bytes = daemon.peer().hello(good);
    bytes[16] = b'X';
    let mut peer = daemon.peer();
    peer.send(&bytes);
    let (status, text) = peer.expect_dismissal();
    assert_eq!(status, Status::BadMagic);
    assert!(text.contains("this is not OBJM"), "{text}");

    let mut peer = daemon.peer();
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(peer.expect_dismissal().0, Status::FrameTooLarge);

    // More than this version knows is no mistake.
    let mut peer = daemon.peer();
    let more = Hello { capabilities: u64::MAX, version_max: 7, max_payload: u32::MAX, ..good };
    let ack = peer.greet_with(more);
    assert_eq!((ack.capabilities, ack.version), (OUT_OF_ORDER | PASS_FDS, 1));
    assert_eq!(peer.get(Mode::Copy, b"/neighbour/large", Range::ALL).bytes, content(700_000, 2));
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn requests_that_make_no_sense() {
    let (daemon, mut neighbour) = town();
    let mut peer = daemon.greeted();
    let get = a_get(&mut peer, Mode::Copy, "/neighbour/small");
    let with = |at: usize, byte: u8| {
        let mut bytes = get.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, status, words) in [
        (with(4, 0x55), Status::Unsupported, "operation 0x55 is not offered"),
        (with(4, 0x10), Status::Unsupported, "operation 0x10 is not offered"),
        (with(4, 0x82), Status::Unsupported, "operation 0x82 is not offered"),
        (with(4, 0), Status::Unsupported, "operation 0x00 is not offered"),
        (with(5, 1), Status::Unsupported, "send 0"),
        (with(5, 0x80), Status::Unsupported, "send 0"),
        (with(16, 4), Status::Unsupported, "mode 4 does not exist"),
        (with(18, 1), Status::BadRequest, "malformed GET"),
        (with(4, Op::GetMany as u8), Status::BadRequest, "malformed GET_MANY"),
        (with(4, Op::List as u8), Status::BadRequest, "malformed LIST"),
        (with(4, Op::Stats as u8), Status::BadRequest, "has no payload"),
        (with(4, Op::Close as u8), Status::BadRequest, "has no payload"),
        (header(0, Op::Get as u8, 0, 0, 2), Status::BadRequest, "malformed GET"),
        (header(0, Op::GetMany as u8, 0, 0, 2), Status::BadRequest, "malformed GET_MANY"),
        (header(0, Op::Stat as u8, 0, 0, 2), Status::BadUri, "the URI is empty"),
    ] {
        peer.send(&bytes);
        let answer = peer.object(2);
        assert_eq!(answer.status(), status, "{}", answer.text);
        assert!(answer.text.contains(words), "{}", answer.text);
        peer.ping();
    }
    // Reserved bytes are ignored.
    peer.send(&with(17, 0xff));
    assert_eq!(peer.object(2).bytes, content(300, 1));
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn an_id_that_is_not_the_clients_to_use() {
    let (daemon, mut neighbour) = town();
    assert_eq!(dismissed(&daemon, &header(0, Op::Ping as u8, 0, 0, 0)).0, Status::BadFrame);
    // The same id twice, and the largest, are the client's own business.
    let mut peer = daemon.greeted();
    for id in [7, 7, u64::MAX] {
        peer.send(&header(0, Op::Ping as u8, 0, 0, id));
    }
    for id in [7, 7, u64::MAX] {
        assert_eq!(peer.frame().header.id, id);
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}
