//! The floor: a server that makes the system calls of the job and does nothing else.
//!
//! epoll_wait, recv, openat2, fstat, sendmsg, close, with the flags and socket options of the
//! daemon. All requests of one receive are answered in one send, their descriptors in one message
//! (253 at most). Bodies: small ones pread and send, large ones sendfile. No
//! index, no rules, no limits, no statistics, no fairness: whatever a daemon takes beyond this is
//! the price of being one.
//!
//! A process of its own, as the daemon is, started by the bench and ended with it: when its
//! standard input closes it leaves. Sockets block, so a body that does not fit waits in the
//! kernel; a client must read what it asked for.

mod answer;
mod out;

use answer::Answers;
use anyhow::Result;
use objmapper_os::poll::{Event, Events, Interest, Poll, Token};
use objmapper_os::root::Root;
use objmapper_os::socket::{self, BindOptions, Listener, Stream};
use std::os::fd::AsFd;
use std::path::Path;

use crate::wire::FloorRequest;

const LISTENER: Token = Token(0);
const PARENT: Token = Token(1);
/// Tokens of connections begin here.
const FIRST: usize = 2;

/// Bytes that one receive takes: more than any burst of the bench.
const BUFFER: usize = 256 * 1024;

/// One client.
struct Peer {
    stream: Stream,
    /// The head of a request whose tail has not come.
    carry: Vec<u8>,
}

/// Serves until standard input closes.
pub(crate) fn serve(root: &Path, path: &Path, send_buffer: usize) -> Result<()> {
    // As many descriptors at a time as the daemon may have; without it fewer clients fit.
    let _ = objmapper_os::limits::raise_nofile();
    let root = Root::open(root)?;
    let listener = Listener::bind(path, BindOptions::default())?;
    socket::refuse_descriptors(listener.as_fd())?;
    let poll = Poll::new()?;
    poll.registry().add(&listener, LISTENER, Interest::READABLE)?;
    // Not a pipe when somebody starts this by hand; then it runs until it is killed.
    let _ = poll.registry().add(std::io::stdin(), PARENT, Interest::READABLE);
    let mut server = Server {
        listener,
        peers: Vec::new(),
        free: Vec::new(),
        send_buffer,
        buffer: vec![0; BUFFER],
        answers: Answers::new(root),
    };
    let mut events = Events::with_capacity(256);
    loop {
        poll.wait(&mut events, None)?;
        for event in events.iter() {
            match event.token {
                PARENT => return Ok(()),
                LISTENER => server.accept(&poll)?,
                _ => server.turn(&poll, event)?,
            }
        }
    }
}

struct Server {
    listener: Listener,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// See [`crate::cli::FloorArgs`].
    send_buffer: usize,
    buffer: Vec<u8>,
    answers: Answers,
}

impl Server {
    fn accept(&mut self, poll: &Poll) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.is_would_block() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(false)?;
            if self.send_buffer > 0 {
                stream.grow_send_buffer(self.send_buffer)?;
            }
            let slot = self.free.pop().unwrap_or(self.peers.len());
            poll.registry().add(&stream, Token(FIRST + slot), Interest::READABLE)?;
            let peer = Some(Peer { stream, carry: Vec::new() });
            match self.peers.get_mut(slot) {
                Some(place) => *place = peer,
                None => self.peers.push(peer),
            }
        }
    }

    /// One receive, and the answers to all that it brought.
    fn turn(&mut self, poll: &Poll, event: Event) -> Result<()> {
        let slot = event.token.0 - FIRST;
        let Some(Some(peer)) = self.peers.get_mut(slot) else { return Ok(()) };
        match peer.serve(&mut self.buffer, &mut self.answers) {
            Ok(true) => {
                // The buffer was filled: there may be more, and no edge will tell.
                poll.registry().modify(&peer.stream, event.token, Interest::READABLE)?;
            }
            Ok(false) if !event.read_closed => {}
            // The end of the stream, or a client that went away in the middle of its answers:
            // what is left of them must not reach the next one.
            _ => {
                self.answers.discard();
                if let Some(place) = self.peers.get_mut(slot) {
                    *place = None;
                }
                self.free.push(slot);
            }
        }
        Ok(())
    }
}

impl Peer {
    /// `Ok(true)` if the receive filled the whole buffer.
    fn serve(&mut self, buffer: &mut [u8], answers: &mut Answers) -> Result<bool> {
        let kept = self.carry.len();
        if let Some(front) = buffer.get_mut(..kept) {
            front.copy_from_slice(&self.carry);
        }
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let asked = room.len();
        let count = self.stream.recv_bytes(room)?;
        let window = buffer.get(..kept + count).unwrap_or_default();
        let mut rest = window;
        while let Some((request, used)) = FloorRequest::decode(rest) {
            answers.add(&self.stream, request)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        answers.flush(&self.stream)?;
        self.carry.clear();
        self.carry.extend_from_slice(rest);
        Ok(count == asked)
    }
}
