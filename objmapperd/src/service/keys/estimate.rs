//! What a command needs beyond a worker's turn, told from what it says and what there is.
//!
//! Not here: what shows only when its keys' values are found ([`Call::may_take`]).
//!
//! [`Call::may_take`]: super::call::Call::may_take

use objmapper_proto::resp::Args;

use super::call::copying;
use super::table::{Command, Flags};
use super::{KeyService, info};
use crate::admission::Resource;
use crate::service::effort::{MANY, MUCH};
use crate::session::keys::Talk;

impl KeyService {
    /// What a command needs that it does not have here.
    #[inline]
    pub(super) fn estimate(
        &self,
        command: &Command,
        talk: &Talk,
        args: Args<'_>,
    ) -> Option<Resource> {
        let much = args.len() > MANY || args.span() as u64 > MUCH;
        if !much && !command.flags.has(Flags::MAY_TAKE_LONG) {
            return None;
        }
        talk.lacks(self.look_closely(command, talk, args))
    }

    #[cold]
    fn look_closely(&self, command: &Command, talk: &Talk, args: Args<'_>) -> Option<Resource> {
        match command.name {
            _ if args.len() > MANY => Some(Resource::Time),
            _ if args.span() as u64 > MUCH => copying(args.span() as u64),
            _ if talk.transaction.is_some() && !command.flags.has(Flags::NOT_QUEUED) => None,
            "exec" if takes_long(talk) => Some(Resource::Time),
            "flushall" | "flushdb" | "keys" if self.keyspace.memory().used() > MUCH => {
                Some(Resource::Time)
            }
            // Its values' lengths say it.
            "exec" | "lcs" => None,
            "info" if !info::looks_inside(args) => None,
            _ => Some(Resource::Shards),
        }
    }
}

fn takes_long(talk: &Talk) -> bool {
    let transaction = talk.transaction.as_ref().is_some_and(|transaction| {
        transaction.long
            || transaction.requests.len() > MANY
            || transaction.bytes as u64 > MUCH
            || transaction.making.effort(0, 0) > MUCH
    });
    transaction || talk.watched.count() > MANY
}
