//! Requests, encoded before the clock starts: bursts of a pipeline's length, one after the other.

use std::ops::Range;

use objmapper_proto::kv::{Condition, Expiry, Given, Kv, Set, Verb as Native};
use objmapper_proto::{Mode, Request};

use crate::cli::kv::{KvArgs, Protocol, Spread, Verb};

/// Requests that are encoded; connections go round them, each from a place of its own.
const REQUESTS: u32 = 1 << 17;

/// Bytes that they may take in all.
const BYTES: usize = 256 << 20;

/// Encoded requests.
pub(crate) struct Bursts {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    /// Requests in a burst.
    pub(crate) length: u32,
}

impl Bursts {
    /// What is asked at this protocol, in bursts of `length`.
    pub(crate) fn new(args: &KvArgs, length: u32, protocol: Protocol) -> Self {
        let mut luck = Luck(0x2545_f491_4f6c_dd1d);
        let value = value(args);
        let zipf = Zipf::new(args.keys);
        let mut bursts = Self { bytes: Vec::new(), ranges: Vec::new(), length };
        for _ in 0..(REQUESTS / length).max(64) {
            let start = bursts.bytes.len();
            for _ in 0..length {
                let key = match args.spread {
                    Spread::Even => luck.below(args.keys),
                    Spread::Zipf => zipf.draw(luck.unit()),
                };
                let get = match args.verb {
                    Verb::Get => true,
                    Verb::Set => false,
                    Verb::Mixed => luck.unit() < args.get_ratio,
                };
                let (out, name) = (&mut bursts.bytes, name(key, args.key_size));
                match (protocol, get) {
                    (Protocol::Resp, true) => request(out, &[b"GET", &name]),
                    (Protocol::Resp, false) => request(out, &[b"SET", &name, &value]),
                    (Protocol::Objm, true) => {
                        native(out, Native::Get { mode: Mode::Auto, key: &name });
                    }
                    (Protocol::Objm, false) => native(out, Native::Set(set(&name, &value))),
                }
            }
            bursts.ranges.push(start..bursts.bytes.len());
            if bursts.bytes.len() > BYTES {
                break;
            }
        }
        bursts
    }

    /// SET of all keys, in bursts.
    pub(crate) fn fill(args: &KvArgs) -> impl Iterator<Item = (u32, Vec<u8>)> {
        let value = value(args);
        let at_once = u32::try_from((1 << 20) / (value.len() + 64)).unwrap_or(1).clamp(1, 1000);
        let (keys, size) = (args.keys, args.key_size);
        (0..keys.div_ceil(at_once)).map(move |piece| {
            let from = piece * at_once;
            let to = (from + at_once).min(keys);
            let mut bytes = Vec::new();
            for key in from..to {
                request(&mut bytes, &[b"SET", &name(key, size), &value]);
            }
            (to - from, bytes)
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes of the longest.
    pub(crate) fn longest(&self) -> usize {
        self.ranges.iter().map(Range::len).max().unwrap_or(0)
    }

    /// One of them, round and round.
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let range = self.ranges.get(at % self.ranges.len().max(1)).cloned().unwrap_or_default();
        self.bytes.get(range).unwrap_or_default()
    }
}

/// Names of this many bytes: 16 are as `redis-benchmark` has them.
pub(crate) fn name(key: u32, size: u16) -> Vec<u8> {
    let mut name = b"key:".to_vec();
    name.resize(usize::from(size), b'0');
    let mut rest = key;
    for place in name.iter_mut().rev().take(12) {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    name
}

fn value(args: &KvArgs) -> Vec<u8> {
    vec![b'x'; usize::try_from(args.value_size.as_u64()).unwrap_or(0)]
}

fn request(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// No id is looked at: replies come in order.
fn native(out: &mut Vec<u8>, verb: Native<'_>) {
    Request::Kv(Kv { db: 0, verb }).encode(2, out);
}

fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Set<'a> {
    let (expiry, condition) = (Expiry::Never, Condition::Always);
    Set { key, value: Given::Bytes(value), expiry, condition }
}

/// Numbers that look like chance, the same in every run (xorshift, Marsaglia 2003).
struct Luck(u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(limit)) >> 32).unwrap_or(0)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Ranks in proportion to 1/n, by the inverse of the harmonic numbers' integral.
struct Zipf {
    keys: f64,
}

impl Zipf {
    fn new(keys: u32) -> Self {
        Self { keys: f64::from(keys) }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to keys
    fn draw(&self, unit: f64) -> u32 {
        (self.keys.powf(unit).floor() - 1.0).clamp(0.0, self.keys - 1.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_likes_the_first_and_reaches_the_last() {
        let (zipf, mut luck) = (Zipf::new(1000), Luck(1));
        let mut drawn = vec![0; 1000];
        for _ in 0..100_000 {
            drawn[zipf.draw(luck.unit()) as usize] += 1;
        }
        assert!(
            drawn[0] > 5000 && drawn[0] > drawn[9] * 4 && drawn[500..].iter().sum::<i32>() > 1000
        );
    }

    #[test]
    fn names_are_of_one_length_and_differ() {
        assert_eq!(name(42, 16), b"key:000000000042");
        assert_ne!(name(1, 16), name(10, 16));
        assert_eq!(name(1, 32).len(), 32);
    }
}
