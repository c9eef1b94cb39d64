//! Requests: bytes to arguments, resumable and bounded.
//!
//! ```text
//!  *2\r\n $3\r\nGET\r\n $3\r\nkey\r\n       an array of bulk strings
//!  GET key\r\n                             a line of words
//! ```
//!
//! What must stay true:
//! - an unfinished request is looked at once, however small the pieces are that it comes in: where
//!   decoding stopped is kept, relative to the request's first byte;
//! - arguments are not copied: they are where they were received (words with quotes aside).

use std::ops::Range;

use thiserror::Error;

use super::line;

/// The longest line of words, and the longest line that says a number.
pub const LINE: usize = 64 * 1024;

/// The longest bulk string.
pub const BULK: usize = 512 << 20;

/// The most arguments of one request.
pub const ARGUMENTS: usize = 1 << 20;

/// What a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of a bulk string.
    pub bulk: usize,
    /// Arguments of a request.
    pub arguments: usize,
    /// Somebody who has not said yet who it is: told so where a limit is reached.
    pub stranger: bool,
}

impl Caps {
    /// For somebody who may do what is asked.
    pub const KNOWN: Self = Self { bulk: BULK, arguments: ARGUMENTS, stranger: false };
    /// For somebody who has to say first who it is.
    pub const STRANGER: Self = Self { bulk: 16 * 1024, arguments: 10, stranger: true };
}

/// A request that breaks the protocol, in the words that clients know. It ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The number of arguments is none, or too large.
    #[error("Protocol error: invalid multibulk length")]
    Arguments,
    /// A bulk string's length is none, or too large.
    #[error("Protocol error: invalid bulk length")]
    Bulk,
    /// The same for somebody unknown.
    #[error("Protocol error: unauthenticated multibulk length")]
    StrangeArguments,
    /// The same.
    #[error("Protocol error: unauthenticated bulk length")]
    StrangeBulk,
    /// Something else where a bulk string should begin.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    Expected(u8),
    /// The line that says the number of arguments does not end.
    #[error("Protocol error: too big mbulk count string")]
    LongCount,
    /// The line that says a bulk string's length does not end.
    #[error("Protocol error: too big bulk count string")]
    LongBulk,
    /// A line of words does not end.
    #[error("Protocol error: too big inline request")]
    LongLine,
    /// A quote is not closed.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All of it is there, and it has so many bytes. [`Decoder::args`] has the arguments.
    Whole(usize),
    /// So many bytes asked for nothing.
    Nothing(usize),
    /// More has to come: this many bytes in all at least, counted from the request's first.
    Partial(usize),
}

/// Decodes one request after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the request that have been looked at.
    at: usize,
    /// Arguments still to come; `None` until their number is known.
    left: Option<usize>,
    /// The length of the bulk string that comes next, once known.
    bulk: Option<usize>,
    args: Vec<Range<usize>>,
    /// The words of a line, if it was one.
    words: Vec<u8>,
    is_line: bool,
}

/// The most ranges that are kept from one request to the next.
const KEPT: usize = 1024;

impl Decoder {
    /// Looks at the bytes of the request, from its first on. After [`Step::Whole`] or
    /// [`Step::Nothing`] comes [`Decoder::reset`], and then the next one.
    #[inline]
    pub fn step(&mut self, bytes: &[u8], caps: Caps) -> Result<Step, Malformed> {
        if self.left.is_none() {
            match bytes.first() {
                None => return Ok(Step::Partial(1)),
                Some(b'*') => {}
                Some(_) => return self.line(bytes),
            }
            let Some((count, next)) = number(bytes, 1).map_err(|()| Malformed::Arguments)? else {
                return if bytes.len() > LINE {
                    Err(Malformed::LongCount)
                } else {
                    Ok(more(bytes))
                };
            };
            let above = |limit: usize| i64::try_from(limit).is_ok_and(|limit| count > limit);
            if above(caps.arguments) {
                return Err(if caps.stranger && !above(ARGUMENTS) {
                    Malformed::StrangeArguments
                } else {
                    Malformed::Arguments
                });
            }
            if count <= 0 {
                return Ok(Step::Nothing(next));
            }
            self.left = usize::try_from(count).ok();
            self.at = next;
        }
        self.bulks(bytes, caps)
    }

    #[inline]
    fn bulks(&mut self, bytes: &[u8], caps: Caps) -> Result<Step, Malformed> {
        let mut left = self.left.unwrap_or(0);
        while left > 0 {
            let known = match self.bulk {
                None => self.bulk_length(bytes, caps)?,
                known => known,
            };
            let Some(length) = known else {
                self.left = Some(left);
                return Ok(more(bytes));
            };
            let end = self.at + length;
            if bytes.len() < end + 2 {
                (self.left, self.bulk) = (Some(left), Some(length));
                return Ok(Step::Partial(end + 2));
            }
            self.args.push(self.at..end);
            self.at = end + 2;
            self.bulk = None;
            left -= 1;
        }
        Ok(Step::Whole(self.at))
    }

    /// The length that is said next, if its line is whole.
    #[inline]
    fn bulk_length(&mut self, bytes: &[u8], caps: Caps) -> Result<Option<usize>, Malformed> {
        match bytes.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(Malformed::Expected(other)),
        }
        let Some((length, next)) = number(bytes, self.at + 1).map_err(|()| Malformed::Bulk)? else {
            let long = bytes.len() - self.at > LINE;
            return if long { Err(Malformed::LongBulk) } else { Ok(None) };
        };
        let length = usize::try_from(length).map_err(|_| Malformed::Bulk)?;
        if length > caps.bulk {
            let strange = caps.stranger && length <= BULK;
            return Err(if strange { Malformed::StrangeBulk } else { Malformed::Bulk });
        }
        self.at = next;
        Ok(Some(length))
    }

    fn line(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let fresh = bytes.get(self.at..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|&b| b == b'\n').map(|end| self.at + end) else {
            if bytes.len() > LINE {
                return Err(Malformed::LongLine);
            }
            self.at = bytes.len();
            return Ok(Step::Partial(bytes.len() + 1));
        };
        if end > LINE {
            return Err(Malformed::LongLine);
        }
        let text = bytes.get(..end).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        line::split(text, &mut self.words, &mut self.args).ok_or(Malformed::Quotes)?;
        self.is_line = true;
        Ok(if self.args.is_empty() { Step::Nothing(end + 1) } else { Step::Whole(end + 1) })
    }

    /// The arguments of the request that is whole, given the same bytes.
    #[inline]
    pub fn args<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        Args { bytes: if self.is_line { &self.words } else { bytes }, ranges: &self.args }
    }

    /// Begins with the next request.
    #[inline]
    pub fn reset(&mut self) {
        (self.at, self.left, self.bulk, self.is_line) = (0, None, None, false);
        self.args.clear();
        if self.args.capacity() > KEPT {
            self.args = Vec::new();
        }
        if self.words.capacity() > 0 {
            self.words = Vec::new();
        }
    }

    /// Bytes that it keeps of a request that has begun.
    #[inline]
    pub fn footprint(&self) -> usize {
        if self.left.is_none() {
            return 0;
        }
        self.args.capacity() * size_of::<Range<usize>>() + self.words.capacity()
    }
}

/// At least a byte more.
fn more(bytes: &[u8]) -> Step {
    Step::Partial(bytes.len() + 1)
}

/// The number in the line that begins at `from`, and where the next one begins; `None` if the line
/// has not ended.
#[inline]
fn number(bytes: &[u8], from: usize) -> Result<Option<(i64, usize)>, ()> {
    let rest = bytes.get(from..).unwrap_or_default();
    // Mostly one or two digits.
    match rest {
        [a @ b'0'..=b'9', b'\r', b'\n', ..] => return Ok(Some((i64::from(a - b'0'), from + 3))),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            let number = i64::from(a - b'0') * 10 + i64::from(b - b'0');
            return Ok(Some((number, from + 4)));
        }
        _ => {}
    }
    let Some(end) = rest.iter().take(LINE).position(|&b| b == b'\r') else { return Ok(None) };
    if end + 1 >= rest.len() {
        return Ok(None);
    }
    let text = rest.get(..end).unwrap_or_default();
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(())?;
    if text.starts_with(b"+") {
        return Err(());
    }
    Ok(Some((number, from + end + 2)))
}

/// The request that begins at `from`, for who takes many at once: appends where its arguments are,
/// some `most` at most, and gives where the next one begins. `None`, and nothing is appended, if it
/// is not whole, has none or more, is a line of words, or breaks the protocol: then it is the
/// [`Decoder`]'s.
#[inline]
pub fn whole(
    bytes: &[u8],
    from: usize,
    most: usize,
    args: &mut Vec<Range<usize>>,
) -> Option<usize> {
    let before = args.len();
    let next = bulks(bytes, from, most, args);
    if next.is_none() {
        args.truncate(before);
    }
    next
}

#[inline]
fn bulks(bytes: &[u8], from: usize, most: usize, args: &mut Vec<Range<usize>>) -> Option<usize> {
    if bytes.get(from) != Some(&b'*') {
        return None;
    }
    let (count, mut at) = number(bytes, from + 1).ok()??;
    let count = usize::try_from(count).ok().filter(|count| (1..=most).contains(count))?;
    for _ in 0..count {
        if bytes.get(at) != Some(&b'$') {
            return None;
        }
        let (length, next) = number(bytes, at + 1).ok()??;
        let end = next.checked_add(usize::try_from(length).ok()?)?;
        at = end.checked_add(2)?;
        if at > bytes.len() {
            return None;
        }
        args.push(next..end);
    }
    Some(at)
}

/// The arguments of a request, the first of which is its command's name.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// The arguments that lie there.
    pub const fn new(bytes: &'a [u8], ranges: &'a [Range<usize>]) -> Self {
        Self { bytes, ranges }
    }

    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// One of them.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.ranges.get(at)?.clone())
    }

    /// One of them; nothing if it is not there.
    #[inline]
    pub fn at(&self, at: usize) -> &'a [u8] {
        self.get(at).unwrap_or_default()
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + '_ + use<'a, '_> {
        self.ranges.iter().map(|range| self.bytes.get(range.clone()).unwrap_or_default())
    }

    /// Bytes from the beginning of the first to the end of the last.
    #[inline]
    pub fn span(&self) -> usize {
        match (self.ranges.first(), self.ranges.last()) {
            (Some(first), Some(last)) => last.end.saturating_sub(first.start),
            _ => 0,
        }
    }

    /// All from this one on.
    #[must_use]
    pub fn from(&self, at: usize) -> Self {
        Self { bytes: self.bytes, ranges: self.ranges.get(at..).unwrap_or_default() }
    }
}
