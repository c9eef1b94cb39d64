//! The byte vectors of `golden/` and this crate agree, both ways.
//!
//! The files were not written by this code: they follow PROTOCOL.md, and other
//! implementations read them, too. A file without a test here is a failure.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests are tests

mod common;

use common::{Vector, vector, vectors};
use objmapper_proto::frame::{self, Frame, Op, Split};
use objmapper_proto::hello::PASS_FDS;
use objmapper_proto::kv::{
    Batch, Change, Condition, Expiry, Given, Keys, Kv, Scan, Set, Verb, Write,
};
use objmapper_proto::reply::{End, Held, KvCompacted, KvDone, KvEntries, KvEntry};
use objmapper_proto::{
    Delivery, Entries, Entry, ErrorReply, Get, GetMany, Hello, HelloAck, Item, Kind, List, Mode,
    ObjectHead, Objects, Range, Reason, Reply, Request, Status, UriBuf, Version, limits,
};

/// Anything that a frame can hold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Message<'a> {
    Hello(Hello),
    Ack(HelloAck),
    Request(Request<'a>),
    /// With the number of its descriptors.
    Reply(Reply<'a>, u16),
}

use Message::{Ack, Hello as Greeting, Reply as Answer, Request as Ask};

impl<'a> Message<'a> {
    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        match self {
            Greeting(hello) => hello.encode(id, out),
            Ack(ack) => ack.encode(id, out),
            Ask(request) => request.encode(id, out),
            Answer(reply, fds) => reply.encode(id, *fds, out),
        }
    }

    /// What a frame holds, or the status with which it is refused and whether the
    /// connection goes on.
    fn decode(frame: Frame<'a>, from_client: bool) -> Result<Self, (Status, bool)> {
        let ends = |violation: frame::Violation| (violation.status(), false);
        let p = frame.payload;
        match (from_client, Op::from_u8(frame.header.op)) {
            (true, Some(Op::Hello)) => Hello::decode(p).map(Greeting).map_err(ends),
            (true, _) => Request::decode(frame).map(Ask).map_err(|bad| (bad.status(), true)),
            (false, Some(Op::HelloAck)) => HelloAck::decode(p).map(Ack).map_err(ends),
            (false, _) => {
                let fds = frame.header.fds;
                Reply::decode(frame).map(|reply| Answer(reply, fds)).map_err(ends)
            }
        }
    }
}

type Decoded<'a> = Result<Vec<(u64, Message<'a>)>, (Status, bool)>;

/// The frames of a vector. It ends where one does.
fn decoded(vector: &Vector) -> Decoded<'_> {
    let max = if vector.from_client { limits::REQUEST_PAYLOAD } else { limits::REPLY_PAYLOAD };
    let mut rest = vector.bytes.as_slice();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        match frame::split(rest, max).map_err(|violation| (violation.status(), false))? {
            Split::Whole(frame, took) => {
                messages.push((frame.header.id, Message::decode(frame, vector.from_client)?));
                rest = &rest[took..];
            }
            Split::Partial(_) => panic!("{} ends inside a frame", vector.name),
        }
    }
    Ok(messages)
}

/// The file decodes to `messages`, and they encode to the file.
#[track_caller]
fn agree(name: &str, messages: &[(u64, Message<'_>)]) {
    let vector = vector(name);
    let mut encoded = Vec::new();
    for (id, message) in messages {
        message.encode(*id, &mut encoded);
    }
    assert_eq!(encoded, vector.bytes, "{name}: encoded, and as in the file");
    assert_eq!(decoded(&vector).unwrap(), messages, "{name}: decoded, and as meant");
    assert_eq!(vector.expect, "ok", "{name}");
    let from_client = messages.iter().all(|(_, m)| matches!(m, Greeting(_) | Ask(_)));
    assert_eq!(vector.from_client, from_client, "{name}");
}

/// The file decodes to `message`, though that would be encoded otherwise.
#[track_caller]
fn accepts(name: &str, id: u64, message: Message<'_>) {
    let vector = vector(name);
    let mut encoded = Vec::new();
    message.encode(id, &mut encoded);
    assert_ne!(encoded, vector.bytes, "{name}");
    assert_eq!(decoded(&vector).unwrap(), [(id, message)], "{name}");
    assert_eq!(vector.expect, "lenient", "{name}");
}

const MODEL: &[u8] = b"/models/a.gguf";
const GIB8: u64 = 8 << 30;

const GET: Get<'_> = Get::new(Mode::Fdpass, Range::ALL, MODEL);

const ACK: HelloAck = HelloAck {
    version: 1,
    capabilities: 0,
    max_payload: 256 * 1024,
    max_pipeline: 1024,
    max_descriptors: 0,
    max_uri: 4096,
    max_data: 256 * 1024,
};

/// A file of `size` bytes, whole, by descriptor.
fn file(size: u64) -> ObjectHead {
    let version = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    ObjectHead {
        status: Status::Ok,
        kind: Kind::File,
        delivery: Delivery::Descriptor,
        reason: Reason::Asked,
        flags: ObjectHead::CHECKED,
        size,
        mtime_ns: 1_700_000_000_123_456_789,
        version: Version(u128::from_le_bytes(version)),
        range: Range { offset: 0, length: size },
        seals: 0,
    }
}

/// The same in another form.
fn sent(size: u64, delivery: Delivery) -> ObjectHead {
    ObjectHead { delivery, ..file(size) }
}

fn item(head: ObjectHead) -> Item<'static> {
    Item { head, text: "", inline: b"" }
}

fn object(item: Item<'_>) -> Message<'_> {
    Answer(Reply::Object(item), u16::from(item.head.delivery == Delivery::Descriptor))
}

fn encoded(items: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        item.encode(&mut bytes);
    }
    bytes
}

fn end(status: Status, length: u64, text: &str) -> Message<'_> {
    Answer(Reply::End(End { status, length, text }), 0)
}

fn error(status: Status, retry_after_ms: u32, text: &str) -> Message<'_> {
    Answer(Reply::Error(ErrorReply { status, retry_after_ms, text }), 0)
}

#[test]
fn hello() {
    let smallest = Hello {
        version_max: 3,
        capabilities: 5,
        max_payload: 8192,
        max_pipeline: 1,
        max_descriptors: 1,
        ..Hello::default()
    };
    agree("hello", &[(1, Greeting(Hello::default()))]);
    agree("hello_smallest", &[(1, Greeting(smallest))]);
    let passing = Hello { capabilities: PASS_FDS, ..Hello::default() };
    agree("hello_pass_fds", &[(1, Greeting(passing))]);
    let passing = HelloAck { capabilities: PASS_FDS, max_descriptors: 16, ..ACK };
    agree("hello_ack_pass_fds", &[(1, Ack(passing))]);
    agree("hello_ack", &[(1, Ack(ACK))]);
}

#[test]
fn requests_for_one_object() {
    let get = |mode, offset, length, uri| {
        Ask(Request::Get(Get::new(mode, Range { offset, length }, uri)))
    };
    agree("get_fdpass", &[(2, Ask(Request::Get(GET)))]);
    let unless = Some(file(GIB8).version);
    agree("get_if_none_match", &[(2, Ask(Request::Get(Get { unless, ..GET })))]);
    agree("get_shared", &[(2, Ask(Request::Get(Get { shared: true, ..GET })))]);
    let rest = Range { offset: 1, length: Range::TO_END };
    let to = Get { to: true, ..Get::new(Mode::Splice, rest, MODEL) };
    agree("get_to", &[(2, Ask(Request::Get(to)))]);
    agree("get_auto", &[(3, get(Mode::Auto, 0, u64::MAX, b"kv:users/42"))]);
    agree("get_copy_range", &[(4, get(Mode::Copy, 4096, 1024, b"/a%20b%FF"))]);
    agree("get_splice", &[(u64::MAX, get(Mode::Splice, 1, Range::TO_END, MODEL))]);
    agree("stat", &[(6, Ask(Request::Stat(MODEL)))]);
}

#[test]
fn requests_for_many() {
    let mut uris = Vec::new();
    for uri in [&b"/a"[..], b"/b/missing", b"/c"] {
        GetMany::push_uri(&mut uris, uri);
    }
    let many = GetMany::new(Mode::Fdpass, &uris).unwrap();
    agree("get_many", &[(5, Ask(Request::GetMany(many)))]);
    let mut uris = Vec::new();
    for uri in [&b"/a"[..], b"/c"] {
        GetMany::push_uri(&mut uris, uri);
    }
    let shared = GetMany::new(Mode::Fdpass, &uris).unwrap().sharing(true);
    agree("get_many_shared", &[(5, Ask(Request::GetMany(shared)))]);
    let first = List { limit: 2, prefix: b"/models", cursor: b"" };
    let next = List { limit: 4096, prefix: b"/models/", cursor: b"a.gguf" };
    agree("list_first", &[(7, Ask(Request::List(first)))]);
    agree("list_next", &[(8, Ask(Request::List(next)))]);
}

#[test]
fn other_requests() {
    agree("ping", &[(9, Ask(Request::Ping(b"\0\xffhi")))]);
    agree("ping_empty", &[(10, Ask(Request::Ping(b"")))]);
    agree("stats", &[(11, Ask(Request::Stats))]);
    agree("flush", &[(13, Ask(Request::Flush(b"/models")))]);
    agree("close", &[(12, Ask(Request::Close))]);
    let pipeline =
        [(1, Greeting(Hello::default())), (2, Ask(Request::Get(GET))), (3, Ask(Request::Close))];
    agree("pipeline_hello_get_close", &pipeline);
}

const KEY: &[u8] = b"users/42";
const MOMENT: i64 = 1_700_000_000_123;

fn verb(db: u8, verb: Verb<'_>) -> Message<'_> {
    Ask(Request::Kv(Kv { db, verb }))
}

#[test]
fn requests_about_one_key() {
    agree("kv_get", &[(20, verb(3, Verb::Get { mode: Mode::Auto, key: KEY }))]);
    let set = Set::new(KEY, b"ada");
    agree("kv_set", &[(21, verb(0, Verb::Set(set)))]);
    let (condition, expiry) = (Condition::Absent, Expiry::At(MOMENT));
    let terms = Set { value: Given::Bytes(b""), condition, expiry, ..set };
    agree("kv_set_terms", &[(21, verb(0, Verb::Set(terms)))]);
    let (condition, expiry) = (Condition::Present, Expiry::Kept);
    let passed = Set { value: Given::Passed, condition, expiry, ..set };
    agree("kv_set_from", &[(21, verb(0, Verb::Set(passed)))]);
    agree("kv_incr", &[(25, verb(0, Verb::Add { by: -7, key: b"visits" }))]);
    for (name, change) in [
        ("kv_expire_tell", Change::Tell),
        ("kv_expire_at", Change::At(MOMENT)),
        ("kv_expire_never", Change::Never),
    ] {
        agree(name, &[(26, verb(0, Verb::Expire { change, key: KEY }))]);
    }
}

#[test]
fn requests_about_many_keys() {
    let mut raw = Vec::new();
    for key in [&b"a"[..], b"", b"\x00\xff"] {
        Keys::push(&mut raw, key);
    }
    let keys = Keys::new(&raw).unwrap();
    agree("kv_del", &[(22, verb(15, Verb::Delete(keys)))]);
    agree("kv_mget", &[(23, verb(15, Verb::GetMany(keys)))]);
    let (condition, expiry) = (Condition::Present, Expiry::At(MOMENT));
    let mut raw = Vec::new();
    for write in [
        Write { key: b"a", set: Some((b"1", Expiry::Never)), condition: Condition::Always },
        Write { key: b"bc", set: Some((b"two", expiry)), condition },
        Write { key: b"d", set: None, condition: Condition::Always },
    ] {
        write.encode(&mut raw);
    }
    agree("kv_batch", &[(24, verb(0, Verb::Batch(Batch::new(&raw).unwrap())))]);
    let to = Some(&b"users0"[..]);
    let first = Scan { limit: 100, values: false, from: b"users/", after: false, to };
    agree("kv_scan_first", &[(27, verb(0, Verb::Scan(first)))]);
    let next = Scan { limit: 4096, values: true, from: KEY, after: true, to: None };
    agree("kv_scan_next", &[(27, verb(0, Verb::Scan(next)))]);
    agree("kv_backup", &[(28, Ask(Request::Kv(Kv::BACKUP)))]);
    agree("kv_compact", &[(29, Ask(Request::Kv(Kv::COMPACT)))]);
    agree("kv_status", &[(30, Ask(Request::Kv(Kv::STATUS)))]);
}

#[test]
fn answers_about_keys() {
    let done = |done, number| Answer(Reply::KvDone(KvDone { done, number }), 0);
    agree("kv_done", &[(25, done(true, -2))]);
    agree("kv_done_unmet", &[(24, done(false, 1))]);
    let entries = |more, entries: &[KvEntry<'_>]| {
        let mut raw = Vec::new();
        for entry in entries {
            entry.encode(&mut raw);
        }
        (more, raw)
    };
    let left_out = KvEntry { held: Held::LeftOut, size: 5, key: b"users/41", ..KvEntry::NOTHING };
    let inline = KvEntry { held: Held::Inline, size: 3, value: b"ada", ..KvEntry::NOTHING };
    let ends = KvEntry { expiry: Some(MOMENT), ..left_out };
    let large = KvEntry { size: 1 << 20, key: b"", ..ends };
    let (more, raw) = entries(false, &[inline, KvEntry::NOTHING, large]);
    let values = KvEntries::new(more, &raw).unwrap();
    agree("kv_entries_values", &[(23, Answer(Reply::KvEntries(values), 0))]);
    let (more, raw) = entries(true, &[left_out, KvEntry { size: 3, key: KEY, ..ends }]);
    let page = KvEntries::new(more, &raw).unwrap();
    agree("kv_entries_page", &[(27, Answer(Reply::KvEntries(page), 0))]);
    let compacted = KvCompacted { before: 5 << 20, after: 4096 };
    agree("kv_compacted", &[(29, Answer(Reply::KvCompacted(compacted), 0))]);
    let status = "journal.sync interval 100ms\nkv.keys 3\n";
    agree("kv_status_text", &[(30, Answer(Reply::Stats(status), 0))]);
}

#[test]
fn one_object() {
    agree("object_descriptor", &[(2, object(item(file(GIB8))))]);
    let sealed = ObjectHead {
        kind: Kind::Memory,
        reason: Reason::Small,
        flags: ObjectHead::IMMUTABLE,
        seals: 0xf,
        ..sent(5, Delivery::Inline)
    };
    agree("object_inline", &[(3, object(Item { inline: b"hello", ..item(sealed) }))]);
    let empty = ObjectHead { mtime_ns: -1, ..sent(0, Delivery::Inline) };
    agree("object_inline_empty", &[(4, object(item(empty)))]);
    let range = Range { offset: 4096, length: 4 };
    let tail = ObjectHead { range, ..sent(4100, Delivery::Inline) };
    agree("object_range", &[(4, object(Item { inline: b"tail", ..item(tail) }))]);
    let range = Range { offset: 0, length: 0 };
    let stat = ObjectHead { delivery: Delivery::None, range, ..file(GIB8) };
    agree("object_stat", &[(6, object(item(stat)))]);
    let not_modified = ObjectHead { status: Status::NotModified, ..stat };
    agree("object_not_modified", &[(2, object(item(not_modified)))]);
    let range = Range { offset: 1, length: 20 };
    let elsewhere = ObjectHead { range, ..sent(21, Delivery::Destination) };
    agree("object_destination", &[(2, object(item(elsewhere)))]);
    let inside = ObjectHead {
        kind: Kind::Inline,
        reason: Reason::Descriptors,
        flags: ObjectHead::IMMUTABLE,
        ..sent(2, Delivery::Inline)
    };
    agree("object_inside", &[(3, object(Item { inline: b"42", ..item(inside) }))]);
}

#[test]
fn many_objects() {
    let failed = item(ObjectHead::failed(Status::NotFound));
    let flags = ObjectHead::CHECKED | ObjectHead::SHARED;
    let shared = ObjectHead { flags, ..file(20) };
    let mixed =
        encoded(&[item(file(10)), Item { text: "no object of that name", ..failed }, item(shared)]);
    let mixed = Objects::new(0, true, &mixed).unwrap();
    agree("objects_mixed", &[(5, Answer(Reply::Objects(mixed), 2))]);
    let part = encoded(&[item(ObjectHead { reason: Reason::Large, ..file(10) })]);
    let part = Objects::new(4000, false, &part).unwrap();
    agree("objects_part", &[(5, Answer(Reply::Objects(part), 1))]);
}

#[test]
fn bodies() {
    let data = |bytes| Answer(Reply::Data(bytes), 0);
    let changed = "the object changed while it was being copied: ask again";
    agree("data", &[(4, data(b"some bytes of a body"))]);
    agree("data_empty", &[(4, data(b""))]);
    agree("end_ok", &[(4, end(Status::Ok, 20, ""))]);
    let stalled = "the destination took nothing for 60s";
    agree("end_stalled", &[(2, end(Status::DestinationStalled, 7, stalled))]);
    agree("end_changed", &[(4, end(Status::Changed, 262_144, changed))]);

    let head = object(item(sent(24, Delivery::Stream)));
    let whole = [head, data(b"sixteen bytes..."), data(b"and 8..."), end(Status::Ok, 24, "")];
    agree("body_stream", &whole.map(|message| (4, message)));
    let filled = b"sixt\0\0\0\0\0\0\0\0\0\0\0\0";
    let shrunk = [(4, head), (4, data(filled)), (4, end(Status::Changed, 16, "changed"))];
    agree("body_shrunk", &[&shrunk[..], &[(5, Answer(Reply::Pong(b""), 0))]].concat());

    let one = Item { inline: b"1", ..item(sent(1, Delivery::Inline)) };
    let first = encoded(&[one, item(sent(4, Delivery::Stream))]);
    let last = encoded(&[item(sent(3, Delivery::Stream))]);
    let many = [
        Answer(Reply::Objects(Objects::new(0, false, &first).unwrap()), 0),
        data(b"body"),
        end(Status::Ok, 4, ""),
        Answer(Reply::Objects(Objects::new(2, true, &last).unwrap()), 0),
        end(Status::Io, 0, "the file system failed"),
    ];
    agree("many_streamed", &many.map(|message| (5, message)));
}

#[test]
fn listings() {
    let mut names = Vec::new();
    let mtime_ns = file(0).mtime_ns;
    Entry { kind: Kind::File, size: 3, mtime_ns, name: b"a-b%20c" }.encode(&mut names);
    Entry { kind: Kind::Prefix, size: 0, mtime_ns, name: b"a/" }.encode(&mut names);
    let page = Entries::new(b"a/", &names).unwrap();
    let last = Entries::new(b"", b"").unwrap();
    agree("entries_page", &[(7, Answer(Reply::Entries(page), 0))]);
    agree("entries_last", &[(8, Answer(Reply::Entries(last), 0))]);
}

#[test]
fn other_replies() {
    agree("pong", &[(9, Answer(Reply::Pong(b"\0\xffhi"), 0))]);
    agree("stats_text", &[(11, Answer(Reply::Stats("requests 12\nreplies 11\n"), 0))]);
    agree("flushed", &[(13, Answer(Reply::Flushed(2), 0))]);
    agree("close_ack", &[(12, Answer(Reply::CloseAck(0), 0))]);
    agree("error_not_found", &[(2, error(Status::NotFound, 0, "no object of that name"))]);
    let busy = "too many descriptors on their way: 900 of 900";
    agree("error_busy", &[(2, error(Status::Busy, 250, busy))]);
    let malformed = "malformed HELLO frame — see PROTOCOL.md";
    agree("error_connection", &[(0, error(Status::BadFrame, 0, malformed))]);
}

#[test]
fn what_is_not_quite_right_and_accepted() {
    accepts("lenient_hello_reserved", 1, Greeting(Hello::default()));
    accepts("lenient_get_reserved", 2, Ask(Request::Get(GET)));
    let one = encoded(&[item(file(10))]);
    let one = Answer(Reply::Objects(Objects::new(0, true, &one).unwrap()), 1);
    accepts("lenient_objects_flags", 5, one);
    accepts("lenient_unknown_status", 2, error(Status::Io, 0, "?"));
    accepts("lenient_kv_reserved", 20, verb(3, Verb::Get { mode: Mode::Auto, key: KEY }));
    let none = Answer(Reply::KvEntries(KvEntries::new(false, b"").unwrap()), 0);
    accepts("lenient_kv_entries_flags", 27, none);
    accepts("lenient_text_not_utf8", 2, error(Status::NotFound, 0, "no"));
}

#[test]
fn what_is_malformed_is_refused_as_the_file_says() {
    let refused: Vec<Vector> =
        vectors().into_iter().filter(|v| v.name.starts_with("refused_")).collect();
    assert!(!refused.is_empty());
    for vector in refused {
        let (status, goes_on) = decoded(&vector).expect_err(&vector.name);
        let how = if goes_on { "goes on" } else { "ends" };
        assert_eq!(format!("{status} {how}"), vector.expect, "{}", vector.name);
    }
}

#[test]
fn names_are_normalised_as_the_file_says() {
    let text = common::text("golden/uri.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (raw, expect) = line.split_once('\t').expect("a tab in each line");
        let normal = UriBuf::parse(raw.as_bytes());
        let normal = normal.map_or_else(|_| "BAD_URI".to_owned(), |uri| uri.to_string());
        assert_eq!(normal, expect, "{raw}");
    }
}

#[test]
fn every_file_is_tested_and_in_the_index() {
    let index = common::text("golden/README.md");
    for Vector { name, .. } in vectors() {
        assert!(index.contains(&format!("| {name} |")), "{name} is missing in README.md");
        let tested = name.starts_with("refused_")
            || include_str!("golden.rs").contains(&format!("\"{name}\""));
        assert!(tested, "{name} has no test here");
    }
    let rows = index.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| file")).count();
    assert_eq!(rows, vectors().len(), "README.md names a file that does not exist");
}
