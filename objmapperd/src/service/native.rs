//! Keys in our own protocol: the verbs `KV_GET` to `KV_STATUS`.
//!
//! ```text
//!  verb ─▶ may they? ─▶ values made ready ─▶ locks of its keys ─▶ done ─▶ locks free ─▶ reply
//!                                                                  └─ position in the journal
//! ```
//!
//! Those on one key each that come together have one hold: [`pipeline`] says which, and does them.
//!
//! It is the keyspace that RESP clients use, by the same rules. What must stay true:
//! - a reply that tells of something not yet durable waits in the outbox until that is
//!   ([`crate::unsettled`]); one with a descriptor or a body is not made before, and its request asked
//!   again;
//! - what takes long, and what needs locks that somebody holds for long, is asked again of a helper;
//! - nothing long is done under a lock, and nothing is done with a descriptor that a client passed but
//!   by a helper.

mod backup;
mod changes;
mod compact;
mod lists;
mod passed;
pub mod pipeline;
mod status;
mod values;

use std::fmt::Display;

use changes::Outcome;
use objmapper::kv::journal::Failure;
use objmapper::kv::{Fault, Hold, Key, Keyspace, Wait};
use objmapper::{Caller, Patience};
use objmapper_os::peer;
use objmapper_proto::kv::Verb;
use objmapper_proto::{Kv, KvDone, Reply, Status};

use super::effort::MANY;
use super::objects::RETRY_MS;
use super::{Answer, Service};
use crate::admission::Resource;
use crate::connection::Connection;
use crate::quantum::Quantum;
use crate::session::{Agreed, Order};
use crate::unsettled::Failed;

/// A request that is being answered.
struct Asked<'k> {
    id: u64,
    db: u8,
    keyspace: &'k Keyspace,
    failed: Failed,
    /// Where its reply begins in the outbox.
    at: usize,
    /// How long the locks of keys are waited for.
    wait: Wait,
}

impl Service {
    /// Answers a request about keys.
    pub(super) fn keys(
        &self,
        c: &mut Connection,
        id: u64,
        kv: &Kv<'_>,
        (agreed, order): (Agreed, Order),
        quantum: &mut Quantum<'_>,
    ) -> Answer {
        let (key_service, db) = (self.key_service(), kv.db);
        if !key_service.access.is_served() {
            let why = "this daemon has no keyspace: give it a socket (kv.socket) or a directory \
                       (kv.dir)";
            return self.refuse(c, id, Status::Unsupported, &why);
        }
        if !key_service.access.knows(&c.caller) {
            let uid = c.caller.uid();
            let why =
                format_args!("no rule of the keyspace allows uid {uid}: add one under kv.allow");
            return self.refuse(c, id, Status::Denied, &why);
        }
        let keyspace = &*key_service.keyspace;
        let failed = Failed::before(keyspace);
        let asked =
            Asked { id, db, keyspace, failed, at: c.link.outbox.bytes().len(), wait: self.wait() };
        if takes_long(&kv.verb)
            && let Some(cold) = self.unless_for(c, Resource::Time)
        {
            return cold;
        }
        match kv.verb {
            Verb::Get { mode, key } => self.value(c, &asked, (mode, key), (agreed, order)),
            Verb::Set(set) => self.set(c, &asked, &set),
            Verb::Delete(keys) => self.delete(c, &asked, &keys),
            Verb::GetMany(keys) => self.values(c, &asked, &keys, agreed),
            Verb::Batch(batch) => self.batch(c, &asked, &batch),
            Verb::Add { by, key } => self.add(c, &asked, by, key),
            Verb::Expire { change, key } => self.expire(c, &asked, change, key),
            Verb::Scan(scan) => {
                // A page costs a pass over its database: a turn's worth.
                quantum.end();
                self.scan(c, &asked, &scan, agreed)
            }
            Verb::Backup => {
                quantum.end();
                self.backup(c, &asked, (agreed, order))
            }
            Verb::Compact => {
                quantum.end();
                self.compact(c, &asked)
            }
            Verb::Status => {
                quantum.end();
                self.status(c, &asked, agreed)
            }
        }
    }

    fn refuse(&self, c: &mut Connection, id: u64, status: Status, why: &dyn Display) -> Answer {
        self.counters.refusal(status);
        let retry = if status.may_retry() { RETRY_MS } else { 0 };
        c.link.outbox.refuse(id, status, retry, why);
        Answer::Done
    }

    /// What is for root and the daemon's own user, and takes as long as writing all keys: `None` if
    /// it may be done here and now.
    fn defer(&self, c: &mut Connection, asked: &Asked<'_>, what: &str) -> Option<Answer> {
        let (uid, own) = (c.caller.uid(), peer::own_uid());
        if uid != 0 && uid != own {
            let why = format_args!(
                "{what} for root and the user that the daemon runs as (uid {own}), not for uid {uid}"
            );
            return Some(self.refuse(c, asked.id, Status::Denied, &why));
        }
        self.unless_for(c, Resource::Destination)
    }

    /// Nothing, if this is done by a helper who has that errand; else it is to be asked again of one.
    fn unless_for(&self, c: &mut Connection, resource: Resource) -> Option<Answer> {
        if self.patience != Patience::Never && c.errand == resource {
            return None;
        }
        c.needs(resource);
        Some(Answer::Cold)
    }

    /// How long the locks of keys are waited for.
    #[inline]
    pub fn wait(&self) -> Wait {
        if self.patience == Patience::Never { Wait::Briefly } else { Wait::Long }
    }

    /// Answers that what [`Self::defer`] is about has failed.
    fn failed(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        failure: &Failure,
        what: &str,
    ) -> Answer {
        if self.daemon.helpers.is_stopping() {
            tracing::info!(%failure, "{what} is given up");
            return self.refuse(c, asked.id, Status::Busy, &"the daemon is stopping");
        }
        if *failure == Failure::UnderWay {
            return self.refuse(c, asked.id, Status::Busy, failure);
        }
        tracing::warn!(%failure, "{what} failed");
        let status = match failure {
            Failure::Disk { error, .. } if error.is_resource() => Status::Busy,
            Failure::Stopped(fault) => status_of(fault),
            _ => Status::Io,
        };
        self.refuse(c, asked.id, status, failure)
    }

    /// Answers with why nothing was done. What was seen for that may still have to be waited for.
    fn fault(&self, c: &mut Connection, asked: &Asked<'_>, fault: &Fault, position: u64) -> Answer {
        c.link.outbox.bytes().truncate(asked.at);
        if *fault == Fault::Locked {
            c.needs(Resource::Locks);
            return Answer::Cold;
        }
        self.refuse(c, asked.id, status_of(fault), fault);
        asked.settle(c, position)
    }

    /// Answers with what became of a change; it has put nothing into the outbox.
    #[inline]
    fn tell_outcome(&self, c: &mut Connection, id: u64, outcome: &Outcome) {
        match outcome {
            Ok((done, number)) => {
                let reply = Reply::KvDone(KvDone { done: *done, number: *number });
                reply.encode(id, 0, c.link.outbox.bytes());
            }
            Err(fault) => {
                self.refuse(c, id, status_of(fault), fault);
            }
        }
    }

    /// Whether there are keys, for them.
    pub fn may_use_keys(&self, caller: &Caller) -> bool {
        let access = &self.key_service().access;
        access.is_served() && access.knows(caller)
    }
}

impl Asked<'_> {
    fn key<'a>(&self, name: &'a [u8]) -> Key<'a> {
        self.keyspace.key(self.db, name)
    }

    /// Its reply is in the outbox and tells what is durable with this position.
    fn settle(&self, c: &mut Connection, position: u64) -> Answer {
        if self.failed.waits(self.keyspace, position) {
            c.unsettled.add(position, self.at..c.link.outbox.bytes().len());
        }
        Answer::Done
    }

    /// Whether keys may be changed, and take room.
    fn may_grow(&self) -> Result<(), Fault> {
        self.keyspace.may_write()?;
        self.keyspace.make_room(self.wait, Keyspace::now())
    }

    fn hold(&self, key: &Key<'_>) -> Result<Hold<'_>, Fault> {
        self.keyspace.try_hold(key, self.wait, Keyspace::now())
    }

    fn hold_all(&self, keys: &[Key<'_>]) -> Result<Hold<'_>, Fault> {
        self.keyspace.try_hold_keys(keys, self.wait, Keyspace::now())
    }
}

/// Whether a request may take longer than a worker's turn.
fn takes_long(verb: &Verb<'_>) -> bool {
    match verb {
        Verb::Delete(keys) | Verb::GetMany(keys) => keys.count() > MANY,
        Verb::Batch(batch) => batch.count() > MANY,
        // A page costs a pass over its database.
        Verb::Scan(_) => true,
        _ => false,
    }
}

/// As it is told.
fn status_of(fault: &Fault) -> Status {
    match fault {
        Fault::NotInteger | Fault::Overflow | Fault::NotNumber | Fault::NotFinite => {
            Status::BadValue
        }
        Fault::TooLong { .. } => Status::TooLarge,
        Fault::NoKey => Status::NotFound,
        Fault::BadExpiry => Status::BadRequest,
        Fault::Full { .. } | Fault::Locked => Status::Busy,
        Fault::Io(error) if error.is_resource() => Status::Busy,
        Fault::Journal { .. } | Fault::Io(_) => Status::Io,
    }
}
