//! `KV_SET` with a value that is in a descriptor: adopted, by a helper that may be lost over it.

use std::os::fd::AsFd;

use objmapper::kv::NotAdopted;
use objmapper_proto::Status;
use objmapper_proto::kv::Set;

use super::{Answer, Asked, Service};
use crate::admission::Resource;
use crate::connection::Connection;

impl Service {
    pub(super) fn set_passed(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        set: &Set<'_>,
    ) -> Answer {
        if let Some(why) = c.arrivals.refusal() {
            let why = why.to_owned();
            return self.refuse(c, asked.id, Status::Busy, &why);
        }
        if let Some(cold) = self.unless_for(c, Resource::Destination) {
            // On the sender's own account, as with destinations.
            return cold;
        }
        if let Err(fault) = asked.may_grow() {
            return self.fault(c, asked, &fault, 0);
        }
        let Some(source) = c.arrivals.take() else {
            return self.refuse(c, asked.id, Status::BadSource, &"no descriptor came with it");
        };
        let adopted = asked.keyspace.adopt(source.as_fd());
        // Nothing hangs that has come so far as to be adopted; what was not may.
        if adopted.is_ok() {
            source.close();
        }
        let adopted = match adopted {
            Ok(adopted) => adopted,
            Err(NotAdopted::Fault(fault)) => return self.fault(c, asked, &fault, 0),
            Err(why @ NotAdopted::Source(_)) => {
                return self.refuse(c, asked.id, Status::BadSource, &why);
            }
        };
        match adopted.content(asked.keyspace) {
            Ok(content) => self.keep(c, asked, set, content),
            Err(fault) => self.fault(c, asked, &fault, 0),
        }
    }
}
