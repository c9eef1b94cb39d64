//! Requests of our own protocol on one key each: those that came together are answered together.

use objmapper_proto::frame::Split;
use objmapper_proto::{Header, Request};

use super::{Attendant, Served};
use crate::admission::Resource;
use crate::connection::Connection;
use crate::link::ENOUGH;
use crate::quantum::Quantum;
use crate::service::batch::{Batch, REQUEST_BYTES, REQUESTS};
use crate::service::native::pipeline::OneKey;
use crate::session::Asked;
use crate::unsettled::Failed;

impl Attendant {
    /// Answers what can be answered under one hold of the requests at the front of the input, of which
    /// this is the first one's header. Gives how many bytes they have: 0 if that is none of them; or why
    /// serving stops, if somebody holds their keys for long.
    #[inline]
    pub(super) fn answer_if_verbs(
        &self,
        c: &mut Connection,
        first: Header,
        quantum: &mut Quantum<'_>,
    ) -> Result<usize, Served> {
        if first.is_kv() { self.answer_verbs(c, quantum) } else { Ok(0) }
    }

    #[inline(never)]
    fn answer_verbs(&self, c: &mut Connection, quantum: &mut Quantum<'_>) -> Result<usize, Served> {
        if !self.service.may_use_keys(&c.caller) {
            return Ok(0);
        }
        let mut batch = Batch::default();
        self.collect_verbs(&mut batch, c, quantum.left());
        if batch.is_empty() {
            return Ok(0);
        }
        let keyspace = &self.service.key_service().keyspace;
        let failed = Failed::before(keyspace);
        let begin = c.link.outbox.bytes().len();
        let Ok(hold) = batch.hold(keyspace, self.service.wait()) else {
            c.needs(Resource::Locks);
            return Err(Served::Cold);
        };
        let answered = batch.answer(hold, |hold, key, request| {
            let room = c.link.outbox.len() < ENOUGH;
            (room && self.service.answer_one(c, hold, &key, request))
                .then(|| c.link.outbox.bytes().len())
        });
        if answered.used == 0 {
            return Ok(0);
        }
        c.has_come();
        (0..answered.count()).for_each(|_| quantum.spend());
        self.service.counters.keys.add(answered.count() as u64);
        answered.withhold((keyspace, failed), begin, &mut c.unsettled);
        Ok(answered.used)
    }

    /// Takes the requests that can be answered together, so many at most.
    fn collect_verbs<'a>(
        &'a self,
        batch: &mut Batch<'a, OneKey<'a>>,
        c: &mut Connection,
        most: usize,
    ) {
        let (input, mut end) = (self.input.bytes(), 0);
        while batch.len() < most.min(REQUESTS) {
            let rest = input.get(end..).unwrap_or_default();
            let Ok(Split::Whole(frame, used)) = c.session.split(rest) else { break };
            if used > REQUEST_BYTES || !frame.header.is_kv() {
                break;
            }
            let id = frame.header.id;
            let Ok(Asked::Request(Request::Kv(kv), agreed, order)) = c.session.admit(frame) else {
                break;
            };
            if c.must_wait(id, agreed, order) {
                break;
            }
            let Some((key, request)) = self.service.joins(id, kv, agreed) else { break };
            end += used;
            batch.push(key, request, end);
        }
    }
}
