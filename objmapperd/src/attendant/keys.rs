//! A turn of a connection that speaks RESP: the same reads and sends, other requests.

use std::sync::atomic::Ordering;

use objmapper::Patience;
use objmapper_proto::resp::{Caps, Encoder, Step};

use super::{Attendant, Served};
use crate::connection::{Connection, WaitsFor};
use crate::link::{ENOUGH, Flushed};
use crate::quantum::Quantum;
use crate::session::keys::Keys;
use crate::unsettled::Failed;

/// Requests that are answered in one turn at most: about as long as the objects of one. Not tuned.
const REQUESTS: usize = 1024;

/// Bytes of a request that may take as long as a thousand others. Not tuned.
const LARGE: usize = 64 * 1024;

/// Milliseconds after which no more are answered in a turn: some take as long as a thousand others.
/// Not tuned.
const TURN_MS: i64 = 2;

/// Bytes of replies for a client whose user has too much queued: as much as waits for anybody who does
/// not read.
const SHORT: usize = 2 * ENOUGH;

impl Attendant {
    /// Answers the requests that were read.
    pub(super) fn serve_keys(&mut self, c: &mut Connection, quantum: &mut Quantum<'_>) -> Served {
        let Some(mut keys) = c.keys.take() else { return Served::Over };
        (keys.talk.crowded, keys.talk.room) = (None, c.queued.most());
        if let Some(over) = c.queued.over() {
            keys.talk.give_way(over);
            keys.talk.room = SHORT;
        }
        keys.talk.serve(self.service.patience != Patience::Never);
        let served = self.converse(c, &mut keys, quantum);
        keys.talk.show();
        let doing = &keys.talk.member.doing;
        doing.input.store(self.input.bytes().len(), Ordering::Relaxed);
        doing.output.store(c.link.outbox.len(), Ordering::Relaxed);
        c.keys = Some(keys);
        served
    }

    fn converse(
        &mut self,
        c: &mut Connection,
        keys: &mut Keys,
        quantum: &mut Quantum<'_>,
    ) -> Served {
        let (mut answered, mut begun) = (0, None);
        while answered < REQUESTS {
            let together = self.answer_together(c, keys);
            if let Some(served) = go_where_it_may(c, keys) {
                return served;
            }
            answered += together.max(1);
            if together == 0 {
                match self.answer_next(c, keys, quantum) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(served) => return served,
                }
                let now = keys.talk.last.0;
                if now - *begun.get_or_insert(now) >= TURN_MS {
                    return Served::Tired;
                }
            }
            if c.link.outbox.len() >= ENOUGH
                && let Some(served) = self.send_keys(c, keys)
            {
                return served;
            }
        }
        Served::Tired
    }

    /// Answers the request at the front by itself. Whether there was one, or only what asks for
    /// nothing; or why no more are answered.
    #[inline]
    fn answer_next(
        &mut self,
        c: &mut Connection,
        keys: &mut Keys,
        quantum: &mut Quantum<'_>,
    ) -> Result<bool, Served> {
        let caps = if keys.talk.known { Caps::KNOWN } else { Caps::STRANGER };
        let (used, is_request) = match keys.decoder.step(self.input.bytes(), caps) {
            Ok(Step::Whole(used)) => (used, true),
            Ok(Step::Nothing(used)) => (used, false),
            Ok(Step::Partial(wanted)) => {
                c.wanted = wanted;
                let may_come = wanted <= c.queued.most();
                return Err(if may_come { Served::Hungry } else { too_long(c, keys, wanted) });
            }
            Err(malformed) => {
                tracing::debug!(uid = c.caller.uid(), %malformed, "a peer broke the protocol");
                self.service.counters.violations.add(1);
                Encoder::new(c.link.outbox.bytes(), keys.talk.three)
                    .error(format_args!("ERR {malformed}"));
                c.session.closing = true;
                return Err(Served::Over);
            }
        };
        if is_request {
            if used > LARGE {
                quantum.foresee();
            }
            self.answer_alone(c, keys)?;
        }
        self.input.consume(used);
        keys.decoder.reset();
        if is_request && keys.talk.over {
            c.session.closing = true;
            return Err(Served::Over);
        }
        Ok(is_request)
    }

    /// Answers the request that was decoded; or why it is not answered here.
    #[inline]
    fn answer_alone(&self, c: &mut Connection, keys: &mut Keys) -> Result<(), Served> {
        c.has_come();
        let args = keys.decoder.args(self.input.bytes());
        let key_service = self.service.key_service();
        let at = c.link.outbox.bytes().len();
        let failed = Failed::before(&key_service.keyspace);
        keys.talk.position = 0;
        let fine = key_service.answer(&mut keys.talk, &c.caller, args, c.link.outbox.bytes());
        if let Some(served) = go_where_it_may(c, keys) {
            return Err(served);
        }
        self.service.counters.commands.add(1);
        if !fine {
            self.service.counters.errors.add(1);
        }
        let position = keys.talk.position;
        if failed.waits(&key_service.keyspace, position) {
            c.unsettled.add(position, at..c.link.outbox.bytes().len());
        }
        Ok(())
    }

    /// Answers what can be answered under one hold; gives how many requests that were.
    fn answer_together(&mut self, c: &mut Connection, keys: &mut Keys) -> usize {
        let key_service = self.service.key_service();
        let failed = Failed::before(&key_service.keyspace);
        keys.talk.position = 0;
        let begin = c.link.outbox.bytes().len();
        let sent = begin - c.link.outbox.len();
        let (answered, errors) = key_service.answer_batch(
            &mut self.room,
            (&mut keys.talk, &c.caller),
            self.input.bytes(),
            (c.link.outbox.bytes(), sent + ENOUGH),
        );
        if answered.used == 0 {
            return 0;
        }
        c.has_come();
        let count = answered.count();
        self.service.counters.commands.add(count as u64);
        if errors > 0 {
            self.service.counters.errors.add(errors);
        }
        answered.withhold((&key_service.keyspace, failed), begin, &mut c.unsettled);
        self.input.consume(answered.used);
        keys.decoder.reset();
        count
    }

    /// Sends what was answered so far; why it cannot.
    fn send_keys(&mut self, c: &mut Connection, keys: &mut Keys) -> Option<Served> {
        if !self.settle_for(c, Some(keys.talk.three)) {
            return Some(Served::Unsettled);
        }
        match c.link.flush() {
            Flushed::All => None,
            flushed => {
                c.waits_for = WaitsFor::Nothing;
                Some(Served::Stuck(flushed))
            }
        }
    }
}

/// Why serving stops, if the request at the front needs what it was not granted: a helper asks all of it
/// again.
#[inline]
fn go_where_it_may(c: &mut Connection, keys: &mut Keys) -> Option<Served> {
    let resource = keys.talk.wanted()?;
    keys.decoder.reset();
    c.needs(resource);
    Some(Served::Cold)
}

/// A request that could never be read to its end.
fn too_long(c: &mut Connection, keys: &Keys, wanted: usize) -> Served {
    let most = c.queued.most();
    tracing::debug!(uid = c.caller.uid(), wanted, most, "a request is too long");
    Encoder::new(c.link.outbox.bytes(), keys.talk.three).error(format_args!(
        "ERR this request has {wanted} bytes, one user may have {most} queued: raise \
         limits.queued_bytes"
    ));
    c.session.closing = true;
    Served::Over
}
