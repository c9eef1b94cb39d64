//! A database of the keyspace as a mount: `kv:users/42` is the value of the key `users/42`.
//!
//! What must stay true:
//! - a key has one name: its bytes, percent-encoded where RFC 3986 needs it; a `/` in a key is
//!   written as it is, any other byte may be escaped;
//! - what is handed out is sealed: a version of the value that stays as it is, whatever happens to
//!   the key; short values are copied into a memfd for it, long ones lie in one;
//! - nobody waits for a key's lock, or not for long, who may not wait for a disk;
//! - nothing is told before it is as durable as the journal's policy promises: who may not wait for
//!   a disk is sent to where it may be waited for, as with a name that is not in memory.
//!
//! A page of names costs a pass over all keys of the database: no order is kept beside the table,
//! which would take as much memory again for keys that nobody lists.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use objmapper_os as os;
use objmapper_proto::word::uri::{decode_path, encode_path};
use objmapper_proto::{Kind, Version};
use os::opened::Opened;

use super::{Backing, Found, Name, Names, Patience};
use crate::kv::{Fault, Hold, Key, Keyspace, Sealed, SyncPolicy, Taken, Value, Wait};
use crate::object::{Object, version_of};
use crate::refusal::{Miss, Refusal};

/// Keys that are looked at under one lock, for a page of names. Not tuned.
const AT_ONCE: u32 = 256;

/// Bytes of a value that are copied, or looked at, by who may not wait. Not tuned.
const AT_ONCE_BYTES: usize = 1 << 20;

/// One database.
#[derive(Debug)]
pub struct Keys {
    keyspace: Arc<Keyspace>,
    db: u8,
}

impl Keys {
    /// Database `db` of a keyspace.
    pub const fn new(keyspace: Arc<Keyspace>, db: u8) -> Self {
        Self { keyspace, db }
    }

    /// What `look` makes of the key's value as it is now, told when it may be. Who may not wait does
    /// not look at a long value that lies in our own memory either.
    fn look<T>(
        &self,
        key: &[u8],
        patience: Patience,
        look: impl FnOnce(&mut Hold<'_>, &Key<'_>) -> Option<T>,
    ) -> Result<T, Miss> {
        let failed = self.keyspace.journal().is_some_and(|journal| journal.has_failed());
        let wait = if patience == Patience::Never { Wait::Briefly } else { Wait::Long };
        let key = self.keyspace.key(self.db, key);
        let hold = self.keyspace.try_hold(&key, wait, Keyspace::now());
        let mut hold = hold.map_err(|_| Miss::WouldBlock)?;
        let is_long = |value| matches!(value, Value::Bytes(bytes) if bytes.len() > AT_ONCE_BYTES);
        if patience == Patience::Never && hold.peek(&key).is_some_and(is_long) {
            return Err(Miss::WouldBlock);
        }
        let found = look(&mut hold, &key);
        self.settle(failed, hold.finish(), patience)?;
        found.ok_or_else(|| Refusal::NotFound.into())
    }

    /// Waits until what was seen may be told.
    fn settle(&self, failed: bool, position: u64, patience: Patience) -> Result<(), Miss> {
        let Some(journal) = self.keyspace.journal() else { return Ok(()) };
        if !journal.withholds(failed, position) {
            return Ok(());
        }
        if patience == Patience::Never && journal.options().sync == SyncPolicy::Always {
            return Err(Miss::WouldBlock);
        }
        let lost = "the journal failed before what is there was durable";
        journal.settle(position).map_err(|_| Refusal::Busy { what: lost }.into())
    }
}

/// The value of a key, open: sealed memory, made for it if it lies elsewhere. Also gives up to where
/// the journal must be durable before anybody is told ([`Keyspace::settle`]). [`Fault::Locked`] is its
/// only fault.
pub fn open(
    keyspace: &Keyspace,
    db: u8,
    key: &[u8],
    wait: Wait,
) -> Result<(Result<Found, Miss>, u64), Fault> {
    let key = keyspace.key(db, key);
    let mut hold = keyspace.try_hold(&key, wait, Keyspace::now())?;
    let taken = hold.get(&key).map(|value| value.taken());
    let position = hold.finish();
    Ok((taken.map_or_else(|| Err(Refusal::NotFound.into()), Taken::open), position))
}

/// What tells a value from others that its key has had.
#[inline]
pub fn version(value: &Value<'_>) -> Version {
    match value {
        Value::Bytes(bytes) => version_of(bytes),
        Value::Sealed(sealed) => version_of(&sealed.number().to_le_bytes()),
    }
}

impl Taken {
    fn open(self) -> Result<Found, Miss> {
        let version = version(&self.value());
        let sealed = match self {
            Self::Bytes(bytes) => Arc::new(Sealed::new(&bytes)?),
            Self::Sealed(sealed) => sealed,
        };
        let file = sealed.reopen()?;
        let identity = os::file::identity(file.as_fd())?;
        Ok(Found { file: Opened::prompt(file), identity, sealed: Some(version) })
    }
}

impl Backing for Keys {
    fn open(&self, path: &[u8], patience: Patience) -> Result<Found, Miss> {
        self.look(path, patience, |hold, key| hold.get(key).map(|value| value.taken()))?.open()
    }

    fn stat(&self, path: &[u8], patience: Patience) -> Result<Object, Miss> {
        // No use of it, as a STAT of a file is none.
        let told = |value: Value<'_>| Object::of_memory(value.len(), version(&value));
        self.look(path, patience, |hold, key| hold.peek(key).map(told))
    }

    fn list(&self, path: &[u8], after: &[u8], limit: usize) -> Result<Names, Miss> {
        let mut prefix = path.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let mut page = Page { after, limit, names: BTreeMap::new(), more: false };
        let failed = self.keyspace.journal().is_some_and(|journal| journal.has_failed());
        let (now, mut cursor) = (Keyspace::now(), 0);
        loop {
            cursor = self.keyspace.scan(self.db, cursor, AT_ONCE, now, |key, value, _| {
                if let Some(rest) = key.strip_prefix(&*prefix) {
                    page.offer(rest, value.len());
                }
            });
            if cursor == 0 {
                break;
            }
        }
        if let Some(journal) = self.keyspace.journal() {
            // Of what was seen it is known that it was appended by now.
            self.settle(failed, journal.appended(), Patience::Block)?;
        }
        if page.names.is_empty() && !path.is_empty() && after.is_empty() {
            return Err(Refusal::NotFound.into());
        }
        Ok(page.names())
    }

    fn path<'a>(&self, rest: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
        if !rest.contains(&b'%') {
            return Ok(Cow::Borrowed(rest));
        }
        let mut key = Vec::with_capacity(rest.len());
        decode_path(rest, &mut key);
        let slashes = |bytes: &[u8]| bytes.split(|&b| b == b'/').count();
        // A second name for the same key.
        if slashes(&key) == slashes(rest) { Ok(Cow::Owned(key)) } else { Err(Refusal::BadKey) }
    }

    fn is_remembered(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        format!("database {} of the keyspace", self.db)
    }
}

/// The smallest names behind a cursor, in bounded memory.
struct Page<'a> {
    after: &'a [u8],
    limit: usize,
    names: BTreeMap<Box<[u8]>, (Kind, u64)>,
    more: bool,
}

impl Page<'_> {
    /// Offers what is left of a key behind the prefix.
    fn offer(&mut self, rest: &[u8], size: u64) {
        let segment = rest.iter().position(|&b| b == b'/').map(|at| rest.get(..=at));
        let (segment, kind, size) = match segment.flatten() {
            Some(segment) => (segment, Kind::Prefix, 0),
            None => (rest, Kind::Memory, size),
        };
        let mut encoded = Vec::with_capacity(segment.len());
        encode_path(segment, &mut encoded);
        if *encoded <= *self.after {
            return;
        }
        self.names.insert(encoded.into(), (kind, size));
        if self.names.len() > self.limit {
            self.names.pop_last();
            self.more = true;
        }
    }

    fn names(self) -> Names {
        let last = self.names.last_key_value().map(|(name, _)| name.clone());
        let name = |(name, (kind, size))| Name { name, kind, size, mtime_ns: 0 };
        Names {
            next: last.filter(|_| self.more),
            names: self.names.into_iter().map(name).collect(),
        }
    }
}
