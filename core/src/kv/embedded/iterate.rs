//! Going through a database: in order, page by page, or once through all of it in no order.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use super::Db;
use crate::kv::order::{PageSize, behind};
use crate::kv::value::Taken;
use crate::kv::{Fault, Keyspace};

/// Entries that are taken out under one lock: some 2 MiB with the longest values that lie beside
/// their keys. Not tuned.
const AT_ONCE: u32 = 64;

/// A key of its own.
type Name = Box<[u8]>;

impl<'k> Db<'k> {
    /// All keys, in order.
    ///
    /// A page of them is taken out at a time, of 64 Ki keys or 4 MiB of them, and costs a look at
    /// every key of the database: there is no order beside the table. What it costs in memory is a
    /// page. Each key is given once at most, and each that was there all the time is.
    pub fn keys(&self) -> Names<'k> {
        self.names(Bound::Unbounded, Bound::Unbounded)
    }

    /// Keys and values within a range of keys, in order: as [`Self::keys`], each value as it is when
    /// it is given. A key that has gone by then is left out.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// for day in ["2024-01-31", "2024-02-01", "2024-02-29", "2024-03-01"] {
    ///     keys.db(0).put(day, "sunny")?;
    /// }
    /// let february = keys.db(0).range("2024-02".."2024-03");
    /// assert_eq!(february.count(), 2);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Entries<'k> {
        let own = |bound: Bound<&K>| bound.map(|key| Box::from(key.as_ref()));
        Entries(self.names(own(range.start_bound()), own(range.end_bound())))
    }

    /// The same with all keys that begin with these bytes.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Entries<'k> {
        let prefix = prefix.as_ref();
        let to = behind(prefix).map_or(Bound::Unbounded, |end| Bound::Excluded(end.into()));
        Entries(self.names(Bound::Included(prefix.into()), to))
    }

    /// Lets `each` see all keys with their values once, in no order: the cheapest way through all of
    /// them. No lock is held meanwhile. What was there all the time is seen; while keys are added by
    /// others some of it may be seen twice.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// # keys.db(0).put("a", "12")?;
    /// let mut bytes = 0;
    /// keys.db(0).for_each(|_key, value| bytes += value.len())?;
    /// assert_eq!(bytes, 2);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn for_each(&self, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let mut some: Vec<(Name, Taken)> = Vec::new();
        let mut cursor = 0;
        loop {
            let failed = self.has_failed();
            let now = Keyspace::now();
            cursor = self.keyspace.scan(self.number, cursor, AT_ONCE, now, |key, value, _| {
                some.push((key.into(), value.taken()));
            });
            if let Some(journal) = self.keyspace.journal() {
                // Of what was seen it is known that it was appended by now.
                self.settle(failed, journal.appended())?;
            }
            for (key, taken) in some.drain(..) {
                each(&key, &taken.value().bytes()?);
            }
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn names(&self, from: Bound<Name>, to: Bound<Name>) -> Names<'k> {
        Names { db: *self, from, to, page: VecDeque::new(), more: true }
    }
}

/// Keys in order: see [`Db::keys`].
#[derive(Debug)]
pub struct Names<'k> {
    db: Db<'k>,
    from: Bound<Name>,
    to: Bound<Name>,
    page: VecDeque<Name>,
    more: bool,
}

impl Names<'_> {
    fn turn(&mut self) -> Result<(), Fault> {
        let failed = self.db.has_failed();
        let span = (self.from.as_ref().map(|key| &**key), self.to.as_ref().map(|key| &**key));
        let (keyspace, size) = (self.db.keyspace, PageSize::default());
        let page = keyspace.page(self.db.number, span, size, Keyspace::now());
        self.db.settle(failed, page.position)?;
        if let Some(last) = page.keys.last() {
            self.from = Bound::Excluded(last.clone());
        }
        (self.page, self.more) = (page.keys.into(), page.more);
        Ok(())
    }
}

impl Iterator for Names<'_> {
    type Item = Result<Vec<u8>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && self.more {
            if let Err(fault) = self.turn() {
                self.more = false;
                return Some(Err(fault));
            }
        }
        self.page.pop_front().map(|key| Ok(key.into()))
    }
}

/// Keys and values in order: see [`Db::range`].
#[derive(Debug)]
pub struct Entries<'k>(Names<'k>);

impl Iterator for Entries<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = match self.0.next()? {
                Ok(key) => key,
                Err(fault) => return Some(Err(fault)),
            };
            match self.0.db.get(&key) {
                Ok(Some(value)) => return Some(Ok((key, value))),
                Ok(None) => {}
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}
