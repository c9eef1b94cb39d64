//! One connection: who may use it, what it still owes, and whether it can be trusted.
//!
//! - Only the process that made it may use it: after a fork both sides would read from one stream.
//! - Requests that a dropped [`crate::Pipeline`] left behind are answered all the same; those
//!   answers are read and thrown away before the next request goes out.
//! - An error that leaves an answer half read closes the socket at once, and so does a panic while
//!   one is being read. Nothing is ever read from the middle of an answer.
//! - In order the oldest answer that is owed is the next; where replies may overtake bodies any is
//!   (see `bodies`), and that was agreed on by HELLO.
//! - A closed connection is replaced before the next request, if it can be and the policy says so
//!   ([`crate::Reconnect`]); what was owed on the old one is forgotten.

use crate::answer::{self, Arrived};
use crate::bodies::{Bodies, UnderWay};
use crate::dial::{self, Dial};
use crate::error::{Error, Result};
use crate::hello;
use crate::link::{self, Link};
use crate::request::{Answer, Answered, Owed, Request as Asked, Wanted};
use crate::sink::{Discard, Memory, Sink};
use objmapper_os::socket::Stream;
use objmapper_proto::hello::{Capabilities, OUT_OF_ORDER, PASS_FDS};
use objmapper_proto::{HelloAck, Request, limits};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Connection {
    /// How to get another; `None` if the socket came from elsewhere.
    dial: Option<Dial>,
    /// Gone once the connection is closed, and while an answer is being read.
    link: Option<Link>,
    why_closed: Box<str>,
    process: u32,
    last_id: u64,
    agreed: HelloAck,
    /// Sent and not answered, oldest first.
    pub(crate) owed: VecDeque<Owed>,
    /// The oldest owed answer, when its head has come and its body is on the way. In order only.
    under_way: Option<UnderWay>,
    /// The same where replies may overtake bodies.
    bodies: Bodies,
    scratch: Vec<u8>,
}

impl Connection {
    /// Connects as `dial` says, and may do so again.
    pub(crate) fn dial(dial: Dial) -> Result<Self> {
        let (link, agreed) = dial.first(1)?;
        Ok(Self::new(Some(dial), link, agreed))
    }

    /// Over a connected socket. There is no way to get another.
    pub(crate) fn over(
        stream: Stream,
        timeout: Option<Duration>,
        offered: Capabilities,
    ) -> Result<Self> {
        let (link, agreed) = hello::greet(stream, timeout, offered, 1)?;
        Ok(Self::new(None, link, agreed))
    }

    fn new(dial: Option<Dial>, link: Link, agreed: HelloAck) -> Self {
        Self {
            dial,
            link: Some(link),
            why_closed: "an earlier call did not return".into(),
            process: std::process::id(),
            last_id: 1,
            agreed,
            owed: VecDeque::new(),
            under_way: None,
            bodies: Bodies::default(),
            scratch: Vec::new(),
        }
    }

    /// What the daemon takes.
    pub(crate) fn agreed(&self) -> &HelloAck {
        &self.agreed
    }

    /// Whether replies may overtake bodies.
    pub(crate) fn is_out_of_order(&self) -> bool {
        self.agreed.capabilities & OUT_OF_ORDER != 0
    }

    /// Whether descriptors may be passed.
    pub(crate) fn passes(&self) -> bool {
        self.agreed.capabilities & PASS_FDS != 0
    }

    /// Largest payload of a request, in bytes.
    pub(crate) fn max_request(&self) -> usize {
        limits::REQUEST_PAYLOAD.min(self.agreed.max_payload as usize)
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Sends a request and reads its answer, when nothing else is owed any more. If the connection
    /// turns out to be gone, once more over another: `read` begins from the beginning.
    pub(crate) fn exchange<T>(
        &mut self,
        request: Request<'_>,
        mut read: impl FnMut(&mut Link, u64) -> Result<T>,
    ) -> Result<T> {
        self.settle()?;
        match self.ask(&request, &[], &mut read) {
            Err(error) if dial::is_gone(&error) => {
                self.reconnect(error)?;
                self.ask(&request, &[], &mut read)
            }
            result => result,
        }
    }

    /// The same, without a second attempt of any kind.
    pub(crate) fn exchange_once<T>(
        &mut self,
        request: Request<'_>,
        read: impl FnOnce(&mut Link, u64) -> Result<T>,
    ) -> Result<T> {
        self.read_owed()?;
        self.ask(&request, &[], read)
    }

    /// Sends a request that may be done once only, over a connection that was there a moment ago.
    pub(crate) fn exchange_one_time<T>(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
        read: impl FnOnce(&mut Link, u64) -> Result<T>,
    ) -> Result<T> {
        self.settle()?;
        if self.dial.is_some() && self.link.as_ref().is_some_and(Link::has_hung_up) {
            self.link = None;
            self.reconnect(link::gone())?;
        }
        self.ask(request, fds, read)
    }

    /// Sends a request with its descriptors.
    pub(crate) fn ask<T>(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
        read: impl FnOnce(&mut Link, u64) -> Result<T>,
    ) -> Result<T> {
        let id = self.next_id();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        request.encode(id, &mut bytes);
        let result = self.with_link(|link| {
            link.send(&bytes, fds)?;
            read(link, id)
        });
        self.scratch = bytes;
        result
    }

    /// One GET or STAT; the bytes, if they come, go into `sink`. It is not asked again when some have
    /// gone.
    pub(crate) fn fetch(&mut self, asked: &Asked<'_>, sink: &mut dyn Sink) -> Result<Arrived> {
        let (name, wanted) = (asked.name()?, asked.wanted);
        let request = wanted.on(name.as_ref().map_or(b"", |name| name.as_uri().as_bytes()));
        self.settle()?;
        match self.ask(&request, &[], |link, id| answer::object(link, id, wanted, sink)) {
            Err(error) if dial::is_gone(&error) && sink.can_begin_again() => {
                self.reconnect(error)?;
                self.ask(&request, &[], |link, id| answer::object(link, id, wanted, sink))
            }
            result => result,
        }
        .map_err(|error| error.about(asked.uri))
    }

    /// Says goodbye and waits until the daemon has heard it. What is owed is thrown away.
    pub(crate) fn close(mut self) -> Result<()> {
        if !self.is_out_of_order() {
            return self.exchange_once(Request::Close, |link, id| answer::goodbye(link, id, 0));
        }
        // It is answered at once, and before the bodies that are under way.
        let id = self.next_id();
        let mut bytes = Vec::new();
        Request::Close.encode(id, &mut bytes);
        self.send(&bytes, &[])?;
        self.bodies.close(id);
        self.read_owed()?;
        match self.bodies.closing() {
            None => Ok(()),
            Some(id) => self.with_link(|link| answer::goodbye(link, id, 0)),
        }
    }

    /// Sends whole requests with their descriptors, which the caller then adds to what is owed.
    pub(crate) fn send(&mut self, requests: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.with_link(|link| link.send(requests, fds))
    }

    /// Reads the answer to the oldest request that is owed one; out of order, to any.
    pub(crate) fn collect(&mut self) -> Option<(Owed, Answered)> {
        if self.is_out_of_order() {
            return self.collect_any(true);
        }
        let owed = self.owed.pop_front()?;
        let mut under_way = self.under_way.take();
        let result = self.with_link(|link| advance(link, &owed, &mut under_way));
        Some((owed, result))
    }

    /// The same, if all of it has arrived.
    pub(crate) fn collect_now(&mut self) -> Option<(Owed, Answered)> {
        if self.is_out_of_order() {
            return self.collect_any(false);
        }
        let owed = self.owed.pop_front()?;
        let mut under_way = self.under_way.take();
        let result = self.with_link_now(|link| advance(link, &owed, &mut under_way));
        if let Some(result) = result {
            return Some((owed, result));
        }
        self.owed.push_front(owed);
        self.under_way = under_way;
        None
    }

    /// Reads whichever answer is whole first, waiting for it or not. What ends the connection is the
    /// result of the oldest.
    fn collect_any(&mut self, waits: bool) -> Option<(Owed, Answered)> {
        self.owed.front()?;
        let mut link = match self.take_link() {
            Ok(link) => link,
            Err(error) => return Some((self.owed.pop_front()?, Err(error))),
        };
        let Self { bodies, owed, .. } = self;
        match link.set_waiting(waits).and_then(|()| bodies.next(&mut link, owed)) {
            Ok((owed, answered)) => Some((owed, self.give_back(link, answered))),
            Err(Error::Timeout) if !waits => {
                self.link = Some(link);
                None
            }
            Err(error) => {
                self.bodies = Bodies::default();
                Some((self.owed.pop_front()?, self.give_back(link, Err(error))))
            }
        }
    }

    /// Reads what is owed and throws it away; connects again if the connection is gone.
    pub(crate) fn settle(&mut self) -> Result<()> {
        match self.read_owed() {
            Err(error) => self.reconnect(error),
            Ok(()) if self.link.is_none() => self.reconnect(self.closed()),
            Ok(()) => Ok(()),
        }
    }

    fn read_owed(&mut self) -> Result<()> {
        if self.is_out_of_order() {
            return self.read_owed_any();
        }
        while let Some(owed) = self.owed.pop_front() {
            let under_way = self.under_way.take();
            let read = self.with_link(|link| match (under_way, owed.wanted) {
                (Some(mut rest), _) => rest.body.run(link, &mut Discard),
                (None, Wanted::Pong) => answer::pong(link, owed.id),
                (None, wanted) => answer::object(link, owed.id, wanted, &mut Discard).map(drop),
            });
            if let Err(error) = read
                && error.ends_connection()
            {
                self.owed.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn read_owed_any(&mut self) -> Result<()> {
        self.bodies.discard();
        while let Some((_, answered)) = self.collect_any(true) {
            if let Err(error) = answered
                && error.ends_connection()
            {
                self.owed.clear();
                return Err(error);
            }
        }
        self.bodies.keep();
        Ok(())
    }

    fn reconnect(&mut self, closed: Error) -> Result<()> {
        if std::process::id() != self.process {
            return Err(Error::Forked);
        }
        let id = self.next_id();
        let Some(dial) = &self.dial else { return Err(closed) };
        let (link, agreed) = dial.again(closed, id)?;
        (self.link, self.agreed, self.bodies) = (Some(link), agreed, Bodies::default());
        Ok(())
    }

    fn closed(&self) -> Error {
        Error::Closed { reason: self.why_closed.clone() }
    }

    /// The socket, unless it is closed.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    /// Whether somebody else can go on with it: it is open, ours, and nothing is on its way.
    pub(crate) fn is_fit(&self) -> bool {
        let idle = self.owed.is_empty() && std::process::id() == self.process;
        idle && self.link.as_ref().is_some_and(|link| !link.has_hung_up())
    }

    /// The connection, out of a place that cannot be left empty: a closed one stays.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            dial: self.dial.take(),
            link: self.link.take(),
            why_closed: self.why_closed.clone(),
            owed: std::mem::take(&mut self.owed),
            under_way: self.under_way.take(),
            bodies: std::mem::take(&mut self.bodies),
            scratch: std::mem::take(&mut self.scratch),
            ..*self
        }
    }

    /// Runs `work` on the link. The link comes back only if the work ended between two answers.
    pub(crate) fn with_link<T>(&mut self, work: impl FnOnce(&mut Link) -> Result<T>) -> Result<T> {
        let mut link = self.take_link()?;
        let result = link.set_waiting(true).and_then(|()| work(&mut link));
        self.give_back(link, result)
    }

    /// The same, without waiting for what has not arrived: then there is no result, and the link
    /// stays where it is.
    fn with_link_now<T>(&mut self, work: impl FnOnce(&mut Link) -> Result<T>) -> Option<Result<T>> {
        let mut link = match self.take_link() {
            Ok(link) => link,
            Err(error) => return Some(Err(error)),
        };
        match link.set_waiting(false).and_then(|()| work(&mut link)) {
            Err(Error::Timeout) => {
                self.link = Some(link);
                None
            }
            result => Some(self.give_back(link, result)),
        }
    }

    fn take_link(&mut self) -> Result<Link> {
        if std::process::id() != self.process {
            return Err(Error::Forked);
        }
        self.link.take().ok_or_else(|| self.closed())
    }

    fn give_back<T>(&mut self, link: Link, mut result: Result<T>) -> Result<T> {
        let usable = result.as_ref().map_or_else(|error| !error.ends_connection(), |_| true);
        if usable && self.owed.is_empty() {
            result = link.check_idle().and(result);
        }
        match &result {
            Err(error) if error.ends_connection() => self.why_closed = error.to_string().into(),
            _ => self.link = Some(link),
        }
        result
    }
}

/// Reads the answer to `owed`, from where `under_way` says; it stays there if the link runs dry.
fn advance(link: &mut Link, owed: &Owed, under_way: &mut Option<UnderWay>) -> Answered {
    let mut rest = if let Some(rest) = under_way.take() {
        rest
    } else if owed.wanted == Wanted::Pong {
        return answer::pong(link, owed.id).map(|()| Answer::Pong);
    } else {
        let mut memory = Memory::default();
        match answer::head(link, owed.id, owed.wanted, &mut memory)? {
            (arrived, None) => return Ok(arrived.into_answer(owed.wanted, memory)),
            (arrived, Some(body)) => UnderWay { arrived, body, memory },
        }
    };
    let run = rest.body.run(link, &mut rest.memory);
    if let Err(Error::Timeout) = run {
        *under_way = Some(rest);
        return Err(Error::Timeout);
    }
    run.map(|()| rest.into_answer())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> (Connection, Stream) {
        let (ours, theirs) = Stream::pair().unwrap();
        let ack = HelloAck {
            version: limits::VERSION,
            capabilities: 0,
            max_payload: 256 * 1024,
            max_pipeline: 16,
            max_descriptors: 0,
            max_uri: 4096,
            max_data: 256 * 1024,
        };
        let mut bytes = Vec::new();
        ack.encode(1, &mut bytes);
        theirs.send(&bytes, &[], false).unwrap();
        (Connection::over(ours, None, 0).unwrap(), theirs)
    }

    #[test]
    fn a_forked_process_may_not_use_it() {
        let (mut connection, peer) = connected();
        connection.process += 1; // as a child would see it
        let asked = connection.exchange(Request::Stats, |_, _| Ok(()));
        assert!(matches!(asked, Err(Error::Forked)));
        connection.process -= 1;
        peer.send(b"x", &[], false).unwrap();
        connection.exchange(Request::Stats, |_, _| Ok(())).unwrap();
        connection.process += 1;
        connection.link = None;
        let settled = connection.settle();
        assert!(matches!(settled, Err(Error::Forked)), "nor may it connect in the parent's stead");
    }

    #[test]
    fn a_panic_in_the_middle_of_an_answer_closes_it() {
        let (mut connection, _peer) = connected();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = connection.with_link::<()>(|_| panic!("a writer of the caller"));
        }));
        assert!(panicked.is_err());
        let after = connection.with_link(|_| Ok(())).unwrap_err();
        assert!(after.to_string().contains("an earlier call did not return"), "{after}");
    }
}
