//! The calls that a request makes allocate nothing: counted, not believed.
#![allow(unsafe_code)] // an allocator that counts can only be written so

mod common;

use common::{directory, file, null, pair, queue, times};
use objmapper_os::fds::MAX_PER_MESSAGE;
use objmapper_os::file::{identity, read_at, read_at_append, read_at_cached, reopen, send_file};
use objmapper_os::root::{Links, Resolve, Root};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: both calls go to the system's allocator unchanged; counting touches a thread-local that
// needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `alloc` above got it from there.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations this thread makes in it.
fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}

#[test]
fn sending_and_receiving_allocate_nothing() {
    let (one, other) = pair();
    let (fd, mut fds, mut buf) = (null(), queue(), [0; 64]);
    let rights = times(&fd, MAX_PER_MESSAGE);
    let count = allocations(|| {
        for _ in 0..2 {
            one.send(b"reply", &rights, false).unwrap();
            assert_eq!(other.recv(&mut buf, &mut fds).unwrap().fds, MAX_PER_MESSAGE);
            fds.clear();
        }
        one.send(b"bytes", &[], true).unwrap();
        other.recv_bytes(&mut buf).unwrap();
        assert!(other.recv(&mut buf, &mut fds).unwrap_err().is_would_block());
        assert_eq!(one.unread().unwrap(), 0);
        assert!(!one.has_hung_up().unwrap());
    });
    assert_eq!(count, 0);
}

#[test]
fn opening_and_reading_allocate_nothing() {
    let directory = directory();
    file(&directory, "a", &[1; 10_000]);
    let long = [b"./".repeat(500), b"a".to_vec()].concat();
    let root = Root::open(directory.path()).unwrap();
    let (one, other) = pair();
    let (mut buf, mut vec) = ([0; 4096], Vec::with_capacity(4096));
    let count = allocations(|| {
        for name in [&b"a"[..], &long] {
            for resolve in [Resolve::CachedOnly, Resolve::MayBlock] {
                drop(root.open_file(name, Links::Refuse, resolve));
            }
        }
        let opened = root.open_file(b"a", Links::Beneath, Resolve::MayBlock).unwrap();
        let opened = opened.as_fd();
        assert_eq!(identity(opened).unwrap().size, 10_000);
        read_at(opened, &mut buf, 0).unwrap();
        read_at_cached(opened, &mut buf, 0).unwrap();
        read_at_append(opened, &mut vec, 4096, 0, true).unwrap();
        send_file(&one, opened, 0, 4096).unwrap();
        other.recv_bytes(&mut buf).unwrap();
        drop(reopen(opened).unwrap());
        for missing in [&b"missing"[..], b"a/b", b"missing/x"] {
            for resolve in [Resolve::CachedOnly, Resolve::MayBlock] {
                assert!(root.open_file(missing, Links::Refuse, resolve).is_err());
            }
        }
    });
    assert_eq!(count, 0);
}
