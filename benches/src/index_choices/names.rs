//! Names to look up, and the order in which threads do it. The same in every run.

use serde::Serialize;

/// Names in the index: a large tree.
const COUNT: u32 = 20_000;

/// Look-ups in a script; then it begins anew.
const SCRIPT: usize = 1 << 16;

/// How often which name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Spread {
    /// All alike.
    Even,
    /// The n-th by 1/n^0.99 (Zipf's law as YCSB has it).
    Skewed,
}

impl Spread {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Skewed => "skewed",
        }
    }
}

pub(super) struct Names {
    names: Vec<Vec<u8>>,
    /// Sums of weights, for drawing by Zipf's law.
    sums: Vec<f64>,
}

impl Names {
    /// URIs of 40 to 80 bytes with long common beginnings, as real trees have them.
    pub(super) fn new() -> Self {
        let name = |i: u32| {
            let (family, shard) = (i % 37, i / 37);
            let kind = ["weights", "tokenizer", "index", "optimizer-state"]
                .get(i as usize % 4)
                .unwrap_or(&"");
            format!("/datasets/team-{family:02}/release-2024.{family}/{kind}/part-{shard:05}-of-00541.bin")
                .into_bytes()
        };
        let mut sum = 0.0;
        let weight = |rank: u32| {
            sum += f64::from(rank + 1).powf(-0.99);
            sum
        };
        let sums = (0..COUNT).map(weight).collect();
        Self { names: (0..COUNT).map(name).collect(), sums }
    }

    pub(super) fn all(&self) -> &[Vec<u8>] {
        &self.names
    }

    pub(super) fn get(&self, which: u32) -> &[u8] {
        self.names.get(which as usize).map_or(&[], Vec::as_slice)
    }

    /// What a thread looks up.
    pub(super) fn script(&self, spread: Spread, seed: u64) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..SCRIPT).map(|_| self.draw(spread, random())).collect()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to COUNT
    fn draw(&self, spread: Spread, random: f64) -> u32 {
        let rank = match spread {
            Spread::Even => (random * f64::from(COUNT)) as u32,
            Spread::Skewed => {
                let total = self.sums.last().copied().unwrap_or(1.0);
                self.sums.partition_point(|sum| *sum < random * total) as u32
            }
        };
        // Ranks are scattered over the names: neighbours in a tree are not equally hot.
        // 7919 is prime and does not divide COUNT.
        rank.min(COUNT - 1) * 7919 % COUNT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skewed_keys_are_skewed_and_even_ones_are_not() {
        let names = Names::new();
        let hottest = |spread| {
            let script = names.script(spread, 1);
            script.iter().filter(|&&which| which == 0).count()
        };
        assert!(hottest(Spread::Skewed) > SCRIPT / 20);
        assert!(hottest(Spread::Even) < 50);
        assert!(names.all().iter().all(|name| (40..=80).contains(&name.len())));
        let distinct: std::collections::HashSet<_> = names.all().iter().collect();
        assert_eq!(distinct.len(), COUNT as usize);
    }
}
