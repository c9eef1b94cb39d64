//! Admission: accepting connections, and turning away what is over a limit.
//!
//! A client is known by the credentials that the kernel took when it connected
//! (SO_PEERCRED), before its first byte is read. One user may have a part of all connections
//! only ([`crate::budget`]). When descriptors run out the backlog
//! is not left to spin on: one reserve descriptor is given up to accept and close the
//! next client, and accepting pauses.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use objmapper::Caller;
use objmapper::kv::Keyspace;
use objmapper_os as os;
use objmapper_proto::Status;
use objmapper_proto::resp::{Decoder, Encoder};
use os::limits::ReserveFd;
use os::peer::Peer;
use os::socket::{self, Listener, Stream};

use crate::clients::Origin;
use crate::closers::ClosedElsewhere;
use crate::connection::Connection;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::seldom;
use crate::service::Daemon;
use crate::session::keys::{Keys, Talk};

/// How long accepting pauses when descriptors or memory have run out. Not tuned.
const PAUSE: Duration = Duration::from_millis(100);

/// Milliseconds that a client who was turned away is told to wait.
const RETRY_MS: u32 = 100;

/// Connections accepted in a row, before signals get a look. Not tuned.
const BATCH: usize = 64;

/// A listening socket, and the admission behind it.
#[derive(Debug)]
pub struct Acceptor {
    listener: Listener,
    reserve: ReserveFd,
    daemon: Arc<Daemon>,
    send_buffer: usize,
    protocol: Protocol,
    /// Its name for who asks where a connection came to.
    name: Arc<str>,
    paused_until: Option<Instant>,
    more: bool,
    /// Whether clients may have descriptors in their connections' queues: all of them where the
    /// kernel cannot refuse them, else those that had connected before it was told to.
    may_bring: MayBring,
}

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OBJM: objects.
    Objm,
    /// RESP: keys.
    Resp,
}

/// Which connections may bring descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MayBring {
    All,
    /// Until the backlog was seen empty once.
    First,
    None,
}

impl Acceptor {
    /// Accepts at `listener`, which refuses descriptors if the kernel can. `send_buffer` is
    /// what the kernel keeps for a client that does not read, in bytes; 0 leaves its default.
    pub fn new(
        listener: Listener,
        daemon: &Arc<Daemon>,
        send_buffer: usize,
        protocol: Protocol,
    ) -> os::Result<Self> {
        // Over TCP none can come.
        let refuses = listener.address().is_some() || socket::refuse_descriptors(listener.as_fd())?;
        let name = name_of(&listener).into();
        let may_bring = match (listener.address(), refuses) {
            (Some(_), _) => MayBring::None,
            (None, true) => MayBring::First,
            (None, false) => MayBring::All,
        };
        Ok(Self {
            listener,
            reserve: ReserveFd::new()?,
            daemon: daemon.clone(),
            send_buffer,
            protocol,
            name,
            paused_until: None,
            more: false,
            may_bring,
        })
    }

    /// The socket, for epoll.
    pub const fn listener(&self) -> &Listener {
        &self.listener
    }

    /// When to accept again without being told; `None` if only on the next edge.
    pub fn next_try(&self) -> Option<Duration> {
        if self.more {
            return Some(Duration::ZERO);
        }
        self.paused_until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Accepts what is waiting, up to a batch, and gives it to `admit`.
    pub fn accept(&mut self, mut admit: impl FnMut(Box<Connection>)) {
        if self.paused_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        self.paused_until = None;
        if !self.reserve.is_held() {
            // Somebody else was quicker when it was given up; perhaps there is room now.
            self.reserve.release_and(|| ());
        }
        for _ in 0..BATCH {
            match self.listener.accept() {
                Ok(stream) => {
                    if let Some(connection) = self.receive(stream) {
                        admit(connection);
                    }
                }
                Err(error) if error.is_would_block() => {
                    self.more = false;
                    if self.may_bring == MayBring::First {
                        self.may_bring = MayBring::None;
                    }
                    return;
                }
                Err(error) if error.is_resource() => return self.pause(&error),
                Err(error) => {
                    // The client is gone already (ECONNABORTED), or the like.
                    tracing::debug!(%error, "a connection was not accepted");
                }
            }
        }
        self.more = true;
    }

    fn pause(&mut self, error: &os::Error) {
        seldom!(WARN, %error, pause = ?PAUSE, "cannot accept; turning one client away and pausing");
        let (listener, protocol) = (&self.listener, self.protocol);
        let turned_away = self.reserve.release_and(|| match listener.accept() {
            Ok(stream) => {
                turn_away(&stream, protocol, &"the daemon is out of descriptors: try again");
                1
            }
            Err(_) => 0,
        });
        self.daemon.metrics.turned_away.fetch_add(turned_away, Ordering::Relaxed);
        self.paused_until = Some(Instant::now() + PAUSE);
        self.more = false;
    }

    fn receive(&self, stream: Stream) -> Option<Box<Connection>> {
        let is_local = self.listener.address().is_none();
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(_) if !is_local => STRANGER,
            Err(error) => {
                seldom!(WARN, %error, "cannot tell who connected; closed");
                return None;
            }
        };
        let daemon = &*self.daemon;
        let open = match daemon.budgets.connections.take(peer.uid) {
            Ok(open) => open,
            Err(over) => {
                turn_away(&stream, self.protocol, &over);
                daemon.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        if self.send_buffer > 0
            && let Err(error) = stream.grow_send_buffer(self.send_buffer)
        {
            tracing::debug!(%error, "the send buffer stays as it is");
        }
        daemon.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        let socket = Arc::new(stream);
        let guard = self.guard(&socket, peer.uid);
        let queued = daemon.budgets.queued.account(peer.uid);
        let deadline = daemon.deadlines.of(peer.uid, socket.clone());
        let link = Link::new(socket.clone(), daemon.ledger.open(peer.uid, socket));
        let caller = Caller::new(peer.uid, peer.gid, &peer.groups);
        let may_pass = daemon.may_pass(&caller);
        let keys = (self.protocol == Protocol::Resp)
            .then(|| self.conversation(&link.socket, &peer, &caller, is_local));
        let connection = Connection::new(link, caller, deadline, [open, queued], guard);
        let mut connection = connection.speaking(keys);
        connection.session.may_pass = may_pass;
        Some(Box::new(connection))
    }

    /// What a connection that speaks RESP begins with.
    fn conversation(
        &self,
        socket: &Arc<Stream>,
        peer: &Peer,
        caller: &Caller,
        is_local: bool,
    ) -> Box<Keys> {
        let key_service = &self.daemon.key_service;
        let local = self.name.clone();
        let (origin, trust) = if is_local {
            let at = local.to_string();
            let origin = Origin { uid: Some(peer.uid), pid: peer.pid, peer: at, local };
            (origin, key_service.access.of_peer(caller))
        } else {
            (Origin::tcp(socket.peer_address(), local), key_service.access.of_stranger())
        };
        let fd = socket.as_fd().as_raw_fd();
        let member = key_service.clients.join(origin, (socket, fd), Keyspace::now());
        let decoder = Decoder::default();
        Box::new(Keys { decoder, talk: Talk::new(member, trust) })
    }

    /// For a connection that may bring descriptors.
    fn guard(&self, socket: &Arc<Stream>, uid: u32) -> Option<ClosedElsewhere> {
        if self.may_bring == MayBring::None {
            return None;
        }
        if let Err(error) = socket::refuse_descriptors(socket.as_fd()) {
            tracing::debug!(%error, "a connection goes on taking descriptors");
        }
        Some(ClosedElsewhere::new(self.daemon.closers.of(uid), socket.clone()))
    }
}

/// Somebody over TCP: the overflow user, whom no rule but "any" is about; and that one is about
/// Unix sockets.
const STRANGER: Peer = Peer { pid: None, uid: 65534, gid: 65534, groups: Vec::new() };

/// An address, or a path as clients of Redis know it.
fn name_of(listener: &Listener) -> String {
    match (listener.address(), listener.path()) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => format!("{}:0", path.display()),
        (None, None) => String::new(),
    }
}

/// Tells a client why it is not admitted. A fresh socket has room for that.
fn turn_away(stream: &Stream, protocol: Protocol, text: &dyn std::fmt::Display) {
    let mut outbox = Outbox::default();
    match protocol {
        Protocol::Objm => outbox.refuse(0, Status::Busy, RETRY_MS, text),
        Protocol::Resp => Encoder::new(outbox.bytes(), false).error(format_args!("ERR {text}")),
    }
    let _ = stream.send(outbox.bytes(), &[], false);
}
