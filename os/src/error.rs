//! A system call that failed: which one, on what, and the kernel's number for why.
//!
//! An `Error` is made where the call is made and says nothing about blame: whether a missing file
//! is a refusal or a fault is for the caller to judge, by the few questions below. Where the
//! answer "no" is an ordinary one (a cold cache, an empty socket, a missing name) the error carries
//! no text, so that it costs no allocation.

use crate::errno;
use nix::errno::Errno;
use std::{fmt, io};

/// The result of everything in this crate that asks the kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// The call, its argument where that helps, and the error number; see errno(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    detail: Option<Box<str>>,
    errno: i32,
}

impl Error {
    /// `call` failed with `errno`.
    pub const fn new(call: &'static str, errno: i32) -> Self {
        Self { call, detail: None, errno }
    }

    /// The same, with the argument, or a hint, that a reader of the log will want.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// The name of the system call, or of the function of this crate where several are at work.
    pub const fn call(&self) -> &'static str {
        self.call
    }

    /// The argument or hint, if there is one.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The error number: one of [`crate::errno`], or another of errno(3).
    pub const fn errno(&self) -> i32 {
        self.errno
    }

    /// Not now: nothing to read, no room to send, or not in the cache (EAGAIN).
    pub const fn is_would_block(&self) -> bool {
        self.errno == errno::EAGAIN
    }

    /// There is no such name (ENOENT, ENOTDIR).
    pub const fn is_not_found(&self) -> bool {
        matches!(self.errno, errno::ENOENT | errno::ENOTDIR)
    }

    /// The system or a quota ran out of something: it says nothing about the object asked for and
    /// must never be taken, or cached, as "not found". EAGAIN is not among them.
    pub const fn is_resource(&self) -> bool {
        matches!(
            self.errno,
            errno::EMFILE
                | errno::ENFILE
                | errno::ENOMEM
                | errno::ENOBUFS
                | errno::ETOOMANYREFS
                | errno::ENOSPC
                | errno::EDQUOT
        )
    }

    /// A signal came in between (EINTR). This crate retries; only bare descriptors show it.
    pub const fn is_interrupted(&self) -> bool {
        self.errno == errno::EINTR
    }

    /// The other side has gone (EPIPE, ECONNRESET).
    pub const fn is_disconnected(&self) -> bool {
        matches!(self.errno, errno::EPIPE | errno::ECONNRESET)
    }

    /// From an error of the standard library; one without a number counts as EIO.
    pub fn from_io(call: &'static str, error: &io::Error) -> Self {
        Self::new(call, error.raw_os_error().unwrap_or(errno::EIO))
    }

    /// For `map_err` on calls of rustix.
    pub(crate) fn on(call: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |errno| Self::new(call, errno.raw_os_error())
    }

    /// For `map_err` on calls of nix.
    pub(crate) fn from_nix(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::new(call, errno as i32)
    }
}

impl fmt::Display for Error {
    /// `openat2("models"): No such file or directory (ENOENT)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if let Some(detail) = &self.detail {
            write!(f, "({detail:?})")?;
        }
        write!(f, ": {}", Reason(self.errno))
    }
}

/// `No such file or directory (ENOENT)`
struct Reason(i32);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Errno::from_raw(self.0) {
            Errno::UnknownErrno => write!(f, "error {}", self.0),
            errno => write!(f, "{} ({errno:?})", errno.desc()),
        }
    }
}

/// What any error says; the kernel's reasons in one form, whoever made the call: `No such file or
/// directory (ENOENT)` is an `os error 2` of the standard library.
pub fn text(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref().and_then(io::Error::raw_os_error) {
        Some(errno) => Reason(errno).to_string(),
        None => error.to_string(),
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    /// Of the same kind. With a detail the error itself is inside (`get_ref`), without one the
    /// number is (`raw_os_error`).
    fn from(error: Error) -> Self {
        let bare = io::Error::from_raw_os_error(error.errno);
        if error.detail.is_none() { bare } else { io::Error::new(bare.kind(), error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_call_its_argument_and_the_number() {
        let error = Error::new("openat2", errno::ENOENT);
        assert_eq!(error.to_string(), "openat2: No such file or directory (ENOENT)");
        let error = error.with_detail("models");
        assert_eq!(error.to_string(), "openat2(\"models\"): No such file or directory (ENOENT)");
        assert_eq!(Error::new("poll", 4000).to_string(), "poll: error 4000");
    }

    #[test]
    fn reasons_have_one_form() {
        let bare = io::Error::from_raw_os_error(errno::ENOENT);
        assert_eq!(text(&bare), "No such file or directory (ENOENT)");
        let ours = Error::new("open", errno::ENOENT).with_detail("x");
        let inside = io::Error::from(ours.clone());
        assert_eq!([text(&ours), text(&inside)], [ours.to_string(), ours.to_string()]);
        assert_eq!(text(&io::Error::other("full")), "full");
    }

    #[test]
    fn a_resource_error_is_never_not_found() {
        for number in 1..200 {
            let error = Error::new("any", number);
            assert!(!(error.is_resource() && error.is_not_found()));
            assert!(!(error.is_resource() && error.is_would_block()));
        }
    }

    #[test]
    fn becomes_an_io_error_of_the_same_kind() {
        let bare: io::Error = Error::new("recv", errno::EAGAIN).into();
        assert_eq!(bare.kind(), io::ErrorKind::WouldBlock);
        let told: io::Error = Error::new("open", errno::ENOENT).with_detail("x").into();
        assert_eq!(told.kind(), io::ErrorKind::NotFound);
        assert!(told.to_string().contains("open(\"x\")"));
    }
}
