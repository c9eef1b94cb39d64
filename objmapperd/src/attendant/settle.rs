//! Replies that wait for what the journal promises.
//!
//! What must stay true: no reply leaves before everything that it tells, or tells of, is as durable
//! as the policy says; if it cannot be, an error leaves in its place.

use std::mem;

use objmapper::kv::SyncPolicy;
use objmapper::kv::journal::Journal;
use objmapper_proto::resp::Encoder;

use super::Attendant;
use crate::connection::{Connection, WaitsFor};
use crate::outbox::Outbox;
use crate::seldom;
use crate::session::keys::{Keys, Unsettled};

impl Attendant {
    /// Whether the replies in the outbox may leave; else the connection goes to the committer.
    pub(super) fn settle(&mut self, c: &mut Connection) -> bool {
        let Some(keys) = &mut c.keys else { return true };
        let settled = self.settle_keys(keys, &mut c.link.outbox);
        if !settled {
            c.waits_for = WaitsFor::Commit;
        }
        settled
    }

    /// The same where the two are apart.
    #[inline]
    pub(super) fn settle_keys(&mut self, keys: &mut Keys, outbox: &mut Outbox) -> bool {
        keys.unsettled.is_empty() || self.wait(keys, outbox)
    }

    fn wait(&mut self, keys: &mut Keys, outbox: &mut Outbox) -> bool {
        let Some(journal) = self.service.desk().keyspace.journal() else { return true };
        let position = keys.unsettled.position();
        if position > journal.promised() {
            if journal.options().sync == SyncPolicy::Always && !journal.has_failed() {
                return false;
            }
            if let Err(fault) = journal.settle(position) {
                seldom!(ERROR, %fault, "changes are answered with an error");
                let mut error = Vec::new();
                let text = format_args!("MISCONF {fault}");
                Encoder::new(&mut error, keys.talk.three).error(text);
                outbox.replace(keys.unsettled.replies(), &error);
            }
        }
        keys.unsettled.clear();
        // The room for them stays here; the connection keeps none.
        self.unsettled = mem::take(&mut keys.unsettled);
        true
    }
}

/// Notes a reply that may not leave yet. `failed`: the journal had, before the request was answered.
#[inline]
pub(super) fn note(
    unsettled: &mut Unsettled,
    journal: &Journal,
    failed: bool,
    position: u64,
    reply: std::ops::Range<usize>,
) {
    if journal.withholds(failed, position) {
        unsettled.add(position, reply);
    }
}
