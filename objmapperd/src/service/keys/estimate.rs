//! What a command needs beyond a worker's turn, told from what it says and what there is.
//!
//! Not here: what shows only when its keys' values are found ([`Call::may_take`]).
//!
//! [`Call::may_take`]: super::call::Call::may_take

use objmapper::kv::Wait;
use objmapper_proto::resp::Args;

use super::KeyService;
use super::table::{Command, Flags};
use crate::service::effort::{MANY, MUCH};
use crate::session::keys::{Need, Talk};

impl KeyService {
    /// What a command needs that it does not have here.
    #[inline]
    pub(super) fn estimate(&self, command: &Command, talk: &Talk, args: Args<'_>) -> Option<Need> {
        let much = args.len() > MANY || args.span() as u64 > MUCH;
        if !much && !command.flags.has(Flags::LONG) {
            return None;
        }
        self.look_closely(command, talk, much)
    }

    #[cold]
    fn look_closely(&self, command: &Command, talk: &Talk, much: bool) -> Option<Need> {
        let need = match command.name {
            _ if much => Need::Time,
            _ if talk.transaction.is_some() && !command.flags.has(Flags::NOT_QUEUED) => {
                return None;
            }
            "exec" if takes_long(talk) => Need::Time,
            "flushall" | "flushdb" | "keys" if self.keyspace.memory().used() > MUCH => Need::Time,
            // Its values' lengths say it.
            "exec" | "lcs" => return None,
            _ => Need::Locks,
        };
        let has = match need {
            Need::Time => talk.may_take_long(),
            Need::Locks | Need::Journal(_) => talk.wait() == Wait::Long,
        };
        (!has).then_some(need)
    }
}

fn takes_long(talk: &Talk) -> bool {
    let transaction = talk.transaction.as_ref().is_some_and(|transaction| {
        transaction.long || transaction.requests.len() > MANY || transaction.bytes as u64 > MUCH
    });
    transaction || talk.watched.count() > MANY
}
