//! Keys by their URIs, while what they say is on its way to the disk.

use std::sync::Arc;

use objmapper::kv::{Keyspace, SyncPolicy};
use objmapper::{
    Caller, Keys, Listing, Miss, Mode, Mount, Mounts, Patience, Refusal, Rules, Store, Want,
};

use crate::disk::Fake;
use crate::town::{journal, open, set};

fn store(keys: &Arc<Keyspace>) -> Store {
    let mount = Mount::new(
        "kv:".parse().unwrap(),
        Arc::new(Keys::new(keys.clone(), 0)),
        Rules::owner_only(),
    );
    Store::new(Mounts::new(vec![mount]).unwrap())
}

/// Asks for `kv:key` in every way; gives how big it is.
fn ask(store: &Store, patience: Patience) -> Vec<Result<u64, Miss>> {
    let want = |mode| Want { uri: b"kv:key", mode, ..Want::default() };
    let mut me = Caller::own();
    let mut all: Vec<_> = Mode::ALL
        .iter()
        .map(|&mode| store.deliver(&mut me, &want(mode), patience).map(|found| found.object.size))
        .collect();
    all.push(store.stat(&mut me, b"kv:key", patience).map(|object| object.size));
    all
}

fn all_are(answers: &[Result<u64, Miss>], expected: &Result<u64, Miss>) {
    assert!(answers.iter().all(|answer| answer == expected), "{answers:?}, not {expected:?}");
}

#[test]
fn what_is_not_durable_yet_is_waited_for() {
    let disk = Arc::new(Fake::default());
    let keys = Arc::new(open(&disk, journal(SyncPolicy::Always)).unwrap().0);
    let store = store(&keys);
    let durable = || keys.journal().unwrap().durable();
    // Not there yet, there, and not there any more: each is known only when it is durable.
    let first = set(&keys, 0, b"key", b"12345", None).unwrap();
    all_are(&ask(&store, Patience::Never), &Err(Miss::WouldBlock));
    assert!(durable() < first);
    all_are(&ask(&store, Patience::Block), &Ok(5));
    assert!(durable() >= first);
    all_are(&ask(&store, Patience::Never), &Ok(5));
    let key = keys.key(0, b"key");
    let mut hold = keys.hold(&key, 0);
    hold.remove(&key);
    let gone = hold.finish();
    all_are(&ask(&store, Patience::Never), &Err(Miss::WouldBlock));
    all_are(&ask(&store, Patience::Block), &Err(Refusal::NotFound.into()));
    assert!(durable() >= gone);

    // A page of names waits.
    let last = set(&keys, 0, b"key", b"1", None).unwrap();
    let listing = Listing { prefix: b"kv:", cursor: b"", limit: 10 };
    let page = store.list(&mut Caller::own(), &listing).unwrap();
    assert_eq!(page.names.len(), 1);
    assert!(durable() >= last);
}

#[test]
fn other_policies_hand_it_over_and_do_not_wait() {
    for policy in [crate::town::SELDOM, SyncPolicy::Never] {
        let disk = Arc::new(Fake::default());
        let keys = Arc::new(open(&disk, journal(policy)).unwrap().0);
        let position = set(&keys, 0, b"key", b"12345", None).unwrap();
        all_are(&ask(&store(&keys), Patience::Never), &Ok(5));
        let figures = keys.journal().unwrap().figures();
        assert!(figures.written >= position && figures.durable < position);
    }
}

#[test]
fn what_will_never_be_durable_is_not_told_as_if_it_were() {
    let disk = Arc::new(Fake::default());
    let keys = Arc::new(open(&disk, journal(SyncPolicy::Always)).unwrap().0);
    let store = store(&keys);
    set(&keys, 0, b"key", b"12345", None).unwrap();
    disk.fail_syncs_after(0);
    let answers = ask(&store, Patience::Block);
    // Who waited for it is told; who comes later sees what a restart may not.
    assert!(matches!(&answers[0], Err(Miss::Refused(Refusal::Busy { .. }))), "{answers:?}");
    all_are(&answers[1..], &Ok(5));
}
