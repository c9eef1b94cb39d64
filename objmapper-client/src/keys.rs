//! Keys and values: the daemon's keyspace.
//!
//! What changes keys is sent once: if the connection is lost before the answer has come, nobody
//! knows whether it was done, and the caller is told ([`Error::Closed`]). What only reads is asked
//! again over another connection, as [`crate::Reconnect`] has it.

mod batch;
mod put;
mod scan;
mod whole;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use objmapper_os as os;
use objmapper_proto::kv::{self, Change, Given, Kv, Set, Verb};
use objmapper_proto::reply::Held;
use objmapper_proto::{KvDone, KvEntries, Mode, Reply, Request, Status, limits};

pub use batch::{Applied, Batch};
pub use put::{Put, milliseconds};
pub use scan::{Found, Scan};
pub use whole::Compacted;

use crate::answer;
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::opened::{Object, Opened};
use crate::request::Wanted;
use crate::sink::Memory;

/// One database of the keyspace; see [`Client::keys`].
#[derive(Debug)]
pub struct Keys<'c> {
    connection: &'c mut Connection,
    db: u8,
}

impl Client {
    /// The keys of a database, 0 to 15. They are the same ones that clients of Redis use, and those
    /// of database 0 are objects as well: `kv:users/42` is the key `users/42`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// use objmapper_client::{Client, Put};
    /// use std::time::Duration;
    /// let mut client = Client::connect()?;
    /// let mut keys = client.keys(0);
    /// keys.set("users/42", "ada")?;
    /// assert_eq!(keys.get("users/42")?.as_deref(), Some(&b"ada"[..]));
    /// assert_eq!(keys.get("users/43")?, None);
    ///
    /// let lock = Put::new().if_absent().expires_in(Duration::from_secs(10));
    /// assert!(keys.set_with("lock", "mine", &lock)?);
    /// assert!(!keys.set_with("lock", "mine too", &lock)?, "somebody has it");
    /// assert_eq!(keys.add("visits", 2)?, 2);
    /// assert_eq!(keys.delete(["lock", "visits"])?, 2);
    /// # Ok(()) }) }
    /// ```
    pub fn keys(&mut self, db: u8) -> Keys<'_> {
        Keys { connection: &mut self.connection, db }
    }
}

impl Keys<'_> {
    /// The value of a key, if there is one.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.fetch(key.as_ref(), Mode::Copy)?.map(Object::into_bytes).transpose()
    }

    /// The value of a key as sealed memory, if there is one: nobody can change it, whatever becomes
    /// of the key, and a long one is not copied.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// client.keys(0).set("model", vec![7; 200_000])?;
    /// let model = client.keys(0).open("model")?.expect("it was set just now");
    /// client.keys(0).delete(["model"])?;
    /// assert_eq!(model.read_to_vec()?, vec![7; 200_000]);
    /// # Ok(()) }) }
    /// ```
    pub fn open(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Opened>> {
        match self.fetch(key.as_ref(), Mode::Fdpass)? {
            None => Ok(None),
            Some(Object::Descriptor(opened)) => Ok(Some(opened)),
            Some(Object::Bytes(..)) => Err(Error::bad("OBJECT", "no descriptor came")),
        }
    }

    /// The value of a key in the form that is wanted, or that the daemon chooses ([`Mode::Auto`]).
    pub fn fetch(&mut self, key: &[u8], mode: Mode) -> Result<Option<Object>> {
        let wanted = Wanted::object(mode);
        let request = self.request(Verb::Get { mode, key })?;
        let arrived = self.connection.exchange(request, |link, id| {
            let mut memory = Memory::default();
            let arrived = answer::object(link, id, wanted, &mut memory)?;
            Ok(arrived.into_object(memory))
        });
        match arrived {
            Err(error) if error.is_not_found() => Ok(None),
            arrived => arrived.map(Some).map_err(|error| error.about(&shown(key))),
        }
    }

    /// Sets a key for ever. A value that is too long for a request goes as sealed memory, which needs
    /// [`crate::Builder::pass_descriptors`].
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.set_with(key, value, &Put::new()).map(drop)
    }

    /// Sets a key; whether its condition was met.
    pub fn set_with(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        put: &Put,
    ) -> Result<bool> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let most = self.connection.max_request().saturating_sub(kv::Write::FIXED + key.len());
        if value.len() <= most {
            let set = put.of(key, Given::Bytes(value));
            return Ok(self.change(Verb::Set(set), &[])?.done);
        }
        self.check_passing(value.len(), most).map_err(|error| error.about(&shown(key)))?;
        let file = os::memory::sealed("objmapper-value", value)?;
        self.set_file(key, &file, put)
    }

    /// Sets a key to what is in a memory file, all of it; whether its condition was met. The file is
    /// sealed for good (`F_SEAL_WRITE`, `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`) and has no
    /// huge pages, else this is refused with `BAD_SOURCE`. Its pages become the value, nothing is
    /// copied, unless the value is short, or parts of it were never written.
    ///
    /// Needs [`crate::Builder::pass_descriptors`] and a daemon whose operator allows it.
    pub fn set_file(&mut self, key: impl AsRef<[u8]>, file: impl AsFd, put: &Put) -> Result<bool> {
        let key = key.as_ref();
        crate::sending::check(self.connection).map_err(|error| error.about(&shown(key)))?;
        let set: Set<'_> = put.of(key, Given::Passed);
        Ok(self.change(Verb::Set(set), &[file.as_fd()])?.done)
    }

    /// Removes keys; gives how many were there. At most 4096, as many as fit into a request.
    pub fn delete<K: AsRef<[u8]>>(&mut self, keys: impl IntoIterator<Item = K>) -> Result<u64> {
        let raw = listed(keys)?;
        let Some(keys) = kv::Keys::new(&raw) else { return none_or_many(&raw).map(|()| 0) };
        Ok(self.change(Verb::Delete(keys), &[])?.number.unsigned_abs())
    }

    /// The values of many keys, in their order, all of one moment. (But for those that are too long
    /// for one reply: they are asked for one by one.) At most 4096, as many as fit into a request.
    pub fn get_many<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        let raw = listed(keys)?;
        let Some(listed) = kv::Keys::new(&raw) else {
            return none_or_many(&raw).map(|()| Vec::new());
        };
        let request = self.request(Verb::GetMany(listed))?;
        let found = self.connection.exchange(request, |link, id| {
            entries(link, id, |entries| {
                let value = |held, bytes: &[u8]| match held {
                    Held::Nothing => Some(None),
                    Held::Inline => Some(Some(bytes.to_vec())),
                    Held::LeftOut => None,
                };
                entries.entries().map(|entry| value(entry.held, entry.value)).collect::<Vec<_>>()
            })
        })?;
        if found.len() != keys.len() {
            return Err(Error::bad("KV_ENTRIES", "it has not as many values as were asked for"));
        }
        let each = found.into_iter().zip(keys);
        each.map(|(value, key)| value.map_or_else(|| self.get(key), Ok)).collect()
    }

    /// Makes all changes of a batch, or none: nobody sees a part of them, and after a crash either all
    /// or none are there.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// use objmapper_client::{Applied, Batch, Put};
    /// # let mut client = objmapper_client::Client::connect()?;
    /// let mut batch = Batch::new();
    /// batch.set("a", "1").set_with("b", "2", &Put::new().if_absent()).delete("c");
    /// assert_eq!(client.keys(0).apply(&batch)?, Applied::Made(2));
    /// // Now there is a `b`, and nothing is done.
    /// assert_eq!(client.keys(0).apply(&batch)?, Applied::Unmet { change: 1 });
    /// # Ok(()) }) }
    /// ```
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied> {
        batch.check()?;
        let Some(changes) = kv::Batch::new(batch.raw()) else {
            return none_or_many(batch.raw()).map(|()| Applied::Made(0));
        };
        let KvDone { done, number } = self.change(Verb::Batch(changes), &[])?;
        Ok(if done {
            Applied::Made(number.unsigned_abs())
        } else {
            Applied::Unmet { change: usize::try_from(number).unwrap_or(usize::MAX) }
        })
    }

    /// Adds to the integer that the value of a key spells, 0 if there is none; gives the sum. Its
    /// expiry stays. A value that is no integer is refused with `BAD_VALUE`.
    pub fn add(&mut self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        Ok(self.change(Verb::Add { by, key: key.as_ref() }, &[])?.number)
    }

    /// Whether the key is there, and when it ends if it does by itself.
    #[allow(clippy::option_option)] // not there; there for ever; there until then
    pub fn expiry(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Option<SystemTime>>> {
        let key = key.as_ref();
        let request = self.request(Verb::Expire { change: Change::Tell, key })?;
        let told = self.connection.exchange(request, done);
        let KvDone { done, number } = told.map_err(|error| error.about(&shown(key)))?;
        Ok(done.then_some((number != 0).then(|| put::moment(number))))
    }

    /// Makes a key end at this moment, or with `None` stay for ever; whether it was there. A moment
    /// that has passed removes it.
    pub fn set_expiry(
        &mut self,
        key: impl AsRef<[u8]>,
        moment: Option<SystemTime>,
    ) -> Result<bool> {
        let change = moment.map_or(Change::Never, |moment| Change::At(put::milliseconds(moment)));
        Ok(self.change(Verb::Expire { change, key: key.as_ref() }, &[])?.done)
    }

    /// All keys in the order of their bytes, page by page as they are asked for; see [`Scan`] for
    /// fewer, and for values.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// # client.keys(0).set("users/1", "ada")?;
    /// for found in client.keys(0).scan().prefix("users/").with_values() {
    ///     let found = found?;
    ///     println!("{}: {} bytes", String::from_utf8_lossy(&found.key), found.size);
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn scan(&mut self) -> Scan<'_> {
        Scan::new(Keys { connection: self.connection, db: self.db })
    }

    /// As it is sent, if it can be.
    fn request<'a>(&self, verb: Verb<'a>) -> Result<Request<'a>> {
        let (key, length) = match verb {
            Verb::Get { key, .. }
            | Verb::Set(Set { key, .. })
            | Verb::Add { key, .. }
            | Verb::Expire { key, .. } => (key, 0),
            Verb::Scan(scan) => (scan.from, scan.to.map_or(0, <[u8]>::len)),
            Verb::Delete(_)
            | Verb::GetMany(_)
            | Verb::Batch(_)
            | Verb::Backup
            | Verb::Compact
            | Verb::Status => (&[][..], 0),
        };
        let long = key.len().max(length);
        if long > limits::KEY {
            return Err(too_long("a key", long, limits::KEY));
        }
        if self.db >= limits::DATABASES {
            let why = format!("there is no database {}: they are 0 to 15", self.db);
            return Err(Error::refused(Status::BadRequest, &why, 0));
        }
        Ok(Request::Kv(Kv { db: self.db, verb }))
    }

    /// Sends a change, once.
    fn change(&mut self, verb: Verb<'_>, fds: &[BorrowedFd<'_>]) -> Result<KvDone> {
        let name = match verb {
            Verb::Set(Set { key, .. }) | Verb::Add { key, .. } | Verb::Expire { key, .. } => key,
            _ => b"",
        };
        let request = self.request(verb)?;
        let answered = self.connection.exchange_one_time(&request, fds, done);
        answered.map_err(|error| error.about(&shown(name)))
    }

    fn check_passing(&self, size: usize, most: usize) -> Result<()> {
        if self.connection.passes() {
            return Ok(());
        }
        let why = format!(
            "the value has {size} bytes, {most} can be sent with the request: pass it as memory \
             (Builder::pass_descriptors)"
        );
        Err(Error::refused(Status::TooLarge, &why, 0))
    }
}

/// Reads that a change was made, or not.
fn done(link: &mut Link, id: u64) -> Result<KvDone> {
    answer::plain(link, id, |reply| match reply {
        Reply::KvDone(done) => Some(Ok(*done)),
        _ => None,
    })
}

/// Reads a list.
fn entries<T>(link: &mut Link, id: u64, read: impl FnOnce(&KvEntries<'_>) -> T) -> Result<T> {
    answer::plain(link, id, |reply| match reply {
        Reply::KvEntries(entries) => Some(Ok(read(entries))),
        _ => None,
    })
}

/// Keys in wire form.
fn listed<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    for key in keys {
        let key = key.as_ref();
        if key.len() > limits::KEY {
            return Err(too_long("a key", key.len(), limits::KEY));
        }
        kv::Keys::push(&mut raw, key);
    }
    check_length(&raw)?;
    Ok(raw)
}

/// A list that is none: it is empty, or has too many.
fn none_or_many(raw: &[u8]) -> Result<()> {
    if raw.is_empty() {
        return Ok(());
    }
    let why = format!("there are more than {} keys: ask in several requests", limits::MANY);
    Err(Error::refused(Status::BadRequest, &why, 0))
}

fn check_length(raw: &[u8]) -> Result<()> {
    let most = limits::REQUEST_PAYLOAD - 8;
    if raw.len() > most { Err(too_long("the request", raw.len(), most)) } else { Ok(()) }
}

fn too_long(what: &str, length: usize, most: usize) -> Error {
    let why = format!("{what} has {length} bytes, the limit is {most}");
    Error::refused(Status::TooLarge, &why, 0)
}

/// A key for people.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(..128).unwrap_or(key)).into_owned()
}
