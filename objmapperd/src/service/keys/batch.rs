//! RESP requests that came together: those on one key each, as [`crate::service::batch`] has them. What
//! needs something that it does not have here ends them ([`Talk::wanted`]).

use std::ops::Range;

use objmapper::Caller;
use objmapper_proto::resp::{self, Args, Encoder};

use super::call::Call;
use super::table::{self, Command, Flags};
use super::{KeyService, Names};
use crate::admission::Resource;
use crate::service::batch::{self, Answered, Batch, REQUEST_BYTES, REQUESTS};
use crate::session::keys::Talk;

/// Arguments that a request may have. None of these commands takes more.
const ARGUMENTS: usize = 8;

/// Its command, and its arguments among those of all.
type Request = (&'static Command, Range<usize>);

/// Room for what is taken together; a worker's, used again and again.
#[derive(Debug, Default)]
pub struct Room {
    /// Arguments of all requests.
    args: Vec<Range<usize>>,
}

impl KeyService {
    /// Answers the requests at the front of `input`, some at once, while there are no more than
    /// `enough` bytes in `out`: none if the first is none of those that can be taken together. Also
    /// gives how many of the replies are errors.
    pub fn answer_batch(
        &self,
        room: &mut Room,
        (talk, caller): (&mut Talk, &Caller),
        input: &[u8],
        (out, enough): (&mut Vec<u8>, usize),
    ) -> (Answered, u64) {
        let mut batch = Batch::default();
        self.collect(&mut batch, &mut room.args, talk, input);
        if batch.is_empty() {
            return (Answered::default(), 0);
        }
        let mut errors = 0;
        let Ok(mut hold) = batch.hold(&self.keyspace, talk.wait()) else {
            talk.wants(Resource::Locks);
            return (Answered::default(), 0);
        };
        if talk.touches_nothing {
            hold.touch_nothing();
        }
        let mut answered = batch.answer(hold, |hold, key, (command, args)| {
            if out.len() >= enough {
                return None;
            }
            let (at, now) = (out.len(), hold.now());
            let args = Args::new(input, room.args.get(args.clone()).unwrap_or_default());
            let fine = {
                let (out, keys) = (Encoder::new(out, talk.three), Names::from_iter([key]));
                let (key_service, talk, in_exec) = (self, &mut *talk, false);
                Call { args, keys, out, talk, caller, key_service, hold, in_exec }.run(command)
            };
            if talk.wanted().is_some() {
                return None;
            }
            talk.mute(out, at);
            talk.last = (now, table::address(command));
            errors += u64::from(!fine);
            Some(out.len())
        });
        // One that let the locks go has noted up to where.
        answered.position = answered.position.max(talk.position);
        (answered, errors)
    }

    /// Takes the requests that can be answered together.
    fn collect<'a>(
        &self,
        batch: &mut Batch<'a, Request>,
        room: &mut Vec<Range<usize>>,
        talk: &Talk,
        input: &'a [u8],
    ) {
        room.clear();
        if talk.transaction.is_some() || !talk.known {
            return;
        }
        let mut end = 0;
        while batch.len() < REQUESTS {
            let begin = room.len();
            let Some(next) = resp::whole(input, end, ARGUMENTS, room) else { break };
            let args = begin..room.len();
            let words = Args::new(input, room.get(args.clone()).unwrap_or_default());
            let Some(command) = table::of(words).filter(|command| self.can_join(command, words))
            else {
                break;
            };
            if next - end > REQUEST_BYTES {
                break;
            }
            let name = room.get(begin + 1).and_then(|name| input.get(name.clone()));
            let key = self.keyspace.key(talk.db, name.unwrap_or_default());
            batch.push(key, (command, args), next);
            end = next;
        }
    }

    /// Whether this is a command on one key, which can be done now.
    #[inline]
    fn can_join(&self, command: &Command, args: Args<'_>) -> bool {
        let apart = [Flags::ELSEWHERE, Flags::NOT_QUEUED, Flags::CONTAINER];
        let has = |flag| command.flags.has(flag);
        command.place == table::ONE
            && command.takes(args.len())
            && !apart.into_iter().any(has)
            && (!has(Flags::WRITES) || batch::can_change(&self.keyspace, has(Flags::GROWS)))
    }
}
