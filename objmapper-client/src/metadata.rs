//! What the daemon says an object is.

use objmapper_proto::{Kind, ObjectHead, Reason, Version};
use std::fmt;
use std::time::{Duration, SystemTime};

/// An object at the moment of the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    head: ObjectHead,
}

impl fmt::Debug for Metadata {
    /// What can be asked of it, not how it came.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("kind", &self.kind())
            .field("size", &self.size())
            .field("mtime_ns", &self.mtime_ns())
            .field("version", &self.version())
            .field("is_immutable", &self.is_immutable())
            .field("is_shared", &self.is_shared())
            .field("reason", &self.reason())
            .finish_non_exhaustive()
    }
}

impl Metadata {
    pub(crate) fn new(head: ObjectHead) -> Self {
        Self { head }
    }

    /// Where its bytes are kept.
    pub fn kind(&self) -> Kind {
        self.head.kind
    }

    /// Size of the whole object in bytes, whatever range was asked for.
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// Last modification, nanoseconds since 1970.
    pub fn mtime_ns(&self) -> i64 {
        self.head.mtime_ns
    }

    /// Last modification.
    pub fn mtime(&self) -> SystemTime {
        system_time(self.head.mtime_ns)
    }

    /// Two equal versions of one URI have the same content.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Whether the content can never change: the bytes are those of [`Metadata::version`].
    pub fn is_immutable(&self) -> bool {
        self.has(ObjectHead::IMMUTABLE)
    }

    /// Whether the content can change, and the daemon checked around copying that it did not.
    pub fn is_checked(&self) -> bool {
        self.has(ObjectHead::CHECKED)
    }

    /// Whether other receivers have the same open file description. Then its position and its
    /// flags are theirs too: read only at explicit offsets.
    pub fn is_shared(&self) -> bool {
        self.has(ObjectHead::SHARED)
    }

    /// `F_SEAL_*` bits of a memory file, 0 otherwise. See fcntl(2).
    pub fn seals(&self) -> u32 {
        self.head.seals
    }

    /// Why the object came in the form in which it came.
    pub fn reason(&self) -> Reason {
        self.head.reason
    }

    /// The bytes that were delivered, if bytes were.
    pub(crate) fn served(&self) -> u64 {
        self.head.range.length
    }

    fn has(&self, flag: u8) -> bool {
        self.head.flags & flag != 0
    }
}

/// Nanoseconds since 1970, which may be before it.
pub(crate) fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_proto::{Status, UriBuf};

    #[test]
    fn it_is_shown_as_people_read_it() {
        let head =
            ObjectHead { size: 5, version: Version(0xabc), ..ObjectHead::failed(Status::Ok) };
        let shown = format!("{:?}", Metadata::new(head));
        assert!(shown.starts_with("Metadata { kind: "), "{shown}");
        assert!(
            shown.contains("size: 5, ") && shown.contains(&format!(": Version({:0>32}), ", "abc"))
        );
        assert_eq!(format!("{:?}", "/a%20b".parse::<UriBuf>().unwrap()), "\"/a%20b\"");
    }

    #[test]
    fn every_stamp_of_the_wire_is_a_time() {
        for ns in [i64::MIN, -1, 0, 1, i64::MAX] {
            let distance = match system_time(ns).duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => after,
                Err(before) => before.duration(),
            };
            assert_eq!(distance.as_nanos(), u128::from(ns.unsigned_abs()));
        }
    }
}
