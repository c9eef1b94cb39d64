//! One connection: who may use it, what it still owes, and whether it can be trusted.
//!
//! - Only the process that made it may use it: after a fork both sides would read from one stream.
//! - Requests that a dropped [`crate::Pipeline`] left behind are answered all the same; those
//!   answers are read and thrown away before the next request goes out.
//! - An error that leaves an answer half read closes the socket at once, and so does a panic while
//!   one is being read. Nothing is ever read from the middle of an answer.

use crate::answer::{self, Arrived, Wanted};
use crate::error::{Error, Result};
use crate::link::{Link, Reach};
use crate::name;
use crate::sink::{Discard, Sink};
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{Op, Violation};
use objmapper_proto::request::Get;
use objmapper_proto::{Hello, HelloAck, Mode, Range, Reply, Request, limits};
use std::collections::VecDeque;
use std::time::Duration;

/// A request whose answer has not been read.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) id: u64,
    pub(crate) wanted: Wanted,
    pub(crate) uri: Box<str>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// Gone once the connection is closed, and while an answer is being read.
    link: Option<Link>,
    why_closed: Box<str>,
    process: u32,
    last_id: u64,
    agreed: HelloAck,
    /// Sent and not answered, oldest first.
    pub(crate) owed: VecDeque<Owed>,
    scratch: Vec<u8>,
}

impl Connection {
    /// Says HELLO and waits for the answer.
    pub(crate) fn establish(stream: Stream, timeout: Option<Duration>) -> Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        let mut link = Link::new(stream);
        let mut scratch = Vec::new();
        Hello::default().encode(1, &mut scratch);
        link.send(&scratch)?;
        let agreed = read_hello_ack(&mut link, 1)?;
        link.check_idle()?;
        Ok(Self {
            link: Some(link),
            why_closed: "an earlier call did not return".into(),
            process: std::process::id(),
            last_id: 1,
            agreed,
            owed: VecDeque::new(),
            scratch,
        })
    }

    /// What the daemon takes.
    pub(crate) fn agreed(&self) -> &HelloAck {
        &self.agreed
    }

    /// Largest payload of a request, in bytes.
    pub(crate) fn max_request(&self) -> usize {
        limits::REQUEST_PAYLOAD.min(self.agreed.max_payload as usize)
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Sends a request and reads its answer, when nothing else is owed any more.
    pub(crate) fn exchange<T>(
        &mut self,
        request: Request<'_>,
        read: impl FnOnce(&mut Link, u64) -> Result<T>,
    ) -> Result<T> {
        self.settle()?;
        let id = self.next_id();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        request.encode(id, &mut bytes);
        let result = self.with_link(|link| {
            link.send(&bytes)?;
            read(link, id)
        });
        self.scratch = bytes;
        result
    }

    /// One GET; the bytes, if they come, go into `sink`.
    pub(crate) fn fetch(
        &mut self,
        uri: &str,
        mode: Mode,
        range: Range,
        sink: &mut dyn Sink,
    ) -> Result<Arrived> {
        let name = name::normal(uri)?;
        let get = Request::Get(Get::new(mode, range, name.as_uri().as_bytes()));
        let wanted = Wanted::Object(mode, range);
        self.exchange(get, |link, id| answer::object(link, id, wanted, sink))
            .map_err(|error| error.about(uri))
    }

    /// Sends whole requests, which the caller then adds to what is owed.
    pub(crate) fn send(&mut self, requests: &[u8]) -> Result<()> {
        self.with_link(|link| link.send(requests))
    }

    /// Reads the answer to the oldest request that is owed one.
    pub(crate) fn collect(&mut self, sink: &mut dyn Sink) -> Option<(Owed, Result<Arrived>)> {
        let owed = self.owed.pop_front()?;
        let result = self.with_link(|link| answer::object(link, owed.id, owed.wanted, sink));
        Some((owed, result))
    }

    /// Reads what is owed and throws it away.
    pub(crate) fn settle(&mut self) -> Result<()> {
        while let Some((_, result)) = self.collect(&mut Discard) {
            if let Err(error) = result
                && error.ends_connection()
            {
                self.owed.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Runs `work` on the link. The link comes back only if the work ended between two answers.
    pub(crate) fn with_link<T>(&mut self, work: impl FnOnce(&mut Link) -> Result<T>) -> Result<T> {
        if std::process::id() != self.process {
            return Err(Error::Forked);
        }
        let Some(mut link) = self.link.take() else {
            return Err(Error::Closed { reason: self.why_closed.clone() });
        };
        let mut result = work(&mut link);
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

fn read_hello_ack(link: &mut Link, id: u64) -> Result<HelloAck> {
    let (frame, _) = link.frame(Reach::Far)?;
    if frame.header.op != Op::HelloAck as u8 {
        return Err(match Reply::decode(frame)? {
            Reply::Error(reason) => Error::ended(&reason),
            _ => Violation::HelloExpected.into(),
        });
    }
    if frame.header.id != id || frame.header.fds != 0 {
        return Err(Error::bad("HELLO_ACK", "it does not answer the HELLO"));
    }
    let agreed = HelloAck::decode(frame.payload)?;
    let least = limits::URI + 24;
    if (agreed.max_payload as usize) < least || agreed.max_pipeline == 0 {
        return Err(Error::bad("HELLO_ACK", "its limits leave no room for a request"));
    }
    if agreed.capabilities != 0 {
        return Err(Error::bad("HELLO_ACK", "it agrees to capabilities that were not offered"));
    }
    Ok(agreed)
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
        (Connection::establish(ours, None).unwrap(), theirs)
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
