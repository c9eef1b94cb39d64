//! A request as a line of words, as somebody types it.
//!
//! Words are parted by white space. In double quotes `\n \r \t \b \a \\ \" \xHH` stand for bytes,
//! in single quotes only `\'`; a quote that closes must be followed by white space or the end.

use std::ops::Range;

/// Puts the words into `words`, and where each is into `ranges`; `None` if a quote is not closed.
pub fn split(line: &[u8], words: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(());
        }
        let start = words.len();
        rest = word(rest, words)?;
        ranges.push(start..words.len());
    }
}

/// Takes one word off the front.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [b, ..] if b.is_ascii_whitespace() || *b == 0 => return rest.get(1..),
            [b'"', inner @ ..] => return closed(double(inner, out)?),
            [b'\'', inner @ ..] => return closed(single(inner, out)?),
            [b, tail @ ..] => {
                out.push(*b);
                rest = tail;
            }
        }
    }
}

fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest)
}

fn double<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', b'x', a, b, tail @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                (hex(*a) << 4 | hex(*b), tail)
            }
            [b'\\', b, tail @ ..] => (escaped(*b), tail),
            [b, tail @ ..] => (*b, tail),
        };
        out.push(byte);
        rest = tail;
    }
}

fn single<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [b, tail @ ..] => (*b, tail),
        };
        out.push(byte);
        rest = tail;
    }
}

const fn escaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut out, mut ranges) = (Vec::new(), Vec::new());
        split(line, &mut out, &mut ranges)?;
        Some(ranges.into_iter().map(|range| out.get(range).unwrap().to_vec()).collect())
    }

    #[test]
    fn words_and_quotes() {
        let same = |line: &[u8], expected: &[&[u8]]| {
            assert_eq!(words(line), Some(expected.iter().map(|w| w.to_vec()).collect()));
        };
        same(b"  set  k v ", &[b"set", b"k", b"v"]);
        same(b"set k \"a b\\n\\x00\\\"\"", &[b"set", b"k", b"a b\n\0\""]);
        same(b"'it\\'s' \"\"", &[b"it's", b""]);
        same(b"", &[]);
    }

    #[test]
    fn a_quote_must_close_and_end_its_word() {
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\"] {
            assert_eq!(words(line), None, "{}", line.escape_ascii());
        }
    }
}
