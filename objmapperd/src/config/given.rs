//! A value as somebody gave it: what was written, and where.
//!
//! Nothing has been judged yet except that it is a text or a number. Texts are not necessarily
//! UTF-8, since paths on a command line need not be.

use std::ffi::OsString;
use std::fmt;

/// What was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What.
    pub scalar: Scalar,
    /// Where.
    pub origin: Origin,
}

/// A text or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// Quoted in a file; anything in the environment and on the command line.
    Text(OsString),
    /// Bare in a file.
    Number(i64),
}

/// Where a value was given. A later kind replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file, so many bytes from its beginning.
    File(usize),
    /// In this variable of the environment.
    Variable(String),
    /// By this flag.
    Flag(String),
    /// In a text, given there, that says several things.
    Within(Box<Origin>),
}

impl Given {
    /// A text from this place.
    pub fn text(text: impl Into<OsString>, origin: &Origin) -> Self {
        Self { scalar: Scalar::Text(text.into()), origin: origin.clone() }
    }

    /// The text, if it is one and in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match &self.scalar {
            Scalar::Text(text) => text.to_str(),
            Scalar::Number(_) => None,
        }
    }
}

impl Origin {
    /// A later layer replaces an earlier one: file 0, environment 1, flags 2.
    pub fn layer(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Variable(_) => 1,
            Self::Flag(_) => 2,
            Self::Within(whole) => whole.layer(),
        }
    }

    /// Whether it was said in a file that may be read from any directory.
    pub const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl fmt::Display for Scalar {
    /// As in a configuration file, control characters escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", text.to_string_lossy()),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
