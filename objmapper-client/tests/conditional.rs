//! "Not if it still is this version": what goes out, what may come back, and the real daemon.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::Daemon;
use common::*;
use objmapper_client::{Answer, Client, Mode, Object, Request, Version};
use objmapper_proto::frame::Op;
use objmapper_proto::reply::{End, ErrorReply, Objects};
use objmapper_proto::word::flag;
use objmapper_proto::{Delivery, Reply, Request as Sent, Status};

const KNOWN: Version = Version(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

/// The next request, which must be a GET that names the known version.
fn conditional(peer: &mut Peer, mode: Mode) -> u64 {
    let asked = peer.request().unwrap();
    assert_eq!((asked.header.op, asked.header.flags), (Op::Get as u8, flag::IF_NONE_MATCH));
    let Ok(Sent::Get(get)) = Sent::decode(asked.frame()) else { panic!() };
    assert_eq!((get.unless, get.mode, get.uri), (Some(KNOWN), mode, &b"/x"[..]));
    asked.header.id
}

#[test]
fn what_is_current_is_not_sent() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        for mode in [Mode::Fdpass, Mode::Auto, Mode::Copy, Mode::Splice, Mode::Copy] {
            let id = conditional(&mut peer, mode);
            peer.reply(id, Reply::Object(not_modified(KNOWN)), &[]);
        }
        let id = conditional(&mut peer, Mode::Fdpass);
        let newer = Reply::Object(item(head(Delivery::Descriptor, 5)));
        peer.reply(id, newer, &[borrow(&file(b"newer"))]);
        let id = conditional(&mut peer, Mode::Copy);
        peer.reply(id, Reply::Object(inline(b"newer")), &[]);
        let id = conditional(&mut peer, Mode::Copy);
        peer.reply(id, Reply::Object(refused(Status::NotFound, "gone")), &[]);
    });
    assert!(client.open_unless("/x", KNOWN).unwrap().is_none());
    assert!(client.get_unless("/x", Mode::Auto, KNOWN).unwrap().is_none());
    let mut out = Vec::new();
    assert_eq!(client.transfer("/x").copy_to_unless(KNOWN, &mut out).unwrap(), None);
    let (_reader, writer) = std::io::pipe().unwrap();
    assert_eq!(client.transfer("/x").splice_to_unless(KNOWN, &writer).unwrap(), None);
    let asked = Request::get("/x", Mode::Copy).unless(KNOWN);
    let Ok(Answer::NotModified(metadata)) = client.ask(asked) else { panic!() };
    assert_eq!((metadata.version(), metadata.size()), (KNOWN, 5));

    let opened = client.open_unless("/x", KNOWN).unwrap().expect("it is another version");
    assert_eq!(opened.read_to_vec().unwrap(), b"newer");
    assert_eq!(client.transfer("/x").copy_to_unless(KNOWN, &mut out).unwrap(), Some(5));
    assert_eq!(out, b"newer");
    let error = client.get_unless("/x", Mode::Copy, KNOWN).unwrap_err();
    assert_eq!(error.to_string(), "/x: NOT_FOUND: gone");
    drop(client);
    peer.join().unwrap();
}

#[test]
fn a_pipeline_tells_them_apart() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = conditional(&mut peer, Mode::Fdpass);
        peer.reply(id, Reply::Object(not_modified(KNOWN)), &[]);
        let id = conditional(&mut peer, Mode::Copy);
        peer.reply(id, Reply::Object(inline(b"newer")), &[]);
        peer.pong();
    });
    let mut pipeline = client.pipeline().unwrap();
    for mode in [Mode::Fdpass, Mode::Copy] {
        pipeline.queue(Request::get("/x", mode).unless(KNOWN)).unwrap();
    }
    pipeline.queue(Request::ping()).unwrap();
    let answers: Vec<_> = pipeline.by_ref().map(|(_, answer)| answer.unwrap()).collect();
    let [Answer::NotModified(_), Answer::Object(Object::Bytes(bytes, _)), Answer::Pong] =
        &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(bytes, b"newer");
    drop(client);
    peer.join().unwrap();
}

#[test]
fn nobody_is_told_unasked_that_nothing_changed() {
    let unasked = |peer: &mut Peer, id| peer.reply(id, Reply::Object(not_modified(KNOWN)), &[]);
    lie(|client| client.open("/x"), unasked, "nothing was said to be known");
    lie(|client| client.read("/x"), unasked, "nothing was said to be known");
    lie(|client| client.stat("/x"), unasked, "nothing was said to be known");
    let one_of_many = |peer: &mut Peer, id| {
        let one = items(&[not_modified(KNOWN)]);
        peer.reply(id, Reply::Objects(Objects::new(0, true, &one).unwrap()), &[]);
    };
    let many = |client: &mut Client| client.open_many(&["/x"]).pop().unwrap();
    lie(many, one_of_many, "nothing was said to be known");
    let queued = |client: &mut Client| {
        let mut pipeline = client.pipeline().unwrap();
        pipeline.get("/x", Mode::Auto).unwrap();
        pipeline.next().unwrap().1
    };
    lie(queued, unasked, "nothing was said to be known");
}

#[test]
fn what_is_not_modified_is_that_version_and_does_not_come() {
    let open = |client: &mut Client| client.open_unless("/x", KNOWN);
    let answer = |item: objmapper_proto::Item<'static>, descriptor: bool| {
        move |peer: &mut Peer, id| {
            let file = file(b"x");
            let fds = [borrow(&file)];
            peer.reply(id, Reply::Object(item), if descriptor { &fds } else { &[] });
        }
    };
    lie(open, answer(not_modified(Version(KNOWN.0 + 1)), false), "another version than");
    let mut streamed = not_modified(KNOWN);
    streamed.head.delivery = Delivery::Stream;
    lie(open, answer(streamed, false), "comes all the same");
    let mut inline = not_modified(KNOWN);
    inline.inline = b"bytes";
    lie(open, answer(inline, false), "comes all the same");
    let mut descriptor = not_modified(KNOWN);
    descriptor.head.delivery = Delivery::Descriptor;
    lie(open, answer(descriptor, true), "do not agree");
    lie(open, answer(not_modified(KNOWN), true), "do not agree");
}

#[test]
fn it_is_no_refusal_and_no_end() {
    for status in [Status::NotModified, Status::Ok] {
        let error = ErrorReply { status, retry_after_ms: 0, text: "" };
        lie(
            |client| client.open_unless("/x", KNOWN),
            move |peer, id| peer.reply(id, Reply::Error(error), &[]),
            "a status that is no refusal",
        );
    }
    lie(
        |client| client.read("/x"),
        |peer, id| {
            peer.reply(id, Reply::Object(item(head(Delivery::Stream, 1))), &[]);
            peer.reply(id, Reply::Data(b"x"), &[]);
            let end = End { status: Status::NotModified, length: 1, text: "" };
            peer.reply(id, Reply::End(end), &[]);
        },
        "a status that is no refusal",
    );
}

/// As a cache does it, with a daemon that is one.
#[test]
fn a_cache_learns_what_is_current() {
    let _no_leak = no_leak();
    let Some(daemon) = Daemon::start() else { return };
    daemon.put("x", b"old");
    let mut client = daemon.client();
    let kept = settled(&mut client, "/x");
    let version = kept.metadata().version();
    assert!(client.open_unless("/x", version).unwrap().is_none());
    for mode in [Mode::Auto, Mode::Fdpass, Mode::Copy, Mode::Splice] {
        assert!(client.get_unless("/x", mode, version).unwrap().is_none(), "{mode}");
    }
    let mut pipeline = client.pipeline().unwrap();
    pipeline.queue(Request::get("/x", Mode::Fdpass).unless(version)).unwrap();
    assert!(matches!(pipeline.next(), Some((_, Ok(Answer::NotModified(_))))));
    daemon.put("x", b"new and longer");
    let newer = client.open_unless("/x", version).unwrap().expect("it has changed");
    assert_eq!(newer.read_to_vec().unwrap(), b"new and longer");
    assert_ne!(newer.metadata().version(), version);
    std::fs::remove_file(daemon.dir().join("root/x")).unwrap();
    assert!(client.open_unless("/x", version).unwrap_err().is_not_found());
}

/// The object, once its version is one that is given again: a tick of the clock after it was
/// written.
fn settled(client: &mut Client, uri: &str) -> objmapper_client::Opened {
    loop {
        let (first, second) = (client.open(uri).unwrap(), client.open(uri).unwrap());
        if first.metadata().version() == second.metadata().version() {
            return second;
        }
    }
}
