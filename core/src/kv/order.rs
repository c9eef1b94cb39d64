//! Keys in order, a page at a time, though no order is kept.
//!
//! An ordered index beside the table would take as much memory again and a second lookup for each
//! new key, for what is seldom asked. So a page is a pass over all keys of its database, which keeps
//! the smallest that fit: a page costs time by the number of keys there are, whatever it gives, and
//! memory by what it gives. Large pages are cheap pages:
//! among a million keys one that gives nothing takes 0.3 s, and all of them in sixteen pages some 10 s
//! (one core, not fully optimised), of which one shard at a time is locked for a look at 256 keys.
//!
//! What must stay true: pages that begin behind each other give each key once at most, in the order
//! of its bytes, and each key that was there all the time.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Bound;

pub use objmapper_proto::kv::behind;

use super::keyspace::Keyspace;

/// Keys that are looked at under one lock. Not tuned.
const AT_ONCE: u32 = 256;

/// Which keys, by their bytes: from, and up to.
pub type Span<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Some keys in order, and how to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPage {
    /// Ascending.
    pub keys: Vec<Box<[u8]>>,
    /// Whether there are more behind the last.
    pub more: bool,
    /// What [`Keyspace::settle`] is to be given before anybody is told of them.
    pub position: u64,
}

/// How much a page may hold: whichever is reached first. It holds one key at least, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// Keys.
    pub keys: usize,
    /// Bytes of keys.
    pub bytes: usize,
}

impl Default for PageSize {
    /// 64 Ki keys, or 4 MiB of them: a database of a million keys is some sixteen pages.
    fn default() -> Self {
        Self { keys: 64 << 10, bytes: 4 << 20 }
    }
}

impl Keyspace {
    /// The first keys of a database within `span`, in order. One shard is locked at a time, so it is
    /// no picture of one moment: a key that comes or goes meanwhile is in it or not.
    ///
    /// ```
    /// # use std::ops::Bound::{Excluded, Unbounded};
    /// # use objmapper::kv::{Expiry, Keyspace, Options, order::PageSize};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// # for name in ["c", "a", "d", "b"] {
    /// #     let key = keys.key(0, name.as_bytes());
    /// #     keys.hold(&key, 0).set(&key, keys.content(b"")?, Expiry::Never)?;
    /// # }
    /// let two = PageSize { keys: 2, ..PageSize::default() };
    /// let page = keys.page(0, (Unbounded, Unbounded), two, Keyspace::now());
    /// assert_eq!(page.keys, [Box::from(*b"a"), Box::from(*b"b")]);
    /// let page = keys.page(0, (Excluded(b"b"), Unbounded), two, Keyspace::now());
    /// assert_eq!(page.keys, [Box::from(*b"c"), Box::from(*b"d")]);
    /// assert!(!page.more);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn page(&self, db: u8, span: Span<'_>, size: PageSize, now: i64) -> KeyPage {
        let mut smallest = Smallest { span, size, keys: BTreeSet::new(), bytes: 0, more: false };
        let (mut cursor, mut position) = (0, 0);
        loop {
            let Ok::<_, Infallible>(next) = self.walk(cursor, AT_ONCE, |at, left| {
                let mut hold = self.hold_part(db, at.0, now);
                let pass = hold.pass((db, at.0), at.1, left, |key, _, _| smallest.offer(key));
                position = position.max(hold.finish());
                Ok(pass)
            });
            cursor = next;
            if cursor == 0 {
                let Smallest { keys, more, .. } = smallest;
                return KeyPage { keys: keys.into_iter().collect(), more, position };
            }
        }
    }
}

/// The smallest keys of those that were offered, as many as a page may hold.
struct Smallest<'a> {
    span: Span<'a>,
    size: PageSize,
    keys: BTreeSet<Box<[u8]>>,
    bytes: usize,
    /// Some did not fit; what is larger than all that are kept does not either.
    more: bool,
}

impl Smallest<'_> {
    fn offer(&mut self, key: &[u8]) {
        let begun = match self.span.0 {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let ended = match self.span.1 {
            Bound::Included(to) => key > to,
            Bound::Excluded(to) => key >= to,
            Bound::Unbounded => false,
        };
        if !begun || ended || self.more && self.keys.last().is_some_and(|last| key > &**last) {
            return;
        }
        // Seen twice, if the table has grown meanwhile.
        if !self.keys.insert(key.into()) {
            return;
        }
        self.bytes += key.len();
        while self.keys.len() > 1
            && (self.keys.len() > self.size.keys || self.bytes > self.size.bytes)
        {
            self.bytes -= self.keys.pop_last().map_or(0, |key| key.len());
            self.more = true;
        }
    }
}
