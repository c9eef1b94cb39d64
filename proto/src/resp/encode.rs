//! Replies: values to bytes, in version 2 or 3.
//!
//! What version 3 has a form for and version 2 has not is said in version 2 as clients know it: a
//! map is a flat array, a null is a null bulk string, a double is a string.

use std::fmt::Display;
use std::io::Write;

/// Appends replies.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    three: bool,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`, in version 3 or 2.
    #[inline]
    pub const fn new(out: &'a mut Vec<u8>, three: bool) -> Self {
        Self { out, three }
    }

    /// Whether it is version 3.
    pub const fn is_three(&self) -> bool {
        self.three
    }

    /// Goes on in version 3 or 2.
    pub const fn speak(&mut self, three: bool) {
        self.three = three;
    }

    /// Where it appends to.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A word, without line breaks.
    pub fn simple(&mut self, word: &str) {
        self.line(b'+', word);
    }

    /// An error, its class in front: `ERR no such key`. Line breaks become spaces.
    pub fn error(&mut self, text: impl Display) {
        self.out.push(b'-');
        let from = self.out.len();
        self.display(text);
        for byte in self.out.get_mut(from..).unwrap_or_default() {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.end();
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        self.number(b':', number);
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bulk_head(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self.end();
    }

    /// The head of a bulk string whose bytes, and [`Encoder::end`], are appended by somebody else.
    #[inline]
    pub fn bulk_head(&mut self, length: u64) {
        self.number(b'$', i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// The end of a line, or of a bulk string.
    #[inline]
    pub fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string of what is displayed.
    pub fn text(&mut self, text: impl Display) {
        let text = text.to_string();
        self.bulk(text.as_bytes());
    }

    /// A text for people.
    pub fn verbatim(&mut self, text: &str) {
        if self.three {
            self.number(b'=', i64::try_from(text.len() + 4).unwrap_or(i64::MAX));
            self.out.extend_from_slice(b"txt:");
            self.out.extend_from_slice(text.as_bytes());
            self.end();
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// Nothing there.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.three { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Nothing there, where an array is expected.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.three { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array of so many replies.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.number(b'*', i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The head of a map of so many pairs.
    pub fn map(&mut self, pairs: usize) {
        if self.three {
            self.number(b'%', i64::try_from(pairs).unwrap_or(i64::MAX));
        } else {
            self.array(pairs * 2);
        }
    }

    /// The head of a set.
    pub fn set(&mut self, count: usize) {
        self.number(if self.three { b'~' } else { b'*' }, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Yes or no.
    pub fn boolean(&mut self, yes: bool) {
        if self.three {
            self.out.extend_from_slice(if yes { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.integer(i64::from(yes));
        }
    }

    /// A double.
    pub fn double(&mut self, number: f64) {
        if self.three {
            self.out.push(b',');
            self.display(number);
            self.end();
        } else {
            self.text(number);
        }
    }

    fn line(&mut self, kind: u8, text: &str) {
        self.out.push(kind);
        self.out.extend_from_slice(text.as_bytes());
        self.end();
    }

    fn display(&mut self, text: impl Display) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{text}");
    }

    #[inline]
    fn number(&mut self, kind: u8, number: i64) {
        const ROOM: usize = 24;
        let mut room = [0; ROOM];
        let mut at = ROOM - 2;
        let mut rest = number.unsigned_abs();
        let mut put = |at: usize, byte: u8| {
            if let Some(place) = room.get_mut(at) {
                *place = byte;
            }
        };
        put(ROOM - 2, b'\r');
        put(ROOM - 1, b'\n');
        loop {
            at -= 1;
            put(at, b'0' + u8::try_from(rest % 10).unwrap_or(0));
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            put(at, b'-');
        }
        at -= 1;
        put(at, kind);
        self.out.extend_from_slice(room.get(at..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(three: bool, encode: impl FnOnce(&mut Encoder<'_>)) -> String {
        let mut out = Vec::new();
        encode(&mut Encoder::new(&mut out, three));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_at_their_ends() {
        for n in [0, 1, -1, 10, 99, i64::MAX, i64::MIN] {
            assert_eq!(encoded(false, |e| e.integer(n)), format!(":{n}\r\n"));
        }
        assert_eq!(encoded(false, |e| e.bulk(b"abc")), "$3\r\nabc\r\n");
    }

    #[test]
    fn version_2_says_the_same_in_its_own_forms() {
        let null = |e: &mut Encoder<'_>| e.null();
        assert_eq!(encoded(false, null), "$-1\r\n");
        assert_eq!(encoded(true, null), "_\r\n");
        assert_eq!(encoded(false, |e| e.map(2)), "*4\r\n");
        assert_eq!(encoded(true, |e| e.map(2)), "%2\r\n");
        assert_eq!(encoded(false, |e| e.boolean(true)), ":1\r\n");
        assert_eq!(encoded(true, |e| e.verbatim("hi")), "=6\r\ntxt:hi\r\n");
        assert_eq!(encoded(true, |e| e.double(1.5)), ",1.5\r\n");
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(encoded(false, |e| e.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }
}
