//! Writers of keys, and the checker that knows what each of them was promised.
//!
//! A writer's requests follow from its number and from how many there were before, so that a checker
//! elsewhere can tell from two counts what was sent. Since they are done in order, what is found after
//! a crash must be what the first m of them lead to, with m not below what was promised and not above
//! what was sent. A counter that all add to must lie between the two sums.

use std::collections::{BTreeMap, VecDeque};

use super::resp::{Reply, Resp, encoded};

pub const WRITERS: usize = 4;
pub const KEYS: u32 = 30;

/// Requests that a writer sends at once at most.
const PIPELINE: u32 = 8;

/// Ends far in the future, so that it can be told from one that is lost.
const LATER: &str = "9000000000000";

/// As text: the number of the request that set it, and so many bytes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    pub turn: u64,
    pub long: usize,
}

impl Value {
    fn text(self) -> String {
        format!("{} {}", self.turn, "x".repeat(self.long))
    }

    /// `None` if nobody wrote that.
    fn of(text: &[u8]) -> Option<Self> {
        let (turn, rest) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let value = Self { turn: turn.parse().ok()?, long: rest.len() };
        (value.text().as_bytes() == text).then_some(value)
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Set(u32, Value),
    /// With an end.
    SetUntil(u32, Value),
    Delete(u32),
    Add,
}

/// What a writer's keys are: the value, and whether it ends.
pub type Map = BTreeMap<u32, (Value, bool)>;

fn apply(map: &mut Map, verb: Verb) {
    match verb {
        Verb::Set(key, value) => drop(map.insert(key, (value, false))),
        Verb::SetUntil(key, value) => drop(map.insert(key, (value, true))),
        Verb::Delete(key) => drop(map.remove(&key)),
        Verb::Add => {}
    }
}

fn name(writer: usize, key: u32) -> String {
    format!("writer {writer} key {key}")
}

/// A writer, over all its lives.
#[derive(Debug)]
pub struct Writer {
    number: usize,
    turn: u64,
    /// After what was promised, or found.
    map: Map,
    /// Sent and not promised.
    open: VecDeque<Verb>,
    /// What was promised to the counter since the last check.
    added: u64,
}

impl Writer {
    /// One whose last request was this one.
    pub fn new(number: usize, turn: u64) -> Self {
        Self { number, turn, map: Map::new(), open: VecDeque::new(), added: 0 }
    }

    /// With what [`Writer::new`] goes on where this one is.
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// Numbers that look like chance, the same in each run.
    fn chance(&mut self) -> u32 {
        self.turn += 1;
        let n = (self.turn ^ (self.number as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u32::try_from((n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40).unwrap()
    }

    fn next(&mut self) -> Verb {
        let (key, turn) = (self.chance() % KEYS, self.turn);
        // Some are long enough to lie in memory of their own.
        let long = if self.chance().is_multiple_of(50) { 60_000 } else { self.chance() % 100 };
        let value = Value { turn, long: usize::try_from(long).unwrap() };
        match self.chance() % 10 {
            0 | 1 => Verb::Delete(key),
            2 => Verb::Add,
            3 | 4 => Verb::SetUntil(key, value),
            _ => Verb::Set(key, value),
        }
    }

    /// As it is sent.
    fn words(&self, verb: Verb) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let name = |key| name(self.number, key);
        match verb {
            Verb::Set(key, value) => words(&["SET", &name(key), &value.text()]),
            Verb::SetUntil(key, value) => words(&["SET", &name(key), &value.text(), "PXAT", LATER]),
            Verb::Delete(key) => words(&["DEL", &name(key)]),
            Verb::Add => words(&["INCR", "sum"]),
        }
    }

    /// What is sent next, at once: how many requests, and their bytes.
    pub fn pipeline(&mut self) -> (usize, Vec<u8>) {
        let count = 1 + self.chance() % PIPELINE;
        let mut bytes = Vec::new();
        for _ in 0..count {
            let verb = self.next();
            bytes.extend(encoded(&self.words(verb)));
            self.open.push_back(verb);
        }
        (usize::try_from(count).unwrap(), bytes)
    }

    /// So many more of what was sent must be there from now on.
    pub fn promise(&mut self, count: usize) {
        for verb in self.open.drain(..count) {
            self.added += u64::from(matches!(verb, Verb::Add));
            apply(&mut self.map, verb);
        }
    }

    /// Goes on from what was found. Gives how many of those that were open had been done.
    fn check(&mut self, found: Map) -> usize {
        let (mut map, mut done) = (self.map.clone(), None);
        for n in 0..=self.open.len() {
            if map == found {
                done = Some(n);
            }
            if let Some(&verb) = self.open.get(n) {
                apply(&mut map, verb);
            }
        }
        let Some(done) = done else {
            let lost: Vec<_> =
                self.map.iter().filter(|(key, kept)| found.get(key) != Some(kept)).collect();
            panic!(
                "writer {}: what is there is no beginning of what it sent; promised and not there: \
                 {lost:?}, open: {:?}, found: {found:?}",
                self.number, self.open
            );
        };
        self.map = found;
        self.open.clear();
        done
    }
}

/// All that is found after a start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By writer.
    pub maps: [Map; WRITERS],
    pub sum: u64,
}

impl Found {
    pub fn read(redis: &mut Resp) -> Self {
        let mut found = Self::default();
        for (writer, map) in found.maps.iter_mut().enumerate() {
            for key in 0..KEYS {
                let name = name(writer, key);
                match redis.ask(&["GET", &name]) {
                    Reply::Null => {}
                    Reply::Bulk(text) => {
                        let value = Value::of(&text)
                            .unwrap_or_else(|| panic!("nobody wrote {}", text.escape_ascii()));
                        let end = redis.ask(&["PEXPIRETIME", &name]);
                        let until = end == Reply::Integer(LATER.parse().unwrap());
                        map.insert(key, (value, until));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        found.sum = match redis.ask(&["GET", "sum"]) {
            Reply::Null => 0,
            Reply::Bulk(digits) => String::from_utf8(digits).unwrap().parse().unwrap(),
            other => panic!("{other:?}"),
        };
        found
    }
}

/// All writers, and the counter that they share.
#[derive(Debug)]
pub struct Writers {
    pub all: Vec<Writer>,
    pub sum: u64,
}

impl Writers {
    pub fn new() -> Self {
        Self { all: (0..WRITERS).map(|number| Writer::new(number, 0)).collect(), sum: 0 }
    }

    /// Checks all of it; gives for each writer how many of the requests that were open had been done.
    pub fn check(&mut self, found: Found) -> Vec<usize> {
        let adds = |writer: &Writer| {
            writer.open.iter().filter(|verb| matches!(verb, Verb::Add)).count() as u64
        };
        let least = self.sum + self.all.iter().map(|writer| writer.added).sum::<u64>();
        let most = least + self.all.iter().map(adds).sum::<u64>();
        assert!(
            (least..=most).contains(&found.sum),
            "the sum is {}, not in {least}..={most}",
            found.sum
        );
        self.sum = found.sum;
        let each = self.all.iter_mut().zip(found.maps);
        each.map(|(writer, map)| {
            writer.added = 0;
            writer.check(map)
        })
        .collect()
    }
}
