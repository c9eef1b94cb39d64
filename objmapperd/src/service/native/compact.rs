//! `KV_COMPACT`: a snapshot in the place of the journal so far.
//!
//! As the daemon does it by itself, but now, and answered when it is done. A helper does it, on the
//! client's own account, one at a time over all.

use std::time::Instant;

use objmapper::kv::Compacted;
use objmapper_proto::reply::KvCompacted;
use objmapper_proto::{Reply, Status};

use super::{Answer, Asked, Service};
use crate::connection::Connection;

impl Service {
    pub(super) fn compact(&self, c: &mut Connection, asked: &Asked<'_>) -> Answer {
        if let Some(answer) = self.defer(c, asked, "compacting is") {
            return answer;
        }
        let begun = Instant::now();
        match asked.keyspace.compact_while(&|| !self.daemon.helpers.is_stopping()) {
            Ok(Some(Compacted { before, after })) => {
                tracing::info!(before, after, took = ?begun.elapsed(), "compacted the journal");
                let reply = Reply::KvCompacted(KvCompacted { before, after });
                reply.encode(asked.id, 0, c.link.outbox.bytes());
                Answer::Done
            }
            Ok(None) => {
                let why = "there is no journal, keys are in memory only: start the daemon with kv.dir \
                           (--kv-dir)";
                self.refuse(c, asked.id, Status::Unsupported, &why)
            }
            Err(failure) => self.failed(c, asked, &failure, "compacting"),
        }
    }
}
