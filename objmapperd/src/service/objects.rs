//! GET, STAT, LIST and the small ones; [`super::many`] has GET_MANY.

use objmapper::{Delivery, Fill, How, Listing, Miss, Object, Patience, Want};
use objmapper_proto::frame::Op;
use objmapper_proto::reply::{Entry, Reply};
use objmapper_proto::{
    Delivery as Form, Get, Header, List, Mode, ObjectHead, Range, Reason, Request, Status, limits,
};

use super::{Answer, Service};
use crate::connection::Connection;
use crate::link::Flushed;
use crate::outbox::Outbox;
use crate::session::Agreed;
use crate::transfer::Transfer;

/// Milliseconds after which a client may try again what was refused for want of something.
const RETRY_MS: u32 = 20;

/// Bytes of a head; far below what an inline body leaves of a `u32`.
#[allow(clippy::cast_possible_truncation)]
const HEAD: u32 = ObjectHead::SIZE as u32;

/// Bytes of frame that an item may need beside its inline body.
pub(super) const ITEM: usize = ObjectHead::SIZE + limits::TEXT;

impl Service {
    /// Answers one request. `items` is how many objects it may still open in this turn.
    #[inline]
    pub fn answer(
        &self,
        connection: &mut Connection,
        id: u64,
        request: Request<'_>,
        agreed: Agreed,
        items: &mut usize,
    ) -> Answer {
        if !matches!(request, Request::GetMany(_)) {
            *items -= 1;
        }
        match request {
            Request::Get(get) => self.get(connection, id, &get, agreed),
            Request::GetMany(many) => self.many(connection, id, &many, agreed, items),
            Request::Stat(uri) => self.stat(connection, id, uri),
            Request::List(list) => self.list(connection, id, &list, agreed),
            Request::Ping(bytes) => self.reply(connection, id, Reply::Pong(bytes)),
            Request::Stats => {
                let stats = self.house.stats();
                self.reply(connection, id, Reply::Stats(whole_lines(&stats, agreed.max_payload)))
            }
            Request::Close => {
                connection.session.closing = true;
                self.reply(connection, id, Reply::CloseAck(0))
            }
        }
    }

    fn reply(&self, connection: &mut Connection, id: u64, reply: Reply<'_>) -> Answer {
        self.counters.other.add(1);
        reply.encode(id, 0, connection.link.outbox.bytes());
        Answer::Done
    }

    #[inline]
    fn get(&self, c: &mut Connection, id: u64, get: &Get<'_>, agreed: Agreed) -> Answer {
        let (mode, reason) = self.mode(get.mode);
        if let Some(stuck) = make_room(c, agreed, mode) {
            return stuck;
        }
        let room = (agreed.max_payload - ITEM) as u64;
        let want = Want { uri: get.uri, mode, range: get.range, room };
        let answer = match self.house.store.deliver(&mut c.caller, &want, self.patience) {
            Ok(delivery) => self.object(c, id, delivery, reason, agreed.max_payload),
            Err(miss) => self.miss(c, id, &miss),
        };
        if answer != Answer::Cold {
            self.counters.of(get.mode).add(1);
        }
        answer
    }

    /// `auto` sends bytes while descriptors are scarce.
    #[inline]
    pub(super) fn mode(&self, asked: Mode) -> (Mode, Option<Reason>) {
        if asked == Mode::Auto && self.house.ledger.is_scarce() {
            return (Mode::Copy, Some(Reason::Descriptors));
        }
        (asked, None)
    }

    #[inline]
    fn object(
        &self,
        c: &mut Connection,
        id: u64,
        d: Delivery,
        reason: Option<Reason>,
        max_payload: usize,
    ) -> Answer {
        let reason = reason.unwrap_or(d.reason);
        match d.how {
            How::Descriptor(fd) => {
                let head = head(&d.object, d.range, Form::Descriptor, reason);
                put_head(&mut c.link.outbox, id, &head, 1, 0);
                c.link.outbox.push(fd);
                self.counters.descriptors.add(1);
                Answer::Done
            }
            How::Inline(body) => {
                let at = c.link.outbox.bytes().len();
                let head = head(&d.object, d.range, Form::Inline, reason);
                put_head(&mut c.link.outbox, id, &head, 0, d.range.length);
                match body.fill(c.link.outbox.bytes(), self.patience) {
                    Ok(Fill::Whole) => {
                        self.counters.body_bytes.add(d.range.length);
                        Answer::Done
                    }
                    failed => {
                        c.link.outbox.bytes().truncate(at);
                        self.miss(c, id, &failed.err().unwrap_or(Miss::WouldBlock))
                    }
                }
            }
            How::Stream(body) => {
                let head = head(&d.object, d.range, Form::Stream, reason);
                put_head(&mut c.link.outbox, id, &head, 0, 0);
                c.body = Some(Transfer::new(body, id, max_payload));
                Answer::Body
            }
        }
    }

    /// Answers what could not be met, or says that it has to be asked with patience.
    fn miss(&self, c: &mut Connection, id: u64, miss: &Miss) -> Answer {
        let Some((status, retry)) = self.judge(miss) else { return Answer::Cold };
        c.link.outbox.refuse(id, status, retry, miss);
        Answer::Done
    }

    /// Status and time to retry after; `None` if patience would help.
    pub(super) fn judge(&self, miss: &Miss) -> Option<(Status, u32)> {
        let status = match miss {
            Miss::WouldBlock if self.patience == Patience::Never => return None,
            // Even a patient read can say so, on a file that another process leases.
            Miss::WouldBlock => Status::Busy,
            Miss::Refused(refusal) => refusal.status(),
            Miss::Fault(error) => {
                tracing::warn!(%error, "a file system failed");
                Status::Io
            }
        };
        self.counters.refusal(status);
        Some((status, if status.may_retry() { RETRY_MS } else { 0 }))
    }

    fn stat(&self, c: &mut Connection, id: u64, uri: &[u8]) -> Answer {
        let answer = match self.house.store.stat(&mut c.caller, uri, self.patience) {
            Ok(object) => {
                let range = Range { offset: 0, length: 0 };
                let head = head(&object, range, Form::None, Reason::Asked);
                put_head(&mut c.link.outbox, id, &head, 0, 0);
                Answer::Done
            }
            Err(miss) => self.miss(c, id, &miss),
        };
        if answer != Answer::Cold {
            self.counters.stat.add(1);
        }
        answer
    }

    fn list(&self, c: &mut Connection, id: u64, list: &List<'_>, agreed: Agreed) -> Answer {
        // Directories are read where waiting is allowed, always.
        if self.patience == Patience::Never {
            return Answer::Cold;
        }
        self.counters.list.add(1);
        let limit = list.limit as usize;
        let listing = Listing { prefix: list.prefix, cursor: list.cursor, limit };
        let page = match self.house.store.list(&mut c.caller, &listing) {
            Ok(page) => page,
            Err(miss) => return self.miss(c, id, &miss),
        };
        let mut entries = Vec::new();
        let mut next = page.next.as_deref().unwrap_or_default();
        let mut before: Option<&[u8]> = None;
        for name in &page.names {
            if entries.len() + Entry::FIXED + name.name.len()
                > agreed.max_payload - limits::CURSOR - 8
            {
                next = before.unwrap_or_default();
                break;
            }
            let (kind, size, mtime_ns) = (name.kind, name.size, name.mtime_ns);
            Entry { kind, size, mtime_ns, name: &name.name }.encode(&mut entries);
            before = Some(&name.name);
        }
        if let Some(page) = objmapper_proto::Entries::new(next, &entries) {
            Reply::Entries(page).encode(id, 0, c.link.outbox.bytes());
        }
        Answer::Done
    }
}

/// As many whole lines as fit.
fn whole_lines(text: &str, most: usize) -> &str {
    match text.get(..most) {
        None => text,
        Some(front) => front.rfind('\n').and_then(|end| text.get(..=end)).unwrap_or_default(),
    }
}

/// Sees to it that one more descriptor may be opened and can go with what waits in the
/// outbox.
#[inline]
fn make_room(c: &mut Connection, agreed: Agreed, mode: Mode) -> Option<Answer> {
    if has_room(c, agreed, mode) {
        return None;
    }
    match c.link.flush(false) {
        Flushed::All if has_room(c, agreed, mode) => None,
        Flushed::All => Some(Answer::Stuck(Flushed::Full)),
        stuck => Some(Answer::Stuck(stuck)),
    }
}

/// Whether a message may have one more descriptor, which is then reserved.
#[inline]
pub(super) fn has_room(c: &mut Connection, agreed: Agreed, mode: Mode) -> bool {
    matches!(mode, Mode::Copy | Mode::Splice)
        || c.link.outbox.descriptors() < agreed.max_descriptors && c.link.reserve()
}

#[inline]
pub(super) fn head(object: &Object, range: Range, delivery: Form, reason: Reason) -> ObjectHead {
    // Only bytes that we read can have been checked by us.
    let flags = match delivery {
        _ if object.immutable => ObjectHead::IMMUTABLE,
        Form::Inline | Form::Stream => ObjectHead::CHECKED,
        Form::Descriptor | Form::None => 0,
    };
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

/// Appends an OBJECT frame up to where an inline body of `inline` bytes begins.
#[inline]
fn put_head(outbox: &mut Outbox, id: u64, head: &ObjectHead, fds: u16, inline: u64) {
    let inline = inline_length(inline);
    let length = HEAD + inline;
    let out = outbox.bytes();
    out.extend_from_slice(&Header::new(Op::Object, id, length, fds).encode());
    out.extend_from_slice(&head.encode(0, inline));
}

#[inline]
pub(super) fn inline_length(length: u64) -> u32 {
    debug_assert!(length <= limits::INLINE as u64);
    u32::try_from(length).unwrap_or(0)
}
