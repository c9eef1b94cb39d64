//! What goes out for each call, and what comes of the answer, against bytes written by hand.
//!
//! How a daemon behaves is not tested here, only what the client makes of what one says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use objmapper_client::{Error, Mode, Object, Status};
use objmapper_proto::reply::{End, Entries, Entry, ErrorReply, Objects};
use objmapper_proto::{Delivery, Kind, Range, Reply, Request, limits};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};

#[test]
fn open_gives_the_descriptor_close_on_exec() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let asked = peer.request().unwrap();
        let Ok(Request::Get(get)) = Request::decode(asked.frame()) else { panic!() };
        assert_eq!((get.mode, get.range, get.uri), (Mode::Fdpass, Range::ALL, &b"/a~b"[..]));
        let reply = Reply::Object(item(head(Delivery::Descriptor, 5)));
        peer.reply(asked.header.id, reply, &[borrow(&file(b"hello"))]);
    });
    let object = client.open("/%61~b").unwrap(); // sent in its normal form
    assert_eq!((object.size(), object.metadata().kind()), (5, Kind::File));
    assert!(!object.metadata().is_checked() && !object.metadata().is_immutable());
    assert_eq!(object.read_to_vec().unwrap(), b"hello");
    let mut piece = [0; 3];
    assert_eq!(object.read_at(&mut piece, 2).unwrap(), 3);
    assert_eq!(&piece, b"llo");
    let info = format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    assert_eq!(flags & 0o2_000_000, 0o2_000_000, "O_CLOEXEC");
    peer.join().unwrap();
}

#[test]
fn a_refusal_says_all_and_the_connection_goes_on() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        peer.reply(id, Reply::Object(refused(Status::NotFound, "no such file")), &[]);
        let id = peer.request().unwrap().header.id;
        let busy = ErrorReply { status: Status::Busy, retry_after_ms: 250, text: "queue full" };
        peer.reply(id, Reply::Error(busy), &[]);
        peer.pong();
    });
    let error = client.open("/none").unwrap_err();
    assert!(error.is_not_found() && !error.may_retry());
    assert_eq!(error.to_string(), "/none: NOT_FOUND: no such file");
    let error = client.stat("/busy").unwrap_err();
    assert_eq!(error.to_string(), "/busy: BUSY: queue full; try again in 250 ms");
    client.ping().unwrap();
    peer.join().unwrap();
}

/// Answers a GET with this body, in pieces of this many bytes.
fn stream(peer: &mut Peer, id: u64, body: &[u8], piece: usize, status: Status) {
    let mut bytes = Vec::new();
    let head = head(Delivery::Stream, body.len() as u64);
    Reply::Object(item(head)).encode(id, 0, &mut bytes);
    for piece in body.chunks(piece) {
        Reply::Data(piece).encode(id, 0, &mut bytes);
    }
    let end = End { status, length: body.len() as u64, text: "it was written to" };
    Reply::End(end).encode(id, 0, &mut bytes);
    peer.raw(&bytes, &[]);
}

fn long_body() -> Vec<u8> {
    (0..1_000_000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect()
}

#[test]
fn a_body_is_the_same_by_every_way() {
    let _no_leak = no_leak();
    let body = long_body();
    for piece in [limits::DATA_PAYLOAD, 70_000, 997] {
        let sent = body.clone();
        let (mut client, peer) = against(move |mut peer| {
            for mode in [Mode::Copy, Mode::Copy, Mode::Splice, Mode::Splice] {
                let asked = peer.request().unwrap();
                let Ok(Request::Get(get)) = Request::decode(asked.frame()) else { panic!() };
                assert_eq!(get.mode, mode);
                stream(&mut peer, asked.header.id, &sent, piece, Status::Ok);
            }
            peer.pong();
        });
        assert!(client.read("/x").unwrap() == body);
        let (mut copied, mut last) = (Vec::new(), (0, 0));
        let mut progress = |done, total| last = (done, total);
        client.transfer("/x").progress(&mut progress).copy_to(&mut copied).unwrap();
        assert!(copied == body);
        assert_eq!(last, (1_000_000, 1_000_000));
        let (mut reader, writer) = std::io::pipe().unwrap();
        let drain = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        assert_eq!(client.splice_to("/x", writer.as_fd()).unwrap(), 1_000_000);
        drop(writer);
        assert!(drain.join().unwrap() == body);
        let target = tempfile::tempfile().unwrap();
        assert_eq!(client.splice_to("/x", &target).unwrap(), 1_000_000);
        assert_eq!(target.metadata().unwrap().len(), 1_000_000);
        client.ping().unwrap();
        peer.join().unwrap();
    }
}

#[test]
fn a_body_that_changed_is_refused_and_the_connection_goes_on() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        stream(&mut peer, id, b"old and new", 4, Status::Changed);
        peer.pong();
    });
    let error = client.read("/x").unwrap_err();
    assert_eq!(error.to_string(), "/x: CHANGED: it was written to");
    assert!(error.may_retry() && !error.ends_connection());
    client.ping().unwrap();
    peer.join().unwrap();
}

#[test]
fn a_range_is_cut_at_the_end() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let asked = peer.request().unwrap();
        let Ok(Request::Get(get)) = Request::decode(asked.frame()) else { panic!() };
        assert_eq!(get.range, Range { offset: 8, length: 92 });
        let mut item = inline(b"89");
        (item.head.size, item.head.range.offset) = (10, 8);
        peer.reply(asked.header.id, Reply::Object(item), &[]);
    });
    assert_eq!(client.read_range("/digits", 8..100).unwrap(), b"89");
    peer.join().unwrap();
}

#[test]
fn auto_takes_what_comes() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        peer.reply(id, Reply::Object(inline(b"small")), &[]);
        let id = peer.request().unwrap().header.id;
        let reply = Reply::Object(item(head(Delivery::Descriptor, 5)));
        peer.reply(id, reply, &[borrow(&file(b"large"))]);
    });
    let small = client.get("/small", Mode::Auto).unwrap();
    assert!(matches!(&small, Object::Bytes(bytes, _) if bytes == b"small"));
    let large = client.get("/large", Mode::Auto).unwrap();
    assert!(matches!(&large, Object::Descriptor(_)));
    assert_eq!(large.into_bytes().unwrap(), b"large");
    peer.join().unwrap();
}

/// Answers a GET_MANY: the name of each object is its content, `/no...` does not exist.
fn echo_many(peer: &mut Peer) -> Option<usize> {
    let asked = peer.request()?;
    let Ok(Request::GetMany(many)) = Request::decode(asked.frame()) else { panic!() };
    assert!(asked.payload.len() <= limits::REQUEST_PAYLOAD);
    let uris: Vec<&[u8]> = many.uris().collect();
    let parts = uris.chunks(100);
    let last = parts.len() - 1;
    for (part, uris) in parts.enumerate() {
        let mut bytes = Vec::new();
        for uri in uris {
            let missing = refused(Status::NotFound, "nothing there");
            let item = if uri.starts_with(b"/no") { missing } else { inline(uri) };
            item.encode(&mut bytes);
        }
        let first = u32::try_from(part * 100).unwrap();
        let objects = Objects::new(first, part == last, &bytes).unwrap();
        peer.reply(asked.header.id, Reply::Objects(objects), &[]);
    }
    Some(uris.len())
}

#[test]
fn many_are_split_and_come_back_in_order() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        assert_eq!(echo_many(&mut peer), Some(limits::MANY));
        assert_eq!(echo_many(&mut peer), Some(5000 - 2 - limits::MANY));
        // 60 long names fill a request.
        let mut all = 0;
        while let Some(count) = echo_many(&mut peer) {
            assert!(count < 70);
            all += count;
        }
        assert_eq!(all, 500);
    });
    let mut uris: Vec<String> = (0..5000).map(|i| format!("/o/{i}")).collect();
    uris[17] = "not a uri".into();
    uris[18] = String::new();
    uris[4500] = "/no/such".into();
    let results = client.read_many(&uris);
    assert_eq!(results.len(), uris.len());
    for (at, (uri, result)) in uris.iter().zip(results).enumerate() {
        match (at, result) {
            (17 | 18, Err(Error::Uri { .. })) => (),
            (4500, Err(error)) => {
                assert_eq!(error.to_string(), "/no/such: NOT_FOUND: nothing there");
            }
            (_, Ok(bytes)) => assert_eq!(bytes, uri.as_bytes()),
            (_, Err(error)) => panic!("{at}: {error}"),
        }
    }
    let long: Vec<String> = (0..500).map(|i| format!("/{i:04000}")).collect();
    assert!(client.read_many(&long).iter().all(Result::is_ok));
    assert!(client.read_many::<&str>(&[]).is_empty());
    drop(client);
    peer.join().unwrap();
}

#[test]
fn descriptors_of_many_may_share_a_message() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        let files: Vec<_> = [&b"a"[..], b"b", b"c"].into_iter().map(file).collect();
        let one = item(head(Delivery::Descriptor, 1));
        let mut bytes = Vec::new();
        let first = items(&[one, refused(Status::Denied, "not for you")]);
        Reply::Objects(Objects::new(0, false, &first).unwrap()).encode(id, 1, &mut bytes);
        let second = items(&[one, one]);
        Reply::Objects(Objects::new(2, true, &second).unwrap()).encode(id, 2, &mut bytes);
        // All of them come with the first byte.
        let fds: Vec<_> = files.iter().map(borrow).collect();
        let (head, tail) = bytes.split_at(20);
        peer.raw(head, &fds);
        peer.raw(tail, &[]);
        peer.pong();
    });
    let results = client.open_many(&["/a", "/x", "/b", "/c"]);
    let contents: Vec<_> =
        results.into_iter().map(|r| r.map(|o| o.read_to_vec().unwrap())).collect();
    assert!(matches!(&contents[1], Err(error) if error.is_denied()));
    for (at, content) in [(0, b"a"), (2, b"b"), (3, b"c")] {
        assert_eq!(contents[at].as_ref().unwrap(), content);
    }
    client.ping().unwrap();
    peer.join().unwrap();
}

#[test]
fn a_refusal_of_the_whole_concerns_each() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        let busy = ErrorReply { status: Status::Busy, retry_after_ms: 0, text: "later" };
        peer.reply(id, Reply::Error(busy), &[]);
        peer.pong();
    });
    let results = client.open_many(&["/a", "/b"]);
    let texts: Vec<_> = results.into_iter().map(|r| r.unwrap_err().to_string()).collect();
    assert_eq!(texts, ["/a: BUSY: later", "/b: BUSY: later"]);
    client.ping().unwrap();
    peer.join().unwrap();
}

#[test]
fn bodies_may_follow_parts_of_many() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        for (first, status) in [(0, Status::Ok), (1, Status::Changed), (2, Status::Ok)] {
            let one = items(&[item(head(Delivery::Stream, 3))]);
            let objects = Objects::new(first, first == 2, &one).unwrap();
            peer.reply(id, Reply::Objects(objects), &[]);
            peer.reply(id, Reply::Data(b"abc"), &[]);
            peer.reply(id, Reply::End(End { status, length: 3, text: "" }), &[]);
        }
        peer.pong();
    });
    let results = client.read_many(&["/1", "/2", "/3"]);
    assert_eq!(results[0].as_ref().unwrap(), b"abc");
    assert_eq!(results[1].as_ref().unwrap_err().to_string(), "/2: CHANGED");
    assert_eq!(results[2].as_ref().unwrap(), b"abc");
    client.ping().unwrap();
    peer.join().unwrap();
}

#[test]
fn a_listing_goes_on_from_page_to_page() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let pages = [("", "b", vec!["a", "b"]), ("b", "d", vec!["c%20d", "d/"]), ("d", "", vec![])];
        for (cursor, next, names) in pages {
            let asked = peer.request().unwrap();
            let Ok(Request::List(list)) = Request::decode(asked.frame()) else { panic!() };
            assert_eq!(
                (list.limit, list.prefix, list.cursor),
                (2, &b"/dir"[..], cursor.as_bytes())
            );
            let mut raw = Vec::new();
            for name in names {
                let kind = if name.ends_with('/') { Kind::Prefix } else { Kind::File };
                Entry { kind, size: 9, mtime_ns: 0, name: name.as_bytes() }.encode(&mut raw);
            }
            let entries = Entries::new(next.as_bytes(), &raw).unwrap();
            peer.reply(asked.header.id, Reply::Entries(entries), &[]);
        }
        peer.pong();
    });
    let listing = client.list("/dir").unwrap().page_size(2);
    let entries: Vec<_> = listing.collect::<Result<_, _>>().unwrap();
    let uris: Vec<_> = entries.iter().map(objmapper_client::Entry::uri).collect();
    assert_eq!(uris, ["/dir/a", "/dir/b", "/dir/c%20d", "/dir/d/"]);
    assert_eq!(entries[2].name(), "c%20d");
    assert!(entries[3].is_prefix() && !entries[2].is_prefix());
    client.ping().unwrap();
    peer.join().unwrap();
}

#[test]
fn counters_and_goodbye() {
    let _no_leak = no_leak();
    let (mut client, peer) = against(|mut peer| {
        let id = peer.request().unwrap().header.id;
        peer.reply(id, Reply::Stats("requests 12\nuptime_seconds 3.5\n"), &[]);
        let asked = peer.request().unwrap();
        assert_eq!(Request::decode(asked.frame()), Ok(Request::Close));
        peer.reply(asked.header.id, Reply::CloseAck(0), &[]);
    });
    let stats = client.stats().unwrap();
    assert_eq!(stats[0], ("requests".to_owned(), "12".to_owned()));
    assert_eq!(stats[1], ("uptime_seconds".to_owned(), "3.5".to_owned()));
    client.close().unwrap();
    peer.join().unwrap();
}
