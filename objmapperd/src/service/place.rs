//! Putting deliveries into the outbox, and finding out first whether a descriptor may
//! be among them. GET places one in a frame, GET_MANY many.

use std::fmt::Display;

use objmapper::{Body, Delivered, Delivery, Fill, Miss, Mode, Object, Refusal, Want};
use objmapper_proto::{Delivery as Form, ObjectHead, Range, Reason, Status, limits};

use super::{Answer, Service};
use crate::budget::Over;
use crate::connection::Connection;
use crate::forward::Forward;
use crate::link::Flushed;
use crate::outbox::{Descriptor, Outbox};
use crate::session::{Agreed, Order};
use crate::transfer::Transfer;

/// What a delivery became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// A descriptor that leaves with the frame.
    Descriptor,
    /// Bytes in the frame.
    Inline,
    /// A body that follows the frame.
    Body,
    /// Metadata alone: the client has this version.
    NotModified,
    /// Nothing: its body would be one too many.
    Over(Over),
}

/// Whether a descriptor may go out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// One is reserved.
    Descriptor,
    /// None is needed, or `auto` must do without.
    Bytes,
    /// Not before what waits has left.
    Flush,
}

/// Reserves a descriptor for a request in this mode.
#[inline]
pub(super) fn claim(c: &mut Connection, agreed: Agreed, mode: Mode) -> Claim {
    if matches!(mode, Mode::Copy | Mode::Splice) {
        Claim::Bytes
    } else if c.link.outbox.descriptors() >= agreed.max_descriptors {
        Claim::Flush
    } else if c.link.reserve() {
        Claim::Descriptor
    } else if mode == Mode::Auto {
        Claim::Bytes
    } else {
        Claim::Flush
    }
}

/// Sends what waits, then tries again; says how the request is stuck if that is no help.
pub(super) fn flush_and_claim(
    c: &mut Connection,
    agreed: Agreed,
    mode: Mode,
) -> Result<Claim, Answer> {
    if !c.unsettled.is_empty() {
        return Err(Answer::Unsettled);
    }
    match c.link.flush() {
        Flushed::All => match claim(c, agreed, mode) {
            Claim::Flush => Err(Answer::Stuck(Flushed::Full)),
            claim => Ok(claim),
        },
        stuck => Err(Answer::Stuck(stuck)),
    }
}

impl Service {
    /// Asks for an object and places it. A copy that saw a change is made once more: mostly
    /// it was the name count or the permissions that changed (both move ctime), or the
    /// writer is done by now.
    #[inline]
    pub(super) fn deliver(
        &self,
        c: &mut Connection,
        id: u64,
        want: &Want<'_>,
        (agreed, order): (Agreed, Order),
    ) -> Result<Placed, Miss> {
        let once = |c: &mut Connection| {
            let delivery = self.daemon.store.deliver(&mut c.caller, want, self.patience)?;
            self.place(c, id, delivery, agreed.max_data, order.urgent)
        };
        match once(c) {
            Err(Miss::Refused(Refusal::Changed)) => once(c),
            other => other,
        }
    }

    /// Appends head and inline body of a delivery, or nothing if it fails.
    #[inline]
    pub(super) fn place(
        &self,
        c: &mut Connection,
        id: u64,
        d: Delivery,
        max_data: usize,
        urgent: bool,
    ) -> Result<Placed, Miss> {
        let head = |form| head(&d.object, d.range, form, d.reason);
        let out = c.link.outbox.bytes();
        match d.delivered {
            Delivered::Inline(body) | Delivered::Stream(body) if c.arrivals.is_expected() => {
                out.extend_from_slice(&head(Form::Destination).encode(0, 0));
                if let Some(destination) = c.arrivals.take() {
                    let patience = self.daemon.deadlines.of_reading();
                    c.bodies.push_forward(Forward::new(body, id, destination, patience));
                }
                self.counters.transfers.add(1);
                Ok(Placed::Body)
            }
            Delivered::Descriptor(fd) => {
                out.extend_from_slice(&head(Form::Descriptor).encode(0, 0));
                c.link.outbox.push(Descriptor::Own(fd));
                self.counters.descriptors.add(1);
                Ok(Placed::Descriptor)
            }
            Delivered::Shared(fd) => {
                let head = head(Form::Descriptor);
                let flags = head.flags | ObjectHead::SHARED;
                out.extend_from_slice(&ObjectHead { flags, ..head }.encode(0, 0));
                c.link.outbox.push(Descriptor::Shared(fd));
                self.counters.descriptors.add(1);
                Ok(Placed::Descriptor)
            }
            Delivered::Inline(body) => self.place_inline(out, head(Form::Inline), &body),
            Delivered::NotModified => {
                let head = ObjectHead { status: Status::NotModified, ..head(Form::None) };
                out.extend_from_slice(&head.encode(0, 0));
                self.counters.not_modified.add(1);
                Ok(Placed::NotModified)
            }
            Delivered::Stream(body) => {
                let permit = match self.daemon.budgets.bodies.take(c.caller.uid()) {
                    Ok(permit) => permit,
                    Err(over) => {
                        self.counters.refusal(Status::Busy);
                        return Ok(Placed::Over(over));
                    }
                };
                out.extend_from_slice(&head(Form::Stream).encode(0, 0));
                c.bodies.push(Transfer::new(body, id, max_data, permit), urgent);
                self.counters.transfers.add(1);
                Ok(Placed::Body)
            }
        }
    }

    /// Appends a head and the body behind it, both or neither.
    #[inline]
    fn place_inline(
        &self,
        out: &mut Vec<u8>,
        head: ObjectHead,
        body: &Body,
    ) -> Result<Placed, Miss> {
        let (at, length) = (out.len(), head.range.length);
        debug_assert!(length <= limits::INLINE as u64);
        out.extend_from_slice(&head.encode(0, u32::try_from(length).unwrap_or(0)));
        match body.fill(out, self.patience.at(body.mount())) {
            Ok(Fill::Whole) => {
                self.counters.body_bytes.add(length);
                Ok(Placed::Inline)
            }
            failed => {
                out.truncate(at);
                Err(failed.err().unwrap_or(Miss::WouldBlock))
            }
        }
    }
}

/// Appends the head and the text of a refusal.
pub(super) fn place_refusal(outbox: &mut Outbox, status: Status, why: &dyn Display) {
    let at = outbox.bytes().len();
    let failed = ObjectHead::failed(status);
    outbox.bytes().extend_from_slice(&failed.encode(0, 0));
    let length = outbox.write_text(why);
    outbox.patch(at, &failed.encode(length, 0));
}

/// What the wire says of an object.
#[inline]
pub(super) fn head(object: &Object, range: Range, delivery: Form, reason: Reason) -> ObjectHead {
    let flags = if object.immutable { ObjectHead::IMMUTABLE } else { ObjectHead::CHECKED };
    ObjectHead {
        status: Status::Ok,
        kind: object.kind,
        delivery,
        reason,
        flags,
        size: object.size,
        mtime_ns: object.mtime_ns,
        version: object.version,
        range,
        seals: object.seals,
    }
}
