//! What holds for every message, and for bytes that are none.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests are tests

use objmapper_proto::frame::{self, Frame, Header, Op, Split};
use objmapper_proto::kv::{
    Batch, Change, Condition, Expiry, Given, Keys, Kv, Scan, Set, Verb, Write,
};
use objmapper_proto::reply::{End, Held, KvCompacted, KvDone, KvEntries, KvEntry};
use objmapper_proto::word::flag;
use objmapper_proto::{
    Delivery, Entries, Entry, ErrorReply, Get, GetMany, Hello, HelloAck, Item, Kind, List, Mode,
    ObjectHead, Objects, Range, Reason, Reply, Request, Status, UriBuf, Version, limits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A message with everything that it borrows.
#[derive(Debug, Clone)]
enum Owned {
    Hello(Hello),
    Ack(HelloAck),
    Get(Mode, Range, Vec<u8>, Option<Version>, bool, bool),
    GetMany(Mode, Vec<Vec<u8>>, bool),
    Stat(Vec<u8>),
    List(u32, Vec<u8>, Vec<u8>),
    Ping(Vec<u8>),
    Stats,
    Close,
    Flush(Vec<u8>),
    Kv(u8, OwnedVerb),
    Object(OwnedItem),
    Objects(u32, bool, Vec<OwnedItem>),
    Data(Vec<u8>),
    End(Status, u64, String),
    Entries(Vec<u8>, Vec<(Kind, u64, i64, Vec<u8>)>),
    Pong(Vec<u8>),
    StatsText(String),
    CloseAck(u32),
    Flushed(u32),
    KvDone(bool, i64),
    KvEntries(bool, Vec<OwnedEntry>),
    KvCompacted(u64, u64),
    Error(Status, u32, String),
}

type OwnedItem = (ObjectHead, String, Vec<u8>);

/// Key, value, expiry; whether the value is there.
type OwnedEntry = (Vec<u8>, Option<Vec<u8>>, u64, Option<i64>);

type OwnedWrite = (Vec<u8>, Option<(Vec<u8>, Expiry)>, Condition);

#[derive(Debug, Clone)]
enum OwnedVerb {
    Get(Mode, Vec<u8>),
    /// `None`: passed.
    Set(Vec<u8>, Option<Vec<u8>>, Expiry, Condition),
    Delete(Vec<Vec<u8>>),
    GetMany(Vec<Vec<u8>>),
    Batch(Vec<OwnedWrite>),
    Add(i64, Vec<u8>),
    Expire(Change, Vec<u8>),
    Scan(u16, (bool, bool), Vec<u8>, Option<Vec<u8>>),
    Backup,
    Compact,
    Status,
}

impl OwnedVerb {
    fn borrowed<'a>(&'a self, room: &'a mut Vec<u8>) -> Verb<'a> {
        match self {
            Self::Get(mode, key) => Verb::Get { mode: *mode, key },
            Self::Set(key, value, expiry, condition) => {
                let value = value.as_deref().map_or(Given::Passed, Given::Bytes);
                let (expiry, condition) = (*expiry, *condition);
                Verb::Set(Set { key, value, expiry, condition })
            }
            Self::Delete(keys) => Verb::Delete(listed(keys, room)),
            Self::GetMany(keys) => Verb::GetMany(listed(keys, room)),
            Self::Batch(writes) => {
                let write = |(key, set, condition): &'a OwnedWrite| Write {
                    key,
                    set: set.as_ref().map(|(value, expiry)| (value.as_slice(), *expiry)),
                    condition: *condition,
                };
                for one in writes {
                    write(one).encode(room);
                }
                let batch = Batch::new(room).unwrap();
                assert!(batch.writes().eq(writes.iter().map(write)));
                assert_eq!(batch.count(), writes.len());
                Verb::Batch(batch)
            }
            Self::Add(by, key) => Verb::Add { by: *by, key },
            Self::Expire(change, key) => Verb::Expire { change: *change, key },
            Self::Scan(limit, (values, after), from, to) => {
                let (limit, values, after) = (*limit, *values, *after);
                Verb::Scan(Scan { limit, values, after, from, to: to.as_deref() })
            }
            Self::Backup => Verb::Backup,
            Self::Compact => Verb::Compact,
            Self::Status => Verb::Status,
        }
    }
}

fn listed<'a>(keys: &[Vec<u8>], room: &'a mut Vec<u8>) -> Keys<'a> {
    for key in keys {
        Keys::push(room, key);
    }
    let listed = Keys::new(room).unwrap();
    assert!(listed.iter().eq(keys.iter().map(Vec::as_slice)));
    assert_eq!(listed.count(), keys.len());
    listed
}

fn entry((key, value, size, expiry): &OwnedEntry) -> KvEntry<'_> {
    let (held, size) = match value {
        Some(value) => (Held::Inline, value.len() as u64),
        None => (Held::LeftOut, *size),
    };
    KvEntry { held, expiry: *expiry, size, key, value: value.as_deref().unwrap_or_default() }
}

fn item((head, text, inline): &OwnedItem) -> Item<'_> {
    Item { head: *head, text, inline }
}

impl Owned {
    /// Appends the frame, then checks that decoding it gives the same.
    fn encode(&self, id: u64, fds: u16, out: &mut Vec<u8>) {
        let start = out.len();
        let mut room = Vec::new();
        match self {
            Self::Hello(hello) => hello.encode(id, out),
            Self::Ack(ack) => ack.encode(id, out),
            _ => match self.request(&mut room) {
                Some(request) => request.encode(id, out),
                None => self.reply(&mut Vec::new()).encode(id, fds, out),
            },
        }
        self.check(&out[start..], id);
    }

    fn check(&self, bytes: &[u8], id: u64) {
        let Ok(Split::Whole(frame, took)) = frame::split(bytes, limits::REPLY_PAYLOAD) else {
            panic!("no whole frame: {self:?}")
        };
        let flags = match self {
            Self::Get(mode, .., unless, shared, to) => {
                let conditional = if unless.is_some() { flag::IF_NONE_MATCH } else { 0 };
                let to = if *to && *mode == Mode::Splice { flag::TO } else { 0 };
                conditional | to | if *shared { flag::SHARED } else { 0 }
            }
            Self::GetMany(.., true) => flag::SHARED,
            Self::Kv(_, OwnedVerb::Set(_, None, ..)) => flag::FROM,
            _ => 0,
        };
        assert_eq!((took, frame.header.id, frame.header.flags), (bytes.len(), id, flags));
        let mut room = Vec::new();
        match self {
            Self::Hello(hello) => assert_eq!(Hello::decode(frame.payload).as_ref(), Ok(hello)),
            Self::Ack(ack) => assert_eq!(HelloAck::decode(frame.payload).as_ref(), Ok(ack)),
            _ => match self.request(&mut room) {
                Some(request) => assert_eq!(Request::decode(frame), Ok(request)),
                None => assert_eq!(Reply::decode(frame), Ok(self.reply(&mut Vec::new()))),
            },
        }
    }

    fn request<'a>(&'a self, room: &'a mut Vec<u8>) -> Option<Request<'a>> {
        Some(match self {
            Self::Get(mode, range, uri, unless, shared, to) => {
                let (unless, shared) = (*unless, *shared);
                let to = *to && *mode == Mode::Splice;
                Request::Get(Get { unless, shared, to, ..Get::new(*mode, *range, uri) })
            }
            Self::GetMany(mode, uris, shared) => {
                for uri in uris {
                    GetMany::push_uri(room, uri);
                }
                let many = GetMany::new(*mode, room).unwrap().sharing(*shared);
                assert!(many.uris().eq(uris.iter().map(Vec::as_slice)));
                assert_eq!(many.count(), uris.len());
                Request::GetMany(many)
            }
            Self::Stat(uri) => Request::Stat(uri),
            Self::List(limit, prefix, cursor) => {
                Request::List(List { limit: *limit, prefix, cursor })
            }
            Self::Ping(bytes) => Request::Ping(bytes),
            Self::Stats => Request::Stats,
            Self::Close => Request::Close,
            Self::Flush(prefix) => Request::Flush(prefix),
            Self::Kv(db, verb) => {
                let kv = Kv { db: *db, verb: verb.borrowed(room) };
                let passed = matches!(verb, OwnedVerb::Set(_, None, ..));
                assert_eq!(kv.is_passed(), passed);
                Request::Kv(kv)
            }
            _ => return None,
        })
    }

    fn reply<'a>(&'a self, room: &'a mut Vec<u8>) -> Reply<'a> {
        match self {
            Self::Object(one) => Reply::Object(item(one)),
            Self::Objects(first, last, items) => {
                for one in items {
                    item(one).encode(room);
                }
                let objects = Objects::new(*first, *last, room).unwrap();
                assert!(objects.items().eq(items.iter().map(item)));
                assert_eq!(objects.count(), items.len());
                Reply::Objects(objects)
            }
            Self::Data(bytes) => Reply::Data(bytes),
            Self::End(status, length, text) => {
                Reply::End(End { status: *status, length: *length, text })
            }
            Self::Entries(cursor, names) => {
                let entries = || {
                    names.iter().map(|(kind, size, mtime_ns, name)| Entry {
                        kind: *kind,
                        size: *size,
                        mtime_ns: *mtime_ns,
                        name,
                    })
                };
                for entry in entries() {
                    entry.encode(room);
                }
                let page = Entries::new(cursor, room).unwrap();
                assert!(page.entries().eq(entries()));
                assert_eq!(page.count(), names.len());
                Reply::Entries(page)
            }
            Self::Pong(bytes) => Reply::Pong(bytes),
            Self::StatsText(lines) => Reply::Stats(lines),
            Self::CloseAck(n) => Reply::CloseAck(*n),
            Self::Flushed(n) => Reply::Flushed(*n),
            Self::KvDone(done, number) => Reply::KvDone(KvDone { done: *done, number: *number }),
            Self::KvEntries(more, entries) => {
                for one in entries {
                    entry(one).encode(room);
                }
                let page = KvEntries::new(*more, room).unwrap();
                assert!(page.entries().eq(entries.iter().map(entry)));
                Reply::KvEntries(page)
            }
            Self::KvCompacted(before, after) => {
                Reply::KvCompacted(KvCompacted { before: *before, after: *after })
            }
            Self::Error(status, retry_after_ms, text) => {
                Reply::Error(ErrorReply { status: *status, retry_after_ms: *retry_after_ms, text })
            }
            _ => unreachable!("{self:?} is no reply"),
        }
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

fn mode() -> impl Strategy<Value = Mode> {
    select(&Mode::ALL[..])
}

fn status() -> impl Strategy<Value = Status> {
    select(Status::ALL)
}

/// Words that know their numbers.
fn word<T: std::fmt::Debug + Clone + 'static>(
    from_u8: fn(u8) -> Option<T>,
) -> impl Strategy<Value = T> {
    select((0..=u8::MAX).filter_map(from_u8).collect::<Vec<_>>())
}

prop_compose! {
    fn range()(offset: u64, length: u64) -> Range {
        Range { offset, length }
    }
}

prop_compose! {
    fn head()(
        status in status(),
        kind in word(Kind::from_u8),
        delivery in word(Delivery::from_u8),
        reason in word(Reason::from_u8),
        (flags, size, mtime_ns, version, seals) in any::<(u8, u64, i64, u128, u32)>(),
        range in range(),
    ) -> ObjectHead {
        let version = Version(version);
        ObjectHead { status, kind, delivery, reason, flags, size, mtime_ns, version, range, seals }
    }
}

fn owned_item() -> impl Strategy<Value = OwnedItem> {
    (head(), any::<String>(), bytes(100))
}

prop_compose! {
    fn hello()(
        version_max in 1_u16..,
        version_min in 0_u16..=1,
        max_payload in 8192_u32..,
        max_descriptors in 1_u16..=253,
        (capabilities, max_pipeline) in any::<(u64, u32)>(),
    ) -> Hello {
        Hello { version_min, version_max, capabilities, max_payload, max_pipeline, max_descriptors }
    }
}

prop_compose! {
    fn ack()(
        (capabilities, max_payload, max_pipeline) in any::<(u64, u32, u32)>(),
        (max_descriptors, max_uri, max_data) in any::<(u16, u16, u32)>(),
    ) -> HelloAck {
        let version = limits::VERSION;
        HelloAck { version, capabilities, max_payload, max_pipeline, max_descriptors, max_uri, max_data }
    }
}

fn request() -> impl Strategy<Value = Owned> {
    prop_oneof![
        hello().prop_map(Owned::Hello),
        (mode(), range(), bytes(300), proptest::option::of(any::<u128>()), any::<(bool, bool)>())
            .prop_map(|(m, r, uri, v, (s, to))| Owned::Get(m, r, uri, v.map(Version), s, to)),
        (mode(), vec(bytes(40), 1..20), any::<bool>())
            .prop_map(|(m, uris, s)| Owned::GetMany(m, uris, s)),
        bytes(300).prop_map(Owned::Stat),
        (1_u32..=4096, bytes(100), bytes(1024)).prop_map(|(n, p, c)| Owned::List(n, p, c)),
        bytes(1024).prop_map(Owned::Ping),
        Just(Owned::Stats),
        Just(Owned::Close),
        bytes(300).prop_map(Owned::Flush),
        (0_u8..16, owned_verb()).prop_map(|(db, verb)| Owned::Kv(db, verb)),
        Just(Owned::Kv(0, OwnedVerb::Backup)),
        Just(Owned::Kv(0, OwnedVerb::Compact)),
        Just(Owned::Kv(0, OwnedVerb::Status)),
    ]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![Just(Expiry::Never), Just(Expiry::Kept), any::<i64>().prop_map(Expiry::At)]
}

fn condition() -> impl Strategy<Value = Condition> {
    select(vec![Condition::Always, Condition::Absent, Condition::Present])
}

fn owned_verb() -> impl Strategy<Value = OwnedVerb> {
    use proptest::option::of;
    let change =
        prop_oneof![Just(Change::Tell), Just(Change::Never), any::<i64>().prop_map(Change::At)];
    let write = (bytes(30), of((bytes(30), expiry())), condition());
    prop_oneof![
        (mode(), bytes(300)).prop_map(|(mode, key)| OwnedVerb::Get(mode, key)),
        (bytes(300), of(bytes(300)), expiry(), condition())
            .prop_map(|(k, v, e, c)| OwnedVerb::Set(k, v, e, c)),
        vec(bytes(40), 1..20).prop_map(OwnedVerb::Delete),
        vec(bytes(40), 1..20).prop_map(OwnedVerb::GetMany),
        vec(write, 1..20).prop_map(OwnedVerb::Batch),
        (any::<i64>(), bytes(300)).prop_map(|(by, key)| OwnedVerb::Add(by, key)),
        (change, bytes(300)).prop_map(|(change, key)| OwnedVerb::Expire(change, key)),
        (1_u16..=4096, any::<(bool, bool)>(), bytes(40), of(bytes(40)))
            .prop_map(|(limit, flags, from, to)| OwnedVerb::Scan(limit, flags, from, to)),
    ]
}

fn reply() -> impl Strategy<Value = Owned> {
    let entry = (word(Kind::from_u8), any::<u64>(), any::<i64>(), bytes(40));
    prop_oneof![
        ack().prop_map(Owned::Ack),
        owned_item().prop_map(Owned::Object),
        (any::<u32>(), any::<bool>(), vec(owned_item(), 0..10))
            .prop_map(|(first, last, items)| Owned::Objects(first, last, items)),
        bytes(300).prop_map(Owned::Data),
        (status(), any::<u64>(), any::<String>()).prop_map(|(s, n, t)| Owned::End(s, n, t)),
        (bytes(1024), vec(entry, 0..10)).prop_map(|(cursor, names)| Owned::Entries(cursor, names)),
        bytes(300).prop_map(Owned::Pong),
        any::<String>().prop_map(Owned::StatsText),
        any::<u32>().prop_map(Owned::CloseAck),
        any::<u32>().prop_map(Owned::Flushed),
        any::<(bool, i64)>().prop_map(|(done, number)| Owned::KvDone(done, number)),
        (any::<bool>(), vec(owned_entry(), 0..10))
            .prop_map(|(more, entries)| Owned::KvEntries(more, entries)),
        any::<(u64, u64)>().prop_map(|(before, after)| Owned::KvCompacted(before, after)),
        (status(), any::<u32>(), any::<String>()).prop_map(|(s, n, t)| Owned::Error(s, n, t)),
    ]
}

fn owned_entry() -> impl Strategy<Value = OwnedEntry> {
    use proptest::option::of;
    (bytes(40), of(bytes(40)), any::<u64>(), of(any::<i64>()))
}

fn message() -> impl Strategy<Value = Owned> {
    prop_oneof![request(), reply()]
}

/// Reads everything that these bytes can be taken for. What decodes must also encode,
/// and decode to the same again.
fn read_in_every_way(bytes: &[u8]) {
    for max in [0, limits::REQUEST_PAYLOAD, limits::REPLY_PAYLOAD, usize::MAX - limits::HEADER] {
        match frame::split(bytes, max) {
            Ok(Split::Whole(frame, took)) => {
                assert!(took <= bytes.len() && frame.payload.len() <= max);
                read_frame(frame);
            }
            Ok(Split::Partial(want)) => assert!(want > bytes.len()),
            Err(violation) => assert!(!violation.to_string().is_empty()),
        }
    }
    for op in 0..=u8::MAX {
        let length = u32::try_from(bytes.len()).unwrap();
        let header = Header { length, op, flags: 0, fds: 0, id: 7 };
        read_frame(Frame { header, payload: bytes });
    }
    let _ = UriBuf::parse(bytes);
    if let Ok(hello) = Hello::decode(bytes) {
        assert_eq!(Hello::decode(&encoded(|out| hello.encode(7, out))[16..]), Ok(hello));
    }
    if let Ok(ack) = HelloAck::decode(bytes) {
        assert_eq!(HelloAck::decode(&encoded(|out| ack.encode(7, out))[16..]), Ok(ack));
    }
}

fn read_frame(frame: Frame<'_>) {
    let (id, fds) = (frame.header.id, frame.header.fds);
    match Request::decode(frame) {
        Ok(request) => {
            let again = encoded(|out| request.encode(id, out));
            assert_eq!(Request::decode(whole(&again)), Ok(request));
            match request {
                Request::GetMany(many) => assert_eq!(many.uris().count(), many.count()),
                Request::Kv(Kv { verb: Verb::Delete(keys) | Verb::GetMany(keys), .. }) => {
                    assert_eq!(keys.iter().count(), keys.count());
                }
                Request::Kv(Kv { verb: Verb::Batch(batch), .. }) => {
                    assert_eq!(batch.writes().count(), batch.count());
                }
                _ => (),
            }
        }
        Err(bad) => assert!(!bad.to_string().is_empty()),
    }
    match Reply::decode(frame) {
        Ok(reply) => {
            let again = encoded(|out| reply.encode(id, fds, out));
            assert_eq!(Reply::decode(whole(&again)), Ok(reply));
            match reply {
                Reply::Objects(part) => assert_eq!(part.items().count(), part.count()),
                Reply::Entries(page) => assert_eq!(page.entries().count(), page.count()),
                Reply::KvEntries(page) => assert_eq!(page.entries().count(), page.count()),
                _ => (),
            }
        }
        Err(violation) => assert!(!violation.to_string().is_empty()),
    }
}

fn encoded(encode: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame::split(bytes, usize::MAX - limits::HEADER) {
        Ok(Split::Whole(frame, took)) if took == bytes.len() => frame,
        other => panic!("one whole frame was encoded, and is read as {other:?}"),
    }
}

/// The frames of a stream that arrives in these pieces, as a reader sees them.
fn frames(pieces: &[&[u8]]) -> Vec<(Header, Vec<u8>)> {
    let mut buffer = Vec::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut start = 0;
        loop {
            match frame::split(&buffer[start..], limits::REPLY_PAYLOAD).unwrap() {
                Split::Whole(frame, took) => {
                    frames.push((frame.header, frame.payload.to_vec()));
                    start += took;
                }
                Split::Partial(want) => {
                    assert!(want > buffer.len() - start, "it asks for what it has");
                    break;
                }
            }
        }
        buffer.drain(..start);
    }
    assert_eq!(buffer, b"", "bytes are left over");
    frames
}

proptest! {
    // A failure is told with its smallest input; it then becomes a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_survive_the_wire(message in request(), id: u64) {
        message.encode(id, 0, &mut Vec::new());
    }

    #[test]
    fn replies_survive_the_wire(message in reply(), id: u64, fds: u16) {
        message.encode(id, fds, &mut Vec::new());
    }

    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in bytes(600)) {
        read_in_every_way(&bytes);
    }

    #[test]
    fn damaged_messages_give_a_value_or_an_error(
        message in message(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let mut bytes = Vec::new();
        message.encode(1, 0, &mut bytes);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_in_every_way(&bytes);
        read_in_every_way(&bytes[16..]);
        read_in_every_way(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn however_a_stream_is_cut_the_frames_are_the_same(
        messages in vec((message(), any::<u64>()), 1..6),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        for (message, id) in &messages {
            message.encode(*id, 0, &mut stream);
        }
        let at_once = frames(&[&stream]);
        prop_assert_eq!(at_once.len(), messages.len());

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        prop_assert_eq!(frames(&pieces), at_once.clone());

        let single: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(frames(&single), at_once);
    }
}

#[test]
fn a_frame_is_refused_as_soon_as_its_header_is_there() {
    let header = Header::new(Op::Data, 1, 1001, 0).encode();
    assert_eq!(frame::split(&header[..15], 1000), Ok(Split::Partial(16)));
    assert!(frame::split(&header, 1000).is_err());
    assert_eq!(frame::split(&header, 1001), Ok(Split::Partial(16 + 1001)));
}
