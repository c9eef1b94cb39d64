//! What is known of an object, and what was done with it.

use std::fmt;
use std::str::FromStr;

/// Opaque: two equal versions of a URI have the same content; the version changes
/// whenever the content may have changed. Nothing else may be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Version(pub u128);

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The text is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version has 32 hex digits, as a reply shows it")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    /// Reads what [`Version`]'s `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(NoVersion)
    }
}

/// What an object's bytes are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Kind {
    /// Not known: the item is an error.
    #[default]
    None = 0,
    /// A regular file of a tree.
    File = 1,
    /// A sealed memory file.
    Memory = 2,
    /// Bytes inside the daemon.
    Inline = 3,
    /// Not an object: a name under which others lie (a directory). Only in listings.
    Prefix = 4,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::None),
            1 => Some(Self::File),
            2 => Some(Self::Memory),
            3 => Some(Self::Inline),
            4 => Some(Self::Prefix),
            _ => None,
        }
    }

    /// Its name as users read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::File => "file",
            Self::Memory => "memory",
            Self::Inline => "inline",
            Self::Prefix => "prefix",
        }
    }
}

/// In which form an object was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Delivery {
    /// Metadata only.
    #[default]
    None = 0,
    /// A descriptor came with the frame.
    Descriptor = 1,
    /// The bytes are in the same frame.
    Inline = 2,
    /// The bytes follow in DATA frames.
    Stream = 3,
    /// The bytes go to the descriptor that came with the request; an END frame follows.
    Destination = 4,
}

impl Delivery {
    /// The delivery with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::None),
            1 => Some(Self::Descriptor),
            2 => Some(Self::Inline),
            3 => Some(Self::Stream),
            4 => Some(Self::Destination),
            _ => None,
        }
    }

    /// Its name as users read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Descriptor => "descriptor",
            Self::Inline => "inline",
            Self::Stream => "stream",
            Self::Destination => "destination",
        }
    }
}

/// Why the delivery is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Reason {
    /// The client asked for just this.
    #[default]
    Asked = 0,
    /// `auto`, and the body is small enough to send at once.
    Small = 1,
    /// `auto`, and the body is large enough for a descriptor to be cheaper.
    Large = 2,
    /// `auto`, and too many descriptors are in flight: the bytes instead.
    Descriptors = 3,
}

impl Reason {
    /// The reason with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::Asked),
            1 => Some(Self::Small),
            2 => Some(Self::Large),
            3 => Some(Self::Descriptors),
            _ => None,
        }
    }

    /// Its name as users read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Small => "small",
            Self::Large => "large",
            Self::Descriptors => "descriptors",
        }
    }
}

/// A range of an object's bytes. `length` may reach past the end: the reply says
/// what was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Number of bytes; [`Range::TO_END`] for all that follow.
    pub length: u64,
}

impl Range {
    /// Up to the end, whatever it is.
    pub const TO_END: u64 = u64::MAX;

    /// The whole object.
    pub const ALL: Self = Self { offset: 0, length: Self::TO_END };

    /// What is left of this range in an object of `size` bytes; `None` if it
    /// begins past the end. (A range that begins exactly at the end is empty.)
    pub fn clamp(self, size: u64) -> Option<Self> {
        let room = size.checked_sub(self.offset)?;
        Some(Self { offset: self.offset, length: self.length.min(room) })
    }
}

impl Default for Range {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_written() {
        for version in [0, 7, 1 << 100, u128::MAX].map(Version) {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        for text in ["", "7", "+0000000000000000000000000000007", &"0".repeat(33), &"g".repeat(32)]
        {
            assert_eq!(text.parse::<Version>(), Err(NoVersion), "{text:?}");
        }
    }
}
