//! What the keyspace says that it takes is what it asks the allocator for, to the byte; and an
//! ordinary key takes little more than itself.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // a global allocator cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use std::io::Read;

use objmapper::kv::{Expiry, JournalOptions, Keyspace, Options, SyncPolicy};

thread_local! {
    // Const and without a destructor: reading it allocates nothing.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
    /// The most since it was set.
    static MOST: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn note(bytes: usize, taken: bool) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        TAKEN.set(TAKEN.get() + if taken { bytes } else { -bytes });
        MOST.set(MOST.get().max(TAKEN.get()));
    }
}

// SAFETY: every call goes on to `System` unchanged; counting touches a thread-local
// `Cell` only, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size(), true);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(layout.size(), false);
        Self::note(size, true);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        Self::note(layout.size(), false);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const NOW: i64 = 1_700_000_000_000;

#[test]
fn memory_is_counted_to_the_byte() {
    // Nothing in sealed memory, which no allocator sees.
    let keys =
        Keyspace::in_memory(Options { shards: 4, sealed: 0, inline: 64, ..Options::default() });
    keys.key(0, b"the database is made");
    let before = TAKEN.get();
    let check = |what: &str| {
        let taken = TAKEN.get() - before;
        assert_eq!(i64::try_from(keys.memory().used()).unwrap(), taken, "{what}");
    };
    for n in 0..3000_u32 {
        let (name, value) = (format!("key {}", n % 700), vec![b'x'; (n % 200) as usize]);
        let key = keys.key(0, name.as_bytes());
        let end = if n % 3 == 0 { Expiry::At(NOW + i64::from(n)) } else { Expiry::Never };
        let mut hold = keys.hold(&key, NOW);
        match n % 7 {
            0 => _ = hold.remove(&key),
            1 => _ = hold.write_at(&key, (n % 90).into(), &value).unwrap(),
            2 => _ = hold.set_expiry(&key, Some(NOW + 5000)),
            3 => _ = hold.set_expiry(&key, None),
            _ => hold.set(&key, keys.content(&value).unwrap(), end).unwrap(),
        }
        hold.finish();
        drop((name, value));
        check("a change");
    }
    while keys.tick(NOW + 2000) {}
    check("ends");
    keys.clear(&[0], NOW);
    check("nothing left");
    assert_eq!(keys.memory().used(), 0);
}

#[test]
fn an_ordinary_key_takes_little_more_than_itself() {
    const KEYS: u32 = 200_000;
    let keys = Keyspace::in_memory(Options::default());
    for n in 0..KEYS {
        let name = format!("{n:032}");
        let key = keys.key(0, name.as_bytes());
        keys.hold(&key, NOW).set(&key, keys.content(&[b'x'; 64]).unwrap(), Expiry::Never).unwrap();
    }
    let each = keys.memory().used() / u64::from(KEYS);
    // 32 + 64 bytes, 8 of header, and 34 to 57 of table, by how long ago that has grown.
    assert!(each < 32 + 64 + 8 + 60, "{each} bytes a key");
}

/// A long value comes, is written to the journal, is read and goes into a file by pieces: what it takes
/// beside the sealed memory that it lies in does not grow with it.
#[test]
fn a_long_value_is_in_memory_once() {
    const LONG: u64 = 200 << 20;
    const PIECES: i64 = 4 << 20;
    let place = tempfile::tempdir().unwrap();
    let journal = JournalOptions { sync: SyncPolicy::Never, ..JournalOptions::default() };
    let path = place.path().join("kv");
    let (keys, _) = Keyspace::open_with(&path, Options::default(), journal, |_, _| ()).unwrap();
    let db = keys.db(0);
    let before = TAKEN.get();
    MOST.set(before);
    assert_eq!(db.put_stream("long", std::io::repeat(b'x').take(LONG)), Ok(LONG));
    assert_eq!(
        std::io::copy(&mut db.get_stream("long").unwrap().unwrap(), &mut std::io::sink()).unwrap(),
        LONG
    );
    assert_eq!(db.get_file("long", place.path().join("file")), Ok(Some(LONG)));
    let most = MOST.get() - before;
    assert!(most < PIECES, "{most} bytes at once");
    // All of it was handed over by this thread.
    assert!(keys.journal().unwrap().figures().since_snapshot > LONG);
}
