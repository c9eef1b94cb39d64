//! HELLO: the first words on a new connection, and whether the answer can be worked with.

use crate::error::{Error, Result};
use crate::link::{Link, Reach};
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{Op, Violation};
use objmapper_proto::hello::Capabilities;
use objmapper_proto::{Hello, HelloAck, Reply, limits};
use std::time::Duration;

/// Says HELLO over a connected socket, as request `id`, with what this side offers, and waits for
/// the answer.
pub(crate) fn greet(
    stream: Stream,
    timeout: Option<Duration>,
    offered: Capabilities,
    id: u64,
) -> Result<(Link, HelloAck)> {
    stream.set_nonblocking(false)?;
    let mut link = Link::new(stream);
    link.set_timeout(timeout)?;
    let mut bytes = Vec::new();
    Hello { capabilities: offered, ..Hello::default() }.encode(id, &mut bytes);
    link.send(&bytes, &[])?;
    let agreed = read_ack(&mut link, offered, id)?;
    link.check_idle()?;
    Ok((link, agreed))
}

fn read_ack(link: &mut Link, offered: Capabilities, id: u64) -> Result<HelloAck> {
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
    let least = limits::URI + 40;
    if (agreed.max_payload as usize) < least || agreed.max_pipeline == 0 {
        return Err(Error::bad("HELLO_ACK", "its limits leave no room for a request"));
    }
    if agreed.capabilities & !offered != 0 {
        return Err(Error::bad("HELLO_ACK", "it agrees to capabilities that were not offered"));
    }
    Ok(agreed)
}
