//! The keyspace's second door: RESP requests to the core's verbs to replies.
//!
//! ```text
//!  args ─▶ table: which command ─▶ may it, now? ─▶ locks of its keys ─▶ run ─▶ reply
//!                                      └─ after MULTI: kept until EXEC
//! ```
//!
//! What must stay true:
//! - a command is a row of `table` and a function; what holds for all of them is decided here;
//! - its keys are where its row says, and their locks are held before it runs: so a transaction
//!   can hold those of all its commands first.

#![allow(clippy::unnecessary_wraps)] // all commands have one form, those too that never refuse

pub mod access;
pub mod facts;

mod call;
mod catalog;
mod client;
mod connection;
mod durability;
mod expiry;
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

use std::ptr;
use std::sync::Arc;

use objmapper::Caller;
use objmapper::kv::{Key, Keyspace};
use objmapper_proto::resp::{self, Args, Encoder};
use smallvec::SmallVec;

use crate::clients::Clients;
use crate::seldom;
use crate::session::keys::{Mute, Talk};
use crate::ticker::Ticker;
use access::Access;
use call::{Call, Oops};
use facts::Facts;
use table::{Command, Flags};

/// Whoever answers RESP requests.
#[derive(Debug)]
pub struct Desk {
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
}

/// Requests that are looked ahead at: as many waits for memory overlap, and no processor has more
/// than some 16 under way. (`objmapper-bench --mode kv --pipeline 16`)
const AHEAD: usize = 16;

/// Keys of one command: mostly one.
type Names<'a> = SmallVec<[Key<'a>; 2]>;

impl Desk {
    /// Lets the memory that the next requests lead to be brought near while the first are answered;
    /// gives how many requests were looked at, 0 if it is not worth it.
    pub fn look_ahead(&self, db: u8, mut input: &[u8]) -> usize {
        let mut keys: SmallVec<[Key<'_>; AHEAD]> = SmallVec::new();
        while keys.len() < AHEAD
            && let Some((name, next)) = resp::peek(input)
        {
            keys.push(self.keyspace.key(db, input.get(name).unwrap_or_default()));
            input = input.get(next..).unwrap_or_default();
        }
        if keys.len() > 1 {
            self.keyspace.prefetch(&keys);
        }
        keys.len()
    }

    /// Answers one request: its reply is appended to `out`. Whether that is no error.
    #[inline]
    pub fn answer(
        &self,
        talk: &mut Talk,
        caller: &Caller,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let at = out.len();
        let fine = self.respond(talk, caller, args, out);
        if talk.mute != Mute::Never {
            talk.mute = match talk.mute {
                Mute::Next => Mute::This,
                Mute::Always => Mute::Always,
                Mute::This | Mute::Never => Mute::Never,
            };
            out.truncate(at);
        }
        fine
    }

    #[inline]
    fn respond(&self, talk: &mut Talk, caller: &Caller, args: Args<'_>, out: &mut Vec<u8>) -> bool {
        let mut out = Encoder::new(out, talk.three);
        let now = Keyspace::now();
        let command = match self.admit(talk, args, now) {
            Ok(command) => command,
            Err(oops) => {
                out.error(transaction::spoil(talk, args, oops));
                return false;
            }
        };
        talk.last = (now, ptr::from_ref(command).addr());
        if talk.transaction.is_some() && !command.flags.has(Flags::NOT_QUEUED) {
            return transaction::queue(talk, command, args, &mut out);
        }
        let keys = command.keys(&self.keyspace, talk.db, args);
        let mut hold = match &*keys {
            [] => self.keyspace.hold_keys(&[], now),
            [key] => self.keyspace.hold(key, now),
            keys => self.keyspace.hold_keys(keys, now),
        };
        if talk.touches_nothing {
            hold.touch_nothing();
        }
        let mut call = Call { args, keys, out, talk, caller, desk: self, hold, in_exec: false };
        let fine = call.run(command);
        let Call { hold, talk, .. } = call;
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
            self.keyspace.make_room(now)?;
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
        seldom!(WARN, %peer, "somebody sends HTTP to the keyspace; the connection is closed");
        (talk.mute, talk.over) = (Mute::This, true);
    }
    table::unknown(args)
}
