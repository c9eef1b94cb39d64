//! Values as text: numbers that are counted up, bytes that are added to.

use super::extended::{Extended, is_infinity};
use super::hold::Hold;
use super::keyspace::Key;
use super::{Content, Expiry, Fault};

/// Digits of the longest integer, with its sign.
const DIGITS: usize = 20;

/// The longest value that is read as a number, in bytes.
const NUMBER_BYTES: u64 = 8 * 1024;

impl Hold<'_> {
    /// Adds to the integer under a key, 0 if there is none; gives the sum. Its expiry stays.
    pub fn add(&mut self, key: &Key<'_>, by: i64) -> Result<i64, Fault> {
        let old = match self.peek(key) {
            None => 0,
            Some(value) if value.len() > DIGITS as u64 => return Err(Fault::NotInteger),
            Some(value) => integer(&value.bytes()?).ok_or(Fault::NotInteger)?,
        };
        let sum = old.checked_add(by).ok_or(Fault::Overflow)?;
        let mut text = [0; DIGITS];
        self.set(key, Content::Bytes(digits(sum, &mut text)), Expiry::Kept)?;
        Ok(sum)
    }

    /// Adds to the number under a key, 0 if there is none, as [`Extended`] does; gives the sum as it
    /// is written. Its expiry stays.
    pub fn add_number(&mut self, key: &Key<'_>, by: &[u8]) -> Result<String, Fault> {
        let old = match self.peek(key) {
            None => Some(Extended::ZERO),
            Some(value) if value.len() > NUMBER_BYTES => return Err(Fault::NotNumber),
            Some(value) => number(&value.bytes()?)?,
        };
        let sum = old.zip(number(by)?).and_then(|(old, by)| old.plus(by));
        let sum = sum.ok_or(Fault::NotFinite)?.to_string();
        self.set(key, Content::Bytes(sum.as_bytes()), Expiry::Kept)?;
        Ok(sum)
    }

    /// Appends bytes to the value under a key; gives its length then. Its expiry stays.
    pub fn append(&mut self, key: &Key<'_>, bytes: &[u8]) -> Result<u64, Fault> {
        let length = self.peek(key).map_or(0, |value| value.len());
        self.write_at(key, length, bytes)
    }
}

/// The number that these bytes spell; `None` if it is infinite.
fn number(text: &[u8]) -> Result<Option<Extended>, Fault> {
    match Extended::parse(text) {
        None if !is_infinity(text) => Err(Fault::NotNumber),
        number => Ok(number),
    }
}

/// The integer that these bytes spell, in the one way that they are written: no sign but `-`, no
/// leading zeros, no space.
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, all) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match all {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if all.len() < DIGITS => {}
        _ => return None,
    }
    let mut sum: i64 = 0;
    for &digit in all {
        let digit = i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        // Downwards, since there is one more below zero.
        sum = sum.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(sum) } else { sum.checked_neg() }
}

/// Spells an integer.
#[inline]
pub fn digits(number: i64, out: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        if let Some(place) = out.get_mut(at) {
            // Below ten.
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        if let Some(place) = out.get_mut(at) {
            *place = b'-';
        }
    }
    out.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_go_there_and_back(n: i64) {
            let mut room = [0; DIGITS];
            let text = digits(n, &mut room);
            prop_assert_eq!(text.to_vec(), n.to_string().into_bytes());
            prop_assert_eq!(integer(text), Some(n));
        }
    }

    #[test]
    fn other_spellings_are_no_integers() {
        for n in [i64::MIN, i64::MAX, 0, -1] {
            assert_eq!(integer(n.to_string().as_bytes()), Some(n));
        }
        for text in ["", "-", "-0", "01", "+1", " 1", "1 ", "1a", "9223372036854775808"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }
}
