//! Admission: accepting connections, and turning away what is over a limit.
//!
//! A client is known by the credentials that the kernel took when it connected
//! (SO_PEERCRED), before its first byte is read. When descriptors run out the backlog
//! is not left to spin on: one reserve descriptor is given up to accept and close the
//! next client, and accepting pauses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use objmapper::Caller;
use objmapper_os as os;
use objmapper_proto::Status;
use os::limits::ReserveFd;
use os::peer::Peer;
use os::socket::{Listener, Stream};

use crate::connection::Connection;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::metrics::{Metrics, OpenConnection};
use crate::outbox::Outbox;
use crate::service::House;

/// How long accepting pauses when descriptors or memory have run out. Not tuned.
const PAUSE: Duration = Duration::from_millis(100);

/// Milliseconds that a client who was turned away is told to wait.
const RETRY_MS: u32 = 100;

/// Connections accepted in a row, before signals get a look. Not tuned.
const BATCH: usize = 64;

/// The door.
#[derive(Debug)]
pub struct Door {
    listener: Listener,
    reserve: ReserveFd,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    max_connections: u64,
    send_buffer: usize,
    paused_until: Option<Instant>,
    more: bool,
}

impl Door {
    /// A door on `listener`, for at most so many connections. `send_buffer` is what
    /// the kernel keeps for a client that does not read, in bytes; 0 leaves its default.
    pub fn new(
        listener: Listener,
        house: &House,
        max_connections: usize,
        send_buffer: usize,
    ) -> os::Result<Self> {
        Ok(Self {
            listener,
            reserve: ReserveFd::new()?,
            ledger: house.ledger.clone(),
            metrics: house.metrics.clone(),
            max_connections: max_connections as u64,
            send_buffer,
            paused_until: None,
            more: false,
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
        tracing::warn!(%error, pause = ?PAUSE, "cannot accept; turning one client away and pausing");
        let listener = &self.listener;
        let turned_away = self.reserve.release_and(|| match listener.accept() {
            Ok(stream) => {
                turn_away(&stream, &"the daemon is out of descriptors: try again");
                1
            }
            Err(_) => 0,
        });
        self.metrics.turned_away.fetch_add(turned_away, Ordering::Relaxed);
        self.paused_until = Some(Instant::now() + PAUSE);
        self.more = false;
    }

    fn receive(&self, stream: Stream) -> Option<Box<Connection>> {
        let open = self.metrics.open.load(Ordering::Relaxed);
        if open >= self.max_connections {
            let max = self.max_connections;
            turn_away(
                &stream,
                &format_args!("{open} connections are open, limits.connections is {max}"),
            );
            self.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "cannot tell who connected; closed");
                return None;
            }
        };
        if self.send_buffer > 0
            && let Err(error) = stream.grow_send_buffer(self.send_buffer)
        {
            tracing::debug!(%error, "the send buffer stays as it is");
        }
        self.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        let caller = Caller::new(peer.uid, peer.gid, &peer.groups);
        let socket = Arc::new(stream);
        let link = Link::new(socket.clone(), self.ledger.open(peer.uid, socket));
        let open = OpenConnection::count(&self.metrics);
        Some(Box::new(Connection::new(link, caller, open)))
    }
}

/// Tells a client why it is not admitted. A fresh socket has room for that.
fn turn_away(stream: &Stream, text: &dyn std::fmt::Display) {
    let mut outbox = Outbox::default();
    outbox.refuse(0, Status::Busy, RETRY_MS, text);
    let _ = stream.send(outbox.bytes(), &[], false);
}
