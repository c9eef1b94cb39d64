//! Heads of files and of records as bytes. FORMAT.md says what they mean.

/// Bytes of a file's head.
pub(crate) const FILE_HEAD: usize = 32;

/// Bytes of a record's head.
pub(crate) const RECORD_HEAD: usize = 28;

/// The longest payload.
const LONGEST: u64 = (1 << 48) - 1;

/// The last number: nobody counts so far, and one more is still a number.
pub(crate) const LAST: u64 = 1 << 62;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Snapshot,
}

impl FileKind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"OBJMJRN1",
            Self::Snapshot => b"OBJMSNP1",
        }
    }
}

/// What the checksums of a file's records begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) u64);

impl Salt {
    /// By chance: from what the standard library hashes with, which the kernel gave it.
    pub(crate) fn by_chance() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    #[allow(clippy::cast_possible_truncation)] // the lower half
    const fn of_heads(self) -> u32 {
        self.0 as u32
    }

    /// What the checksum of a payload begins with.
    #[inline]
    pub(crate) const fn begin(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The checksum of a payload.
    #[inline]
    pub(crate) fn checksum(self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(self.begin(), payload)
    }
}

/// The head of a file.
pub(crate) fn file_head(kind: FileKind, salt: Salt, first: u64) -> [u8; FILE_HEAD] {
    let mut head = [0; FILE_HEAD];
    let (front, sum) = head.split_at_mut(28);
    put(front, 0, kind.magic());
    put(front, 8, &salt.0.to_le_bytes());
    put(front, 16, &first.to_le_bytes());
    sum.copy_from_slice(&crc32c::crc32c(front).to_le_bytes());
    head
}

/// The salt and the first number of a file of this kind; `None` if this is no such head.
pub(crate) fn read_file_head(kind: FileKind, head: &[u8]) -> Option<(Salt, u64)> {
    let (front, sum) = head.get(..FILE_HEAD)?.split_at(28);
    let holds = front.starts_with(kind.magic()) && sum == crc32c::crc32c(front).to_le_bytes();
    let word = |at: usize| Some(u64::from_le_bytes(front.get(at..at + 8)?.try_into().ok()?));
    let first = word(16).filter(|first| (1..=LAST).contains(first))?;
    holds.then_some((Salt(word(8)?), first))
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Ops = 0,
    End = 1,
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Bytes of the payload.
    pub(crate) length: u64,
    pub(crate) number: u64,
    /// All numbers up to this one were durable when it was made.
    pub(crate) durable: u64,
    /// Of the payload.
    pub(crate) checksum: u32,
}

impl Head {
    #[inline]
    pub(crate) fn encode(&self, salt: Salt) -> [u8; RECORD_HEAD] {
        let mut head = [0; RECORD_HEAD];
        let (front, sum) = head.split_at_mut(24);
        let behind = u32::try_from(self.number - self.durable).unwrap_or(u32::MAX);
        put(front, 0, &(self.length & LONGEST | (self.kind as u64) << 48).to_le_bytes());
        put(front, 8, &self.number.to_le_bytes());
        put(front, 16, &behind.to_le_bytes());
        put(front, 20, &self.checksum.to_le_bytes());
        sum.copy_from_slice(&crc32c::crc32c_append(salt.of_heads(), front).to_le_bytes());
        head
    }

    /// `None` if this is no head of a record of that salt.
    #[inline]
    pub(crate) fn decode(head: &[u8], salt: Salt) -> Option<Self> {
        let (front, sum) = head.get(..RECORD_HEAD)?.split_at(24);
        if sum != crc32c::crc32c_append(salt.of_heads(), front).to_le_bytes() {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(front.get(at..at + 8)?.try_into().ok()?));
        let half = |at: usize| Some(u32::from_le_bytes(front.get(at..at + 4)?.try_into().ok()?));
        let (first, number, behind) = (word(0)?, word(8)?, half(16)?);
        if !(1..=LAST).contains(&number) {
            return None;
        }
        let kind = match first >> 48 {
            0 => Kind::Ops,
            1 => Kind::End,
            _ => return None,
        };
        let durable = if behind == u32::MAX { 0 } else { number.checked_sub(behind.into())? };
        Some(Self { kind, length: first & LONGEST, number, durable, checksum: half(20)? })
    }
}

#[inline]
fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// What the last record of a snapshot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Records from this number on are to be done over it.
    pub(crate) next: u64,
    pub(crate) keys: u64,
    /// Milliseconds since 1970.
    pub(crate) begun: i64,
}

impl End {
    pub(crate) fn encode(&self) -> [u8; 24] {
        let mut out = [0; 24];
        put(&mut out, 0, &self.next.to_le_bytes());
        put(&mut out, 8, &self.keys.to_le_bytes());
        put(&mut out, 16, &self.begun.to_le_bytes());
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let [next, keys, begun] = payload.as_chunks::<8>().0 else { return None };
        Some(Self {
            next: u64::from_le_bytes(*next),
            keys: u64::from_le_bytes(*keys),
            begun: i64::from_le_bytes(*begun),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            length in 0..=LONGEST,
            number in 1..=LAST,
            behind in 0..1000_u64,
            checksum: u32,
            salt: u64,
            bit in 0..RECORD_HEAD * 8,
        ) {
            let durable = number.saturating_sub(behind);
            let head = Head { kind: Kind::End, length, number, durable, checksum };
            let mut bytes = head.encode(Salt(salt));
            prop_assert_eq!(Head::decode(&bytes, Salt(salt)), Some(head));
            prop_assert_eq!(Head::decode(&bytes, Salt(salt ^ 1)), None);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Head::decode(&bytes, Salt(salt)), None);
        }

        #[test]
        fn a_file_says_what_it_is(salt: u64, first in 1..=LAST, bit in 0..FILE_HEAD * 8) {
            let mut bytes = file_head(FileKind::Segment, Salt(salt), first);
            prop_assert_eq!(read_file_head(FileKind::Segment, &bytes), Some((Salt(salt), first)));
            prop_assert_eq!(read_file_head(FileKind::Snapshot, &bytes), None);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(read_file_head(FileKind::Segment, &bytes), None);
        }
    }

    #[test]
    fn an_end_says_what_it_ends() {
        let end = End { next: 7, keys: 3, begun: -1 };
        assert_eq!(End::decode(&end.encode()), Some(end));
        assert_eq!(End::decode(&[0; 23]), None);
    }
}
