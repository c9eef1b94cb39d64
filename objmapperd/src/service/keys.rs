//! The keyspace for those who speak RESP: requests to the core's verbs to replies.
//!
//! ```text
//!  args ─▶ table: which command ─▶ may it, now? ─▶ locks of its keys ─▶ run ─▶ reply
//!                                      │              └─ of many requests at once: `batch`
//!                                      └─ after MULTI: kept until EXEC
//! ```
//!
//! What must stay true:
//! - what takes long is told from the rest before it begins (`estimate`), and waits for somebody who
//!   may take long; so does what needs locks that somebody holds for long;
//! - a command is a row of `table` and a function; what holds for all of them is decided here;
//! - its keys are where its row says, and their locks are held before it runs: so a transaction
//!   can hold those of all its commands first.

#![allow(clippy::unnecessary_wraps)] // all commands have one form, those too that never refuse

pub mod access;
pub mod batch;
pub mod facts;
pub mod slowlog;

mod call;
mod catalog;
mod client;
mod connection;
mod durability;
mod estimate;
mod expiry;
mod figures;
mod general;
mod info;
mod lcs;
mod moment;
mod numbers;
mod object;
mod parameters;
mod ranges;
mod server;
mod strings;
mod survey;
mod table;
mod transaction;
mod values;

use std::sync::Arc;
use std::time::Instant;

use objmapper::Caller;
use objmapper::kv::{Key, Keyspace, Totals};
use objmapper_proto::resp::{Args, Encoder};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::admission::Resource;
use crate::clients::Clients;
use crate::seldom;
use crate::session::keys::{Mute, Talk};
use crate::ticker::Ticker;
use access::Access;
use call::{Call, Oops};
use facts::Facts;
use slowlog::SlowLog;
use table::{Command, Flags};

/// Whoever answers RESP requests.
#[derive(Debug)]
pub struct KeyService {
    /// The keys.
    pub keyspace: Arc<Keyspace>,
    /// Who is let in.
    pub access: Access,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// What time brings.
    pub ticker: Arc<Ticker>,
    /// What there is to tell about the daemon.
    pub facts: Facts,
    /// Commands that took long.
    pub slow: SlowLog,
    /// Sums over all shards, as they were when they could be counted last.
    pub totals: Mutex<Totals>,
}

/// Keys of one command: mostly one.
type Names<'a> = SmallVec<[Key<'a>; 2]>;

impl KeyService {
    /// Answers one request: its reply is appended to `out`. Whether that is no error. What needs
    /// something that it does not have here ([`Talk::wanted`]) has done nothing, and has no reply.
    #[inline]
    pub fn answer(
        &self,
        talk: &mut Talk,
        caller: &Caller,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let at = out.len();
        let begun = talk.may_be_slow().then(Instant::now);
        let fine = self.respond(talk, caller, args, out);
        if talk.wanted().is_some() {
            out.truncate(at);
            return true;
        }
        if let Some(begun) = begun {
            self.slow.note(talk, args, begun.elapsed());
        }
        talk.mute(out, at);
        fine
    }

    #[inline]
    fn respond(&self, talk: &mut Talk, caller: &Caller, args: Args<'_>, out: &mut Vec<u8>) -> bool {
        let mut out = Encoder::new(out, talk.three);
        let now = Keyspace::now();
        let command = match self.admit(talk, args, now) {
            Ok(command) => command,
            Err(Oops::Elsewhere(need)) => return talk.wants(need),
            Err(oops) => {
                out.error(transaction::spoil(talk, args, oops));
                return false;
            }
        };
        if let Some(need) = self.estimate(command, talk, args) {
            return talk.wants(need);
        }
        talk.last = (now, table::address(command));
        if talk.transaction.is_some() && !command.flags.has(Flags::NOT_QUEUED) {
            return transaction::queue(talk, command, args, &mut out);
        }
        let mut hold;
        let keys = command.keys(&self.keyspace, talk.db, args);
        let taken = match &*keys {
            [] => Ok(self.keyspace.hold_keys(&[], now)),
            [key] => self.keyspace.try_hold(key, talk.wait(), now),
            keys => self.keyspace.try_hold_keys(keys, talk.wait(), now),
        };
        hold = match taken {
            Ok(hold) => hold,
            Err(_) => return talk.wants(Resource::Locks),
        };
        if talk.touches_nothing {
            hold.touch_nothing();
        }
        let fine = {
            let (key_service, hold, in_exec) = (self, &mut hold, false);
            let talk = &mut *talk;
            Call { args, keys, out, talk, caller, key_service, hold, in_exec }.run(command)
        };
        talk.position = talk.position.max(hold.finish());
        fine
    }

    /// Whether a request may be answered, or queued, now; and which command it is.
    #[inline]
    fn admit(&self, talk: &mut Talk, args: Args<'_>, now: i64) -> Result<&'static Command, Oops> {
        let Some(command) = table::of(args) else { return Err(unknown(talk, args)) };
        if !command.takes(args.len()) {
            return Err(Oops::Arity(command.name));
        }
        if !talk.known && !command.flags.has(Flags::NO_AUTH) {
            return Err(Oops::NoAuth);
        }
        if command.flags.has(Flags::WRITES) {
            self.keyspace.may_write()?;
        }
        if command.flags.has(Flags::GROWS) {
            self.keyspace.make_room(talk.wait(), now)?;
        }
        Ok(command)
    }
}

#[cold]
fn unknown(talk: &mut Talk, args: Args<'_>) -> Oops {
    let name = args.at(0);
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        // A browser that was told by a web page to talk to this machine: what comes next would be
        // commands.
        let peer = &talk.member.origin.peer;
        seldom!(WARN, %peer, "a client speaks HTTP to the keyspace; closing the connection");
        (talk.mute, talk.over) = (Mute::This, true);
    }
    table::unknown(args)
}
