//! Requests that came together: answered under one hold of all their keys' locks.
//!
//! A pipeline of single-key commands takes each lock once instead of once a command, waits for the
//! memory that all of them lead to at the same time, and is one record of the journal.
//!
//! What must stay true:
//! - the order is that of the pipeline, and nobody sees a later write of it before an earlier one;
//! - what takes other locks, or may take long, is not among them: it is answered by itself.

use std::ops::Range;

use objmapper::Caller;
use objmapper::kv::{Key, Keyspace};
use objmapper_proto::resp::{self, Args, Encoder};
use smallvec::SmallVec;

use super::call::Call;
use super::table::{self, Command, Flags};
use super::{KeyService, Names};
use crate::session::keys::Talk;

/// Requests at most: as many waits for memory overlap, and no processor has more than some 16 under
/// way. (`objmapper-bench --mode kv --pipeline 16`)
const REQUESTS: usize = 16;

/// Bytes that a request may have: what is copied under the locks of others stays short.
const LONG: usize = 4096;

/// Arguments that a request may have. None of these commands takes more.
const ARGUMENTS: usize = 8;

/// Room for what is taken together; a worker's, used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    /// Arguments of all requests.
    args: Vec<Range<usize>>,
    requests: Vec<Request>,
    /// How many bytes there were behind each reply.
    ends: Vec<usize>,
    errors: u64,
}

impl Batch {
    /// Where the replies end that were given, in order.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// How many of them are errors.
    pub fn errors(&self) -> u64 {
        self.errors
    }
}

#[derive(Debug)]
struct Request {
    command: &'static Command,
    /// Its arguments among all.
    args: Range<usize>,
    /// Where the next one begins.
    end: usize,
}

impl KeyService {
    /// Answers the requests at the front of `input`, some at once, while there are no more than
    /// `enough` bytes in `out`. Gives the bytes of the requests that were answered; 0 if the first
    /// is none of those that can be taken together.
    pub fn answer_batch(
        &self,
        batch: &mut Batch,
        (talk, caller): (&mut Talk, &Caller),
        input: &[u8],
        (out, enough): (&mut Vec<u8>, usize),
    ) -> usize {
        let Some(keys) = self.collect(batch, talk, input) else { return 0 };
        let now = Keyspace::now();
        let mut hold = match &*keys {
            [key] => self.keyspace.hold(key, now),
            keys => {
                let hold = self.keyspace.hold_keys(keys, now);
                hold.prefetch(keys);
                hold
            }
        };
        if talk.touches_nothing {
            hold.touch_nothing();
        }
        let mut used = 0;
        for (request, key) in batch.requests.iter().zip(keys) {
            // One before it may have let the locks go.
            if out.len() >= enough || !hold.covers(&key) {
                break;
            }
            let at = out.len();
            let args = Args::new(input, batch.args.get(request.args.clone()).unwrap_or_default());
            let fine = {
                let (out, keys) = (Encoder::new(out, talk.three), Names::from_iter([key]));
                let (key_service, hold, in_exec) = (self, &mut hold, false);
                let talk = &mut *talk;
                Call { args, keys, out, talk, caller, key_service, hold, in_exec }
                    .run(request.command)
            };
            talk.mute(out, at);
            talk.last = (now, table::address(request.command));
            batch.ends.push(out.len());
            batch.errors += u64::from(!fine);
            used = request.end;
        }
        talk.position = talk.position.max(hold.finish());
        used
    }

    /// Takes the requests that can be answered together, and their keys.
    fn collect<'a>(
        &self,
        batch: &mut Batch,
        talk: &Talk,
        input: &'a [u8],
    ) -> Option<SmallVec<[Key<'a>; REQUESTS]>> {
        batch.args.clear();
        batch.requests.clear();
        batch.ends.clear();
        batch.errors = 0;
        if talk.transaction.is_some() || !talk.known {
            return None;
        }
        let mut keys = SmallVec::new();
        let mut end = 0;
        while keys.len() < REQUESTS {
            let begin = batch.args.len();
            let Some(next) = resp::whole(input, end, ARGUMENTS, &mut batch.args) else { break };
            let args = begin..batch.args.len();
            let words = Args::new(input, batch.args.get(args.clone()).unwrap_or_default());
            let Some(command) = table::of(words).filter(|command| self.can_join(command, words))
            else {
                break;
            };
            if next - end > LONG {
                break;
            }
            let name = batch.args.get(begin + 1).and_then(|name| input.get(name.clone()));
            keys.push(self.keyspace.key(talk.db, name.unwrap_or_default()));
            batch.requests.push(Request { command, args, end: next });
            end = next;
        }
        (!keys.is_empty()).then_some(keys)
    }

    /// Whether this is a command on one key, which can be done now.
    #[inline]
    fn can_join(&self, command: &Command, args: Args<'_>) -> bool {
        let apart = [Flags::ELSEWHERE, Flags::NOT_QUEUED, Flags::CONTAINER];
        command.place == table::ONE
            && command.takes(args.len())
            && !apart.iter().any(|flag| command.flags.has(*flag))
            && (!command.flags.has(Flags::WRITES) || self.keyspace.may_write().is_ok())
            && (!command.flags.has(Flags::GROWS) || !self.keyspace.memory().is_over())
    }
}
