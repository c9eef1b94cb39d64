//! Keys in order: pages against a sorted map, and what a page may hold.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::ops::Bound;

use objmapper::kv::order::behind;
use objmapper::kv::{Expiry, Keyspace, Options, PageSize, Span};
use proptest::prelude::*;

fn set(keys: &Keyspace, db: u8, name: &[u8], expiry: Expiry) {
    let key = keys.key(db, name);
    keys.hold(&key, 0).set(&key, keys.content(b"x").unwrap(), expiry).unwrap();
}

fn remove(keys: &Keyspace, name: &[u8]) {
    let key = keys.key(0, name);
    keys.hold(&key, 0).remove(&key);
}

/// All of a span, page by page.
fn all(keys: &Keyspace, span: Span<'_>, size: PageSize) -> Vec<Vec<u8>> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let last = seen.last().cloned();
        let from = last.as_deref().map_or(span.0, Bound::Excluded);
        let page = keys.page(0, (from, span.1), size, 1);
        assert!(page.keys.len() <= size.keys.max(1));
        let bytes: usize = page.keys.iter().map(|key| key.len()).sum();
        assert!(bytes <= size.bytes || page.keys.len() == 1);
        seen.extend(page.keys.into_iter().map(Vec::from));
        if !page.more {
            return seen;
        }
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(255)], 0..5)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        name().prop_map(Bound::Included),
        name().prop_map(Bound::Excluded),
        Just(Bound::Unbounded)
    ]
}

fn slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(name) => Bound::Included(name),
        Bound::Excluded(name) => Bound::Excluded(name),
        Bound::Unbounded => Bound::Unbounded,
    }
}

proptest! {
    #[test]
    fn pages_give_what_a_sorted_map_gives(
        names in proptest::collection::btree_set(name(), 0..60),
        from in bound(),
        to in bound(),
        count in 0_usize..9,
        bytes in 0_usize..20,
    ) {
        let keys = Keyspace::in_memory(Options { shards: 4, ..Options::default() });
        for name in &names {
            set(&keys, 0, name, Expiry::Never);
            set(&keys, 1, &[&**name, b"!"].concat(), Expiry::Never);
        }
        let span = (slice(&from), slice(&to));
        let fits = |name: &&Vec<u8>| {
            let name = name.as_slice();
            (match span.0 {
                Bound::Included(from) => name >= from,
                Bound::Excluded(from) => name > from,
                Bound::Unbounded => true,
            }) && (match span.1 {
                Bound::Included(to) => name <= to,
                Bound::Excluded(to) => name < to,
                Bound::Unbounded => true,
            })
        };
        let expected: Vec<Vec<u8>> = names.iter().filter(fits).cloned().collect();
        prop_assert_eq!(all(&keys, span, PageSize { keys: count, bytes }), expected);
    }

    #[test]
    fn a_prefix_is_a_span(names in proptest::collection::btree_set(name(), 0..60), prefix in name()) {
        let keys = Keyspace::in_memory(Options { shards: 4, ..Options::default() });
        for name in &names {
            set(&keys, 0, name, Expiry::Never);
        }
        let end = behind(&prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let expected: Vec<Vec<u8>> =
            names.iter().filter(|name| name.starts_with(&prefix)).cloned().collect();
        prop_assert_eq!(all(&keys, (Bound::Included(&prefix), to), PageSize::default()), expected);
    }
}

#[test]
fn what_has_ended_is_in_no_page() {
    let keys = Keyspace::in_memory(Options::default());
    set(&keys, 0, b"gone", Expiry::At(1));
    set(&keys, 0, b"there", Expiry::At(2));
    let whole = (Bound::Unbounded, Bound::Unbounded);
    assert_eq!(all(&keys, whole, PageSize::default()), [b"there"]);
}

/// What is there all the time is seen once, in order, while other keys come and go.
#[test]
fn what_stays_is_seen_once_while_others_come_and_go() {
    let keys = Keyspace::in_memory(Options { shards: 2, ..Options::default() });
    let stays: BTreeSet<Vec<u8>> = (0..500).map(|n| format!("stays {n:03}").into()).collect();
    for name in &stays {
        set(&keys, 0, name, Expiry::Never);
    }
    let whole = (Bound::Unbounded, Bound::Unbounded);
    let size = PageSize { keys: 50, bytes: 1 << 20 };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || rounds == 0 {
                for n in 0..2000 {
                    set(&keys, 0, format!("comes {n}").as_bytes(), Expiry::Never);
                }
                for n in 0..2000 {
                    remove(&keys, format!("comes {n}").as_bytes());
                }
                rounds += 1;
            }
        });
        for _ in 0..20 {
            let seen = all(&keys, whole, size);
            assert!(seen.is_sorted_by(|a, b| a < b));
            let there = seen.iter().filter(|name| stays.contains(*name)).count();
            assert_eq!(there, stays.len());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        busy.join().unwrap();
    });
}
