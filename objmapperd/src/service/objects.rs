//! GET, STAT, LIST and the small ones; [`super::many`] has GET_MANY.

use objmapper::{Listing, Miss, Patience, Want};
use objmapper_proto::frame::Op;
use objmapper_proto::reply::{Entries, Entry, Reply};
use objmapper_proto::{
    Delivery as Form, Get, List, ObjectHead, Range, Reason, Request, Status, limits,
};

use super::place::{Claim, Placed, claim, flush_and_claim, head};
use super::{Answer, Service};
use crate::admission::Resource;
use crate::connection::Connection;
use crate::quantum::Quantum;
use crate::seldom;
use crate::session::{Agreed, Order};

/// Milliseconds after which a client may try again what was refused for want of something.
pub(super) const RETRY_MS: u32 = 20;

/// Bytes of frame that an item may need beside its inline body.
pub(super) const ITEM: usize = ObjectHead::SIZE + limits::TEXT;

impl Service {
    /// Answers one request. `quantum` is what the turn may still do.
    #[inline]
    pub fn answer(
        &self,
        connection: &mut Connection,
        id: u64,
        request: Request<'_>,
        (agreed, order): (Agreed, Order),
        quantum: &mut Quantum<'_>,
    ) -> Answer {
        match request {
            Request::Get(get) => self.get(connection, id, &get, agreed, order),
            Request::GetMany(many) => self.many(connection, id, &many, agreed, order, quantum),
            Request::Stat(uri) => self.stat(connection, id, uri),
            Request::List(list) => {
                // A page costs a pass over its directory: a turn's worth.
                quantum.end();
                self.list(connection, id, &list, agreed)
            }
            Request::Ping(bytes) => self.reply(connection, id, Reply::Pong(bytes)),
            Request::Stats if !self.daemon.may_have_stats(connection.caller.uid()) => {
                self.counters.refusal(Status::Denied);
                let why =
                    "only root and the daemon's own user may read the counters (listen.stats)";
                connection.link.outbox.refuse(id, Status::Denied, 0, &why);
                Answer::Done
            }
            Request::Stats => {
                quantum.end();
                let stats = self.daemon.stats();
                self.reply(connection, id, Reply::Stats(whole_lines(&stats, agreed.max_payload)))
            }
            Request::Kv(kv) => {
                let answer = self.keys(connection, id, &kv, (agreed, order), quantum);
                self.counters.keys.add(u64::from(answer == Answer::Done));
                answer
            }
            Request::Flush(prefix) => {
                quantum.end();
                self.flush(connection, id, prefix)
            }
            Request::Close => {
                connection.session.closing = true;
                let remaining = u32::try_from(connection.bodies.len()).unwrap_or(u32::MAX);
                self.reply(connection, id, Reply::CloseAck(remaining))
            }
        }
    }

    fn reply(&self, connection: &mut Connection, id: u64, reply: Reply<'_>) -> Answer {
        self.counters.other.add(1);
        reply.encode(id, 0, connection.link.outbox.bytes());
        Answer::Done
    }

    #[inline]
    fn get(
        &self,
        c: &mut Connection,
        id: u64,
        get: &Get<'_>,
        agreed: Agreed,
        order: Order,
    ) -> Answer {
        if let Some(why) = c.arrivals.refusal() {
            self.counters.refusal(Status::Busy);
            c.link.outbox.refuse(id, Status::Busy, RETRY_MS, &why);
            return Answer::Done;
        }
        let claim = match claim(c, agreed, get.mode) {
            Claim::Flush => match flush_and_claim(c, agreed, get.mode) {
                Ok(claim) => claim,
                Err(stuck) => return stuck,
            },
            claim => claim,
        };
        let want = Want {
            uri: get.uri,
            mode: get.mode,
            range: get.range,
            room: (agreed.max_payload - ITEM) as u64,
            descriptors: claim == Claim::Descriptor,
            unless: get.unless,
            shared: get.shared,
        };
        if get.shared {
            self.observe();
        }
        let at = c.link.outbox.bytes().len();
        c.link.outbox.bytes().extend_from_slice(&[0; limits::HEADER]);
        let answer = match self.deliver(c, id, &want, (agreed, order)) {
            Ok(Placed::Over(over)) => {
                c.link.outbox.bytes().truncate(at);
                c.link.outbox.refuse(id, Status::Busy, RETRY_MS, &over);
                Answer::Done
            }
            Ok(placed) => {
                let fds = u16::from(placed == Placed::Descriptor);
                c.link.outbox.head_frame(at, Op::Object, id, fds);
                if placed == Placed::Body { Answer::Body } else { Answer::Done }
            }
            Err(miss) => {
                c.link.outbox.bytes().truncate(at);
                self.miss(c, id, get.uri, &miss)
            }
        };
        if answer != Answer::Cold {
            self.counters.of(get.mode).add(1);
        }
        answer
    }

    /// Answers what could not be met, or says that it has to be asked with patience.
    fn miss(&self, c: &mut Connection, id: u64, uri: &[u8], miss: &Miss) -> Answer {
        let Some((status, retry)) = self.judge(miss) else { return self.cold(c, uri) };
        c.link.outbox.refuse(id, status, retry, miss);
        Answer::Done
    }

    /// It takes somebody with patience for the mount of this name.
    #[cold]
    pub(super) fn cold(&self, c: &mut Connection, uri: &[u8]) -> Answer {
        c.needs(Resource::Mount(self.daemon.store.mount_of(uri).unwrap_or_default()));
        Answer::Cold
    }

    /// Status and time to retry after; `None` if patience would help.
    pub(super) fn judge(&self, miss: &Miss) -> Option<(Status, u32)> {
        let status = match miss {
            Miss::WouldBlock => return None,
            Miss::Refused(refusal) => refusal.status(),
            Miss::Fault(error) => {
                seldom!(WARN, %error, "a file system failed");
                Status::Io
            }
        };
        self.counters.refusal(status);
        Some((status, if status.may_retry() { RETRY_MS } else { 0 }))
    }

    fn flush(&self, c: &mut Connection, id: u64, prefix: &[u8]) -> Answer {
        match self.daemon.store.flush(&c.caller, prefix) {
            Ok(flushed) => {
                let flushed = u32::try_from(flushed).unwrap_or(u32::MAX);
                self.reply(c, id, Reply::Flushed(flushed))
            }
            Err(miss) => {
                self.counters.other.add(1);
                self.miss(c, id, prefix, &miss)
            }
        }
    }

    fn stat(&self, c: &mut Connection, id: u64, uri: &[u8]) -> Answer {
        let answer = match self.daemon.store.stat(&mut c.caller, uri, self.patience) {
            Ok(object) => {
                let range = Range { offset: 0, length: 0 };
                let at = c.link.outbox.bytes().len();
                let out = c.link.outbox.bytes();
                out.extend_from_slice(&[0; limits::HEADER]);
                out.extend_from_slice(
                    &head(&object, range, Form::None, Reason::Asked).encode(0, 0),
                );
                c.link.outbox.head_frame(at, Op::Object, id, 0);
                Answer::Done
            }
            Err(miss) => self.miss(c, id, uri, &miss),
        };
        if answer != Answer::Cold {
            self.counters.stat.add(1);
        }
        answer
    }

    fn list(&self, c: &mut Connection, id: u64, list: &List<'_>, agreed: Agreed) -> Answer {
        // Directories are read where waiting is allowed, always.
        let mount = self.daemon.store.mount_of(list.prefix);
        if mount.is_some_and(|mount| self.patience.at(mount) == Patience::Never) {
            return self.cold(c, list.prefix);
        }
        self.counters.list.add(1);
        let limit = list.limit as usize;
        let listing = Listing { prefix: list.prefix, cursor: list.cursor, limit };
        let page = match self.daemon.store.list(&mut c.caller, &listing) {
            Ok(page) => page,
            Err(miss) => return self.miss(c, id, list.prefix, &miss),
        };
        let mut entries = Vec::new();
        let mut next = page.next.as_deref().unwrap_or_default();
        let mut before: Option<&[u8]> = None;
        for name in &page.names {
            let length = entries.len() + Entry::FIXED + name.name.len();
            if length > agreed.max_payload - limits::CURSOR - Entries::FIXED {
                next = before.unwrap_or_default();
                break;
            }
            let (kind, size, mtime_ns) = (name.kind, name.size, name.mtime_ns);
            Entry { kind, size, mtime_ns, name: &name.name }.encode(&mut entries);
            before = Some(&name.name);
        }
        match Entries::new(next, &entries) {
            Some(page) => Reply::Entries(page).encode(id, 0, c.link.outbox.bytes()),
            // Not reachable: these entries were encoded just now.
            None => c.link.outbox.refuse(id, Status::Io, 0, &"the listing cannot be encoded"),
        }
        Answer::Done
    }
}

/// As many whole lines as fit.
pub(super) fn whole_lines(text: &str, most: usize) -> &str {
    match text.get(..most) {
        None => text,
        Some(front) => front.rfind('\n').and_then(|end| text.get(..=end)).unwrap_or_default(),
    }
}
