//! A turn of a connection that speaks RESP: the same reads and sends, other requests.

use objmapper_proto::resp::{Caps, Encoder, Step};

use super::settle::note;
use super::{Attendant, Served};
use crate::connection::{Connection, WaitsFor};
use crate::link::{ENOUGH, Flushed};
use crate::session::keys::Keys;

/// Requests that are answered in one turn at most: about as long as the objects of one. Not tuned.
const REQUESTS: usize = 1024;

impl Attendant {
    /// Answers the requests that were read.
    pub(super) fn serve_keys(&mut self, c: &mut Connection) -> Served {
        let Some(mut keys) = c.keys.take() else { return Served::Over };
        if keys.unsettled.is_empty() {
            std::mem::swap(&mut keys.unsettled, &mut self.unsettled);
        }
        let served = self.converse(c, &mut keys);
        c.keys = Some(keys);
        served
    }

    fn converse(&mut self, c: &mut Connection, keys: &mut Keys) -> Served {
        let mut ahead = 0_usize;
        for _ in 0..REQUESTS {
            if ahead == 0 {
                ahead = self.service.desk().look_ahead(keys.talk.db, self.input.bytes());
            }
            ahead = ahead.saturating_sub(1);
            let caps = if keys.talk.known { Caps::KNOWN } else { Caps::STRANGER };
            match keys.decoder.step(self.input.bytes(), caps) {
                Ok(Step::Whole(used)) => {
                    c.has_come();
                    let args = keys.decoder.args(self.input.bytes());
                    let (desk, at) = (self.service.desk(), c.link.outbox.len());
                    let journal = desk.keyspace.journal();
                    let failed = journal.is_some_and(|journal| journal.has_failed());
                    keys.talk.position = 0;
                    desk.answer(&mut keys.talk, &c.caller, args, c.link.outbox.bytes());
                    if let Some(journal) = journal {
                        let reply = at..c.link.outbox.len();
                        note(&mut keys.unsettled, journal, failed, keys.talk.position, reply);
                    }
                    self.input.consume(used);
                    keys.decoder.reset();
                }
                Ok(Step::Nothing(used)) => {
                    self.input.consume(used);
                    keys.decoder.reset();
                    continue;
                }
                Ok(Step::Partial(wanted)) => {
                    c.wanted = wanted;
                    return Served::Hungry;
                }
                Err(malformed) => {
                    tracing::debug!(uid = c.caller.uid(), %malformed, "a peer broke the protocol");
                    self.service.counters.violations.add(1);
                    Encoder::new(c.link.outbox.bytes(), keys.talk.three)
                        .error(format_args!("ERR {malformed}"));
                    c.session.closing = true;
                    return Served::Over;
                }
            }
            if keys.talk.over {
                c.session.closing = true;
                return Served::Over;
            }
            if c.link.outbox.len() >= ENOUGH {
                if !self.settle_keys(keys, &mut c.link.outbox) {
                    c.waits_for = WaitsFor::Commit;
                    return Served::Unsettled;
                }
                match c.link.flush() {
                    Flushed::All => {}
                    flushed => {
                        c.waits_for = WaitsFor::Nothing;
                        return Served::Stuck(flushed);
                    }
                }
            }
        }
        Served::Tired
    }
}
