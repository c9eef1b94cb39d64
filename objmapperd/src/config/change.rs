//! What of new settings takes effect only at the next start: everything but the mounts.

use super::{Delivery, Destinations, Kv, Limits, Listen, Log, Pool, Settings, Timeouts};

/// Adds the names of fields that differ. It takes every field of a struct to be named: one that
/// is forgotten does not compile.
macro_rules! compare {
    ($names:ident, $type:ident, $prefix:literal, $old:expr, $new:expr, $($field:ident)*) => {
        let $type { $($field),* } = $old;
        $(if *$field != $new.$field {
            $names.push(concat!($prefix, stringify!($field)));
        })*
    };
}

impl Settings {
    /// The names of all settings that differ from those in `new`, mounts aside.
    pub fn changes_for_a_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let Self {
            mounts: _,
            listen,
            destinations,
            pool,
            delivery,
            limits,
            timeouts,
            drain_deadline,
            kv,
            log,
        } = self;
        if *drain_deadline != new.drain_deadline {
            names.push("drain_deadline");
        }
        compare!(names, Listen, "listen.", listen, new.listen,
            path is_wanted mode owner group backlog stats);
        compare!(names, Destinations, "destinations.", destinations, new.destinations, allow);
        compare!(names, Pool, "pool.", pool, new.pool, workers helpers spin);
        compare!(names, Delivery, "delivery.", delivery, new.delivery,
            inline_limit auto_limit in_place_limit);
        compare!(names, Limits, "limits.", limits, new.limits,
            connections connections_per_uid descriptors_in_flight descriptors_per_uid
            descriptors_per_connection index_entries index_bytes index_shards send_buffer bodies
            queued_bytes shared_descriptors);
        compare!(names, Timeouts, "timeouts.", timeouts, new.timeouts, hello request idle send);
        compare!(names, Kv, "kv.", kv, new.kv,
            socket mode listen listen_without_password password_file allow max_memory eviction
            dir sync sync_interval damage segment compact_from compact_percent compact_every);
        compare!(names, Log, "log.", log, new.log, filter format);
        names
    }
}
