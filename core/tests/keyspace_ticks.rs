//! What time brings: who ticks sleeps until there is something to do, and is woken then.

#![allow(clippy::unwrap_used)] // fails its test

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use objmapper::kv::{Content, Expiry, Keyspace, Options, Policy};

/// Far beyond what a busy machine needs.
const PATIENCE: Duration = Duration::from_mins(1);

fn keyspace(max_memory: u64, policy: Policy) -> Arc<Keyspace> {
    Arc::new(Keyspace::in_memory(Options { max_memory, policy, ..Options::default() }))
}

fn set(keyspace: &Keyspace, name: &[u8], value: &[u8], expiry: Expiry) {
    let key = keyspace.key(0, name);
    let mut hold = keyspace.hold(&key, Keyspace::now());
    hold.set(&key, Content::Bytes(value), expiry).unwrap();
}

/// Somebody who waits, and says so when there is something to do.
fn waiter(keyspace: &Arc<Keyspace>) -> Receiver<bool> {
    let (sender, woken) = channel();
    let keyspace = keyspace.clone();
    thread::spawn(move || {
        keyspace.wait_to_tick();
        sender.send(keyspace.has_to_tick()).unwrap();
    });
    woken
}

#[test]
fn the_first_key_with_an_end_wakes_who_waits() {
    // Again and again: the two may meet at any moment.
    for _ in 0..200 {
        let keyspace = keyspace(0, Policy::NoEviction);
        let woken = waiter(&keyspace);
        set(&keyspace, b"a", b"1", Expiry::Never);
        set(&keyspace, b"b", b"1", Expiry::At(Keyspace::now() + 1_000_000));
        assert!(woken.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn an_end_that_is_given_later_wakes_too() {
    let keyspace = keyspace(0, Policy::NoEviction);
    let woken = waiter(&keyspace);
    set(&keyspace, b"a", b"1", Expiry::Never);
    let key = keyspace.key(0, b"a");
    keyspace.hold(&key, Keyspace::now()).set_expiry(&key, Some(Keyspace::now() + 1_000_000));
    assert!(woken.recv_timeout(PATIENCE).unwrap());
    keyspace.hold(&key, Keyspace::now()).set_expiry(&key, None);
    assert!(!keyspace.has_to_tick());
}

#[test]
fn pressure_wakes_if_anything_may_go() {
    let fill = |keyspace: &Keyspace| {
        for n in 0..100_u32 {
            set(keyspace, &n.to_le_bytes(), &[b'x'; 1000], Expiry::Never);
        }
    };
    let evicting = keyspace(100_000, Policy::AllKeysLru);
    let woken = waiter(&evicting);
    fill(&evicting);
    assert!(woken.recv_timeout(PATIENCE).unwrap());
    while evicting.has_to_tick() {
        evicting.tick(Keyspace::now());
    }
    assert!(evicting.memory().used() < 85_000, "{}", evicting.memory().used());

    let no_room = keyspace(100_000, Policy::NoEviction);
    fill(&no_room);
    assert!(!no_room.has_to_tick(), "nothing may go, so there is nothing to do");
    let woken = waiter(&no_room);
    no_room.set_memory(100_000, Policy::AllKeysRandom);
    assert!(woken.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn who_waits_can_be_roused() {
    let keyspace = keyspace(0, Policy::NoEviction);
    let woken = waiter(&keyspace);
    keyspace.rouse();
    assert!(!woken.recv_timeout(PATIENCE).unwrap());
    // Nobody waits: the next one does not either.
    keyspace.rouse();
    keyspace.pause(None);
}

#[test]
fn large_values_that_are_removed_are_freed_by_who_ticks() {
    /// Of sealed memory of this process, all of it.
    fn values() -> usize {
        let names = std::fs::read_dir("/proc/self/fd").unwrap();
        let names = names.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        names.filter(|name| name.to_string_lossy().contains("objmapper-value")).count()
    }
    let keyspace = keyspace(0, Policy::NoEviction);
    let large = vec![b'x'; 2 << 20];
    let put = |name: &[u8]| {
        let key = keyspace.key(0, name);
        let content = keyspace.content(&large).unwrap();
        keyspace.hold(&key, Keyspace::now()).set(&key, content, Expiry::Never).unwrap();
    };
    let remove = |name: &[u8]| {
        let key = keyspace.key(0, name);
        assert!(keyspace.hold(&key, Keyspace::now()).remove(&key));
    };
    // Nobody ticks: freed at once.
    put(b"a");
    assert_eq!(values(), 1);
    remove(b"a");
    assert_eq!((values(), keyspace.has_to_tick()), (0, false));
    // Somebody does, and is woken.
    keyspace.will_tick(true);
    let woken = waiter(&keyspace);
    put(b"a");
    remove(b"a");
    assert!(woken.recv_timeout(PATIENCE).unwrap());
    assert_eq!((values(), keyspace.totals().keys), (1, 0));
    keyspace.tick(Keyspace::now());
    assert_eq!((values(), keyspace.has_to_tick()), (0, false));
    // Not more than the longest value may have.
    for _ in 0..300 {
        put(b"a");
        remove(b"a");
    }
    assert_eq!(values(), 256);
    keyspace.will_tick(false);
    assert_eq!(values(), 0);
}
