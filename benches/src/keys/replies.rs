//! Counts replies in a stream of them: strings, numbers, errors, nulls. Nothing nests here. Or frames
//! of our own protocol.

use anyhow::{Context, Result, bail};
use objmapper_proto::{Header, Op, limits};

use crate::cli::kv::Protocol;

/// What has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Replies that ended.
    pub(crate) replies: u64,
    /// Errors among them.
    pub(crate) errors: u64,
    /// Keys that were not there.
    pub(crate) nulls: u64,
    /// Strings of another length than expected.
    pub(crate) odd: u64,
}

/// Where in a reply the stream is.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The first byte and the number of a line that has begun.
    kind: u8,
    number: i64,
    minus: bool,
    /// Bytes of a string still to come, with its end.
    body: u64,
    pub(crate) seen: Seen,
    /// The length that strings shall have.
    expected: u64,
    /// The first error, for people.
    pub(crate) said: Option<String>,
    /// What has come of a frame's head, in our own protocol.
    frames: Option<Vec<u8>>,
    /// A frame whose head was seen.
    begun: bool,
}

impl Replies {
    /// None yet; strings shall have this length.
    pub(crate) fn expecting(protocol: Protocol, length: u64) -> Self {
        let frames = (protocol == Protocol::Objm).then(Vec::new);
        Self { frames, expected: length, ..Self::default() }
    }

    /// Goes through the bytes that came.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        if self.frames.is_some() { self.feed_frames(bytes) } else { self.feed_lines(bytes) }
    }

    /// In our own protocol: a reply is a frame. No more than the head of one is kept.
    fn feed_frames(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(head) = &mut self.frames else { return Ok(()) };
        loop {
            let skip = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
            bytes = bytes.get(skip..).unwrap_or_default();
            self.body -= skip as u64;
            if self.body > 0 {
                return Ok(());
            }
            self.seen.replies += u64::from(std::mem::take(&mut self.begun));
            let (part, rest) = bytes.split_at(bytes.len().min(limits::HEADER - head.len()));
            head.extend_from_slice(part);
            bytes = rest;
            if head.len() < limits::HEADER {
                return Ok(());
            }
            let header = Header::decode(head).context("a frame")?;
            head.clear();
            (self.begun, self.body) = (true, header.length.into());
            match Op::from_u8(header.op) {
                Some(Op::Object) => self.seen.odd += u64::from(self.body < self.expected),
                Some(Op::KvDone) => {}
                _ => {
                    self.seen.errors += 1;
                    self.said.get_or_insert_with(|| format!("a frame of op {}", header.op));
                }
            }
        }
    }

    fn feed_lines(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            if self.body > 0 {
                let skip = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(skip..).unwrap_or_default();
                self.body -= skip as u64;
                if self.body > 0 {
                    return Ok(());
                }
                self.seen.replies += 1;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            if self.kind == 0 {
                (self.kind, self.number, self.minus) = (byte, 0, false);
                if byte == b'-' && self.said.is_none() {
                    let line = bytes.split(|&b| b == b'\r').next().unwrap_or_default();
                    self.said = Some(String::from_utf8_lossy(line).into_owned());
                }
                bytes = rest;
                continue;
            }
            match byte {
                b'\n' => self.line()?,
                b'-' => self.minus = true,
                b'0'..=b'9' if self.kind == b'$' => {
                    self.number = self.number.saturating_mul(10) + i64::from(byte - b'0');
                }
                _ => {}
            }
            bytes = rest;
        }
    }

    fn line(&mut self) -> Result<()> {
        let kind = std::mem::take(&mut self.kind);
        if kind == b'$' && !self.minus {
            self.body = self.number.unsigned_abs() + 2;
            self.seen.odd += u64::from(self.number.unsigned_abs() != self.expected);
            return Ok(());
        }
        match kind {
            b'$' => self.seen.nulls += 1,
            b'-' => self.seen.errors += 1,
            b'+' | b':' => {}
            other => bail!("a reply begins with '{}'", other.escape_ascii()),
        }
        self.seen.replies += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_count() {
        let stream = b"+OK\r\n$3\r\na\r\n\r\n$-1\r\n-ERR 12\r\n:5\r\n$0\r\n\r\n$4\r\nabcd\r\n";
        let expected = Seen { replies: 7, errors: 1, nulls: 1, odd: 2 };
        for piece in 1..stream.len() {
            let mut replies = Replies { expected: 3, ..Replies::default() };
            stream.chunks(piece).for_each(|bytes| replies.feed(bytes).unwrap());
            assert_eq!(replies.seen, expected, "{piece}");
        }
    }
}
