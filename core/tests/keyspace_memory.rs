//! What the keyspace says that it takes is what it asks the allocator for, to the byte; and an
//! ordinary key takes little more than itself.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // a global allocator cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use objmapper::kv::{Expiry, Keyspace, Options};

thread_local! {
    // Const and without a destructor: reading it allocates nothing.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn note(bytes: usize, taken: bool) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        TAKEN.set(TAKEN.get() + if taken { bytes } else { -bytes });
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
