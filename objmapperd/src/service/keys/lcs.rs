//! LCS: what two values have in common, in order.
//!
//! The classic table has a length for each pair of prefixes; here it is one bit: whether the length
//! grows with this byte of the second value. 64 of them are computed in a few instructions (H.
//! Hyyrö, Bit-parallel LCS-length computation revisited, 2004), and they are all that is needed to
//! walk back through the table as Redis does.

use objmapper::kv::Value;

use super::call::{Answer, Call, Oops, integer};
use crate::service::effort::PAIRS;

/// Pairs of prefixes at most: Redis has four bytes for each, and 512 MiB.
const MOST: u64 = (512 << 20) / 4;

/// What is asked for.
#[derive(Debug, Default)]
struct Terms {
    length: bool,
    places: bool,
    shortest: u64,
    with_lengths: bool,
}

impl Terms {
    fn of(call: &Call<'_, '_>) -> Result<Self, Oops> {
        let mut terms = Self::default();
        let mut at = 3;
        while let Some(word) = call.args.get(at) {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            if is(b"idx") {
                terms.places = true;
            } else if is(b"len") {
                terms.length = true;
            } else if is(b"withmatchlen") {
                terms.with_lengths = true;
            } else if is(b"minmatchlen") && call.args.get(at + 1).is_some() {
                at += 1;
                terms.shortest = u64::try_from(integer(call.args.at(at))?).unwrap_or(0);
            } else {
                return Err(Oops::Syntax);
            }
            at += 1;
        }
        if terms.places && terms.length {
            let text = "ERR If you want both the length and indexes, please just use IDX.";
            return Err(Oops::Text(text));
        }
        Ok(terms)
    }
}

pub(super) fn lcs(call: &mut Call<'_, '_>) -> Answer {
    let terms = Terms::of(call)?;
    let mut prefixes = |key: usize| {
        let value = call.keys.get(key).and_then(|key| call.hold.peek(key));
        value.map_or(1, |value| value.len() + 1)
    };
    // Before anything is copied.
    let pairs = prefixes(0).saturating_mul(prefixes(1));
    if pairs > MOST {
        return Err(Oops::Text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    // A row takes as long as the next multiple of 64.
    let effort = prefixes(0).saturating_mul(prefixes(1).next_multiple_of(64));
    call.may_take((effort, PAIRS))?;
    let (a, b) = (read(call, 0)?, read(call, 1)?);
    call.let_go();
    let table = Table::new(&a, &b, if terms.length { Rows::Last } else { Rows::All });
    if terms.length {
        call.count(table.length());
        return Ok(());
    }
    let runs = table.walk(&a, &b);
    if !terms.places {
        let parts = runs.iter().rev().filter_map(|run| a.get(run.a..run.a + run.length));
        call.out.bulk(&parts.flatten().copied().collect::<Vec<u8>>());
        return Ok(());
    }
    let shown: Vec<_> = runs.iter().filter(|run| run.length as u64 >= terms.shortest).collect();
    call.out.map(2);
    call.out.bulk(b"matches");
    call.out.array(shown.len());
    for run in shown {
        call.out.array(if terms.with_lengths { 3 } else { 2 });
        for start in [run.a, run.b] {
            call.out.array(2);
            call.count(start);
            call.count(start + run.length - 1);
        }
        if terms.with_lengths {
            call.count(run.length);
        }
    }
    call.out.bulk(b"len");
    call.count(table.length());
    Ok(())
}

/// A copy of a value, so that its lock may go.
fn read(call: &mut Call<'_, '_>, key: usize) -> Result<Vec<u8>, Oops> {
    let value = call.keys.get(key).and_then(|key| call.hold.get(key));
    let bytes = value.unwrap_or(Value::Bytes(b"")).bytes();
    Ok(bytes.map_err(|error| Oops::Fault(error.into()))?.into_owned())
}

/// Bytes that follow each other in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    a: usize,
    b: usize,
    length: usize,
}

/// Row `i`, bit `j`: 0 if the first `i + 1` bytes of `a` have one byte more in common with the
/// first `j + 1` of `b` than with the first `j`.
struct Table {
    /// Each row in as few bytes as it needs: words would be 64 bits for each byte of `a`, however short
    /// `b` is.
    bits: Vec<u8>,
    /// Bytes of a row.
    width: usize,
    columns: usize,
}

/// Which rows of a table are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// All, to walk back.
    All,
    /// That of all of `a`: enough for the length.
    Last,
}

impl Table {
    fn new(a: &[u8], b: &[u8], rows: Rows) -> Self {
        let (words, width) = (b.len().div_ceil(64), b.len().div_ceil(8));
        let kept = if rows == Rows::All { a.len() } else { a.len().min(1) };
        let mut bits = Vec::with_capacity(kept * width);
        let places = places(a, b, words);
        let mut above = vec![u64::MAX; words];
        for &byte in a {
            let equal = places.get(usize::from(byte)).map_or(&[][..], Vec::as_slice);
            let mut carry = false;
            for (above, equal) in above.iter_mut().zip(equal) {
                let both = *above & equal;
                let (sum, first) = above.overflowing_add(both);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                *above = sum | (*above & !equal);
            }
            if rows == Rows::Last {
                bits.clear();
            }
            bits.extend(above.iter().flat_map(|word| word.to_le_bytes()).take(width));
        }
        Self { bits, width, columns: b.len() }
    }

    fn grows(&self, i: usize, j: usize) -> bool {
        self.bits.get(i * self.width + j / 8).is_some_and(|byte| byte >> (j % 8) & 1 == 0)
    }

    /// Bytes in common.
    fn length(&self) -> usize {
        let rows = self.bits.len().checked_div(self.width).unwrap_or(0);
        (0..self.columns).filter(|&j| rows > 0 && self.grows(rows - 1, j)).count()
    }

    /// From the ends of both to their beginnings.
    fn walk(&self, a: &[u8], b: &[u8]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a.get(i - 1) == b.get(j - 1) {
                (i, j) = (i - 1, j - 1);
                match runs.last_mut() {
                    Some(run) if run.a == i + 1 && run.b == j + 1 => {
                        *run = Run { a: i, b: j, length: run.length + 1 };
                    }
                    _ => runs.push(Run { a: i, b: j, length: 1 }),
                }
            } else if self.grows(i - 1, j - 1) {
                // As many without this byte of `a`, and fewer without that of `b`.
                i -= 1;
            } else {
                j -= 1;
            }
        }
        runs
    }
}

/// For each byte that `a` has, where it is in `b`.
fn places(a: &[u8], b: &[u8], words: usize) -> Vec<Vec<u64>> {
    let mut places = vec![Vec::new(); 256];
    for &byte in a {
        if let Some(place) = places.get_mut(usize::from(byte))
            && place.is_empty()
        {
            *place = vec![0; words];
        }
    }
    for (j, &byte) in b.iter().enumerate() {
        let place = places.get_mut(usize::from(byte)).and_then(|place| place.get_mut(j / 64));
        if let Some(word) = place {
            *word |= 1 << (j % 64);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The classic table, and the walk as it is described.
    fn classic(a: &[u8], b: &[u8]) -> (usize, Vec<(usize, usize)>) {
        let mut table = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                table[i + 1][j + 1] =
                    if x == y { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
            }
        }
        let (mut i, mut j, mut pairs) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                pairs.push((i, j));
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (table[a.len()][b.len()], pairs)
    }

    proptest! {
        #[test]
        fn one_bit_is_as_good_as_a_number(
            a in proptest::collection::vec(0_u8..4, 0..200),
            b in proptest::collection::vec(0_u8..4, 0..200),
        ) {
            let table = Table::new(&a, &b, Rows::All);
            let (length, pairs) = classic(&a, &b);
            let runs = table.walk(&a, &b);
            let walked = runs.iter().flat_map(|run| {
                (0..run.length).rev().map(|n| (run.a + n, run.b + n))
            });
            prop_assert_eq!(walked.collect::<Vec<_>>(), pairs);
            prop_assert_eq!(table.length(), length);
            prop_assert_eq!(Table::new(&a, &b, Rows::Last).length(), length);
        }
    }

    #[test]
    fn a_row_takes_a_bit_for_each_byte_and_less_than_a_byte_more() {
        for (b, width) in [(0, 0), (1, 1), (8, 1), (9, 2), (64, 8), (65, 9)] {
            let table = |rows| Table::new(&[7; 1000], &vec![7; b], rows);
            assert_eq!(table(Rows::All).bits.capacity(), 1000 * width, "{b}");
            assert_eq!((table(Rows::Last).bits.len(), table(Rows::Last).length()), (width, b));
        }
    }
}
