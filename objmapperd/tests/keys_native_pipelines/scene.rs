//! Requests, and what is answered.

use std::os::unix::fs::FileExt;

use objmapper_proto::kv::{self, Kv, Set, Verb};
use objmapper_proto::{Delivery, KvDone, Mode, Reply, Request, Status};

use crate::support::daemon::{Daemon, Place, Setup};
use crate::support::peer::{Frame, Peer};
use crate::support::resp::keyspace;

pub(crate) fn kv(db: u8, verb: Verb<'_>) -> Request<'_> {
    Request::Kv(Kv { db, verb })
}

pub(crate) fn get(mode: Mode, key: &[u8]) -> Request<'_> {
    kv(0, Verb::Get { mode, key })
}

pub(crate) fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    kv(0, Verb::Set(Set::new(key, value)))
}

pub(crate) fn add(key: &[u8], by: i64) -> Request<'_> {
    kv(0, Verb::Add { by, key })
}

pub(crate) const DONE: Reply<'_> = Reply::KvDone(KvDone { done: true, number: 0 });

pub(crate) fn list(keys: &[&[u8]]) -> Vec<u8> {
    let mut raw = Vec::new();
    for key in keys {
        kv::Keys::push(&mut raw, key);
    }
    raw
}

/// A daemon with a keyspace, and a journal as `sync` has it.
pub(crate) fn journalled(place: Place, sync: &str) -> Daemon {
    let dir = place.outside("journal");
    let config = format!("[kv]\ndir = \"{}\"\nsync = \"{sync}\"\n", dir.display());
    keyspace(Setup::default().config(&config), &place).start_in(place)
}

/// What was answered, but for what differs between two that are the same: `mtime`, versions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    op: u8,
    pub(crate) status: Option<Status>,
    text: String,
    pub(crate) done: Option<KvDone>,
    form: Option<Delivery>,
    size: u64,
    /// The whole value, whichever way it came.
    pub(crate) bytes: Vec<u8>,
    /// Of frames that are neither.
    payload: Vec<u8>,
    ended: Option<Status>,
}

impl Said {
    /// Takes in a frame; whether the answer is whole.
    pub(crate) fn take(&mut self, frame: &Frame) -> bool {
        match frame.reply() {
            Reply::Data(bytes) => {
                self.bytes.extend_from_slice(bytes);
                return false;
            }
            Reply::End(end) => {
                self.ended = Some(end.status);
                return true;
            }
            Reply::Object(item) => {
                (self.status, self.text) = (Some(item.head.status), item.text.to_owned());
                (self.form, self.size) = (Some(item.head.delivery), item.head.size);
                self.bytes = item.inline.to_vec();
            }
            Reply::Error(error) => {
                (self.status, self.text) = (Some(error.status), error.text.to_owned());
            }
            Reply::KvDone(done) => self.done = Some(done),
            _ => self.payload = frame.borrowed().payload.to_vec(),
        }
        self.op = frame.header.op;
        if let [file] = &frame.fds[..] {
            self.bytes = vec![0; usize::try_from(self.size).unwrap()];
            file.read_exact_at(&mut self.bytes, 0).unwrap();
        }
        self.form != Some(Delivery::Stream)
    }
}

/// Requests in one piece of input: what one read takes.
pub(crate) fn piece(peer: &mut Peer, requests: &[Request<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        peer.encode(*request, &mut bytes);
    }
    // As one message of the socket, which the daemon reads at once.
    assert!(bytes.len() < 32 * 1024);
    bytes
}
