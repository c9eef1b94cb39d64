//! Little-endian reading and writing of fixed fields.
//!
//! `Reader` hands out what is there and says `None` past the end; it never
//! panics and never copies.

/// A position in a borrowed buffer.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}

/// A fixed-size record under construction; it lives on the stack.
pub(crate) struct Record<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Record<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    #[inline]
    pub(crate) fn put<const M: usize>(mut self, field: [u8; M]) -> Self {
        if let Some(slot) = self.bytes.get_mut(self.at..self.at + M) {
            slot.copy_from_slice(&field);
        }
        self.at += M;
        self
    }

    #[inline]
    pub(crate) fn done(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "every byte of a record is written");
        self.bytes
    }
}

/// Length of a field whose bound was checked before it was written.
#[inline]
pub(crate) fn len16(bytes: &[u8]) -> u16 {
    debug_assert!(u16::try_from(bytes.len()).is_ok());
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// As [`len16`], for 32-bit lengths.
#[inline]
pub(crate) fn len32(bytes: &[u8]) -> u32 {
    debug_assert!(u32::try_from(bytes.len()).is_ok());
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
