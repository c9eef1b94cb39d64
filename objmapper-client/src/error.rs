//! What can go wrong, sorted by who has to do something about it.
//!
//! A [`Error::Refused`] is an ordinary "no" to one request; the connection goes on. Everything
//! for which [`Error::ends_connection`] is true leaves the connection closed, since an answer
//! may be half read: the next call makes another one, or says [`Error::Closed`] with the reason, as
//! [`crate::Reconnect`] has it.
//!
//! Each text is complete: causes are part of it and no [`std::error::Error::source`] of it.

use objmapper_os as os;
use objmapper_proto::word::status::Class;
use objmapper_proto::{ErrorReply, Status, UriError, Violation};
use std::fmt;
use std::io;
use std::time::Duration;

/// The result of asking.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon says no to this request. The connection is fine.
    #[error("{}", Refusal { status, text, retry_after: *retry_after, uri: uri.as_deref() })]
    Refused {
        /// What kind of no.
        status: Status,
        /// What the daemon says to do about it; may be empty.
        text: Box<str>,
        /// After which time the daemon thinks that trying again may help.
        retry_after: Option<Duration>,
        /// What was asked for, if the request named something.
        uri: Option<Box<str>>,
    },
    /// The name is no URI; nothing was sent.
    #[error("{uri:?}: {error}")]
    Uri {
        /// The name as it was given.
        uri: Box<str>,
        /// What is wrong with it.
        error: UriError,
    },
    /// The object is shorter now than it was when it was opened.
    #[error(
        "the object has only {read} of the {size} bytes that it had when it was opened: open it again"
    )]
    Truncated {
        /// Its size when it was opened, in bytes.
        size: u64,
        /// How many bytes were there.
        read: u64,
    },
    /// The object is no sealed memory file: its bytes could change under a mapping.
    #[error(
        "the object is not sealed, so it could change while it is mapped: read it, or use Mapping::unsealed"
    )]
    Unsealed,
    /// Nobody answers at the socket.
    #[error("cannot reach objmapperd: {0}")]
    Unreachable(os::Error),
    /// The daemon ended the connection, and said why.
    #[error("objmapperd ended the connection: {}", Refusal { status, text, retry_after: None, uri: None })]
    Ended {
        /// What kind of reason.
        status: Status,
        /// What the daemon says.
        text: Box<str>,
    },
    /// The connection is closed: by the daemon, or by this library after an earlier error.
    #[error("the connection is closed: {reason}")]
    Closed {
        /// Why.
        reason: Box<str>,
    },
    /// Nothing came, or nothing could be sent, for as long as the timeout allows.
    #[error("objmapperd did not answer in time")]
    Timeout,
    /// What came is not OBJM as the specification has it.
    #[error("objmapperd broke the protocol: {0}")]
    Protocol(Violation),
    /// Descriptors arrived that this process may not have.
    #[error(
        "descriptors were lost on arrival: this process has too many open; close some, or raise RLIMIT_NOFILE (ulimit -n)"
    )]
    DescriptorsLost,
    /// A system call failed on this side.
    #[error(transparent)]
    Os(#[from] os::Error),
    /// The bytes could not be written to where they should go.
    #[error("cannot write the object's bytes: {}", os::error::text(.0))]
    Output(io::Error),
    /// All connections of a [`crate::Pool`] were in use for as long as the timeout allows.
    #[error("all {limit} connections of the pool are in use: give them back sooner, or allow more")]
    Exhausted {
        /// How many connections the pool may have.
        limit: usize,
    },
    /// This process was forked from the one that connected, and may not use its connection.
    #[error(
        "the connection belongs to the process that this one was forked from: connect again after fork"
    )]
    Forked,
}

impl Error {
    /// A refusal as it stands in a reply.
    pub(crate) fn refused(status: Status, text: &str, retry_after_ms: u32) -> Self {
        let retry_after =
            (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms)));
        Self::Refused { status, text: printable(text), retry_after, uri: None }
    }

    /// From an ERROR frame for the whole connection.
    pub(crate) fn ended(reply: &ErrorReply<'_>) -> Self {
        Self::Ended { status: reply.status, text: printable(reply.text) }
    }

    pub(crate) fn closed(reason: &str) -> Self {
        Self::Closed { reason: reason.into() }
    }

    /// A frame that contradicts itself, or that nobody asked for.
    pub(crate) fn bad(what: &'static str, why: &'static str) -> Self {
        Self::Protocol(Violation::BadFrame { what, why })
    }

    /// The same, and what the request was about, if it named something.
    pub(crate) fn about(mut self, name: &str) -> Self {
        if let Self::Refused { uri, .. } = &mut self {
            *uri = (!name.is_empty()).then(|| name.into());
        }
        self
    }

    /// The daemon's status, if it gave one.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Refused { status, .. } | Self::Ended { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether there is no object of that name.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: Status::NotFound, .. })
    }

    /// Whether rules or permissions keep the object from this caller.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: Status::Denied | Status::Escape, .. })
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Refused { status, .. } | Self::Ended { status, .. } => status.may_retry(),
            Self::Truncated { .. }
            | Self::Timeout
            | Self::Closed { .. }
            | Self::Exhausted { .. } => true,
            _ => false,
        }
    }

    /// Whether the daemon or its machine is at fault, rather than the request or this side.
    pub fn is_daemon_fault(&self) -> bool {
        match self {
            Self::Refused { status, .. } | Self::Ended { status, .. } => {
                matches!(status.class(), Class::Server | Class::Protocol)
            }
            Self::Protocol(_) | Self::Timeout | Self::Closed { .. } => true,
            _ => false,
        }
    }

    /// Whether the connection is of no use after this error. Errors that have nothing to do with
    /// a connection ([`Error::Uri`], [`Error::Truncated`], [`Error::Unsealed`]) do not end one.
    pub fn ends_connection(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Uri { .. }
            | Self::Truncated { .. }
            | Self::Unsealed
            | Self::Exhausted { .. }
            | Self::Forked => false,
            Self::Unreachable(_)
            | Self::Ended { .. }
            | Self::Closed { .. }
            | Self::Timeout
            | Self::Protocol(_)
            | Self::DescriptorsLost
            | Self::Os(_)
            | Self::Output(_) => true,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Protocol(violation)
    }
}

/// Text of a peer may end on a terminal: nothing in it may steer that terminal.
fn printable(text: &str) -> Box<str> {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `/models/a: NOT_FOUND: there is no such file; try again in 200 ms`
struct Refusal<'a> {
    status: &'a Status,
    text: &'a str,
    retry_after: Option<Duration>,
    uri: Option<&'a str>,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(uri) = self.uri {
            write!(f, "{uri}: ")?;
        }
        write!(f, "{}", self.status)?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        match self.retry_after {
            Some(time) => write!(f, "; try again in {} ms", time.as_millis()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_name_status_text_and_time() {
        let error = Error::refused(Status::Busy, "too many descriptors\x1b[31m", 200).about("/a");
        assert_eq!(error.to_string(), "/a: BUSY: too many descriptors [31m; try again in 200 ms");
        assert!(error.may_retry() && error.is_daemon_fault() && !error.ends_connection());
        let error = Error::refused(Status::NotFound, "", 0);
        assert_eq!(error.to_string(), "NOT_FOUND");
        assert!(error.is_not_found() && !error.is_daemon_fault());
    }

    #[test]
    fn small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 80, "{}", size_of::<Error>());
    }
}
