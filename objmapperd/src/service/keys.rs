//! The keyspace's second door: RESP requests to the core's verbs to replies.
//!
//! ```text
//!  args ─▶ table: which command ─▶ may it, now? ─▶ locks of its keys ─▶ run ─▶ reply
//!                                      └─ after MULTI: kept until EXEC
//! ```
//!
//! What must stay true:
//! - a command is a row of [`table`] and a function; what holds for all of them is decided here;
//! - its keys are where its row says, and their locks are held before it runs: so a transaction
//!   can hold those of all its commands first.

mod call;
mod connection;
mod general;
mod strings;
mod table;

use std::sync::Arc;

use objmapper::Caller;
use objmapper::kv::{Key, Keyspace};
use objmapper_proto::resp::{self, Args, Encoder};
use smallvec::SmallVec;

use crate::session::keys::{Request, Talk};
use call::{Call, Oops};
use table::{Command, Flags};

/// Whoever answers RESP requests.
#[derive(Debug)]
pub struct Desk {
    /// The keys.
    pub keyspace: Arc<Keyspace>,
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

    /// Answers one request: its reply is appended to `out`.
    #[inline]
    pub fn answer(&self, talk: &mut Talk, caller: &Caller, args: Args<'_>, out: &mut Vec<u8>) {
        let mut out = Encoder::new(out, talk.three);
        let command = match self.admit(talk, args) {
            Ok(command) => command,
            Err(oops) => {
                if let Some(transaction) = &mut talk.transaction {
                    transaction.broken = true;
                }
                return out.error(oops);
            }
        };
        if let Some(transaction) = &mut talk.transaction
            && !command.flags.has(Flags::NOT_QUEUED)
        {
            let request = Request::new(args);
            transaction.bytes += request.footprint();
            transaction.requests.push(request);
            return out.simple("QUEUED");
        }
        let now = Keyspace::now();
        let keys = command.keys(&self.keyspace, talk.db, args);
        let hold = match &*keys {
            [] => self.keyspace.hold_keys(&[], now),
            [key] => self.keyspace.hold(key, now),
            keys => self.keyspace.hold_keys(keys, now),
        };
        let mut call = Call { args, keys, out, talk, caller, desk: self, hold, in_exec: false };
        let at = call.out.out().len();
        if let Err(oops) = (command.run)(&mut call) {
            call.out.out().truncate(at);
            call.out.error(oops);
        }
        let Call { hold, talk, .. } = call;
        talk.position = talk.position.max(hold.finish());
    }

    /// Whether a request may be answered, or queued, now; and which command it is.
    #[inline]
    fn admit(&self, talk: &Talk, args: Args<'_>) -> Result<&'static Command, Oops> {
        let command = table::find(args.at(0)).ok_or_else(|| Oops::unknown(args))?;
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
            self.keyspace.make_room(Keyspace::now())?;
        }
        Ok(command)
    }
}
