//! A daemon that lies about what is in an answer: bodies, items of many, names. The client says so,
//! closes the connection, never gives out an answer that is not one, and keeps no descriptor.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use objmapper_client::{Client, Error};
use objmapper_proto::frame::{Header, Op};
use objmapper_proto::reply::{End, Entries, Entry, Objects};
use objmapper_proto::{Delivery, Kind, Range, Reply, Status, limits};
use std::io::Write;
use std::os::fd::AsFd;

fn reading(answer: impl FnOnce(&mut Peer, u64) + Send + 'static, expected: &str) {
    lie(|client| client.read("/x"), answer, expected);
}

fn opening_two(answer: impl FnOnce(&mut Peer, u64) + Send + 'static, expected: &'static str) {
    let ask = |client: &mut Client| {
        let mut results = client.open_many(&["/1", "/2"]);
        assert_eq!(results.len(), 2);
        assert!(results.pop().unwrap().is_err(), "nothing comes after the end");
        results.pop().unwrap()
    };
    lie(ask, answer, expected);
}

// Bodies.

fn streamed(peer: &mut Peer, id: u64, size: u64) {
    peer.reply(id, Reply::Object(item(head(Delivery::Stream, size))), &[]);
}

fn end(status: Status, length: u64) -> Reply<'static> {
    Reply::End(End { status, length, text: "" })
}

#[test]
fn a_body_that_is_longer_than_announced() {
    reading(
        |peer, id| {
            streamed(peer, id, 5);
            peer.reply(id, Reply::Data(b"123"), &[]);
            peer.reply(id, Reply::Data(b"456"), &[]);
        },
        "longer than was announced",
    );
}

#[test]
fn a_body_that_is_shorter_than_announced() {
    reading(
        |peer, id| {
            streamed(peer, id, 5);
            peer.reply(id, Reply::Data(b"123"), &[]);
            peer.reply(id, end(Status::Ok, 3), &[]);
        },
        "shorter than was announced",
    );
}

#[test]
fn a_body_that_goes_where_nobody_asked_for() {
    reading(
        |peer, id| {
            peer.reply(id, Reply::Object(item(head(Delivery::Destination, 3))), &[]);
            peer.reply(id, end(Status::Ok, 3), &[]);
        },
        "a form that was not asked for",
    );
}

#[test]
fn an_end_that_counts_wrong() {
    reading(
        |peer, id| {
            streamed(peer, id, 3);
            peer.reply(id, Reply::Data(b"123"), &[]);
            peer.reply(id, end(Status::Ok, 4), &[]);
        },
        "not what came",
    );
}

#[test]
fn an_announced_size_takes_no_memory() {
    reading(
        |peer, id| {
            streamed(peer, id, u64::MAX);
            peer.reply(id, Reply::Data(b"123"), &[]);
            peer.reply(id, end(Status::Ok, 3), &[]);
        },
        "shorter than was announced",
    );
}

#[test]
fn a_piece_that_is_too_large() {
    reading(
        |peer, id| {
            streamed(peer, id, 1 << 20);
            peer.reply(id, Reply::Data(&vec![0; limits::DATA_PAYLOAD + 1]), &[]);
        },
        "over this side's limit",
    );
}

#[test]
fn a_piece_of_another_body() {
    reading(
        |peer, id| {
            streamed(peer, id, 3);
            peer.reply(id + 1, Reply::Data(b"123"), &[]);
        },
        "does not belong to the body",
    );
}

#[test]
fn something_else_in_the_middle_of_a_body() {
    reading(
        |peer, id| {
            streamed(peer, id, 3);
            peer.reply(id, Reply::Pong(b""), &[]);
        },
        "neither DATA nor END",
    );
}

#[test]
fn an_inline_body_that_is_not_as_long_as_its_range() {
    reading(
        |peer, id| {
            let mut item = inline(b"abc");
            item.head.size = 4;
            item.head.range.length = 4;
            peer.reply(id, Reply::Object(item), &[]);
        },
        "not as many as its range says",
    );
}

#[test]
fn another_range_than_the_one_that_was_asked_for() {
    lie(
        |client| client.read_range("/x", 10..20),
        |peer, id| {
            let mut item = inline(b"abc");
            item.head.size = 100;
            item.head.range = Range { offset: 0, length: 3 };
            peer.reply(id, Reply::Object(item), &[]);
        },
        "not the one that was asked for",
    );
}

#[test]
fn the_end_in_the_middle_of_a_body() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        streamed(&mut peer, id, 1000);
        peer.raw(&Header::new(Op::Data, id, 1000, 0).encode(), &[]);
        peer.raw(&[1; 500], &[]);
    });
    let mut got = Vec::new();
    let error = client.copy_to("/x", &mut got).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    assert!(matches!(client.ping(), Err(Error::Closed { .. })));
    peer.join().unwrap();
}

// Many.

#[test]
fn items_that_are_not_the_next_ones() {
    let part = |first, last, count: usize| {
        move |peer: &mut Peer, id| {
            let all = items(&vec![refused(Status::NotFound, ""); count]);
            peer.reply(id, Reply::Objects(Objects::new(first, last, &all).unwrap()), &[]);
        }
    };
    opening_two(part(1, true, 1), "not the next ones");
    opening_two(part(0, true, 3), "not the next ones");
    opening_two(part(0, true, 0), "last part");
    opening_two(part(0, false, 0), "last part");
    opening_two(part(0, false, 2), "last part");
}

#[test]
fn fewer_descriptors_than_items() {
    let two = || items(&[item(head(Delivery::Descriptor, 1)), item(head(Delivery::Descriptor, 1))]);
    opening_two(
        move |peer, id| {
            let all = two();
            let objects = Objects::new(0, true, &all).unwrap();
            peer.reply(id, Reply::Objects(objects), &[borrow(&file(b"x"))]);
        },
        "did not come",
    );
    opening_two(
        move |peer, id| {
            let all = two();
            let mut bytes = Vec::new();
            Reply::Objects(Objects::new(0, true, &all).unwrap()).encode(id, 1, &mut bytes);
            let file = file(b"x");
            peer.raw(&bytes, &[borrow(&file), borrow(&file)]);
        },
        "do not agree",
    );
}

#[test]
fn a_body_before_other_items() {
    let ask = |client: &mut Client| client.read_many(&["/1", "/2"]).remove(0);
    lie(
        ask,
        |peer, id| {
            let all = items(&[item(head(Delivery::Stream, 1)), inline(b"x")]);
            peer.reply(id, Reply::Objects(Objects::new(0, true, &all).unwrap()), &[]);
        },
        "not the last",
    );
}

// Listings.

#[test]
fn names_that_are_none() {
    for name in
        [&b"a\x1b[2J"[..], b"..", b"", b"a b", b"%41", b"a//b", b"a/b", b"../../etc/passwd", b"/"]
    {
        let ask = |client: &mut Client| client.list("/dir")?.next().unwrap();
        lie(
            ask,
            move |peer, id| {
                let mut raw = Vec::new();
                Entry { kind: Kind::File, size: 1, mtime_ns: 0, name }.encode(&mut raw);
                peer.reply(id, Reply::Entries(Entries::new(b"", &raw).unwrap()), &[]);
            },
            "a name is not",
        );
    }
}

#[test]
fn a_kind_that_does_not_fit_the_name() {
    for (kind, name) in [(Kind::File, &b"a/"[..]), (Kind::Prefix, b"a")] {
        lie(
            |client: &mut Client| client.list("/dir")?.next().unwrap(),
            move |peer, id| {
                let mut raw = Vec::new();
                Entry { kind, size: 1, mtime_ns: 0, name }.encode(&mut raw);
                peer.reply(id, Reply::Entries(Entries::new(b"", &raw).unwrap()), &[]);
            },
            "not both",
        );
    }
}

#[test]
fn a_listing_in_a_circle() {
    lie(
        |client: &mut Client| client.list("/dir")?.next().unwrap(),
        |peer, id| {
            peer.reply(id, Reply::Entries(Entries::new(b"on", b"").unwrap()), &[]);
            let id = peer.request().unwrap().header.id;
            peer.reply(id, Reply::Entries(Entries::new(b"on", b"").unwrap()), &[]);
        },
        "the same page again",
    );
}

#[test]
fn more_names_than_asked_for() {
    lie(
        |client| client.list("/dir")?.page_size(1).next().unwrap(),
        |peer, id| {
            let mut raw = Vec::new();
            for name in [b"a", b"b"] {
                Entry { kind: Kind::File, size: 1, mtime_ns: 0, name }.encode(&mut raw);
            }
            peer.reply(id, Reply::Entries(Entries::new(b"next", &raw).unwrap()), &[]);
        },
        "more of them than were asked for",
    );
}

#[test]
fn an_output_that_fails_closes_the_connection() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        streamed(&mut peer, id, 3);
        peer.reply(id, Reply::Data(b"123"), &[]);
        peer.reply(id, end(Status::Ok, 3), &[]);
        peer.listen();
    });
    let error = client.copy_to("/x", &mut Full).unwrap_err();
    assert!(matches!(error, Error::Output(_)) && !error.is_daemon_fault(), "{error:?}");
    assert!(matches!(client.ping(), Err(Error::Closed { .. })));
    peer.join().unwrap();
}

#[test]
fn a_pipe_without_a_reader() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        streamed(&mut peer, id, 3);
        peer.reply(id, Reply::Data(b"123"), &[]);
        peer.reply(id, end(Status::Ok, 3), &[]);
        peer.listen();
    });
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let error = client.splice_to("/x", writer.as_fd()).unwrap_err();
    assert!(matches!(&error, Error::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe));
    assert!(matches!(client.ping(), Err(Error::Closed { .. })));
    peer.join().unwrap();
}
