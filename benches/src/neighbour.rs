//! Who else may be on a server that is measured: the names. What they do is in `company`.

use std::fmt;
use std::str::FromStr;

/// Who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// So many connections that have asked once and are silent now.
    Idle(usize),
    /// Asks for a large object by splice and stops reading.
    StalledSplice,
    /// Asks for descriptors without end and never reads.
    NoReader,
    /// Asks for what does not exist, without end, in a pipeline that is always full.
    Misses,
    /// So many connections that read a large body at [`READERS_RATE`].
    SlowReaders(usize),
}

/// Bytes per second of each slow reader.
pub(crate) const READERS_RATE: u64 = 10 * 1024;

/// As on the command line.
const WORDS: &str = "idle:N, stalled-splice, no-reader, misses or slow-readers:N";

impl FromStr for Neighbour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |word: &str| match word.parse() {
            Ok(count) if (1..=20_000).contains(&count) => Ok(count),
            _ => Err(format!("'{word}': a number of connections from 1 to 20000 is expected")),
        };
        match text.split_once(':').map_or((text, None), |(name, n)| (name, Some(n))) {
            ("idle", Some(n)) => Ok(Self::Idle(count(n)?)),
            ("slow-readers", Some(n)) => Ok(Self::SlowReaders(count(n)?)),
            ("stalled-splice", None) => Ok(Self::StalledSplice),
            ("no-reader", None) => Ok(Self::NoReader),
            ("misses", None) => Ok(Self::Misses),
            _ => Err(format!("one of {WORDS} is expected")),
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle(count) => write!(f, "idle:{count}"),
            Self::StalledSplice => f.write_str("stalled-splice"),
            Self::NoReader => f.write_str("no-reader"),
            Self::Misses => f.write_str("misses"),
            Self::SlowReaders(count) => write!(f, "slow-readers:{count}"),
        }
    }
}

impl Neighbour {
    /// Whether the floor can be asked for the same. It sends while it waits, and so stands still
    /// for everybody as soon as one does not read.
    pub(crate) fn suits_floor(self) -> bool {
        matches!(self, Self::Idle(_) | Self::Misses)
    }

    /// Whether it asks for an object that does not fit into a socket.
    pub(crate) fn needs_large(self) -> bool {
        matches!(self, Self::StalledSplice | Self::SlowReaders(_))
    }

    /// Connections that it takes.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Idle(count) | Self::SlowReaders(count) => count,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_names() {
        for name in ["idle:7", "stalled-splice", "no-reader", "misses", "slow-readers:500"] {
            assert_eq!(name.parse::<Neighbour>().unwrap().to_string(), name);
        }
        for wrong in ["idle", "idle:0", "idle:x", "misses:3", "", "slow-readers:100000"] {
            assert!(wrong.parse::<Neighbour>().is_err(), "{wrong}");
        }
    }
}
