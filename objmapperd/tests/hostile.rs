//! Peers that do not keep to the protocol: one bad habit for each test. It ends the bad peer's
//! connection at most; a neighbour is served before, meanwhile and afterwards, and in the end the
//! daemon has as many descriptors and threads as at the start (see `support::daemon`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::File;
use std::os::fd::AsFd;

use objmapper_os::errno;
use objmapper_os::socket::refuse_descriptors;
use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{
    Get, GetMany, Header, Hello, Mode, Op, Range, Reply, Request, Status, limits,
};
use support::content::{Numbers, content};
use support::daemon::{Daemon, counter};
use support::neighbour::Neighbour;
use support::peer::{Peer, uri_list};
use support::{skip, until};

/// A daemon with a neighbour.
fn town() -> (Daemon, Neighbour) {
    let daemon = Daemon::start();
    let neighbour = Neighbour::of(&daemon);
    (daemon, neighbour)
}

/// Nothing is left of the bad peers; the neighbour is still there, and somebody new is welcome.
#[track_caller]
fn all_is_well(daemon: &Daemon, neighbour: &mut Neighbour) {
    daemon.settles_with(1);
    neighbour.check_anew(daemon);
}

fn a_get(peer: &mut Peer, mode: Mode, uri: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let get = Get::new(mode, Range::ALL, uri.as_bytes());
    peer.encode(Request::Get(get), &mut bytes);
    bytes
}

/// The fields of a header, out of reach of the encoder.
fn header(length: u32, op: u8, flags: u8, fds: u16, id: u64) -> Vec<u8> {
    Header { length, op, flags, fds, id }.encode().to_vec()
}

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
fn half_frames() {
    let (daemon, mut neighbour) = town();
    let mut peers: Vec<Peer> = (0..20).map(|_| daemon.greeted()).collect();
    let whole = a_get(&mut peers[0], Mode::Copy, "/neighbour/small");
    for (number, peer) in peers.iter().enumerate() {
        // Half a header, half a payload, and a long promise.
        peer.send(&whole[..=number * 2]);
        let promise = u32::try_from(limits::REQUEST_PAYLOAD).unwrap();
        daemon.greeted().send(&header(promise, Op::GetMany as u8, 0, 0, 9));
    }
    neighbour.check();
    // A pause between the bytes of a frame means nothing.
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send(&whole[1 + number * 2..]);
        assert_eq!(peer.object(2).bytes, content(300, 1));
        peer.send(&whole[..whole.len() - 1]);
    }
    drop(peers);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn one_byte_at_a_time() {
    let (daemon, mut neighbour) = town();
    let mut peer = daemon.peer();
    let mut bytes = peer.hello(Hello::default());
    bytes.extend(a_get(&mut peer, Mode::Copy, "/neighbour/small"));
    bytes.extend(a_get(&mut peer, Mode::Fdpass, "/neighbour/small"));
    for byte in bytes {
        peer.send(&[byte]);
        // It was read, alone, before the next one goes.
        until("the byte was read", || peer.stream.unread().unwrap() == 0);
    }
    peer.acknowledged();
    assert_eq!(peer.object(2).bytes, content(300, 1));
    assert!(peer.object(3).file.is_some());
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn disconnects_at_every_byte_of_a_hello() {
    let (daemon, mut neighbour) = town();
    let whole = daemon.peer().hello(Hello::default());
    for length in 0..=whole.len() {
        daemon.peer().send(&whole[..length]);
        // And one that only stops sending: it is told nothing, and let go.
        let mut peer = daemon.peer();
        peer.send(&whole[..length]);
        peer.stream.shutdown_write().unwrap();
        if length == whole.len() {
            peer.acknowledged();
        }
        peer.expect_end();
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn disconnects_at_every_byte_of_a_get() {
    let (daemon, mut neighbour) = town();
    for mode in Mode::ALL {
        let uri = "/neighbour/large";
        let whole = a_get(&mut daemon.greeted(), mode, uri);
        for length in 0..=whole.len() {
            daemon.greeted().send(&whole[..length]);
            let mut peer = daemon.greeted();
            peer.send(&whole[..length]);
            peer.stream.shutdown_write().unwrap();
            if length == whole.len() {
                assert_eq!(peer.object(2).status(), Status::Ok);
            }
            peer.expect_end();
        }
        neighbour.check();
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn disconnects_at_every_stage_of_an_answer() {
    let (daemon, mut neighbour) = town();
    let uris = uri_list(&vec!["/neighbour/small"; 600]);
    for mode in Mode::ALL {
        for frames in 0..6 {
            let mut peer = daemon.greeted();
            let many = GetMany::new(mode, &uris).unwrap();
            peer.request(Request::GetMany(many));
            let body = a_get(&mut peer, mode, "/neighbour/large");
            peer.send(&body);
            for _ in 0..frames {
                peer.frame();
            }
        }
        neighbour.check();
    }
    all_is_well(&daemon, &mut neighbour);
}

/// What a greeted peer that sends these bytes is told before its connection ends.
#[track_caller]
fn dismissed(daemon: &Daemon, bytes: &[u8]) -> (Status, String) {
    let mut peer = daemon.greeted();
    peer.send(bytes);
    peer.expect_dismissal()
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
    assert_eq!((ack.capabilities, ack.version), (OUT_OF_ORDER, 1));
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

#[test]
fn descriptors_that_are_declared_and_do_not_come() {
    let (daemon, mut neighbour) = town();
    for fds in [1, 253, u16::MAX] {
        let (status, text) = dismissed(&daemon, &header(0, Op::Ping as u8, 0, fds, 2));
        assert_eq!(status, Status::UnexpectedDescriptor);
        assert!(text.contains("takes none"), "{text}");
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn descriptors_that_nobody_asked_for() {
    let (daemon, mut neighbour) = town();
    let null = File::open("/dev/null").unwrap();
    let refused = objmapper_os::probe::features().refuse_descriptors;
    for (count, declared) in [(1, 0), (1, 1), (253, 0)] {
        let fds = vec![null.as_fd(); count];
        for mut peer in [daemon.peer(), daemon.greeted()] {
            let bytes = header(0, Op::Ping as u8, 0, declared, 2);
            if let Err(error) = peer.send_with(&bytes, &fds) {
                assert!(refused && error.errno() == errno::EPERM, "{error}");
            } else {
                // The kernel lets them through: they are closed, and the peer may be sent away.
                assert!(!refused);
                peer.stream.shutdown_write().unwrap();
                while peer.frame_or_end().is_some() {}
            }
            neighbour.check();
        }
    }
    daemon.settles_with(1);
    if !refused {
        skip("this kernel cannot refuse descriptors: only checked that none stays open");
    }
    // Who tried once and was refused is served like anybody.
    let mut peer = daemon.greeted();
    if refused {
        peer.send_with(b"x", &[null.as_fd()]).unwrap_err();
        peer.ping();
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn one_who_asks_for_descriptors_and_refuses_them() {
    let (daemon, mut neighbour) = town();
    for asked in 1..4 {
        let mut peer = daemon.greeted();
        if !refuse_descriptors(peer.as_fd()).unwrap() {
            return skip("this kernel cannot refuse descriptors");
        }
        // At once: the connection ends at the first reply that cannot be sent.
        let gets = (0..asked).map(|_| a_get(&mut peer, Mode::Fdpass, "/neighbour/small"));
        let gets = gets.collect::<Vec<_>>().concat();
        peer.send(&gets);
        peer.expect_end();
        neighbour.check();
    }
    all_is_well(&daemon, &mut neighbour);
}

/// Fills the way to the daemon with requests and reads nothing, until no more can be sent.
/// Returns how many bytes went out.
fn flood(peer: &mut Peer, request: &[u8]) -> usize {
    peer.stream.set_nonblocking(true).unwrap();
    let batch = request.repeat(64 * 1024 / request.len());
    let (mut sent, mut full) = (0, 0);
    // Full for good: many tries later there is still no room.
    until("the daemon stops reading", || {
        match peer.stream.send(&batch[sent % request.len()..], &[], false) {
            Ok(n) => (sent, full) = (sent + n, 0),
            Err(error) if error.is_would_block() => full += 1,
            Err(error) => panic!("{error}"),
        }
        full == 200
    });
    sent
}

#[test]
fn a_huge_pipeline_that_is_never_read() {
    /// Both sides' buffers, what one turn reads, and slack: no more than this is taken in.
    const MOST: usize = 8 << 20;
    let (daemon, mut neighbour) = town();
    let mut ping = Vec::new();
    Request::Ping(&[0; 1000]).encode(2, &mut ping);
    let misses = a_get(&mut daemon.greeted(), Mode::Copy, "/there/is/no/such/file");
    let hits = a_get(&mut daemon.greeted(), Mode::Copy, "/neighbour/small");
    for request in [ping, misses, hits] {
        let mut peers: Vec<Peer> = (0..3).map(|_| daemon.greeted()).collect();
        for peer in &mut peers {
            let sent = flood(peer, &request);
            assert!(sent < MOST, "{sent} bytes of requests were taken in unanswered");
            neighbour.check();
        }
        neighbour.check_anew(&daemon);
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_large_copy_that_is_never_read() {
    let (daemon, mut neighbour) = town();
    let huge = File::create(daemon.path("huge")).unwrap();
    huge.set_len(1 << 32).unwrap();
    for mode in [Mode::Copy, Mode::Splice] {
        let before = counter(&mut neighbour.client, "transfer.bodies");
        let peers: Vec<Peer> = (0..10)
            .map(|_| {
                let mut peer = daemon.greeted();
                let bytes = a_get(&mut peer, mode, "/huge");
                peer.send(&bytes);
                peer
            })
            .collect();
        until("all bodies are under way", || {
            counter(&mut neighbour.client, "transfer.bodies") == before + 10
        });
        neighbour.check_anew(&daemon);
        // Nobody spins for them: at rest nothing but our own asking is counted.
        until("the daemon is at rest", || {
            let turns = counter(&mut neighbour.client, "pool.turns");
            counter(&mut neighbour.client, "pool.turns") <= turns + 1
        });
        drop(peers);
        daemon.settles_with(1);
    }
    all_is_well(&daemon, &mut neighbour);
}

/// The file becomes shorter, longer, or other while its body is half out: END says so, and the
/// stream of frames goes on.
fn changed_meanwhile(mode: Mode, change: fn(&File)) {
    let (daemon, mut neighbour) = town();
    let path = daemon.write("large", &content(32 << 20, 5));
    let file = File::options().write(true).open(path).unwrap();
    let mut peer = daemon.greeted();
    let mut bytes = a_get(&mut peer, mode, "/large");
    bytes.extend(a_get(&mut peer, mode, "/neighbour/small"));
    peer.send(&bytes);
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    let announced = item.head.range.length;
    assert_eq!(announced, 32 << 20);
    // The head is here, the rest does not fit into the socket.
    change(&file);
    let (_, end) = peer.body(2, announced);
    assert_eq!(end, Status::Changed);
    assert_eq!(peer.object(3).bytes, content(300, 1));
    assert_eq!(counter(&mut neighbour.client, "transfer.changed"), 1);
    // And in the midst of many.
    let answers = peer.get_many(mode, &["/large", "/neighbour/small"]);
    assert!(answers.iter().all(|answer| answer.end == Status::Ok));
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_file_that_is_truncated_while_it_is_copied() {
    changed_meanwhile(Mode::Copy, |file| file.set_len(1_000_001).unwrap());
}

#[test]
fn a_file_that_is_emptied_while_it_is_spliced() {
    changed_meanwhile(Mode::Splice, |file| file.set_len(0).unwrap());
}

#[test]
fn a_file_that_grows_while_it_is_copied() {
    changed_meanwhile(Mode::Copy, |file| file.set_len(40 << 20).unwrap());
}

#[test]
fn a_file_that_is_overwritten_while_it_is_spliced() {
    changed_meanwhile(Mode::Splice, |file| {
        std::os::unix::fs::FileExt::write_all_at(file, b"other", 31 << 20).unwrap();
    });
}
