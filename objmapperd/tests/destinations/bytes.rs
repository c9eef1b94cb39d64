//! What arrives in a destination, and in which order what is said of it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use objmapper_client::{Answer, Client, Mode, Request as Asked};
use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{Delivery, Get, Range, Reply, Request, Status, Version};

use crate::scene::{LARGE, ask, begun, destinations, drain, ended, passer, scene, scene_with};
use crate::support::PATIENCE;
use crate::support::content::content;
use crate::support::daemon::{Setup, settle};

#[test]
fn pipes_and_stream_sockets_get_the_bytes() {
    for options in ["", "strict = true\n"] {
        let (daemon, mut client) = scene_with(Setup::default().root_options(options));
        let large = content(LARGE, 1);
        for (what, reader, to) in destinations(&daemon) {
            let received = drain(reader);
            assert_eq!(client.send_to("/large", .., &to).unwrap(), LARGE as u64, "{what}");
            assert_eq!(client.send_to("/large", 7..1000, &to).unwrap(), 993, "{what}");
            assert_eq!(client.send_to("/empty", .., &to).unwrap(), 0, "{what}");
            assert_eq!(client.send_to("/small", 5.., &to).unwrap(), 0, "{what}");
            assert_eq!(client.send_to("/small", .., &to).unwrap(), 5, "{what}");
            drop(to);
            let expected = [&large, &large[7..1000], b"small"].concat();
            assert!(received.join().unwrap() == expected, "{what}, {options}");
        }
        assert_eq!(client.read("/small").unwrap(), b"small");
    }
}

#[test]
fn the_end_is_told_when_the_daemon_has_let_go() {
    let (_daemon, mut client) = scene();
    for _ in 0..50 {
        let (mut reader, writer) = std::io::pipe().unwrap();
        client.send_to("/small", .., &writer).unwrap();
        drop(writer);
        // Would wait for ever if anybody else could still write.
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"small");
    }
}

#[test]
fn several_at_once_where_that_was_agreed_on() {
    let (daemon, _client) = scene();
    let mut peer = passer(&daemon, OUT_OF_ORDER);
    let (stalled, into_stalled) = std::io::pipe().unwrap();
    let first = ask(&mut peer, "/large", &into_stalled);
    begun(&mut peer, first);
    let (reader, writer) = UnixStream::pair().unwrap();
    let received = drain(reader);
    let second = ask(&mut peer, "/other", &writer);
    begun(&mut peer, second);
    // A body over the connection itself, beside both.
    let third = peer.request(Request::Get(Get::new(Mode::Splice, Range::ALL, b"/large")));
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    while ends.len() < 2 {
        let frame = peer.frame();
        match frame.reply() {
            Reply::Data(piece) => bytes.extend_from_slice(piece),
            Reply::End(end) => ends.push((frame.header.id, end.status, end.length)),
            Reply::Object(item) => assert_eq!(item.head.delivery, Delivery::Stream),
            other => panic!("{other:?}"),
        }
    }
    ends.sort_unstable_by_key(|end| end.0);
    let whole = |id| (id, Status::Ok, LARGE as u64);
    assert_eq!(ends, [whole(second), whole(third)]);
    assert!(bytes == content(LARGE, 1));
    drop(writer);
    assert!(received.join().unwrap() == content(LARGE, 2));
    peer.ping();
    // CLOSE says what is still to come.
    let close = peer.request(Request::Close);
    let frame = peer.frame();
    assert_eq!((frame.header.id, frame.reply()), (close, Reply::CloseAck(1)));
    drop(into_stalled);
    let received = drain(stalled);
    assert_eq!(ended(&mut peer, first), (Status::Ok, LARGE as u64, String::new()));
    peer.expect_end();
    assert!(received.join().unwrap() == content(LARGE, 1));
}

#[test]
fn a_pipeline_of_them() {
    for out_of_order in [false, true] {
        let (daemon, _) = scene();
        let builder = Client::builder().path(daemon.socket()).timeout(PATIENCE);
        let mut client =
            builder.pass_descriptors(true).out_of_order(out_of_order).connect().unwrap();
        let mut pipeline = client.pipeline().unwrap();
        let mut readers = Vec::new();
        // More than one message may carry, more than may be under way.
        for n in 0..40_u64 {
            let (reader, writer) = std::io::pipe().unwrap();
            readers.push(drain(reader));
            pipeline.send_to("/large", n..n + 100_000, &writer).unwrap();
            if n % 10 == 0 {
                pipeline.queue(Asked::get("/small", Mode::Copy)).unwrap();
            }
        }
        let mut sent = 0;
        for (_, answer) in &mut pipeline {
            match answer.unwrap() {
                Answer::Sent(metadata) => {
                    assert_eq!(metadata.size(), LARGE as u64);
                    sent += 1;
                }
                other => assert!(matches!(other, Answer::Object(_)), "{other:?}"),
            }
        }
        assert_eq!(sent, 40);
        let large = content(LARGE, 1);
        for (n, reader) in readers.into_iter().enumerate() {
            assert!(reader.join().unwrap() == large[n..n + 100_000], "{n}");
        }
    }
}

#[test]
fn a_change_that_is_seen_is_told() {
    for options in ["", "strict = true\n"] {
        let (daemon, _client) = scene_with(Setup::default().root_options(options));
        let mut peer = passer(&daemon, 0);
        let (reader, writer) = std::io::pipe().unwrap();
        let id = ask(&mut peer, "/large", &writer);
        begun(&mut peer, id);
        let file = File::options().write(true).open(daemon.path("large")).unwrap();
        file.set_len(1_000_000).unwrap();
        let received = drain(reader);
        let (status, length, text) = ended(&mut peer, id);
        assert_eq!(status, Status::Changed, "{text}");
        drop(writer);
        assert_eq!(received.join().unwrap().len() as u64, length);
        peer.ping();
    }
}

#[test]
fn what_the_client_has_is_not_sent() {
    let (daemon, mut client) = scene();
    settle(&mut client, "/large");
    let Version(version) = client.stat("/large").unwrap().version();
    let mut peer = passer(&daemon, 0);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut bytes = Vec::new();
    let get = Get::new(Mode::Splice, Range::ALL, b"/large");
    let get = Get { to: true, unless: Some(Version(version)), ..get };
    peer.encode(Request::Get(get), &mut bytes);
    peer.send_with(&bytes, &[writer.as_fd()]).unwrap();
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!((item.head.status, item.head.delivery), (Status::NotModified, Delivery::None));
    peer.ping();
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}
