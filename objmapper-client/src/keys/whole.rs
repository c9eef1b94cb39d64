//! What is asked about all keys of all databases: a backup, a shorter journal, how they are.

use objmapper_proto::kv::Kv;
use objmapper_proto::reply::KvCompacted;
use objmapper_proto::{Mode, Reply, Request};

use crate::answer;
use crate::client::{Client, counters};
use crate::error::{Error, Result};
use crate::opened::{Object, Opened};
use crate::request::Wanted;
use crate::sink::Memory;

/// What [`Client::compact`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the journal before: its snapshot, and the records since.
    pub before: u64,
    /// Bytes of the new snapshot.
    pub after: u64,
}

impl Client {
    /// All keys of all databases, in a file that the daemon writes for this and that has no name: who
    /// copies it has a backup, for `objmapper kv restore`, or `objmapper::kv::restore`. Others go on
    /// meanwhile; it holds what was there when it was done. For root and the user that the daemon runs
    /// as; one at a time.
    ///
    /// It takes as long as writing so much to the daemon's disk: use a client that waits
    /// ([`crate::Builder::no_timeout`]).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # use objmapper_client::Client;
    /// let mut client = Client::builder().no_timeout().connect()?;
    /// # client.keys(0).set("a", "1")?;
    /// let mut backup = client.backup()?.into_file();
    /// # let place = tempfile::tempdir().unwrap();
    /// # let path = place.path().join("keys.backup");
    /// let mut copy = std::fs::File::create_new(path).unwrap();
    /// std::io::copy(&mut backup, &mut copy).unwrap();
    /// copy.sync_all().unwrap();
    /// # Ok(()) }) }
    /// ```
    pub fn backup(&mut self) -> Result<Opened> {
        let wanted = Wanted::object(Mode::Fdpass);
        let arrived = self.connection.exchange(Request::Kv(Kv::BACKUP), |link, id| {
            let mut memory = Memory::default();
            answer::object(link, id, wanted, &mut memory).map(|a| a.into_object(memory))
        })?;
        match arrived {
            Object::Descriptor(opened) => Ok(opened),
            Object::Bytes(..) => Err(Error::bad("OBJECT", "no descriptor came")),
        }
    }

    /// Makes the daemon's journal of keys as short as it can be: a snapshot takes the place of all that
    /// was written so far. Others go on meanwhile. For root and the user that the daemon runs as; one at
    /// a time; `UNSUPPORTED` where keys are in memory only. It takes as long as writing all keys: see
    /// [`Client::backup`].
    pub fn compact(&mut self) -> Result<Compacted> {
        self.connection.exchange(Request::Kv(Kv::COMPACT), |link, id| {
            answer::plain(link, id, |reply| match reply {
                Reply::KvCompacted(KvCompacted { before, after }) => {
                    Some(Ok(Compacted { before: *before, after: *after }))
                }
                _ => None,
            })
        })
    }

    /// How the keyspace is: names and values, in the daemon's order. The names are those of the
    /// operators' manual; some values are words. For whoever may use keys.
    pub fn keyspace_status(&mut self) -> Result<Vec<(String, String)>> {
        self.connection.exchange(Request::Kv(Kv::STATUS), counters)
    }
}
