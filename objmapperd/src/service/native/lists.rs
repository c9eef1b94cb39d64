//! `KV_MGET` and `KV_SCAN`: many values, and pages of keys.
//!
//! What must stay true: a reply is one frame. A value that does not fit is left out, with its size, and
//! asked for alone.

use std::ops::Bound;

use objmapper::kv::{Key, Keyspace, PageSize, Value};
use objmapper_proto::kv::{Keys, Scan};
use objmapper_proto::reply::Held;
use objmapper_proto::{KvEntries, KvEntry, Op, Status, limits};
use smallvec::SmallVec;

use super::{Answer, Asked, Service};
use crate::connection::Connection;
use crate::session::Agreed;

/// A frame of entries under construction in the outbox.
struct List<'o> {
    out: &'o mut Vec<u8>,
    /// Where it begins.
    at: usize,
    count: u16,
    /// Bytes that its payload may have.
    most: usize,
}

impl<'o> List<'o> {
    fn begin(out: &'o mut Vec<u8>, most: usize) -> Self {
        let at = out.len();
        out.extend_from_slice(&[0; limits::HEADER + KvEntries::FIXED]);
        Self { out, at, count: 0, most }
    }

    /// Bytes that are left, of which so many are spoken for.
    fn room(&self, reserved: usize) -> usize {
        (self.at + limits::HEADER + self.most).saturating_sub(self.out.len() + reserved)
    }

    fn push(&mut self, entry: &KvEntry<'_>) {
        entry.encode(self.out);
        self.count += 1;
    }

    fn end(self, more: bool) {
        let fixed = KvEntries::fixed(more, self.count);
        let at = self.at + limits::HEADER;
        if let Some(place) = self.out.get_mut(at..at + fixed.len()) {
            place.copy_from_slice(&fixed);
        }
    }
}

impl Service {
    /// The values of these keys, all of one moment.
    pub(super) fn values(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        names: &Keys<'_>,
        agreed: Agreed,
    ) -> Answer {
        let fixed = names.count() * KvEntry::FIXED + KvEntries::FIXED;
        let most = agreed.max_payload;
        if fixed > most {
            let why = format_args!(
                "the values of {} keys need a reply of {fixed} bytes at least, HELLO allows {most} \
                 (max_payload)",
                names.count()
            );
            return self.refuse(c, asked.id, Status::TooLarge, &why);
        }
        let keys: SmallVec<[Key<'_>; 16]> = names.iter().map(|name| asked.key(name)).collect();
        let mut hold = match asked.hold_all(&keys) {
            Ok(hold) => hold,
            Err(fault) => return self.fault(c, asked, &fault, 0),
        };
        let mut list = List::begin(c.link.outbox.bytes(), most);
        for (at, key) in keys.iter().enumerate() {
            let expiry = hold.expiry(key).flatten();
            // Each of those behind it needs its fixed part at least.
            let reserved = (keys.len() - at) * KvEntry::FIXED;
            match hold.get(key) {
                None => list.push(&KvEntry::NOTHING),
                Some(value) => {
                    let room = list.room(reserved);
                    list.push(&entry(&value, (&[], expiry), room));
                }
            }
        }
        list.end(false);
        let position = hold.finish();
        c.link.outbox.head_frame(asked.at, Op::KvEntries, asked.id, 0);
        asked.settle(c, position)
    }

    /// A page of keys in order. It takes a pass over the database, which is for a helper.
    pub(super) fn scan(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        scan: &Scan<'_>,
        agreed: Agreed,
    ) -> Answer {
        let now = Keyspace::now();
        let mut list = List::begin(c.link.outbox.bytes(), agreed.max_payload);
        let (mut behind, mut position) = (None, 0);
        let more = loop {
            let page = page(asked, scan, &mut behind, agreed, now);
            position = position.max(page.position);
            let mut full = false;
            for name in page.names {
                let length = KvEntry::FIXED + name.len();
                if length > list.room(0) {
                    full = true;
                    break;
                }
                let key = asked.key(&name);
                let mut hold = asked.keyspace.hold(&key, now);
                hold.touch_nothing();
                let expiry = hold.expiry(&key).flatten();
                let room = if scan.values { list.room(length) } else { 0 };
                // It may have gone meanwhile.
                if let Some(value) = hold.peek(&key) {
                    let entry = entry(&value, (&name, expiry), room);
                    list.push(&KvEntry {
                        held: if scan.values { entry.held } else { Held::LeftOut },
                        ..entry
                    });
                }
                position = position.max(hold.finish());
            }
            // All of them may have: a page of none would not say where to go on.
            if full || list.count > 0 || !page.more {
                break full || page.more;
            }
        };
        if list.count == 0 && more {
            list.out.truncate(asked.at);
            let most = agreed.max_payload;
            let why = format_args!(
                "the next key is too long for a reply of {most} bytes: allow more in HELLO \
                 (max_payload)"
            );
            return self.refuse(c, asked.id, Status::TooLarge, &why);
        }
        list.end(more);
        c.link.outbox.head_frame(asked.at, Op::KvEntries, asked.id, 0);
        asked.settle(c, position)
    }
}

/// Keys that a reply can have.
struct Page {
    names: Vec<Box<[u8]>>,
    more: bool,
    position: u64,
}

/// The next keys of a scan, behind that one if there was one, without those that are too long to be
/// named in a request.
fn page(
    asked: &Asked<'_>,
    scan: &Scan<'_>,
    behind: &mut Option<Box<[u8]>>,
    agreed: Agreed,
    now: i64,
) -> Page {
    let size = PageSize { keys: usize::from(scan.limit), bytes: agreed.max_payload };
    let to = scan.to.map_or(Bound::Unbounded, Bound::Excluded);
    let mut position = 0;
    loop {
        let from = match &*behind {
            Some(behind) => Bound::Excluded(&**behind),
            None if scan.after => Bound::Excluded(scan.from),
            None => Bound::Included(scan.from),
        };
        let mut page = asked.keyspace.page(asked.db, (from, to), size, now);
        position = position.max(page.position);
        *behind = page.keys.last().cloned();
        page.keys.retain(|key| key.len() <= limits::KEY);
        if !page.keys.is_empty() || !page.more {
            return Page { names: page.keys, more: page.more, position };
        }
    }
}

/// A value as it stands in a list, if there is room for its bytes.
fn entry<'a>(
    value: &Value<'a>,
    (key, expiry): (&'a [u8], Option<i64>),
    room: usize,
) -> KvEntry<'a> {
    let (held, bytes) = match value {
        Value::Bytes(bytes) if bytes.len() <= room.min(limits::INLINE) => (Held::Inline, *bytes),
        _ => (Held::LeftOut, &[][..]),
    };
    KvEntry { held, expiry, size: value.len(), key, value: bytes }
}
