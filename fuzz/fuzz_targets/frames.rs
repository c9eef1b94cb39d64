//! Frames of OBJM, from either side: what decodes encodes to something that decodes to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use objmapper_proto::frame::{self, Frame, Op, Split};
use objmapper_proto::word::uri;
use objmapper_proto::{Hello, HelloAck, Reply, Request, UriBuf, limits};

/// The one frame of this encoding.
fn only(bytes: &[u8]) -> Frame<'_> {
    match frame::split(bytes, limits::REPLY_PAYLOAD) {
        Ok(Split::Whole(frame, took)) if took == bytes.len() => frame,
        other => panic!("{other:?} is what was encoded"),
    }
}

fn name(raw: &[u8]) {
    if let Ok(normal) = UriBuf::parse(raw) {
        let text = normal.as_uri().as_str();
        assert_eq!(UriBuf::parse(text.as_bytes()).as_ref(), Ok(&normal), "normal is normal");
    }
    let (mut text, mut back) = (Vec::new(), Vec::new());
    uri::encode_path(raw, &mut text);
    uri::decode_path(&text, &mut back);
    assert_eq!(back, raw);
}

fn request(request: &Request<'_>, id: u64) {
    let mut out = Vec::new();
    request.encode(id, &mut out);
    assert_eq!(Request::decode(only(&out)).as_ref(), Ok(request));
    match request {
        Request::Get(get) => name(get.uri),
        Request::GetMany(many) => {
            assert_eq!(many.uris().count(), many.count());
            many.uris().for_each(name);
        }
        Request::Stat(uri) => name(uri),
        Request::List(list) => name(list.prefix),
        _ => {}
    }
}

fn reply(reply: &Reply<'_>, id: u64, fds: u16) {
    let mut out = Vec::new();
    reply.encode(id, fds, &mut out);
    let frame = only(&out);
    assert_eq!(Reply::decode(frame).as_ref(), Ok(reply));
    match reply {
        Reply::Objects(objects) => assert_eq!(objects.items().count(), objects.count()),
        Reply::Entries(page) => assert_eq!(page.entries().count(), page.count()),
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Split::Whole(frame, took)) = frame::split(rest, limits::REPLY_PAYLOAD) {
        assert!(took > 0);
        rest = &rest[took..];
        let (id, fds) = (frame.header.id, frame.header.fds);
        match Op::from_u8(frame.header.op) {
            Some(Op::Hello) => {
                if let Ok(hello) = Hello::decode(frame.payload) {
                    let mut out = Vec::new();
                    hello.encode(id, &mut out);
                    assert_eq!(Hello::decode(only(&out).payload), Ok(hello));
                }
            }
            Some(Op::HelloAck) => {
                if let Ok(ack) = HelloAck::decode(frame.payload) {
                    let mut out = Vec::new();
                    ack.encode(id, &mut out);
                    assert_eq!(HelloAck::decode(only(&out).payload), Ok(ack));
                }
            }
            _ => {}
        }
        if let Ok(decoded) = Request::decode(frame) {
            request(&decoded, id);
        }
        if let Ok(decoded) = Reply::decode(frame) {
            reply(&decoded, id, fds);
        }
    }
    name(rest);
});
