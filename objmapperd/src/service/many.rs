//! GET_MANY: many objects in as few frames and messages as the wire allows.
//!
//! The request stays at the front of the input until its last item is answered; the
//! session counts how many are. So it can stop anywhere (the turn is over, a body has
//! to be sent first, an item has to wait for a disk, the peer has to read) and go on
//! later, on another thread, without a state of its own.

use objmapper::{Delivery, Fill, How, Miss, Want};
use objmapper_proto::reply::Objects;
use objmapper_proto::{Delivery as Form, GetMany, Header, ObjectHead, Op, Range, Reason, limits};

use super::objects::{ITEM, has_room, head, inline_length};
use super::{Answer, Service};
use crate::connection::Connection;
use crate::link::{ENOUGH, Flushed};
use crate::session::Agreed;
use crate::transfer::Transfer;

impl Service {
    /// Goes on with a GET_MANY where it stopped: opens what the turn allows and packs
    /// it into OBJECTS frames.
    pub(super) fn many(
        &self,
        c: &mut Connection,
        id: u64,
        many: &GetMany<'_>,
        agreed: Agreed,
        items: &mut usize,
    ) -> Answer {
        let total = many.count();
        let (mode, reason) = self.mode(many.mode);
        let most = ENOUGH.min(agreed.max_payload / 2);
        let room = most.saturating_sub(ITEM + Objects::FIXED) as u64;
        let mut part = Part::begin(c, id, agreed.max_payload);
        for uri in many.uris().skip(c.session.many_done as usize) {
            if part.length(c) >= most || !has_room(c, agreed, mode) {
                part.end(c, total);
                match c.link.flush(false) {
                    Flushed::All if has_room(c, agreed, mode) => {}
                    Flushed::All => return Answer::Stuck(Flushed::Full),
                    stuck => return Answer::Stuck(stuck),
                }
                part = Part::begin(c, id, agreed.max_payload);
            }
            if *items == 0 {
                part.end(c, total);
                return Answer::Part;
            }
            *items -= 1;
            let want = Want { uri, mode, range: Range::ALL, room };
            let delivered = self.house.store.deliver(&mut c.caller, &want, self.patience);
            match self.item(c, &mut part, delivered, reason) {
                Answer::Cold => {
                    part.end(c, total);
                    return Answer::Cold;
                }
                Answer::Body => {
                    self.counters.of(many.mode).add(1);
                    return if part.end(c, total) { Answer::Body } else { Answer::Part };
                }
                _ => self.counters.of(many.mode).add(1),
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
        delivered: Result<Delivery, Miss>,
        reason: Option<Reason>,
    ) -> Answer {
        let at = c.link.outbox.bytes().len();
        let answer = match delivered {
            Ok(d) => self.deliver_item(c, part, d, reason),
            Err(miss) => Err(miss),
        };
        let miss = match answer {
            Ok(answer) => {
                part.count += 1;
                return answer;
            }
            Err(miss) => miss,
        };
        c.link.outbox.bytes().truncate(at);
        let Some((status, _)) = self.judge(&miss) else { return Answer::Cold };
        let failed = ObjectHead::failed(status);
        c.link.outbox.bytes().extend_from_slice(&failed.encode(0, 0));
        let length = c.link.outbox.write_text(&miss);
        c.link.outbox.patch(at, &failed.encode(length, 0));
        part.count += 1;
        Answer::Done
    }

    fn deliver_item(
        &self,
        c: &mut Connection,
        part: &mut Part,
        d: Delivery,
        reason: Option<Reason>,
    ) -> Result<Answer, Miss> {
        let reason = reason.unwrap_or(d.reason);
        let out = c.link.outbox.bytes();
        match d.how {
            How::Descriptor(fd) => {
                let head = head(&d.object, d.range, Form::Descriptor, reason);
                out.extend_from_slice(&head.encode(0, 0));
                c.link.outbox.push(fd);
                part.fds += 1;
                self.counters.descriptors.add(1);
                Ok(Answer::Done)
            }
            How::Inline(body) => {
                let head = head(&d.object, d.range, Form::Inline, reason);
                out.extend_from_slice(&head.encode(0, inline_length(d.range.length)));
                match body.fill(out, self.patience)? {
                    Fill::Whole => {
                        self.counters.body_bytes.add(d.range.length);
                        Ok(Answer::Done)
                    }
                    Fill::Cold => Err(Miss::WouldBlock),
                }
            }
            How::Stream(body) => {
                let head = head(&d.object, d.range, Form::Stream, reason);
                out.extend_from_slice(&head.encode(0, 0));
                c.body = Some(Transfer::new(body, part.id, part.max_payload));
                Ok(Answer::Body)
            }
        }
    }
}

/// An OBJECTS frame under construction in the outbox.
struct Part {
    id: u64,
    at: usize,
    count: u16,
    fds: u16,
    max_payload: usize,
}

impl Part {
    fn begin(c: &mut Connection, id: u64, max_payload: usize) -> Self {
        let at = c.link.outbox.bytes().len();
        c.link.outbox.bytes().extend_from_slice(&[0; limits::HEADER + Objects::FIXED]);
        Self { id, at, count: 0, fds: 0, max_payload }
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
        let length = self.length(c) - limits::HEADER;
        let length = u32::try_from(length).unwrap_or(0);
        let header = Header::new(Op::Objects, self.id, length, self.fds);
        c.link.outbox.patch(self.at, &header.encode());
        c.link.outbox.patch(self.at + limits::HEADER, &Objects::fixed(first, last, self.count));
        last
    }
}
