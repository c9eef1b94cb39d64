//! GET_MANY: many objects in as few frames and messages as the wire allows.
//!
//! The request stays at the front of the input until its last item is answered; the
//! session counts how many are. So it can stop anywhere (the turn is over, a body has
//! to be sent first, an item has to wait for a disk, the peer has to read) and go on
//! later, on another thread, without a state of its own.

use objmapper::Want;
use objmapper_proto::reply::Objects;
use objmapper_proto::{GetMany, Op, Range, Status, limits};

use super::objects::ITEM;
use super::place::{Claim, Placed, claim, flush_and_claim, place_refusal};
use super::{Answer, Service};
use crate::connection::Connection;
use crate::link::ENOUGH;
use crate::quantum::Quantum;
use crate::session::{Agreed, Order};

impl Service {
    /// Goes on with a GET_MANY where it stopped: opens what the turn allows and packs
    /// it into OBJECTS frames.
    pub(super) fn many(
        &self,
        c: &mut Connection,
        id: u64,
        many: &GetMany<'_>,
        agreed: Agreed,
        order: Order,
        quantum: &mut Quantum<'_>,
    ) -> Answer {
        let total = many.count();
        let most = ENOUGH.min(agreed.max_payload / 2);
        let room = most.saturating_sub(ITEM + Objects::FIXED) as u64;
        if many.shared {
            self.observe();
        }
        let mut part = Part::begin(c, id);
        for uri in many.uris().skip(c.session.many_done as usize) {
            let mut claimed = claim(c, agreed, many.mode);
            if claimed == Claim::Flush || part.length(c) >= most {
                quantum.spend_bytes(part.length(c) as u64);
                part.end(c, total);
                claimed = match flush_and_claim(c, agreed, many.mode) {
                    Ok(claimed) => claimed,
                    Err(stuck) => return stuck,
                };
                part = Part::begin(c, id);
            }
            if quantum.is_over() {
                part.end(c, total);
                return Answer::Part;
            }
            quantum.spend();
            let descriptors = claimed == Claim::Descriptor;
            let (mode, range) = (many.mode, Range::ALL);
            let shared = many.shared;
            let want = Want { uri, mode, range, room, descriptors, unless: None, shared };
            let answer = self.item(c, &mut part, &want, (agreed, order));
            if answer == Answer::Cold {
                part.end(c, total);
                return Answer::Cold;
            }
            self.counters.of(many.mode).add(1);
            if answer == Answer::Body {
                return if part.end(c, total) { Answer::Body } else { Answer::Part };
            }
        }
        part.end(c, total);
        Answer::Done
    }

    /// Appends one item to a part.
    fn item(
        &self,
        c: &mut Connection,
        part: &mut Part,
        want: &Want<'_>,
        allowed: (Agreed, Order),
    ) -> Answer {
        let answer = match self.deliver(c, part.id, want, allowed) {
            Ok(Placed::Descriptor) => {
                part.fds += 1;
                Answer::Done
            }
            Ok(Placed::Inline | Placed::NotModified) => Answer::Done,
            Ok(Placed::Body) => Answer::Body,
            Ok(Placed::Over(over)) => {
                place_refusal(&mut c.link.outbox, Status::Busy, &over);
                Answer::Done
            }
            Err(miss) => {
                let Some((status, _)) = self.judge(&miss) else { return self.cold(c, want.uri) };
                place_refusal(&mut c.link.outbox, status, &miss);
                Answer::Done
            }
        };
        part.count += 1;
        answer
    }
}

/// An OBJECTS frame under construction in the outbox.
struct Part {
    id: u64,
    at: usize,
    count: u16,
    fds: u16,
}

impl Part {
    fn begin(c: &mut Connection, id: u64) -> Self {
        let at = c.link.outbox.bytes().len();
        c.link.outbox.bytes().extend_from_slice(&[0; limits::HEADER + Objects::FIXED]);
        Self { id, at, count: 0, fds: 0 }
    }

    fn length(&self, c: &mut Connection) -> usize {
        c.link.outbox.bytes().len() - self.at
    }

    /// Writes the frame's numbers, or takes the frame back if it is empty. Returns
    /// whether all items of the request are answered.
    fn end(&self, c: &mut Connection, total: usize) -> bool {
        if self.count == 0 {
            c.link.outbox.bytes().truncate(self.at);
            return false;
        }
        let first = c.session.many_done;
        let done = first + u32::from(self.count);
        let last = done as usize == total;
        c.session.many_done = if last { 0 } else { done };
        c.link.outbox.head_frame(self.at, Op::Objects, self.id, self.fds);
        c.link.outbox.patch(self.at + limits::HEADER, &Objects::fixed(first, last, self.count));
        last
    }
}
