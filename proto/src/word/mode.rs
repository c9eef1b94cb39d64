//! How a client wants an object.

use std::fmt;
use std::str::FromStr;

/// How a client wants an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Mode {
    /// The core chooses: small bodies inline, large ones by descriptor.
    Auto = 0,
    /// An open descriptor; costs the same for every size.
    #[default]
    Fdpass = 1,
    /// The bytes.
    Copy = 2,
    /// The bytes, moved by the kernel without passing through the daemon's memory.
    Splice = 3,
}

impl Mode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Fdpass, Self::Copy, Self::Splice];

    /// The mode with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::Auto),
            1 => Some(Self::Fdpass),
            2 => Some(Self::Copy),
            3 => Some(Self::Splice),
            _ => None,
        }
    }

    /// Its name as users write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fdpass => "fdpass",
            Self::Copy => "copy",
            Self::Splice => "splice",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a mode: use auto, fdpass, copy or splice")]
pub struct NoSuchMode(pub String);

impl FromStr for Mode {
    type Err = NoSuchMode;

    fn from_str(word: &str) -> Result<Self, NoSuchMode> {
        Self::ALL
            .into_iter()
            .find(|m| m.as_str() == word)
            .ok_or_else(|| NoSuchMode(word.to_owned()))
    }
}
