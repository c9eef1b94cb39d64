//! Verbs on one key each, which came together: see [`crate::service::batch`].

use objmapper::Mode;
use objmapper::kv::{Content, Hold, Key};
use objmapper_proto::Kv;
use objmapper_proto::kv::{Change, Given, Set, Verb};

use super::changes::{self, Outcome};
use super::{Service, values};
use crate::connection::Connection;
use crate::service::batch::can_change;
use crate::session::Agreed;

/// A request on one key.
#[derive(Debug)]
pub struct OneKey<'a> {
    id: u64,
    verb: Verb<'a>,
    /// Bytes that a value may have that is told.
    room: usize,
}

impl Service {
    /// Whether a request can be answered with others, and now; its key.
    #[inline]
    pub fn joins<'a>(&self, id: u64, kv: Kv<'a>, agreed: Agreed) -> Option<(Key<'a>, OneKey<'a>)> {
        let keyspace = &self.key_service().keyspace;
        let (name, can) = match kv.verb {
            Verb::Get { mode, key } => (key, mode != Mode::Fdpass),
            Verb::Set(Set { key, value: Given::Bytes(bytes), .. }) => {
                (key, bytes.len() <= keyspace.options().inline && can_change(keyspace, true))
            }
            Verb::Delete(keys) if keys.count() == 1 => {
                (keys.iter().next()?, can_change(keyspace, false))
            }
            Verb::Add { key, .. } => (key, can_change(keyspace, true)),
            Verb::Expire { change: Change::Tell, key } => (key, true),
            Verb::Expire { key, .. } => (key, can_change(keyspace, false)),
            _ => return None,
        };
        let request = OneKey { id, verb: kv.verb, room: values::room(agreed) };
        can.then(|| (keyspace.key(kv.db, name), request))
    }

    /// Answers one under the lock of its key. Whether it could: a value may have to be handed out in
    /// another way than its bytes.
    #[inline]
    pub fn answer_one(
        &self,
        c: &mut Connection,
        hold: &mut Hold<'_>,
        key: &Key<'_>,
        request: &OneKey<'_>,
    ) -> bool {
        let outcome: Outcome = match request.verb {
            Verb::Get { mode, .. } => {
                return self.tell_value(c, request.id, hold, key, (mode, request.room));
            }
            Verb::Set(Set { value: Given::Bytes(bytes), condition, expiry, .. }) => {
                let content = Content::Bytes(bytes);
                changes::set(hold, key, content, (condition, expiry))
            }
            Verb::Delete(_) => changes::delete(hold, key),
            Verb::Add { by, .. } => changes::add(hold, key, by),
            Verb::Expire { change, .. } => changes::expire(hold, key, change),
            _ => return false,
        };
        self.tell_outcome(c, request.id, &outcome);
        true
    }
}
