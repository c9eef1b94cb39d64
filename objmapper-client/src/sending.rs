//! Bytes that the daemon sends elsewhere: into a descriptor that goes with the request.
//!
//! Nothing is asked twice here: whether a destination has bytes already is known to nobody once
//! the connection is lost.

use crate::answer;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::sink::Discard;
use objmapper_proto::Status;
use std::ops::RangeBounds;
use std::os::fd::BorrowedFd;

/// Whether descriptors may be passed at all.
pub(crate) fn check(connection: &Connection) -> Result<()> {
    if connection.passes() {
        return Ok(());
    }
    let why = "no descriptors can be passed here: ask for it when connecting \
               (Builder::pass_descriptors), and let the daemon's operator allow it (destinations.allow)";
    Err(Error::refused(Status::Unsupported, why, 0))
}

/// Has some bytes of an object sent to `destination`, and waits until they are there; how many.
pub(crate) fn send_to(
    connection: &mut Connection,
    uri: &str,
    range: impl RangeBounds<u64>,
    destination: BorrowedFd<'_>,
) -> Result<u64> {
    let asked = Request::sent(uri, range);
    let (name, wanted) = (asked.name()?, asked.wanted);
    let request = wanted.on(name.as_ref().map_or(b"", |name| name.as_uri().as_bytes()));
    connection.settle()?;
    check(connection).map_err(|error| error.about(uri))?;
    let arrived = connection.ask(&request, &[destination], |link, id| {
        let (arrived, body) = answer::head(link, id, wanted, &mut Discard)?;
        if let Some(mut body) = body {
            // Who reads from the destination sets the pace, and the daemon a limit to that.
            link.patiently(|link| body.run(link, &mut Discard))?;
        }
        Ok(arrived)
    });
    Ok(arrived.map_err(|error| error.about(uri))?.metadata.served())
}
