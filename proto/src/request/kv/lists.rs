//! Requests about many keys: lists of keys, batches of changes, pages of a scan. All in wire form,
//! walked without a copy.

use super::{Condition, Expiry, bit, frame, sound, terms};
use crate::bytes::{Reader, Record, len32};
use crate::frame::Op;
use crate::limits;

/// One change of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// Of which key.
    pub key: &'a [u8],
    /// Its value and when it ends; `None` removes the key.
    pub set: Option<(&'a [u8], Expiry)>,
    /// What must be true of the key before the batch.
    pub condition: Condition,
}

/// Changes that are made all or not at all, in wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    pub(super) count: u16,
    pub(super) raw: &'a [u8],
}

/// Some keys, in wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys<'a> {
    pub(super) count: u16,
    pub(super) raw: &'a [u8],
}

/// Keys in the order of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan<'a> {
    /// At most so many, 1 to [`limits::LIST`].
    pub limit: u16,
    /// Values are wanted as well.
    pub values: bool,
    /// The first key.
    pub from: &'a [u8],
    /// That key itself is left out.
    pub after: bool,
    /// The first key that is not wanted any more, if there is one.
    pub to: Option<&'a [u8]>,
}

impl<'a> Keys<'a> {
    /// Keys already in wire form (see [`Keys::push`]); `None` if these are not 1 to
    /// [`limits::MANY`].
    pub fn new(raw: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(raw);
        let mut count = 0_u16;
        while !r.is_empty() {
            Self::one(&mut r)?;
            count = count.checked_add(1).filter(|&n| usize::from(n) <= limits::MANY)?;
        }
        (count > 0).then_some(Self { count, raw })
    }

    fn one(r: &mut Reader<'a>) -> Option<&'a [u8]> {
        let length = r.u32()?;
        sound(r.take(length as usize)?)
    }

    pub(super) fn decode(mut r: Reader<'a>) -> Option<Self> {
        let count = count(&mut r)?;
        Self::new(r.rest()).filter(|keys| keys.count == count)
    }

    /// Appends one key to a list that [`Keys::new`] takes.
    pub fn push(list: &mut Vec<u8>, key: &[u8]) {
        list.extend_from_slice(&len32(key).to_le_bytes());
        list.extend_from_slice(key);
    }

    /// How many.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut r = Reader::new(self.raw);
        std::iter::from_fn(move || Self::one(&mut r))
    }
}

impl<'a> Write<'a> {
    const SET: u8 = 1;
    const DELETE: u8 = 2;

    /// Bytes before key and value.
    pub const FIXED: usize = 24;

    pub(super) fn decode(r: &mut Reader<'a>) -> Option<Self> {
        let (kind, bits) = (r.u8()?, r.u8()?);
        r.u16()?;
        let (key_length, value_length) = (r.u32()?, r.u32()?);
        r.u32()?;
        let (condition, expiry) = terms(bits, r.i64()?)?;
        let key = sound(r.take(key_length as usize)?)?;
        let value = r.take(value_length as usize)?;
        let set = match kind {
            Self::SET => Some((value, expiry)),
            Self::DELETE if value.is_empty() && expiry == Expiry::Never => None,
            _ => return None,
        };
        Some(Self { key, set, condition })
    }

    /// Appends it to a list that [`Batch::new`] takes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = if self.set.is_some() { Self::SET } else { Self::DELETE };
        let (value, expiry) = self.set.unwrap_or((&[], Expiry::Never));
        let (bits, when) = expiry.parts();
        let fixed = Record::<{ Write::FIXED }>::new()
            .put([kind, self.condition.bits() | bits, 0, 0])
            .put(len32(self.key).to_le_bytes())
            .put(len32(value).to_le_bytes())
            .put([0; 4])
            .put(when.to_le_bytes())
            .done();
        for piece in [&fixed, self.key, value] {
            out.extend_from_slice(piece);
        }
    }
}

impl<'a> Batch<'a> {
    /// Changes already in wire form (see [`Write::encode`]); `None` if these are not 1 to
    /// [`limits::MANY`].
    pub fn new(raw: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(raw);
        let mut count = 0_u16;
        while !r.is_empty() {
            Write::decode(&mut r)?;
            count = count.checked_add(1).filter(|&n| usize::from(n) <= limits::MANY)?;
        }
        (count > 0).then_some(Self { count, raw })
    }

    pub(super) fn decode(mut r: Reader<'a>) -> Option<Self> {
        let count = count(&mut r)?;
        Self::new(r.rest()).filter(|batch| batch.count == count)
    }

    /// How many.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// In order.
    pub fn writes(&self) -> impl Iterator<Item = Write<'a>> + use<'a> {
        let mut r = Reader::new(self.raw);
        std::iter::from_fn(move || Write::decode(&mut r))
    }
}

impl<'a> Scan<'a> {
    pub(super) fn decode(mut r: Reader<'a>) -> Option<Self> {
        let bits = r.u8()?;
        let limit = r.u16()?;
        r.u32()?;
        let (from_length, to_length) = (r.u32()?, r.u32()?);
        let from = sound(r.take(from_length as usize)?)?;
        let to = sound(r.take(to_length as usize)?)?;
        let until = bits & bit::UNTIL != 0;
        let known = bits & !(bit::VALUES | bit::AFTER | bit::UNTIL) == 0;
        let fits = (1..=limits::LIST).contains(&usize::from(limit)) && (until || to.is_empty());
        (known && fits && r.is_empty()).then_some(Self {
            limit,
            values: bits & bit::VALUES != 0,
            from,
            after: bits & bit::AFTER != 0,
            to: until.then_some(to),
        })
    }

    pub(super) fn encode(&self, db: u8, id: u64, out: &mut Vec<u8>) {
        let bits = if self.values { bit::VALUES } else { 0 }
            | if self.after { bit::AFTER } else { 0 }
            | if self.to.is_some() { bit::UNTIL } else { 0 };
        let to = self.to.unwrap_or_default();
        let fixed: [u8; 16] = Record::new()
            .put([db, bits])
            .put(self.limit.to_le_bytes())
            .put([0; 4])
            .put(len32(self.from).to_le_bytes())
            .put(len32(to).to_le_bytes())
            .done();
        frame(Op::KvScan, id, &[&fixed, self.from, to], out);
    }
}

/// A frame of a list.
pub(super) fn counted(op: Op, (db, count, raw): (u8, u16, &[u8]), id: u64, out: &mut Vec<u8>) {
    let [low, high] = count.to_le_bytes();
    frame(op, id, &[&[db, 0, low, high, 0, 0, 0, 0], raw], out);
}

/// The numbers before a list: how many.
fn count(r: &mut Reader<'_>) -> Option<u16> {
    r.u8()?;
    let count = r.u16()?;
    r.u32()?;
    Some(count)
}

/// The first bytes that stand behind all that begin with `prefix`: where a scan for a prefix ends.
/// `None`: nothing stands behind them.
///
/// ```
/// use objmapper_proto::kv::behind;
/// assert_eq!(behind(b"user/"), Some(b"user0".to_vec()));
/// assert_eq!(behind(b"a\xff\xff"), Some(b"b".to_vec()));
/// assert_eq!([behind(b"\xff"), behind(b"")], [None, None]);
/// ```
pub fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}
