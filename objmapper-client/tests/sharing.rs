//! "A shared descriptor will do": what goes out, what may come back, and the real daemon.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::Daemon;
use common::*;
use objmapper_client::{Answer, Client, Mode, Object, Opened, Request, Version};
use objmapper_proto::frame::Op;
use objmapper_proto::reply::Objects;
use objmapper_proto::word::flag;
use objmapper_proto::{Delivery, Item, ObjectHead, Reply, Request as Sent};
use std::fs::File;
use std::io::{Seek, SeekFrom};

/// An object by descriptor, shared or not.
fn arrives(shared: bool) -> Item<'static> {
    let flags = ObjectHead::CHECKED | if shared { ObjectHead::SHARED } else { 0 };
    item(ObjectHead { flags, ..head(Delivery::Descriptor, 5) })
}

/// The next request, which must have these flags.
fn flagged(peer: &mut Peer, op: Op, flags: u8) -> u64 {
    let asked = peer.request().unwrap();
    assert_eq!((asked.header.op, asked.header.flags), (op as u8, flags));
    match Sent::decode(asked.frame()).unwrap() {
        Sent::Get(get) => assert_eq!(get.shared, flags & flag::SHARED != 0),
        Sent::GetMany(many) => assert_eq!(many.shared, flags & flag::SHARED != 0),
        _ => (),
    }
    asked.header.id
}

#[test]
fn it_is_said_of_one_and_of_many_and_each_answer_says_what_it_is() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let content = file(b"12345");
        let only = &[borrow(&content)];
        for flags in [flag::SHARED, flag::SHARED, flag::SHARED | flag::IF_NONE_MATCH] {
            let id = flagged(&mut peer, Op::Get, flags);
            peer.reply(id, Reply::Object(arrives(true)), only);
        }
        let id = flagged(&mut peer, Op::Get, flag::SHARED);
        peer.reply(id, Reply::Object(arrives(false)), only);
        let id = flagged(&mut peer, Op::Get, 0);
        peer.reply(id, Reply::Object(arrives(false)), only);

        let id = flagged(&mut peer, Op::GetMany, flag::SHARED);
        let listed = items(&[arrives(true), arrives(false)]);
        let part = Objects::new(0, true, &listed).unwrap();
        peer.reply(id, Reply::Objects(part), &[borrow(&content), borrow(&content)]);
        let id = flagged(&mut peer, Op::GetMany, 0);
        let listed = items(&[arrives(false)]);
        peer.reply(id, Reply::Objects(Objects::new(0, true, &listed).unwrap()), only);
    });
    let shared = |opened: Opened| opened.metadata().is_shared();
    assert!(shared(client.open_shared("/x").unwrap()));
    let asked = Request::get("/x", Mode::Fdpass).shared();
    assert!(answered_shared(client.ask(asked).unwrap()));
    assert!(answered_shared(client.ask(asked.unless(Version(1))).unwrap()));
    assert!(!shared(client.open_shared("/x").unwrap()));
    assert!(!shared(client.open("/x").unwrap()));

    let many = client.open_many_shared(&["/x", "/y"]).into_iter();
    assert_eq!(many.map(|one| shared(one.unwrap())).collect::<Vec<_>>(), [true, false]);
    assert!(!shared(client.open_many(&["/x"]).remove(0).unwrap()));
    drop(client);
    peer.join().unwrap();
}

fn answered_shared(answer: Answer) -> bool {
    match answer {
        Answer::Object(Object::Descriptor(opened)) => opened.metadata().is_shared(),
        other => panic!("{other:?}"),
    }
}

/// Whoever did not ask goes by the descriptor's position.
#[test]
fn what_is_shared_and_was_not_asked_for_is_not_taken() {
    let expected = "others share it, and that was not asked for";
    let answer = |peer: &mut Peer, id| {
        peer.reply(id, Reply::Object(arrives(true)), &[borrow(&file(b"12345"))]);
    };
    lie(|client| client.open("/x"), answer, expected);
    lie(|client| client.get("/x", Mode::Auto), answer, expected);
    let answer = |peer: &mut Peer, id| {
        let listed = items(&[arrives(true)]);
        let part = Objects::new(0, true, &listed).unwrap();
        peer.reply(id, Reply::Objects(part), &[borrow(&file(b"12345"))]);
    };
    lie(|client| client.open_many(&["/x"]).remove(0), answer, expected);
    // Nor are bytes anybody's.
    let answer = |peer: &mut Peer, id| {
        let mut bytes = inline(b"12345");
        bytes.head.flags |= ObjectHead::SHARED;
        peer.reply(id, Reply::Object(bytes), &[]);
    };
    lie(|client| client.ask(Request::get("/x", Mode::Copy).shared()), answer, expected);
}

/// A daemon with two objects that are old enough to be shared.
fn daemon() -> Option<(Daemon, Client)> {
    let daemon = Daemon::start()?;
    let mut client = daemon.client();
    for (name, content) in [("a", "first"), ("b", "second")] {
        daemon.put(name, content.as_bytes());
        let uri = format!("/{name}");
        // A file that changed a moment ago has a version that is never given again.
        let mut version = || client.stat(&uri).unwrap().version();
        while version() != version() {
            std::thread::yield_now();
        }
    }
    Some((daemon, client))
}

fn position(mut file: &File) -> u64 {
    file.stream_position().unwrap()
}

#[test]
fn the_daemon_gives_one_description_to_all_who_ask() {
    let _no_leak = no_leak();
    let Some((daemon, mut client)) = daemon() else { return };
    let uris = ["/a", "/none", "/b"];
    let mut first = client.open_many_shared(&uris);
    assert!(first.remove(1).unwrap_err().is_not_found());
    let first: Vec<Opened> = first.into_iter().map(Result::unwrap).collect();
    assert!(first.iter().all(|opened| opened.metadata().is_shared()));

    let mut other = daemon.builder().out_of_order(true).connect().unwrap();
    let mut pipeline = other.pipeline().unwrap();
    pipeline.queue(Request::get("/a", Mode::Fdpass).shared().ordered()).unwrap();
    pipeline.queue(Request::get("/a", Mode::Fdpass).ordered()).unwrap();
    pipeline.queue(Request::get("/a", Mode::Copy).shared().ordered()).unwrap();
    let mut answers = pipeline.map(|(_, answer)| match answer {
        Ok(Answer::Object(object)) => object,
        other => panic!("{other:?}"),
    });
    let mut opened = || match answers.next() {
        Some(Object::Descriptor(opened)) => opened,
        other => panic!("{other:?}"),
    };
    let (shared, private) = (opened(), opened());
    assert!(shared.metadata().is_shared() && !private.metadata().is_shared());
    let Some(Object::Bytes(bytes, metadata)) = answers.next() else { panic!() };
    assert_eq!((&bytes[..], metadata.is_shared()), (&b"first"[..], false));

    // One position, and a read that does not go by it.
    assert_eq!(shared.read_to_vec().unwrap(), b"first");
    let (mut shared, private) = (shared.into_file(), private.into_file());
    shared.seek(SeekFrom::Start(3)).unwrap();
    let mut first = first.into_iter();
    assert_eq!(position(&first.next().unwrap().into_file()), 3);
    assert_eq!((position(&private), position(&first.next().unwrap().into_file())), (0, 0));
}
