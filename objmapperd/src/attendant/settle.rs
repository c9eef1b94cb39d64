//! Replies that wait for what the journal promises.
//!
//! What must stay true: no reply leaves before everything that it tells, or tells of, is as durable
//! as the policy says; if it cannot be, an error leaves in its place.

use std::mem;

use objmapper::kv::{Fault, SyncPolicy};
use objmapper_proto::resp::Encoder;
use objmapper_proto::{ErrorReply, Header, Reply, Status};

use super::Attendant;
use crate::connection::{Connection, WaitsFor};
use crate::seldom;

impl Attendant {
    /// Whether the replies in the outbox may leave; else the connection goes to the committer.
    pub(super) fn settle(&mut self, c: &mut Connection) -> bool {
        let three = c.keys.as_ref().map(|keys| keys.talk.three);
        self.settle_for(c, three)
    }

    /// The same where that is apart. `three`: RESP is spoken, in version 3 or not.
    #[inline]
    pub(super) fn settle_for(&mut self, c: &mut Connection, three: Option<bool>) -> bool {
        c.unsettled.is_empty() || self.wait(c, three)
    }

    fn wait(&mut self, c: &mut Connection, three: Option<bool>) -> bool {
        let Some(journal) = self.service.key_service().keyspace.journal() else { return true };
        let position = c.unsettled.position();
        if position > journal.promised() {
            if journal.options().sync == SyncPolicy::Always && !journal.has_failed() {
                c.waits_for = WaitsFor::Commit;
                return false;
            }
            if let Err(fault) = journal.settle(position) {
                seldom!(ERROR, %fault, "changes are answered with an error");
                let instead = |old: &[u8], out: &mut Vec<u8>| say(&fault, three, old, out);
                c.link.outbox.replace(c.unsettled.replies(), instead);
            }
        }
        c.unsettled.clear();
        true
    }

    /// Lends room for them: no idle connection has any.
    pub(super) fn lend_unsettled(&mut self, c: &mut Connection) {
        if c.unsettled.is_empty() {
            mem::swap(&mut c.unsettled, &mut self.unsettled);
        }
    }

    /// Takes it back when there are none.
    pub(super) fn take_back_unsettled(&mut self, c: &mut Connection) {
        if c.unsettled.is_empty() {
            self.unsettled = mem::take(&mut c.unsettled);
        }
    }
}

/// Says in the place of a reply that what it told cannot be kept.
fn say(fault: &Fault, three: Option<bool>, old: &[u8], out: &mut Vec<u8>) {
    if let Some(three) = three {
        return Encoder::new(out, three).error(format_args!("MISCONF {fault}"));
    }
    let Some(Header { id, .. }) = Header::decode(old) else { return };
    let text = fault.to_string();
    let (status, retry_after_ms) = (Status::Io, 0);
    Reply::Error(ErrorReply { status, retry_after_ms, text: &text }).encode(id, 0, out);
}
