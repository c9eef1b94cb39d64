//! Numbers with 64 bits of precision and an exponent of 15 bits, added exactly as the processor
//! adds them that Redis runs on.
//!
//! `INCRBYFLOAT` is defined by what a C `long double` does on x86-64: 0.1 + 0.2 is 0.3 there, and
//! is not with the 53 bits of an f64. So that a program sees the same digits here, on any
//! processor, such numbers are read, added and written with integers alone.
//!
//! Reading rounds once, to the nearest and to even where two are as near; so does adding. Writing
//! gives 17 digits behind the point, rounded the same way, without zeros at the end. Not read:
//! hexadecimal, which C reads; NaN, which Redis refuses as well.

use std::fmt::{self, Write};

/// The value is `significand * 2^exponent`. The significand has its top bit set, unless the
/// exponent is `LEAST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended {
    negative: bool,
    significand: u64,
    exponent: i32,
}

/// The smallest exponent, of numbers next to 0.
const LEAST: i32 = -16_445;
/// The largest.
const MOST: i32 = 16_383 - 63;

/// The longest text that is read.
const LONGEST: i64 = 5 * 1024 - 1;

/// Decimal digits of a number before it is too large, and behind the point before it is 0.
const DIGITS: i64 = 5000;

/// Digits that are written behind the point.
const PLACES: u32 = 17;

impl Extended {
    /// Nothing.
    pub const ZERO: Self = Self { negative: false, significand: 0, exponent: LEAST };

    /// Reads a number: digits, a point among them or not, an exponent or not. `None` if it is not
    /// one, or one that is too large, or so small that nothing is left of it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() as u64 > LONGEST.unsigned_abs() {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let end = text.iter().position(|b| b.eq_ignore_ascii_case(&b'e')).unwrap_or(text.len());
        let (digits, power) = text.split_at_checked(end)?;
        let (whole, places) = match digits.iter().position(|&b| b == b'.') {
            Some(point) => (digits.get(..point)?, digits.get(point + 1..)?),
            None => (digits, &[][..]),
        };
        if whole.is_empty() && places.is_empty() {
            return None;
        }
        let mut number = Big::default();
        for part in [whole, places] {
            number.append_digits(part)?;
        }
        if number.is_zero() {
            exponent(power)?;
            return Some(Self { negative, ..Self::ZERO });
        }
        let places = i64::try_from(places.len()).unwrap_or(i64::MAX);
        let power = exponent(power)?.saturating_sub(places);
        Self::scaled(negative, number, power)
    }

    /// `number * 10^power`, rounded.
    fn scaled(negative: bool, mut number: Big, power: i64) -> Option<Self> {
        if !(-DIGITS - LONGEST..=DIGITS).contains(&power) {
            return None;
        }
        let mut tens = Big::from(1);
        if power > 0 { &mut number } else { &mut tens }.times_ten_to(power.unsigned_abs());
        let (top, exponent, rest) = number.divided(tens);
        let found = Self::rounded(negative, top, exponent, rest)?;
        (found.significand != 0).then_some(found)
    }

    /// The number next to `(n + a bit, if there is a rest) * 2^exponent`; `None` if it is too large.
    fn rounded(negative: bool, n: u128, exponent: i32, rest: bool) -> Option<Self> {
        let bits = 128_i32 - n.leading_zeros().cast_signed();
        let drop = (bits - 64).max(LEAST - exponent).clamp(-64, 128);
        let (mut kept, mut exponent) = (n << drop.min(0).unsigned_abs(), exponent + drop);
        if drop > 0 {
            let drop = drop.unsigned_abs();
            kept = n.checked_shr(drop).unwrap_or(0);
            let lost = n & (u128::MAX >> (128 - drop));
            let half = 1_u128 << (drop - 1);
            if lost > half || lost == half && (rest || kept & 1 == 1) {
                kept += 1;
            }
            if kept >> 64 != 0 {
                (kept, exponent) = (kept >> 1, exponent + 1);
            }
        }
        if kept == 0 {
            exponent = LEAST;
        }
        let significand = u64::try_from(kept).ok()?;
        (exponent <= MOST).then_some(Self { negative, significand, exponent })
    }

    /// The sum; `None` if it is too large.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (high, low) =
            if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let apart = (high.exponent - low.exponent).unsigned_abs();
        // As far as there is room; of what goes out on the right it is enough that there is some.
        let left = apart.min(63);
        let right = (apart - left).min(127);
        let a = u128::from(high.significand) << left;
        let b = u128::from(low.significand) >> right;
        let rest = b << right != u128::from(low.significand);
        let exponent = high.exponent - left.cast_signed();
        if high.negative == low.negative {
            return Self::rounded(high.negative, a + b, exponent, rest);
        }
        match a.checked_sub(b) {
            // What is taken away is a bit more than b.
            Some(0) => Some(Self::ZERO),
            Some(n) => Self::rounded(high.negative, n - u128::from(rest), exponent, rest),
            // Only where they are not apart.
            None => Self::rounded(low.negative, b - a, exponent, rest),
        }
    }
}

impl fmt::Display for Extended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exponent >= 0 {
            let mut whole = Big::from(self.significand);
            whole.shift(self.exponent.unsigned_abs());
            return signed(f, self.negative, &whole.digits(), 0);
        }
        let places = self.exponent.unsigned_abs();
        let significand = u128::from(self.significand);
        let mut whole = significand.checked_shr(places).unwrap_or(0);
        // Beyond 2^-127 nothing is left of it.
        let (part, places) = if places > 127 { (0, 127) } else { (significand, places) };
        let (scale, mask) = (10_u128.pow(PLACES), (1_u128 << places) - 1);
        let scaled = (part & mask) * scale;
        let (mut tail, lost) = (scaled >> places, scaled & mask);
        let half = 1_u128 << (places - 1);
        if lost > half || lost == half && tail & 1 == 1 {
            tail += 1;
        }
        if tail == scale {
            (whole, tail) = (whole + 1, 0);
        }
        signed(f, self.negative, &whole.to_string(), tail)
    }
}

/// A sign, if there is anything to have one, and the digits before and behind the point.
fn signed(f: &mut fmt::Formatter<'_>, negative: bool, whole: &str, tail: u128) -> fmt::Result {
    if negative && (whole != "0" || tail != 0) {
        f.write_char('-')?;
    }
    f.write_str(whole)?;
    if tail != 0 {
        let tail = format!("{tail:0width$}", width = PLACES as usize);
        write!(f, ".{}", tail.trim_end_matches('0'))?;
    }
    Ok(())
}

/// Whether the text is the name of a number that is larger than all others.
pub fn is_infinity(text: &[u8]) -> bool {
    let name = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    name.eq_ignore_ascii_case(b"inf") || name.eq_ignore_ascii_case(b"infinity")
}

/// What stands behind the digits: nothing, or `e` and a number (one that is absurd is cut).
fn exponent(text: &[u8]) -> Option<i64> {
    let digits = match text {
        [] => return Some(0),
        [_, b'+' | b'-', digits @ ..] | [_, digits @ ..] => digits,
    };
    if digits.is_empty() {
        return None;
    }
    let mut sum: i64 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        sum = (sum * 10 + i64::from(digit)).min(1 << 20);
    }
    Some(if text.get(1) == Some(&b'-') { -sum } else { sum })
}

/// Decimal digits that fit into 64 bits.
const CHUNK: u32 = 19;

/// A natural number of any size, least significant part first, without zeros at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Big(Vec<u64>);

impl From<u64> for Big {
    fn from(n: u64) -> Self {
        Self(if n == 0 { Vec::new() } else { vec![n] })
    }
}

impl Big {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u32 {
        let parts = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.last().map_or(0, |last| parts * 64 - last.leading_zeros())
    }

    #[allow(clippy::cast_possible_truncation)] // the two halves of a product
    fn times_plus(&mut self, factor: u64, add: u64) {
        let mut carry = u128::from(add);
        for part in &mut self.0 {
            carry += u128::from(*part) * u128::from(factor);
            *part = carry as u64;
            carry >>= 64;
        }
        if carry != 0 {
            self.0.push(carry as u64);
        }
    }

    fn times_ten_to(&mut self, mut power: u64) {
        while power > 0 {
            let some = power.min(u64::from(CHUNK));
            self.times_plus(10_u64.pow(u32::try_from(some).unwrap_or(CHUNK)), 0);
            power -= some;
        }
    }

    /// Writes decimal digits behind it.
    fn append_digits(&mut self, digits: &[u8]) -> Option<()> {
        for chunk in digits.chunks(CHUNK as usize) {
            let (mut sum, mut scale) = (0, 1);
            for digit in chunk {
                let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
                (sum, scale) = (sum * 10 + u64::from(digit), scale * 10);
            }
            self.times_plus(scale, sum);
        }
        Some(())
    }

    /// To the left.
    fn shift(&mut self, by: u32) {
        self.times_plus(1 << (by % 64), 0);
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, (by / 64) as usize));
        }
    }

    fn is_below(&self, other: &Self) -> bool {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())).is_lt()
    }

    /// Takes away what is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (at, part) in self.0.iter_mut().enumerate() {
            let (less, first) = part.overflowing_sub(other.0.get(at).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            (*part, borrow) = (less, first || second);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// The quotient's first bits, more than 64 of them, the power of two to multiply them by, and
    /// whether there is a rest.
    fn divided(mut self, mut by: Self) -> (u128, i32, bool) {
        let (mine, its) = (self.bits(), by.bits());
        if mine < its {
            self.shift(its - mine);
        } else {
            by.shift(mine - its);
        }
        let mut exponent = mine.cast_signed() - its.cast_signed();
        let mut quotient: u128 = 0;
        for _ in 0..68 {
            quotient <<= 1;
            if !self.is_below(&by) {
                self.subtract(&by);
                quotient |= 1;
            }
            self.shift(1);
        }
        exponent -= 67;
        (quotient, exponent, !self.is_zero())
    }

    fn digits(mut self) -> String {
        let scale = 10_u128.pow(CHUNK);
        let mut chunks = Vec::new();
        while !self.is_zero() {
            let mut rest: u128 = 0;
            for part in self.0.iter_mut().rev() {
                rest = rest << 64 | u128::from(*part);
                // Below 2^64, since the rest was below the chunk.
                *part = u64::try_from(rest / scale).unwrap_or(0);
                rest %= scale;
            }
            while self.0.last() == Some(&0) {
                self.0.pop();
            }
            chunks.push(rest);
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{chunk:019}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let read = |text: &str| Extended::parse(text.as_bytes());
        Some(read(a)?.plus(read(b)?)?.to_string())
    }

    /// What redis-server 7.0.15 on x86-64 answered to `SET k a` and `INCRBYFLOAT k b`.
    #[test]
    fn sums_have_the_digits_that_redis_gives_them() {
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("3.0e3", "200", "3200"),
            ("1", "1.1", "2.1"),
            ("10.5", "0.1", "10.6"),
            ("1.5", "-1.5", "0"),
            ("-0", "0", "0"),
            ("1e20", "1", "100000000000000000000"),
            ("17179869184", "1.5", "17179869185.5"),
            ("-1", "0.1", "-0.9"),
            ("1e-17", "0", "0.00000000000000001"),
            ("4.9e-18", "0", "0"),
            ("5e-18", "0", "0"),
            ("1e-4940", "1", "1"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("1e30", "-1e30", "0"),
            ("1e30", "1e-5", "1000000000000000000024696061952"),
            ("123456789012345678901234567890", "0.5", "123456789012345678899921813504"),
            (".5", "5.", "5.5"),
            ("+1", "2", "3"),
            ("0.1", "-0.3", "-0.2"),
            ("1e18", "0.123456789", "1000000000000000000.125"),
            ("3", "0.000000000000000005", "3"),
            ("1.00000000000000000045", "0", "1"),
            ("1e4932", "-1e4932", "0"),
            ("1e40", "1.5", "9999999999999999999783686092270256259072"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("-18446744073709551615", "0.5", "-18446744073709551614"),
            ("36893488147419103233", "0", "36893488147419103232"),
            ("0.99999999999999999951", "0", "1"),
            ("99999999.999999999999999999", "0", "100000000"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "", "-", "+", ".", "e5", "1e", "1e+", "1 ", " 1", "1x", "--1", "nan", "inf", "0x10",
            "1e5000", "1e-5000", "1.2.3", "1e1e1",
        ] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Extended::parse("1".repeat(6000).as_bytes()).is_none());
        let most = "1.18973149535723176502e4932";
        assert_eq!(sum(most, most), None);
    }

    proptest! {
        #[test]
        fn integers_are_exact(a: i64, b: i64) {
            let exact = (i128::from(a) + i128::from(b)).to_string();
            // 65 bits may be lost: then the last is.
            if i64::try_from(i128::from(a) + i128::from(b)).is_ok() {
                prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some(exact));
            }
        }

        #[test]
        fn eighteen_digits_come_back(whole in 0_u64..64, part in 0_u64..1_000_000_000_000_000) {
            let text = format!("{whole}.{part:015}");
            let same = if part == 0 { whole.to_string() } else { text.trim_end_matches('0').to_owned() };
            prop_assert_eq!(sum(&text, "0"), Some(same));
        }

        #[test]
        fn an_f64_is_read_as_it_is(n in proptest::num::f64::NORMAL) {
            let whole = n.trunc();
            prop_assert_eq!(sum(&format!("{whole:e}"), "0").map(|s| s.parse::<f64>().unwrap()), Some(whole));
        }

        #[test]
        fn any_text_ends(text in "[-+0-9.e]{0,30}") {
            if let Some(number) = Extended::parse(text.as_bytes()) {
                let written = number.to_string();
                prop_assert!(Extended::parse(written.as_bytes()).is_some(), "{}", written);
            }
        }
    }
}
