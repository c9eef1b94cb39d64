//! The keyspace for a program that has it inside: no daemon, no socket, verbs in one call.
//!
//! ```
//! use objmapper::kv::Keyspace;
//! # let place = tempfile::tempdir()?;
//! # let path = place.path().join("kv");
//!
//! let keys = Keyspace::open(&path)?; // shared by any number of threads
//! let users = keys.db(0);
//! users.put("users/42", "ada")?;
//! assert_eq!(users.get("users/42")?.as_deref(), Some(&b"ada"[..]));
//!
//! users.put_batch(&[("users/43", "grace"), ("users/44", "edsger")])?; // all or nothing
//! for entry in users.prefix("users/") {
//!     let (key, value) = entry?;
//!     println!("{}: {}", key.escape_ascii(), value.escape_ascii());
//! }
//!
//! keys.backup(&place.path().join("backup"))?; // while others write
//! keys.compact()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Durability.** A verb returns when what it did, or saw, is as [`super::SyncPolicy`] promises: on
//! disk under `Always`; handed to the kernel, and on disk 100 ms later, under `Interval`; handed to the
//! kernel under `Never`. [`Keyspace::sync`] makes all of it durable at once. In memory
//! ([`Keyspace::in_memory`]) nothing lasts.
//!
//! **Errors** are a [`Fault`]. After [`Fault::Journal`] it is not known whether what the verb did will
//! be there at the next start, nothing is changed any more, and reads go on; open it again when the
//! disk is well. After any other fault of a writing verb nothing was changed.
//!
//! **Threads.** Verbs may be called from any number of them; each is done at one moment, as if no
//! other went on. Iterators hold no lock between two of their entries, so that any verb may be called
//! meanwhile, and are no picture of one moment.
//!
//! **What time brings.** A key whose time is up is never seen, and its memory is free when somebody
//! asks for it or [`Keyspace::tick`] is called. A journal gets shorter by [`Keyspace::compact`], for
//! which `keys.journal()` has a wait of its own
//! ([`wait_to_compact`](super::journal::Journal::wait_to_compact)).
//!
//! A verb here is a hold, a few words under it, and the wait for the journal: whoever needs several
//! verbs at one moment, ends of keys or watches has [`Keyspace::hold`].

mod files;
mod iterate;

use super::hold::Hold;
use super::keyspace::{Key, Keyspace, LONGEST};
use super::lock::Wait;
use super::value::Taken;
use super::{Content, Expiry, Fault};

pub use iterate::{Entries, Names};

/// One database of a keyspace: see [`self`].
#[derive(Debug, Clone, Copy)]
pub struct Db<'k> {
    keyspace: &'k Keyspace,
    number: u8,
}

impl Keyspace {
    /// A database, by a number below [`super::DATABASES`] (else modulo that). A Redis client sees
    /// number 0 first, and it is what `kv:` URIs name.
    pub const fn db(&self, number: u8) -> Db<'_> {
        Db { keyspace: self, number: number % super::DATABASES }
    }
}

impl<'k> Db<'k> {
    /// Whose.
    pub const fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// Keeps a value under a key, in place of what was there, without an end.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// keys.db(0).put("color", "red")?;
    /// keys.db(0).put(b"\x00\xff", [1, 2, 3])?; // any bytes
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Fault> {
        let content = self.keyspace.content(value.as_ref())?;
        self.keep(key.as_ref(), content, |_, _| true).map(drop)
    }

    /// The same if the key is not there; whether that was so.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// assert!(keys.db(0).insert_if_absent("leader", "a")?);
    /// assert!(!keys.db(0).insert_if_absent("leader", "b")?);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn insert_if_absent(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, Fault> {
        let content = self.keyspace.content(value.as_ref())?;
        self.keep(key.as_ref(), content, |hold, key| !hold.has(key))
    }

    /// The same if the key is there; whether that was so. An end that it had is gone.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// assert!(!keys.db(0).update_if_present("color", "red")?);
    /// keys.db(0).put("color", "green")?;
    /// assert!(keys.db(0).update_if_present("color", "red")?);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn update_if_present(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, Fault> {
        let content = self.keyspace.content(value.as_ref())?;
        self.keep(key.as_ref(), content, Hold::has)
    }

    /// Keeps all these values, or none: what one reader sees of them all see, and so does the next
    /// start after a crash. Of a key that is named twice the last value stays. Its memory is twice
    /// that of the values for a moment.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// keys.db(0).put_batch(&[("from", "90"), ("to", "110")])?;
    /// let both = keys.db(0).get_batch(&["from", "to", "fee"])?; // of one moment
    /// assert_eq!(both, [Some(b"90".to_vec()), Some(b"110".to_vec()), None]);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn put_batch<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: &[(K, V)],
    ) -> Result<(), Fault> {
        let names = self.names_of(entries.iter().map(|(key, _)| key.as_ref()))?;
        let contents = entries.iter().map(|(_, value)| self.keyspace.content(value.as_ref()));
        let contents = contents.collect::<Result<Vec<_>, _>>()?;
        self.keyspace.make_room(Wait::Long, Keyspace::now())?;
        let changes = names.iter().zip(contents);
        let mut changes = changes.map(|(key, content)| (*key, Some((content, Expiry::Never))));
        self.under(&names, |hold| hold.change(&mut changes)).map(drop)
    }

    /// The value of a key.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// assert_eq!(keys.db(0).get("color")?, None);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Fault> {
        let taken = self.take(key.as_ref())?;
        Ok(taken.map(Taken::into_bytes).transpose()?)
    }

    /// The value of a key, or these bytes if it is not there; they are not kept.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// assert_eq!(keys.db(0).get_or_default("color", "white")?, b"white");
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn get_or_default(
        &self,
        key: impl AsRef<[u8]>,
        default: impl AsRef<[u8]>,
    ) -> Result<Vec<u8>, Fault> {
        Ok(self.get(key)?.unwrap_or_else(|| default.as_ref().to_vec()))
    }

    /// The values of these keys, in their order and all of one moment.
    pub fn get_batch<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let names = self.names_of(keys.iter().map(AsRef::as_ref))?;
        let taken: Vec<Option<Taken>> = self.under(&names, |hold| {
            Ok(names.iter().map(|key| hold.get(key).map(|value| value.taken())).collect())
        })?;
        let read = taken.into_iter().map(|taken| taken.map(Taken::into_bytes).transpose());
        Ok(read.collect::<Result<_, _>>()?)
    }

    /// Whether the key is there.
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Fault> {
        let key = self.name(key.as_ref())?;
        self.under(&[key], |hold| Ok(hold.has(&key)))
    }

    /// Removes a key; whether it was there.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// keys.db(0).put("color", "red")?;
    /// assert!(keys.db(0).delete("color")?);
    /// assert!(!keys.db(0).exists("color")?);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Fault> {
        let key = self.name(key.as_ref())?;
        self.keyspace.may_write()?;
        self.under(&[key], |hold| Ok(hold.remove(&key)))
    }

    /// Removes all keys, at one moment; gives how many there were.
    pub fn clear(&self) -> Result<usize, Fault> {
        self.keyspace.may_write()?;
        let failed = self.has_failed();
        let (gone, position) = self.keyspace.clear(&[self.number], Keyspace::now());
        self.settle(failed, position)?;
        Ok(gone)
    }

    /// Keys there are. Of keys that come and go meanwhile some may be counted; so are those whose
    /// time is up and that nobody has met since.
    pub fn count(&self) -> usize {
        self.keyspace.size(self.number).0
    }

    /// Keeps what `content` holds if `wanted`; whether it was.
    fn keep(
        &self,
        key: &[u8],
        content: Content<'_>,
        wanted: impl FnOnce(&mut Hold<'k>, &Key<'_>) -> bool,
    ) -> Result<bool, Fault> {
        let key = self.name(key)?;
        self.keyspace.may_write()?;
        self.keyspace.make_room(Wait::Long, Keyspace::now())?;
        self.under(&[key], |hold| {
            let wanted = wanted(hold, &key);
            if wanted {
                hold.set(&key, content, Expiry::Never)?;
            }
            Ok(wanted)
        })
    }

    fn take(&self, key: &[u8]) -> Result<Option<Taken>, Fault> {
        let key = self.name(key)?;
        self.under(&[key], |hold| Ok(hold.get(&key).map(|value| value.taken())))
    }

    fn name<'a>(&self, key: &'a [u8]) -> Result<Key<'a>, Fault> {
        if key.len() as u64 > LONGEST {
            return Err(Fault::TooLong { limit: LONGEST });
        }
        Ok(self.keyspace.key(self.number, key))
    }

    fn names_of<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Key<'a>>, Fault> {
        keys.map(|key| self.name(key)).collect()
    }

    /// Does something while these keys' shards are held, and waits until it may be told.
    fn under<T>(
        &self,
        keys: &[Key<'_>],
        verb: impl FnOnce(&mut Hold<'k>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (failed, now) = (self.has_failed(), Keyspace::now());
        let mut hold = match keys {
            [key] => self.keyspace.hold(key, now),
            keys => self.keyspace.hold_keys(keys, now),
        };
        let done = verb(&mut hold)?;
        self.settle(failed, hold.finish())?;
        Ok(done)
    }

    fn has_failed(&self) -> bool {
        self.keyspace.journal().is_some_and(|journal| journal.has_failed())
    }

    fn settle(&self, failed: bool, position: u64) -> Result<(), Fault> {
        match self.keyspace.journal() {
            Some(journal) if journal.withholds(failed, position) => journal.settle(position),
            _ => Ok(()),
        }
    }
}
