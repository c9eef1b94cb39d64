//! What the journal is told: what a key is from now on, not what was asked for.
//!
//! Each operation says what is, so that doing one twice, or to a state that has it already, gives
//! the same: a snapshot may be taken shard by shard while others write, and what the journal says
//! since its beginning is replayed over it. Nothing depends on a clock: what expires or is evicted
//! is removed by an operation as well.
//!
//! ```text
//!  u8 kind  u8 database  u32 key length  key  …      little-endian
//!    1 set       u8 has expiry  [i64 expiry]  u32 length  value
//!    2 remove
//!    3 expire    u8 has expiry  [i64 expiry]
//!    4 write     u64 offset  u32 length  bytes
//!    5 clear     (no key: length 0)
//! ```

const SET: u8 = 1;
const REMOVE: u8 = 2;
const EXPIRE: u8 = 3;
const WRITE: u8 = 4;
const CLEAR: u8 = 5;

/// One operation, as it is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op<'a> {
    /// The key has this value and ends then.
    Set {
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// Milliseconds since 1970.
        expiry: Option<i64>,
    },
    /// The key is gone.
    Remove {
        /// Which.
        key: &'a [u8],
    },
    /// The key ends then, or does not.
    Expire {
        /// Which.
        key: &'a [u8],
        /// Milliseconds since 1970.
        expiry: Option<i64>,
    },
    /// The value has these bytes from the offset on, and zeros where there was nothing before.
    Write {
        /// Its key.
        key: &'a [u8],
        /// In bytes.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The database is empty.
    Clear,
}

pub(super) fn set(out: &mut Vec<u8>, db: u8, key: &[u8], value: &[u8], expiry: Option<i64>) {
    set_head(out, db, key, value.len(), expiry);
    out.extend_from_slice(value);
}

/// The same without the value's bytes, so many, which follow.
pub(super) fn set_head(out: &mut Vec<u8>, db: u8, key: &[u8], bytes: usize, expiry: Option<i64>) {
    head(out, SET, db, key);
    when(out, expiry);
    length(out, bytes);
}

pub(super) fn remove(out: &mut Vec<u8>, db: u8, key: &[u8]) {
    head(out, REMOVE, db, key);
}

pub(super) fn expire(out: &mut Vec<u8>, db: u8, key: &[u8], expiry: Option<i64>) {
    head(out, EXPIRE, db, key);
    when(out, expiry);
}

pub(super) fn write(out: &mut Vec<u8>, db: u8, key: &[u8], offset: u64, bytes: &[u8]) {
    head(out, WRITE, db, key);
    out.extend_from_slice(&offset.to_le_bytes());
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(super) fn clear(out: &mut Vec<u8>, db: u8) {
    head(out, CLEAR, db, &[]);
}

#[inline]
fn head(out: &mut Vec<u8>, kind: u8, db: u8, key: &[u8]) {
    out.extend_from_slice(&[kind, db]);
    length(out, key.len());
    out.extend_from_slice(key);
}

fn when(out: &mut Vec<u8>, expiry: Option<i64>) {
    out.push(u8::from(expiry.is_some()));
    if let Some(when) = expiry {
        out.extend_from_slice(&when.to_le_bytes());
    }
}

fn length(out: &mut Vec<u8>, length: usize) {
    // Keys and values are at most 512 MiB.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// The operations of one record, with their databases; `None` where the bytes make no sense.
pub(super) fn decode(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u8, Op<'_>)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let op = one(&mut bytes);
        if op.is_none() {
            bytes = &[];
        }
        Some(op)
    })
}

fn one<'a>(bytes: &mut &'a [u8]) -> Option<(u8, Op<'a>)> {
    let [kind, db] = array(bytes)?;
    let key = counted(bytes)?;
    let op = match kind {
        SET => {
            let expiry = expiry(bytes)?;
            Op::Set { key, expiry, value: counted(bytes)? }
        }
        REMOVE => Op::Remove { key },
        EXPIRE => Op::Expire { key, expiry: expiry(bytes)? },
        WRITE => {
            let offset = u64::from_le_bytes(array(bytes)?);
            Op::Write { key, offset, bytes: counted(bytes)? }
        }
        CLEAR => Op::Clear,
        _ => return None,
    };
    Some((db, op))
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(array(bytes)?) as usize;
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

#[allow(clippy::option_option)] // malformed, or absent
fn expiry(bytes: &mut &[u8]) -> Option<Option<i64>> {
    match array(bytes)? {
        [0] => Some(None),
        [1] => Some(Some(i64::from_le_bytes(array(bytes)?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            key in proptest::collection::vec(any::<u8>(), 0..20),
            value in proptest::collection::vec(any::<u8>(), 0..20),
            when in proptest::option::of(any::<i64>()),
            offset in any::<u64>(),
        ) {
            let mut out = Vec::new();
            set(&mut out, 1, &key, &value, when);
            remove(&mut out, 2, &key);
            expire(&mut out, 3, &key, when);
            write(&mut out, 4, &key, offset, &value);
            clear(&mut out, 5);
            let ops: Option<Vec<_>> = decode(&out).collect();
            prop_assert_eq!(ops, Some(vec![
                (1, Op::Set { key: &key, value: &value, expiry: when }),
                (2, Op::Remove { key: &key }),
                (3, Op::Expire { key: &key, expiry: when }),
                (4, Op::Write { key: &key, offset, bytes: &value }),
                (5, Op::Clear),
            ]));
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).count() <= bytes.len());
        }
    }
}
