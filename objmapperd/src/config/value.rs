//! The kinds of values: how each is read, what is allowed, how it is written back.
//!
//! For every kind `read(show(v))` is `v`. What a kind says when it refuses begins with "must be"
//! and names what would be accepted.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use super::given::{Given, Scalar};

/// A kind of value.
pub(super) trait Kind {
    /// What it becomes.
    type Value;

    /// Reads and checks it; the error says what is allowed.
    fn read(&self, given: &Given) -> Result<Self::Value, String>;

    /// Writes it as in a configuration file.
    fn show(&self, value: &Self::Value) -> String;
}

/// A text as it is written in a file.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What numbers of some type are kept in while they are read.
pub(super) trait Whole: Copy + PartialOrd + Display + TryFrom<u64> + TryInto<u64> {}

impl<T: Copy + PartialOrd + Display + TryFrom<u64> + TryInto<u64>> Whole for T {}

/// A whole number in a range.
pub(super) struct Number<T>(pub(super) RangeInclusive<T>);

impl<T: Whole> Kind for Number<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let number = match &given.scalar {
            Scalar::Number(number) => u64::try_from(*number).ok(),
            Scalar::Text(_) => given.as_str().and_then(|text| text.trim().parse().ok()),
        };
        let fits = number.and_then(|n| T::try_from(n).ok()).filter(|n| self.0.contains(n));
        fits.ok_or_else(|| {
            format!("must be a whole number from {} to {}", self.0.start(), self.0.end())
        })
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }
}

/// Zero, which lets the daemon choose, or a whole number in a range.
pub(super) struct ZeroOr(pub(super) RangeInclusive<usize>);

impl Kind for ZeroOr {
    type Value = usize;

    fn read(&self, given: &Given) -> Result<usize, String> {
        match Number(0..=*self.0.end()).read(given) {
            Ok(number) if number == 0 || self.0.contains(&number) => Ok(number),
            _ => {
                let (least, most) = (self.0.start(), self.0.end());
                Err(format!("must be 0 (the daemon chooses) or from {least} to {most}"))
            }
        }
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }
}

/// A power of two up to a largest one.
pub(super) struct PowerOfTwo(pub(super) usize);

impl Kind for PowerOfTwo {
    type Value = usize;

    fn read(&self, given: &Given) -> Result<usize, String> {
        let number = Number(1..=self.0).read(given).ok();
        number
            .filter(|number| number.is_power_of_two())
            .ok_or_else(|| format!("must be a power of two from 1 to {}", self.0))
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }
}

/// A number of bytes in a range, with a unit if one likes.
pub(super) struct Bytes<T>(pub(super) RangeInclusive<T>);

impl<T: Whole> Kind for Bytes<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let bytes = match &given.scalar {
            Scalar::Number(number) => u64::try_from(*number).ok(),
            Scalar::Text(_) => {
                given.as_str().and_then(|text| text.trim().parse().ok()).map(|ByteSize(n)| n)
            }
        };
        let fits = bytes.and_then(|n| T::try_from(n).ok()).filter(|n| self.0.contains(n));
        fits.ok_or_else(|| {
            let (least, most) = (self.show(self.0.start()), self.show(self.0.end()));
            format!("must be a size from {least} to {most}, such as 65536 or \"64KiB\"")
        })
    }

    fn show(&self, value: &T) -> String {
        let bytes: u64 = (*value).try_into().unwrap_or(u64::MAX);
        let units = [
            ("PiB", 1 << 50),
            ("TiB", 1 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ];
        match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((name, unit)) => format!("\"{}{name}\"", bytes / unit),
            None => bytes.to_string(),
        }
    }
}

/// Zero, which lets the daemon choose, or a number of bytes in a range.
pub(super) struct ZeroOrBytes(pub(super) RangeInclusive<usize>);

impl Kind for ZeroOrBytes {
    type Value = usize;

    fn read(&self, given: &Given) -> Result<usize, String> {
        match Bytes(0..=*self.0.end()).read(given) {
            Ok(bytes) if bytes == 0 || self.0.contains(&bytes) => Ok(bytes),
            _ => {
                let (least, most) = (self.show(self.0.start()), self.show(self.0.end()));
                Err(format!("must be 0 (the daemon chooses) or a size from {least} to {most}"))
            }
        }
    }

    fn show(&self, value: &usize) -> String {
        Bytes(0..=usize::MAX).show(value)
    }
}

/// A duration up to a longest one.
pub(super) struct UpTo(pub(super) Duration);

impl Kind for UpTo {
    type Value = Duration;

    fn read(&self, given: &Given) -> Result<Duration, String> {
        let duration = given.as_str().and_then(|text| humantime::parse_duration(text.trim()).ok());
        duration.filter(|duration| *duration <= self.0).ok_or_else(|| {
            let most = humantime::format_duration(self.0);
            format!("must be a duration with its unit, such as \"5ms\", of at most {most}")
        })
    }

    fn show(&self, value: &Duration) -> String {
        quoted(&humantime::format_duration(*value).to_string())
    }
}

/// Permission bits, in octal digits.
pub(super) struct Permissions;

impl Kind for Permissions {
    type Value = u32;

    fn read(&self, given: &Given) -> Result<u32, String> {
        // Not as a number: 660 would be another mode than 0660, and nobody would see it.
        let mode = given.as_str().map(|text| text.trim().trim_start_matches("0o"));
        let mode = mode.and_then(|digits| u32::from_str_radix(digits, 8).ok());
        let quotes = if given.origin.is_file() { " in quotes" } else { "" };
        mode.filter(|mode| *mode <= 0o777)
            .ok_or_else(|| format!("must be octal digits{quotes}, from \"0000\" to \"0777\""))
    }

    fn show(&self, value: &u32) -> String {
        format!("\"{value:04o}\"")
    }
}

/// On or off.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn read(&self, given: &Given) -> Result<bool, String> {
        let parsed = given.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| "must be true or false".to_owned())
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// One of some words.
pub(super) struct Word<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for Word<T> {
    type Value = T;

    fn read(&self, given: &Given) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| given.as_str() == Some(word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("must be one of {}", words.join(", "))
        })
    }

    fn show(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, known)| known == value);
        quoted(found.map_or("", |(word, _)| word))
    }
}

/// An absolute path; given by hand it may also be relative to the current directory.
pub(super) struct Absolute;

impl Kind for Absolute {
    type Value = PathBuf;

    fn read(&self, given: &Given) -> Result<PathBuf, String> {
        let Scalar::Text(text) = &given.scalar else {
            return Err("must be a path in quotes".to_owned());
        };
        let path = Path::new(text);
        if text.is_empty() || text.as_bytes().contains(&0) {
            return Err("must be a path".to_owned());
        }
        if given.origin.is_file() && path.is_relative() {
            return Err("must be an absolute path, one that begins with /".to_owned());
        }
        std::path::absolute(path).map_err(|error| format!("must be a path: {error}"))
    }

    fn show(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }
}

/// An address of this machine's own, with its port.
pub(super) struct Loopback;

impl Kind for Loopback {
    type Value = SocketAddr;

    fn read(&self, given: &Given) -> Result<SocketAddr, String> {
        const ALLOWED: &str = "must be an address of this machine's own and a port, such as \
                               \"127.0.0.1:6379\" or \"[::1]:6379\"";
        let address: Option<SocketAddr> = given.as_str().and_then(|text| text.trim().parse().ok());
        match address {
            Some(address) if address.ip().is_loopback() => Ok(address),
            Some(_) => {
                Err(format!("{ALLOWED}: nothing is encrypted, so it is not offered to a network"))
            }
            None => Err(ALLOWED.to_owned()),
        }
    }

    fn show(&self, address: &SocketAddr) -> String {
        quoted(&address.to_string())
    }
}

/// The name of a socket: an absolute path, or `@` and an abstract name.
pub(super) struct SocketName;

impl SocketName {
    /// What the kernel has room for, in bytes. unix(7)
    const LONGEST: usize = 107;
}

impl Kind for SocketName {
    type Value = PathBuf;

    fn read(&self, given: &Given) -> Result<PathBuf, String> {
        let is_abstract = given.as_str().is_some_and(|text| text.starts_with('@'));
        let path = match given.as_str() {
            Some(name) if is_abstract => PathBuf::from(name),
            _ => Absolute.read(given)?,
        };
        match path.as_os_str().len() {
            1 if is_abstract => Err("must have a name behind the @".to_owned()),
            n if n > Self::LONGEST => {
                Err(format!("must be at most {} bytes long, it has {n}", Self::LONGEST))
            }
            _ => Ok(path),
        }
    }

    fn show(&self, value: &PathBuf) -> String {
        Absolute.show(value)
    }
}

/// Which events are logged.
pub(super) struct Filter;

impl Filter {
    const LEVELS: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const ALLOWED: &'static str = "must be a level (off, error, warn, info, debug, trace), or \
                                   target=level, or several of these with commas";
}

impl Kind for Filter {
    type Value = String;

    fn read(&self, given: &Given) -> Result<String, String> {
        let text = given.as_str().ok_or(Self::ALLOWED)?;
        EnvFilter::builder().parse(text).map_err(|error| format!("{}: {error}", Self::ALLOWED))?;
        // A bare word that is not a level would be the name of a target, and the log would be empty.
        let is_bare = |word: &&str| !word.contains(['=', '[', '{', '"']);
        let stranger = text
            .split(',')
            .map(str::trim)
            .filter(is_bare)
            .find(|word| !Self::LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)));
        match stranger {
            None => Ok(text.to_owned()),
            Some(word) => Err(format!("{}: {word:?} is not a level", Self::ALLOWED)),
        }
    }

    fn show(&self, value: &String) -> String {
        quoted(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::given::Origin;
    use proptest::prelude::*;

    fn text(text: &str) -> Given {
        Given::text(text, &Origin::File(0))
    }

    fn back<K: Kind>(kind: &K, value: &K::Value) -> Result<K::Value, String> {
        let shown: toml::Table = format!("v = {}", kind.show(value)).parse().unwrap();
        let scalar = match &shown["v"] {
            toml::Value::Integer(number) => Scalar::Number(*number),
            other => Scalar::Text(other.as_str().unwrap().into()),
        };
        kind.read(&Given { scalar, origin: Origin::File(0) })
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(n in 0u64..1 << 40, units in 0u32..4, mode in 0u32..=0o777) {
            let bytes = (n >> 30) << (units * 10);
            prop_assert_eq!(back(&Bytes(0..=u64::MAX), &bytes), Ok(bytes));
            prop_assert_eq!(back(&Number(0..=u64::MAX), &n), Ok(n));
            prop_assert_eq!(back(&Permissions, &mode), Ok(mode));
            let duration = Duration::from_millis(n % 86_400_000);
            prop_assert_eq!(back(&UpTo(Duration::from_hours(24)), &duration), Ok(duration));
        }
    }

    #[test]
    fn sizes_have_units() {
        let kind = Bytes(0..=1u64 << 40);
        assert_eq!(kind.read(&text("64KiB")), Ok(65536));
        assert_eq!(kind.read(&text("64 kB")), Ok(64000));
        assert_eq!(kind.read(&text("1.5MiB")), Ok(1_572_864));
        for wrong in ["", "64QB", "-1", "1e3", "2TiB"] {
            let why = kind.read(&text(wrong)).unwrap_err();
            assert_eq!(why, "must be a size from 0 to \"1TiB\", such as 65536 or \"64KiB\"");
        }
    }

    #[test]
    fn modes_are_texts_since_decimal_digits_would_mean_something_else() {
        assert_eq!(Permissions.read(&text("0660")), Ok(0o660));
        assert_eq!(Permissions.read(&text("0o660")), Ok(0o660));
        let number = Given { scalar: Scalar::Number(444), origin: Origin::File(0) };
        assert!(Permissions.read(&number).is_err());
        assert!(Permissions.read(&text("1777")).is_err());
        assert!(Permissions.read(&text("68")).is_err());
    }

    #[test]
    fn paths_of_a_file_are_absolute() {
        assert!(Absolute.read(&text("srv")).is_err());
        let by_hand = Given::text("srv", &Origin::Flag("--root".into()));
        let here = std::env::current_dir().unwrap();
        assert_eq!(Absolute.read(&by_hand), Ok(here.join("srv")));
    }

    #[test]
    fn socket_names_are_paths_or_abstract_and_fit_the_kernel() {
        assert_eq!(SocketName.read(&text("@objm")), Ok("@objm".into()));
        assert!(SocketName.read(&text("@")).is_err());
        assert!(SocketName.read(&text(&format!("/{}", "x".repeat(107)))).is_err());
        assert!(SocketName.read(&text(&format!("/{}", "x".repeat(106)))).is_ok());
    }

    #[test]
    fn a_mistyped_level_is_not_taken_for_a_target() {
        assert!(Filter.read(&text("info")).is_ok());
        assert!(Filter.read(&text("warn,objmapperd::pool=TRACE")).is_ok());
        assert!(Filter.read(&text("inof")).unwrap_err().ends_with("\"inof\" is not a level"));
        assert!(Filter.read(&text("info,a=b=c")).is_err());
        assert!(Filter.read(&text("")).is_err());
    }
}
