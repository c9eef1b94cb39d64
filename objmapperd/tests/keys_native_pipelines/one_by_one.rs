//! What is drawn by lot is answered alike, whether it comes one by one or in pipelines.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::thread;

use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::kv::{self, Change, Condition, Expiry, Given, Set, Verb};
use objmapper_proto::word::flag;
use objmapper_proto::{Hello, Mode, Request, Status};

use crate::scene::{Said, journalled, kv, list};
use crate::support::content::{Numbers, content};
use crate::support::daemon::{Place, Setup};
use crate::support::peer::Peer;
use crate::support::resp::{connect, keyspace};

/// Longer than those that are answered together, than lies beside its key, and than one reply.
/// Made once: that takes longer than to ask for them.
static VALUES: LazyLock<[Vec<u8>; 3]> =
    LazyLock::new(|| [content(5000, 1), content(100_000, 2), content(200_000, 3)]);

/// One request of a pipeline, as bytes: mostly verbs on one key. Says when, if that was agreed on.
fn one(chance: &mut Numbers, db: u8, id: u64, says_when: bool) -> Vec<u8> {
    let name = |chance: &mut Numbers| [b"abcdefgh"[chance.below(8)]];
    let (one, two) = (name(chance), name(chance));
    let number = i64::try_from(chance.below(40)).unwrap();
    let digits = number.to_string();
    let [middle, long, huge] = &*VALUES;
    let far = 33_177_117_420_000 + number;
    let keys = [list(&[&one]), list(&[&one, &two])];
    let mode = [Mode::Copy, Mode::Auto, Mode::Fdpass, Mode::Splice][chance.below(4)];
    let plain = Set::new(&one, digits.as_bytes());
    let verb = match chance.below(30) {
        0..6 => Verb::Get { mode, key: &one },
        6..10 => Verb::Set(plain),
        10 => Verb::Set(Set { condition: Condition::Absent, ..plain }),
        11 => Verb::Set(Set { condition: Condition::Present, expiry: Expiry::Kept, ..plain }),
        12 => Verb::Set(Set { expiry: Expiry::At(far), ..plain }),
        13 => Verb::Set(Set { value: Given::Bytes(middle), ..plain }),
        14 => Verb::Set(Set { value: Given::Bytes(long), ..plain }),
        15 => Verb::Set(Set { value: Given::Bytes(huge), ..plain }),
        16 => Verb::Set(Set { value: Given::Bytes(b"no number"), ..plain }),
        17..20 => Verb::Delete(kv::Keys::new(&keys[0]).unwrap()),
        20 => Verb::Delete(kv::Keys::new(&keys[1]).unwrap()),
        21..24 => Verb::Add { by: number - 20, key: &one },
        24 => Verb::Expire { change: Change::Tell, key: &one },
        25 => Verb::Expire { change: Change::At(far), key: &one },
        26 => Verb::Expire { change: Change::At(1), key: &one },
        27 => Verb::Expire { change: Change::Never, key: &one },
        _ => Verb::GetMany(kv::Keys::new(&keys[1]).unwrap()),
    };
    let mut bytes = Vec::new();
    match chance.below(40) {
        0 => Request::Ping(&digits.into_bytes()).encode(id, &mut bytes),
        1 => kv(16, verb).encode(id, &mut bytes),
        2 => {
            // An op without a meaning, and a flag that nobody agreed on.
            kv(db, verb).encode(id, &mut bytes);
            let (at, byte) = if number < 20 { (4, 0x2f) } else { (5, 0x40) };
            bytes[at] = byte;
        }
        _ => kv(db, verb).encode(id, &mut bytes),
    }
    let when = [0, flag::ORDERED, flag::PRIORITY][chance.below(3)];
    if says_when {
        bytes[5] |= when;
    }
    bytes
}

/// Sends it while the answers are read; gives them by id, in which order they began, and how many
/// were whole when each did.
fn converse(
    peer: &mut Peer,
    stream: Vec<u8>,
    count: usize,
) -> (HashMap<u64, Said>, Vec<(u64, usize)>) {
    let writer = peer.writer();
    let sent = thread::spawn(move || {
        let mut rest = &stream[..];
        while !rest.is_empty() {
            rest = &rest[writer.send(rest, &[], false).unwrap()..];
        }
    });
    let (mut said, mut begun, mut whole) = (HashMap::<u64, Said>::new(), Vec::new(), 0);
    while whole < count {
        let frame = peer.frame();
        let id = frame.header.id;
        if !said.contains_key(&id) {
            begun.push((id, whole));
        }
        whole += usize::from(said.entry(id).or_default().take(&frame));
    }
    sent.join().unwrap();
    (said, begun)
}

fn compared(capabilities: u64, sync: Option<&str>, rounds: u64) {
    let place = Place::new();
    let daemon = match sync {
        Some(sync) => journalled(place, sync),
        None => keyspace(Setup::default(), &place).start_in(place),
    };
    let (mut single, mut together) = (daemon.greeted(), daemon.peer());
    together.greet_with(Hello { capabilities, ..Hello::default() });
    let mut chance = Numbers::new(1);
    for round in 0..rounds {
        let first = 10 + round * 1000;
        let ids: Vec<u64> = (first..first + 100).collect();
        let (mut chances, mut stream) = (chance.clone(), Vec::new());
        let (mut expected, mut ordered) = (HashMap::new(), Vec::new());
        for &id in &ids {
            let (answers, _) = converse(&mut single, one(&mut chance, 1, id, false), 1);
            expected.extend(answers);
            let request = one(&mut chances, 2, id, capabilities != 0);
            if capabilities != 0 && request[5] & flag::ORDERED != 0 {
                ordered.push(id);
            }
            stream.extend(request);
        }
        let (got, begun) = converse(&mut together, stream, ids.len());
        if capabilities == 0 {
            let begun: Vec<u64> = begun.iter().map(|(id, _)| *id).collect();
            assert_eq!(begun, ids, "in the order in which they were asked");
        }
        for id in ordered {
            // What makes no sense is refused at once.
            let refused = [Some(Status::BadRequest), Some(Status::Unsupported)];
            let (_, whole) = begun.iter().find(|(begun, _)| *begun == id).unwrap();
            let earlier = usize::try_from(id - first).unwrap();
            assert!(*whole >= earlier || refused.contains(&got[&id].status), "{id} came early");
        }
        for id in &ids {
            let (expected, got) = (&expected[id], &got[id]);
            let short = |said: &Said| format!("{said:?}").chars().take(300).collect::<String>();
            assert!(expected == got, "{id}: {} and not {}", short(got), short(expected));
        }
    }
    connect(&daemon).say("FLUSHALL");
}

#[test]
fn a_pipeline_is_answered_as_its_verbs_one_by_one() {
    compared(0, None, 30);
}

#[test]
fn so_it_is_where_replies_may_overtake() {
    compared(OUT_OF_ORDER, None, 30);
}

#[test]
fn so_it_is_where_they_wait_for_the_journal() {
    compared(0, Some("always"), 5);
    compared(OUT_OF_ORDER, Some("always"), 5);
}
