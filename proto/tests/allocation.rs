//! Decoding allocates nothing, whatever the bytes claim; normalising a name no more
//! than a name may have.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests are tests
#![allow(unsafe_code)] // a global allocator cannot be written without

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use objmapper_proto::frame::{self, Frame, Header, Split};
use objmapper_proto::kv::Verb;
use objmapper_proto::{Hello, HelloAck, Reply, Request, Uri, limits};

/// What this thread has allocated since it last began to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    calls: usize,
    largest: usize,
}

thread_local! {
    // Const and without a destructor: reading it allocates nothing.
    static COUNT: Cell<Count> = const { Cell::new(Count { calls: 0, largest: 0 }) };
}

const NOTHING: Count = Count { calls: 0, largest: 0 };

struct Counting;

impl Counting {
    fn note(size: usize) {
        let Count { calls, largest } = COUNT.get();
        COUNT.set(Count { calls: calls + 1, largest: largest.max(size) });
    }
}

// SAFETY: every call goes on to `System` unchanged; counting touches a thread-local
// `Cell` only, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(work: impl FnOnce()) -> Count {
    COUNT.set(NOTHING);
    work();
    COUNT.get()
}

/// Decodes these bytes as everything, and walks through all lists inside.
fn decode(bytes: &[u8]) {
    for max in [limits::REQUEST_PAYLOAD, limits::REPLY_PAYLOAD] {
        if let Ok(Split::Whole(frame, _)) = frame::split(bytes, max) {
            decode_frame(frame);
        }
    }
    let payload = bytes.get(limits::HEADER..).unwrap_or_default();
    let length = u32::try_from(payload.len()).unwrap();
    for op in 0..=u8::MAX {
        decode_frame(Frame { header: Header { length, op, flags: 0, fds: 0, id: 1 }, payload });
    }
    drop(black_box(Hello::decode(payload)));
    drop(black_box(HelloAck::decode(payload)));
}

fn decode_frame(frame: Frame<'_>) {
    match black_box(Request::decode(frame)) {
        Ok(Request::GetMany(many)) => assert_eq!(many.uris().count(), many.count()),
        Ok(Request::Kv(kv)) => match kv.verb {
            Verb::Delete(keys) | Verb::GetMany(keys) => {
                assert_eq!(keys.iter().count(), keys.count());
            }
            Verb::Batch(batch) => assert_eq!(batch.writes().count(), batch.count()),
            _ => (),
        },
        other => drop(other),
    }
    match black_box(Reply::decode(frame)) {
        Ok(Reply::Objects(part)) => assert_eq!(part.items().count(), part.count()),
        Ok(Reply::Entries(page)) => assert_eq!(page.entries().count(), page.count()),
        Ok(Reply::KvEntries(page)) => assert_eq!(page.entries().count(), page.count()),
        other => drop(other),
    }
}

/// The golden files; each cut short everywhere; each with one byte of 0xff everywhere,
/// so that every count and every length claims as much as it can.
fn hostile() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for vector in common::vectors() {
        let bytes = vector.bytes;
        for at in 0..bytes.len() {
            all.push(bytes[..at].to_vec());
            let mut damaged = bytes.clone();
            damaged[at] = 0xff;
            all.push(damaged);
        }
        all.push(bytes);
    }
    all
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| drop(black_box(vec![0_u8; 1000]))), Count { calls: 1, largest: 1000 });
    assert_eq!(counted(|| ()), NOTHING);
}

#[test]
fn decoding_allocates_nothing() {
    for bytes in hostile() {
        assert_eq!(counted(|| decode(&bytes)), NOTHING, "{bytes:02x?}");
    }
}

#[test]
fn a_name_takes_no_more_than_a_name_may_have() {
    let escaped = format!("/{}", "%41".repeat((limits::URI - 1) / 3));
    let long = format!("/{}", "%41".repeat(limits::URI));
    let normal = format!("/{}", "a".repeat(limits::URI - 1));
    let measure = |raw: &str| {
        let mut scratch = Vec::new();
        counted(|| drop(black_box(Uri::normalise(raw.as_bytes(), &mut scratch))))
    };
    assert_eq!(measure(&normal), NOTHING);
    assert_eq!(measure(&long), NOTHING, "refused before it is copied");
    let rewritten = measure(&escaped);
    assert!((1..=limits::URI).contains(&rewritten.largest), "{rewritten:?}");
}
