//! Statuses: number, name, who is to blame, whether trying again can help.
//!
//! The high byte is the class, so that a client that does not know a number still
//! knows what to do with it.

use std::fmt;

/// Who has to do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nobody.
    Ok,
    /// The client: the request cannot be answered as it stands.
    Client,
    /// The daemon or its machine.
    Server,
    /// The peer broke the protocol; the connection ends.
    Protocol,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal, $errno:ident, $retry:literal;)*) => {
        /// Outcome of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Status { $($(#[$doc])* $name = $number,)* }

        impl Status {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The status with this number, if version 1 defines it.
            pub const fn from_u16(n: u16) -> Option<Self> {
                match n { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name as the specification writes it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Name of the errno that comes closest, for callers that speak POSIX.
            pub const fn errno_name(self) -> &'static str {
                match self { $(Self::$name => stringify!($errno),)* }
            }

            /// Whether the same request can succeed later, unchanged.
            pub const fn may_retry(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }
        }
    };
}

statuses! {
    /// Done.
    Ok = 0x0000, "OK", OK, false;
    /// The object still is the version that the request named: nothing was sent.
    NotModified = 0x0001, "NOT_MODIFIED", OK, false;

    /// The URI is malformed, too long, or not in a form that can name an object.
    BadUri = 0x0101, "BAD_URI", EINVAL, false;
    /// No object of that name.
    NotFound = 0x0102, "NOT_FOUND", ENOENT, false;
    /// A rule, or the file's own permissions, forbid it to this caller.
    Denied = 0x0103, "DENIED", EACCES, false;
    /// The name exists and is no regular file.
    NotRegular = 0x0104, "NOT_REGULAR", EINVAL, false;
    /// The range begins past the object's end.
    BadRange = 0x0105, "BAD_RANGE", ERANGE, false;
    /// The operation, mode or flag is not offered here.
    Unsupported = 0x0106, "UNSUPPORTED", ENOTSUP, false;
    /// The request is well framed and its fields make no sense.
    BadRequest = 0x0107, "BAD_REQUEST", EINVAL, false;
    /// The name leads out of its mount: a symlink or a `..` that is not followed.
    Escape = 0x0108, "ESCAPE", EXDEV, false;
    /// The object is too large for the way it was asked for.
    TooLarge = 0x0109, "TOO_LARGE", EFBIG, false;
    /// The descriptor that came with the request is none that bytes can be moved into.
    BadDestination = 0x010a, "BAD_DESTINATION", EINVAL, false;
    /// Nobody reads any more from the descriptor that came with the request.
    DestinationGone = 0x010b, "DESTINATION_GONE", EPIPE, false;
    /// The descriptor that came with the request took nothing for as long as it may.
    DestinationStalled = 0x010c, "DESTINATION_STALLED", ETIMEDOUT, false;
    /// The value under the key is not what the verb needs, or what it would become cannot be.
    BadValue = 0x010d, "BAD_VALUE", EINVAL, false;
    /// The descriptor that came with the request cannot be kept as a value.
    BadSource = 0x010e, "BAD_SOURCE", EINVAL, false;

    /// A limit of the daemon or the machine is reached; the text names it.
    Busy = 0x0201, "BUSY", EAGAIN, true;
    /// The file system failed.
    Io = 0x0202, "IO", EIO, true;
    /// The object changed while it was being copied.
    Changed = 0x0203, "CHANGED", ESTALE, true;
    /// The daemon is stopping.
    Stopping = 0x0204, "STOPPING", ESHUTDOWN, true;

    /// Not OBJM.
    BadMagic = 0x0301, "BAD_MAGIC", EPROTO, false;
    /// No common version.
    BadVersion = 0x0302, "BAD_VERSION", EPROTO, false;
    /// A frame contradicts itself.
    BadFrame = 0x0303, "BAD_FRAME", EPROTO, false;
    /// A frame is over the reader's limit.
    FrameTooLarge = 0x0304, "FRAME_TOO_LARGE", EMSGSIZE, false;
    /// Descriptors came uninvited.
    UnexpectedDescriptor = 0x0305, "UNEXPECTED_DESCRIPTOR", EPROTO, false;
    /// HELLO was missing or came twice.
    HelloExpected = 0x0306, "HELLO_EXPECTED", EPROTO, false;
}

impl Status {
    /// Who has to act.
    pub const fn class(self) -> Class {
        match (self as u16) >> 8 {
            0 => Class::Ok,
            1 => Class::Client,
            2 => Class::Server,
            _ => Class::Protocol,
        }
    }

    /// Reads a number off the wire. One that this version does not define counts
    /// as the plainest of its class.
    pub const fn from_wire(n: u16) -> Self {
        match (Self::from_u16(n), n >> 8) {
            (Some(status), _) => status,
            (None, 0 | 1) => Self::BadRequest,
            (None, 2) => Self::Io,
            (None, _) => Self::BadFrame,
        }
    }

    /// As on the wire.
    pub const fn to_u16(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_classes_follow_the_high_byte() {
        for &s in Status::ALL {
            assert_eq!(Status::from_u16(s.to_u16()), Some(s));
        }
        assert_eq!(Status::NotFound.class(), Class::Client);
        assert_eq!(Status::Busy.class(), Class::Server);
        assert_eq!(Status::BadFrame.class(), Class::Protocol);
        assert_eq!(Status::from_u16(0x01ff), None);
    }
}
