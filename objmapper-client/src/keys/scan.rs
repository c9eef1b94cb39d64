//! Keys in order, page by page.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use std::time::SystemTime;

use objmapper_proto::kv::{self, Verb};
use objmapper_proto::reply::Held;
use objmapper_proto::{KvEntries, limits};

use super::put::moment;
use super::{Keys, entries};
use crate::error::{Error, Result};

/// A key that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its bytes.
    pub key: Vec<u8>,
    /// Bytes of its value.
    pub size: u64,
    /// When it ends, if it does by itself.
    pub expiry: Option<SystemTime>,
    /// Its value, if values were asked for.
    pub value: Option<Vec<u8>>,
}

/// An iterator over keys in the order of their bytes.
///
/// Each page that it asks for costs the daemon a pass over all keys of the database, however few it
/// gives: ask for many at a time. A key that is there all the while comes exactly once; one that
/// comes or goes meanwhile comes or does not. Keys of more than 64 KiB, which clients of Redis can
/// make, are left out. After an error it ends.
#[derive(Debug)]
#[must_use = "nothing is asked until it is iterated over"]
pub struct Scan<'c> {
    keys: Keys<'c>,
    from: Vec<u8>,
    after: bool,
    to: Option<Vec<u8>>,
    values: bool,
    at_a_time: u16,
    page: VecDeque<Found>,
    more: bool,
}

impl<'c> Scan<'c> {
    pub(super) fn new(keys: Keys<'c>) -> Self {
        Self {
            keys,
            from: Vec::new(),
            after: false,
            to: None,
            values: false,
            at_a_time: u16::try_from(limits::LIST).unwrap_or(u16::MAX),
            page: VecDeque::new(),
            more: true,
        }
    }

    /// Only keys that begin so.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        (self.from, self.after, self.to) = (prefix.to_vec(), false, kv::behind(prefix));
        self
    }

    /// Only keys in this range of bytes, as in `b"a".to_vec()..b"b".to_vec()`.
    pub fn range(mut self, range: impl RangeBounds<Vec<u8>>) -> Self {
        (self.from, self.after) = match range.start_bound() {
            Bound::Included(from) => (from.clone(), false),
            Bound::Excluded(from) => (from.clone(), true),
            Bound::Unbounded => (Vec::new(), false),
        };
        self.to = match range.end_bound() {
            Bound::Included(to) => Some([to, &b"\0"[..]].concat()),
            Bound::Excluded(to) => Some(to.clone()),
            Bound::Unbounded => None,
        };
        self
    }

    /// With their values. Long ones are asked for one by one.
    pub fn with_values(mut self) -> Self {
        self.values = true;
        self
    }

    /// At most so many keys in a page, 1 to 4096; other numbers count as the nearest.
    pub fn at_a_time(mut self, keys: u16) -> Self {
        self.at_a_time = keys.clamp(1, u16::try_from(limits::LIST).unwrap_or(u16::MAX));
        self
    }

    fn turn(&mut self) -> Result<()> {
        let scan = kv::Scan {
            limit: self.at_a_time,
            values: self.values,
            from: &self.from,
            after: self.after,
            to: self.to.as_deref(),
        };
        let request = self.keys.request(Verb::Scan(scan))?;
        let read = |page: &KvEntries<'_>| {
            let (values, more) = (self.values, page.more);
            let found = page.entries().map(|entry| Found {
                key: entry.key.to_vec(),
                size: entry.size,
                expiry: entry.expiry.map(moment),
                value: (values && entry.held == Held::Inline).then(|| entry.value.to_vec()),
            });
            (found.collect::<VecDeque<_>>(), more)
        };
        let (page, more) =
            self.keys.connection.exchange(request, |link, id| entries(link, id, read))?;
        match page.back() {
            Some(last) if last.key <= self.from && (self.after || last.key < self.from) => {
                return Err(Error::bad("KV_ENTRIES", "its keys are not behind those before"));
            }
            Some(last) => (self.from, self.after) = (last.key.clone(), true),
            None if more => {
                return Err(Error::bad("KV_ENTRIES", "there is more, and nothing comes"));
            }
            None => {}
        }
        (self.page, self.more) = (page, more);
        Ok(())
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Result<Found>> {
        loop {
            let Some(mut found) = self.page.pop_front() else {
                if !self.more {
                    return None;
                }
                self.more = false; // unless this page says otherwise
                if let Err(error) = self.turn() {
                    return Some(Err(error));
                }
                continue;
            };
            if self.values && found.value.is_none() {
                match self.keys.get(&found.key) {
                    // It has gone since.
                    Ok(None) => continue,
                    Ok(Some(value)) => {
                        (found.size, found.value) = (value.len() as u64, Some(value));
                    }
                    Err(error) => {
                        (self.more, self.page) = (false, VecDeque::new());
                        return Some(Err(error));
                    }
                }
            }
            return Some(Ok(found));
        }
    }
}
