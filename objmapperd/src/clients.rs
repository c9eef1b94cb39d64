//! Who is connected to the keyspace: what `CLIENT LIST` tells, and how one ends another.
//!
//! A connection writes what it is doing into words of its own, at the end of each turn; whoever asks
//! reads them. What must stay true: a connection is in the list from its admission until it is
//! dropped, and nobody here keeps its socket open.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use objmapper_os::socket::Stream;
use parking_lot::Mutex;

/// All of them.
#[derive(Debug, Default)]
pub struct Clients {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who it is, over a Unix socket.
    pub uid: Option<u32>,
    /// Its process, where that is known.
    pub pid: Option<i32>,
    /// Where it is: an address of TCP, or our socket's path as clients know it.
    pub peer: String,
    /// Where it came to.
    pub local: Arc<str>,
}

impl Origin {
    /// Over TCP.
    pub fn tcp(peer: Option<SocketAddr>, local: Arc<str>) -> Self {
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        Self { uid: None, pid: None, peer, local }
    }
}

/// One of them, as others see it.
#[derive(Debug)]
pub struct Client {
    /// A number that no other has or had.
    pub id: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// Its socket's descriptor.
    pub fd: i32,
    /// When it came, in milliseconds since 1970.
    pub since: i64,
    /// What it is doing.
    pub doing: Doing,
    /// What it calls itself.
    pub names: Mutex<Names>,
    socket: Weak<Stream>,
}

/// What a connection is doing, written by its owner.
#[derive(Debug, Default)]
pub struct Doing {
    /// When it said something last, in milliseconds since 1970.
    pub seen: AtomicI64,
    /// Its last command: which row of the table.
    pub command: AtomicUsize,
    /// The database that is selected.
    pub db: AtomicUsize,
    /// The version that it speaks.
    pub version: AtomicUsize,
    /// Commands in its transaction, plus one; 0 if there is none.
    pub queued: AtomicUsize,
    /// Keys that it watches.
    pub watched: AtomicUsize,
    /// Bytes of a request that has begun.
    pub input: AtomicUsize,
    /// Bytes that wait for it to read.
    pub output: AtomicUsize,
}

/// What a connection calls itself.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// Its name.
    pub own: Vec<u8>,
    /// Its library's name.
    pub library: Vec<u8>,
    /// And version.
    pub version: Vec<u8>,
}

impl Client {
    /// Ends its connection: its owner is told by the kernel.
    pub fn end(&self) -> bool {
        self.socket.upgrade().is_some_and(|socket| socket.shutdown().is_ok())
    }
}

/// A connection's place in the list; leaving is dropping it.
#[derive(Debug)]
pub struct Member {
    clients: Arc<Clients>,
    client: Arc<Client>,
}

impl Clients {
    /// One more.
    pub fn join(
        self: &Arc<Self>,
        origin: Origin,
        (socket, fd): (&Arc<Stream>, i32),
        since: i64,
    ) -> Member {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let doing = Doing { seen: since.into(), version: 2.into(), ..Doing::default() };
        let socket = Arc::downgrade(socket);
        let names = Mutex::default();
        let client = Arc::new(Client { id, origin, fd, since, doing, names, socket });
        self.all.lock().insert(id, client.clone());
        Member { clients: self.clone(), client }
    }

    /// All that are connected now, the oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.all.lock().len()
    }
}

impl std::ops::Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.clients.all.lock().remove(&self.client.id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // fails its test
mod tests {
    use super::*;

    #[test]
    fn a_member_is_listed_until_it_leaves_and_can_be_ended() {
        let clients = Arc::new(Clients::default());
        let (ours, theirs) = Stream::pair().unwrap();
        let ours = Arc::new(ours);
        let origin = || Origin::tcp(None, "here".into());
        let one = clients.join(origin(), (&ours, 3), 7);
        let other = clients.join(origin(), (&ours, 3), 8);
        let ids = || clients.all().iter().map(|client| client.id).collect::<Vec<_>>();
        assert_eq!((ids(), clients.count()), (vec![1, 2], 2));
        drop(one);
        assert_eq!(ids(), [2]);
        let known = clients.all().remove(0);
        assert!(known.end() && theirs.has_hung_up().unwrap());
        drop((ours, other));
        assert!(!known.end(), "the list keeps no socket open");
        assert_eq!(clients.count(), 0);
    }
}
