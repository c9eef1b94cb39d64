//! `KV_STATUS`: how the keyspace is, for whoever runs it.

use objmapper::kv::Wait;
use objmapper_proto::Reply;

use super::{Answer, Asked, Service};
use crate::admission::Resource;
use crate::connection::Connection;
use crate::service::objects::whole_lines;
use crate::session::Agreed;

impl Service {
    pub(super) fn status(&self, c: &mut Connection, asked: &Asked<'_>, agreed: Agreed) -> Answer {
        // All locks, one after the other.
        if self.wait() == Wait::Briefly {
            c.needs(Resource::Shards);
            return Answer::Cold;
        }
        let text = self.key_service().status();
        let reply = Reply::Stats(whole_lines(&text, agreed.max_payload));
        reply.encode(asked.id, 0, c.link.outbox.bytes());
        Answer::Done
    }
}
