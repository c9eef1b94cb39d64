//! Verbs of the keyspace with anything at all inside.

use objmapper_proto::hello::{OUT_OF_ORDER, PASS_FDS};
use objmapper_proto::kv::{Batch, Change, Condition, Expiry, Keys, Kv, Scan, Set, Verb, Write};
use objmapper_proto::{Hello, Mode, Reply, Request, Status, limits};

use crate::support::content::Numbers;
use crate::support::daemon::{Daemon, Place, Setup};
use crate::support::neighbour::Neighbour;
use crate::support::resp::{connect, keyspace};
use crate::town::{all_is_well, header};

fn town() -> (Daemon, Neighbour) {
    let place = Place::new();
    let daemon = keyspace(Setup::default(), &place).start_in(place);
    let neighbour = Neighbour::of(&daemon);
    (daemon, neighbour)
}

fn is_verb_or_beside(op: u8) -> bool {
    (0x20..=0x2f).contains(&op)
}

#[test]
fn each_with_random_bytes() {
    let (daemon, mut neighbour) = town();
    let mut numbers = Numbers::new(31);
    for round in 0..300 {
        let mut peer = daemon.peer();
        let capabilities = if round % 2 == 0 { PASS_FDS | OUT_OF_ORDER } else { 0 };
        peer.greet_with(Hello { capabilities, ..Hello::default() });
        for op in (0..=u8::MAX).filter(|&op| is_verb_or_beside(op)) {
            let length = numbers.below(if round % 10 == 0 { 3000 } else { 40 });
            let mut bytes = numbers.bytes(length);
            // Mostly a database and lengths that there are.
            if round % 3 > 0 {
                bytes.iter_mut().take(1).for_each(|db| *db %= 16);
                bytes.iter_mut().skip(5).take(3).for_each(|byte| *byte = 0);
                bytes.iter_mut().skip(9).take(7).for_each(|byte| *byte = 0);
            }
            let mut frame = header(u32::try_from(length).unwrap(), op, 0, 0, 7);
            frame.extend(bytes);
            peer.send(&frame);
            let frame = peer.frame();
            assert_eq!(frame.header.id, 7);
            match frame.reply() {
                Reply::Error(error) => assert!(!error.text.is_empty(), "{frame:?}"),
                Reply::KvDone(_) | Reply::KvEntries(_) | Reply::Object(_) => {}
                // How the keyspace is, which is asked for without a payload.
                Reply::Stats(_) if op == 0x2a && length == 0 => {}
                other => panic!("{op:#x}: {other:?}"),
            }
        }
        peer.ping();
        if round % 50 == 0 {
            neighbour.check();
        }
    }
    connect(&daemon).say("FLUSHALL");
    all_is_well(&daemon, &mut neighbour);
}

/// One of each, whole.
fn verbs<'a>(keys: &'a [u8], batch: &'a [u8]) -> Vec<Verb<'a>> {
    let scan = Scan { limit: 10, values: true, from: b"a", after: true, to: Some(b"z") };
    vec![
        Verb::Get { mode: Mode::Auto, key: b"key" },
        Verb::Set(Set::new(b"key", b"value")),
        Verb::Delete(Keys::new(keys).unwrap()),
        Verb::GetMany(Keys::new(keys).unwrap()),
        Verb::Batch(Batch::new(batch).unwrap()),
        Verb::Add { by: -7, key: b"number" },
        Verb::Expire { change: Change::At(7), key: b"key" },
        Verb::Scan(scan),
    ]
}

#[test]
fn sound_ones_with_one_byte_wrong_or_cut_short() {
    let (daemon, mut neighbour) = town();
    let (mut keys, mut batch) = (Vec::new(), Vec::new());
    for key in [&b"a"[..], b"", b"key"] {
        Keys::push(&mut keys, key);
    }
    for set in [Some((&b"value"[..], Expiry::default())), None] {
        Write { key: b"key", set, condition: Condition::default() }.encode(&mut batch);
    }
    for verb in verbs(&keys, &batch) {
        let mut whole = Vec::new();
        Request::Kv(Kv { db: 3, verb }).encode(9, &mut whole);
        let mut peer = daemon.greeted();
        for at in limits::HEADER..whole.len() {
            for to in [0, 1, 16, 127, 128, 255] {
                let mut bytes = whole.clone();
                bytes[at] = to;
                peer.send(&bytes);
                let frame = peer.frame();
                assert_eq!(frame.header.id, 9, "{verb:?} {at} {to}");
            }
            let mut bytes = whole[..at].to_vec();
            let length = u32::try_from(at - limits::HEADER).unwrap();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            peer.send(&bytes);
            let frame = peer.frame();
            assert_eq!(frame.header.id, 9, "{verb:?} {at}");
        }
        peer.ping();
        neighbour.check();
    }
    connect(&daemon).say("FLUSHALL");
    all_is_well(&daemon, &mut neighbour);
}

/// Flags of other requests mean nothing here.
#[test]
fn flags_that_are_none_of_theirs() {
    let (daemon, mut neighbour) = town();
    let mut peer = daemon.peer();
    peer.greet_with(Hello { capabilities: OUT_OF_ORDER, ..Hello::default() });
    for bit in [4, 8, 16, 32, 64, 128] {
        let mut bytes = Vec::new();
        let get = Verb::Get { mode: Mode::Copy, key: b"a" };
        peer.encode(Request::Kv(Kv { db: 0, verb: get }), &mut bytes);
        bytes[5] |= bit;
        peer.send(&bytes);
        let frame = peer.frame();
        let Reply::Error(error) = frame.reply() else { panic!("{frame:?}") };
        assert_eq!(error.status, Status::Unsupported, "{bit}");
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}
