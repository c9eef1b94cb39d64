//! `KV_GET`: a value as an object, in whatever form that may come.

use objmapper::backing::{Found, keys};
use objmapper::kv::{Hold, Key, Value};
use objmapper::{Miss, Mode, Range, Want};
use objmapper_proto::{Delivery as Form, Kind, ObjectHead, Op, Reason, Status, limits};

use super::{Answer, Asked, Service};
use crate::admission::Resource;
use crate::connection::Connection;
use crate::service::effort::{MUCH, VAST};
use crate::service::objects::{ITEM, RETRY_MS};
use crate::service::place::{Claim, Placed, claim, flush_and_claim};
use crate::session::{Agreed, Order};

impl Service {
    #[inline]
    pub(super) fn value(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        (mode, name): (Mode, &[u8]),
        allowed: (Agreed, Order),
    ) -> Answer {
        let key = asked.key(name);
        let mut hold = match asked.hold(&key) {
            Ok(hold) => hold,
            Err(fault) => return self.fault(c, asked, &fault, 0),
        };
        let is_told = self.tell_value(c, asked.id, &mut hold, &key, (mode, room(allowed.0)));
        // A descriptor for it would have to be made, of a copy.
        let copied = match hold.peek(&key) {
            Some(Value::Bytes(bytes)) if !is_told => bytes.len() as u64,
            _ => 0,
        };
        let position = hold.finish();
        if is_told {
            asked.settle(c, position)
        } else if copied > MUCH
            && let Some(cold) = self.unless_for(c, copying(copied))
        {
            cold
        } else {
            self.object(c, asked, (mode, name), allowed)
        }
    }

    /// Answers with the bytes of a value, or that there is none. Whether it did: not if it is wanted
    /// open, or does not lie where it can be copied from at once, or has more than `room` bytes.
    #[inline]
    pub(super) fn tell_value(
        &self,
        c: &mut Connection,
        id: u64,
        hold: &mut Hold<'_>,
        key: &Key<'_>,
        (mode, room): (Mode, usize),
    ) -> bool {
        // Bytes of our own: a descriptor for them would have to be made.
        let short = |value: &Value<'_>| matches!(value, Value::Bytes(b) if b.len() <= room);
        let fits = |value: &Value<'_>| mode != Mode::Fdpass && short(value);
        match hold.get_if(key, fits) {
            None => {
                self.refuse(c, id, Status::NotFound, &"no such key");
                true
            }
            Some(Some(value @ Value::Bytes(bytes))) => {
                let reason = if mode == Mode::Auto { Reason::Small } else { Reason::Asked };
                let at = c.link.outbox.bytes().len();
                place(c.link.outbox.bytes(), &value, bytes, reason);
                c.link.outbox.head_frame(at, Op::Object, id, 0);
                true
            }
            Some(_) => false,
        }
    }

    /// A value that does not lie where it can be copied from at once, or is wanted open.
    fn object(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        (mode, name): (Mode, &[u8]),
        (agreed, order): (Agreed, Order),
    ) -> Answer {
        let claim = match claim(c, agreed, mode) {
            Claim::Flush => match flush_and_claim(c, agreed, mode) {
                Ok(claim) => claim,
                Err(stuck) => return stuck,
            },
            claim => claim,
        };
        let at = c.link.outbox.bytes().len();
        let (found, position) = match keys::open(asked.keyspace, asked.db, name, asked.wait) {
            Ok(opened) => opened,
            Err(fault) => return self.fault(c, asked, &fault, 0),
        };
        if asked.failed.waits(asked.keyspace, position) {
            c.unsettled.add(position, at..at);
            return Answer::Unsettled;
        }
        let descriptors = claim == Claim::Descriptor;
        self.hand_over(c, asked, found, (mode, descriptors), (agreed, order))
    }

    /// Answers with what was found, or with why nothing was. Whether a descriptor may be among it was
    /// found out before.
    pub(super) fn hand_over(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        found: Result<Found, Miss>,
        (mode, descriptors): (Mode, bool),
        (agreed, order): (Agreed, Order),
    ) -> Answer {
        let room = (agreed.max_payload - ITEM) as u64;
        let want = Want { mode, room, descriptors, ..Want::default() };
        let at = c.link.outbox.bytes().len();
        let delivery = found.and_then(|found| self.daemon.store.deliver_found(&want, found));
        c.link.outbox.bytes().extend_from_slice(&[0; limits::HEADER]);
        let placed = delivery
            .and_then(|delivery| self.place(c, asked.id, delivery, agreed.max_data, order.urgent));
        match placed {
            Ok(Placed::Over(over)) => {
                c.link.outbox.bytes().truncate(at);
                c.link.outbox.refuse(asked.id, Status::Busy, RETRY_MS, &over);
                Answer::Done
            }
            Ok(placed) => {
                let fds = u16::from(placed == Placed::Descriptor);
                c.link.outbox.head_frame(at, Op::Object, asked.id, fds);
                if placed == Placed::Body { Answer::Body } else { Answer::Done }
            }
            Err(miss) => {
                c.link.outbox.bytes().truncate(at);
                self.missed(c, asked.id, &miss)
            }
        }
    }

    fn missed(&self, c: &mut Connection, id: u64, miss: &Miss) -> Answer {
        match self.judge(miss) {
            Some((status, retry)) => c.link.outbox.refuse(id, status, retry, miss),
            // Memory that was swapped out, or is being: whoever asks again waits for it.
            None => c.link.outbox.refuse(
                id,
                Status::Busy,
                RETRY_MS,
                &"the value is swapped out: try again",
            ),
        }
        Answer::Done
    }
}

/// Who copies so many bytes, which are many.
const fn copying(bytes: u64) -> Resource {
    if bytes > VAST { Resource::Time } else { Resource::Copies }
}

/// Bytes that a value may have to go into the frame of its reply.
#[inline]
pub(super) fn room(agreed: Agreed) -> usize {
    limits::INLINE.min(agreed.max_payload - ITEM)
}

/// Appends room for a header, the head of an object and the bytes of it.
#[inline]
fn place(out: &mut Vec<u8>, value: &Value<'_>, bytes: &[u8], reason: Reason) {
    let size = bytes.len() as u64;
    let head = ObjectHead {
        status: Status::Ok,
        kind: Kind::Inline,
        delivery: Form::Inline,
        reason,
        flags: ObjectHead::IMMUTABLE,
        size,
        mtime_ns: 0,
        version: keys::version(value),
        range: Range { offset: 0, length: size },
        seals: 0,
    };
    out.extend_from_slice(&[0; limits::HEADER]);
    out.extend_from_slice(&head.encode(0, u32::try_from(bytes.len()).unwrap_or(0)));
    out.extend_from_slice(bytes);
}
