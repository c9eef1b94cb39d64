//! One entry of the keyspace, packed: header, expiry, key and value in one allocation.
//!
//! ```text
//!  0      flags
//!  1..4   access: what eviction knows of it (24 bits)
//!  4..8   length of the key
//!  8..16  expiry, milliseconds since 1970     only with EXPIRES
//!         key
//!         value, or the number of a large one
//! ```
//!
//! A million small keys are a million allocations and 24 bytes each beside key and value (16 of
//! them are the pointer to it); separate ones for key, value and expiry would be three times that.

use objmapper_os as os;

use super::value::Stored;

const EXPIRES: u8 = 1;
const LARGE: u8 = 2;
const HEADER: usize = 8;
const WHEN: usize = 8;

/// An entry. Integers are little-endian.
#[derive(Debug)]
pub(super) struct Record(Box<[u8]>);

impl Record {
    /// Its key.
    #[inline]
    pub(super) fn name(&self) -> &[u8] {
        let start = self.key_at();
        self.0.get(start..start + self.key_len()).unwrap_or_default()
    }

    /// Asks for it to be brought near: its first two cache lines.
    #[inline]
    pub(super) fn prefetch(&self) {
        os::memory::prefetch(&*self.0);
        if let Some(second) = self.0.get(64) {
            os::memory::prefetch(second);
        }
    }

    /// An entry with this content.
    pub(super) fn new(key: &[u8], value: Stored<'_>, expiry: Option<i64>, access: u32) -> Self {
        let (flag, value): (u8, &[u8]) = match &value {
            Stored::Bytes(bytes) => (0, bytes),
            Stored::Large(number) => (LARGE, &number.to_le_bytes()),
        };
        let flags = flag | if expiry.is_some() { EXPIRES } else { 0 };
        let length = HEADER + expiry.map_or(0, |_| WHEN) + key.len() + value.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.push(flags);
        bytes.extend_from_slice(access.to_le_bytes().get(..3).unwrap_or_default());
        // Keys are at most 512 MiB.
        bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
        if let Some(when) = expiry {
            bytes.extend_from_slice(&when.to_le_bytes());
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Self(bytes.into_boxed_slice())
    }

    /// Bytes that it takes, its slot aside.
    #[inline]
    pub(super) fn footprint(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    #[inline]
    fn key_at(&self) -> usize {
        if self.flags() & EXPIRES == 0 { HEADER } else { HEADER + WHEN }
    }

    #[inline]
    fn key_len(&self) -> usize {
        self.0.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
    }

    /// When it ends, in milliseconds since 1970.
    #[inline]
    pub(super) fn expiry(&self) -> Option<i64> {
        if self.flags() & EXPIRES == 0 {
            return None;
        }
        let when = self.0.get(HEADER..HEADER + WHEN)?;
        when.try_into().ok().map(i64::from_le_bytes)
    }

    /// What it holds.
    #[inline]
    pub(super) fn value(&self) -> Stored<'_> {
        let bytes = self.0.get(self.key_at() + self.key_len()..).unwrap_or_default();
        match bytes.try_into() {
            Ok(number) if self.flags() & LARGE != 0 => Stored::Large(u32::from_le_bytes(number)),
            _ => Stored::Bytes(bytes),
        }
    }

    /// The value's own bytes, to be written over: their number stays.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if self.flags() & LARGE != 0 {
            return None;
        }
        let at = self.key_at() + self.key_len();
        self.0.get_mut(at..)
    }

    /// What eviction knows of it: 24 bits.
    #[inline]
    pub(super) fn access(&self) -> u32 {
        match self.0.get(1..4) {
            Some(&[a, b, c]) => u32::from_le_bytes([a, b, c, 0]),
            _ => 0,
        }
    }

    /// Sets it.
    #[inline]
    pub(super) fn set_access(&mut self, access: u32) {
        if let (Some(place), Some(bytes)) = (self.0.get_mut(1..4), access.to_le_bytes().get(..3)) {
            place.copy_from_slice(bytes);
        }
    }

    /// Sets another expiry where there is one already, in place; false if there is none.
    pub(super) fn set_expiry(&mut self, when: i64) -> bool {
        let has = self.flags() & EXPIRES != 0;
        if let Some(place) = self.0.get_mut(HEADER..HEADER + WHEN)
            && has
        {
            place.copy_from_slice(&when.to_le_bytes());
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            key in proptest::collection::vec(any::<u8>(), 0..50),
            value in proptest::collection::vec(any::<u8>(), 0..50),
            expiry in proptest::option::of(any::<i64>()),
            access in 0_u32..1 << 24,
        ) {
            let mut record = Record::new(&key, Stored::Bytes(&value), expiry, access);
            prop_assert_eq!(record.name(), &key[..]);
            prop_assert_eq!(record.value(), Stored::Bytes(&value));
            prop_assert_eq!(record.expiry(), expiry);
            prop_assert_eq!(record.access(), access);
            prop_assert_eq!(record.set_expiry(7), expiry.is_some());
            prop_assert_eq!(record.expiry(), expiry.map(|_| 7));
            record.set_access(5);
            record.bytes_mut().unwrap().fill(b'x');
            prop_assert_eq!(record.value(), Stored::Bytes(&vec![b'x'; value.len()]));
            prop_assert_eq!((record.access(), record.name()), (5, &key[..]));
        }

        #[test]
        fn a_large_value_is_a_number(key in proptest::collection::vec(any::<u8>(), 0..9)) {
            let record = Record::new(&key, Stored::Large(77), Some(1), 0);
            prop_assert_eq!(record.value(), Stored::Large(77));
            prop_assert_eq!(record.name(), &key[..]);
        }
    }
}
