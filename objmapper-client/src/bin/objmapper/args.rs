//! The command line, and all that `--help` says.

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use objmapper_client::{Mode, SOCKET_VARIABLE, Version};
use std::ffi::OsString;
use std::ops::Bound;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Paragraphs; one whose first line ends with a colon has a heading.
pub(crate) const MORE: &str = "\
Examples:
  objmapper get /models/a.gguf -o a.gguf     copy an object to a file
  objmapper get /logs/today --range 0-99     its first 100 bytes
  objmapper get /conf -o conf --unless VERSION   again, if it is not that version any more
  objmapper cat /parts/1 /parts/2 | sort     several objects, one after the other
  objmapper ls -rl /models                   what there is
  objmapper stat /models/a.gguf --json       one line of JSON
  objmapper ping -c 1000                     how long a round trip takes
  objmapper stats --watch 2                  what the daemon is doing
  objmapper flush /mnt/disk1                 close what it keeps open there, to unmount

A URI is an absolute path (/a/b) or has a scheme (kv:a); a space in it is written %20.

Exit codes:
  0  all went well (also when the reader of a pipe has seen enough)
  1  refused: no such object, no permission, a bad range
  2  the command line or a URI makes no sense
  3  the daemon cannot be reached
  4  the daemon failed, was too busy, did not answer in time, or broke the protocol
  5  the output could not be written, or another fault on this side
  6  the object still is the version of --unless: nothing was written";

/// Asks objmapperd for objects.
#[derive(Debug, Parser)]
#[command(name = "objmapper", version, after_help = MORE, max_term_width = 100)]
pub(crate) struct CommandLine {
    /// The daemon's socket; a name that begins with @ is an abstract one. If not given: your own
    /// daemon's ($XDG_RUNTIME_DIR/objmapper.sock) if there is one, else /run/objmapper/objmapper.sock
    #[arg(
        short, long, global = true, value_name = "PATH", env = SOCKET_VARIABLE,
        value_hint = ValueHint::FilePath, value_parser = clap::value_parser!(OsString)
    )]
    pub(crate) socket: Option<OsString>,
    /// How long the daemon may be silent, in seconds; 0 waits for ever
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy an object to a file or to standard output
    Get(Get),
    /// Write objects to standard output, one after the other
    Cat(Cat),
    /// Show what objects are
    Stat(Stat),
    /// List the names below a prefix, as below a directory
    Ls(Ls),
    /// Measure the time of a round trip
    Ping(Ping),
    /// Show the daemon's counters
    Stats(Stats),
    /// Close files below a prefix that the daemon keeps open to share them
    Flush(Flush),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page, or write one for each command to a directory
    #[command(hide = true)]
    Man(Man),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The object
    pub(crate) uri: String,
    /// Where to; a regular file appears whole or not at all. Standard output if missing or `-`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// How: auto, fdpass, copy or splice
    #[arg(short, long, default_value = "fdpass", value_parser = Mode::from_str)]
    pub(crate) mode: Mode,
    /// Only the bytes from A to B, both included and counted from 0; `A-` is up to the end
    #[arg(short, long, value_name = "A-B")]
    pub(crate) range: Option<ByteRange>,
    /// Not if the object still is this version (as stat prints it): then nothing is written, what
    /// is at the output stays, and the exit code is 6
    #[arg(short, long, value_name = "VERSION", value_parser = Version::from_str)]
    pub(crate) unless: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The objects
    #[arg(required = true, value_name = "URI")]
    pub(crate) uris: Vec<String>,
    /// Not if the object (one only) still is this version, as stat prints it: then nothing is
    /// written, and the exit code is 6
    #[arg(short, long, value_name = "VERSION", value_parser = Version::from_str)]
    pub(crate) unless: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// The objects
    #[arg(required = true, value_name = "URI")]
    pub(crate) uris: Vec<String>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Names below this one
    #[arg(default_value = "/")]
    pub(crate) prefix: String,
    /// With kind (`dir` for a prefix of other names), size and time
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) long: bool,
    /// With all that lies below
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// How many [default: 10, or with --watch until it is interrupted]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// One every so many seconds, instead of one after the other; a restart is waited
    /// for, as long as --timeout says
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// One JSON object; with --watch one per line, and the time
    #[arg(long)]
    pub(crate) json: bool,
    /// Again every so many seconds: on a terminal in place, what is not zero and how much more
    /// it is per second; elsewhere a line for each counter that has changed. A restart of the
    /// daemon is waited for, as long as --timeout says
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
    /// How many times [default: until it is interrupted]
    #[arg(
        short, long, value_name = "N", requires = "watch",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) count: Option<u32>,
}

impl Command {
    /// What cannot be said of each argument alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Cat(cat) if cat.unless.is_some() && cat.uris.len() > 1 => {
                Err("a version is that of one object: use --unless with one URI".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether it goes on for so long that the daemon may be restarted meanwhile.
    pub(crate) fn watches(&self) -> bool {
        matches!(
            self,
            Self::Ping(Ping { watch: Some(_), .. }) | Self::Stats(Stats { watch: Some(_), .. })
        )
    }
}

/// Descriptors that clients have stay open; the next who asks to share opens anew. For root and the
/// user that the daemon runs as.
#[derive(Debug, Args)]
pub(crate) struct Flush {
    /// The prefix, and all below
    pub(crate) prefix: String,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where to write objmapper.1, objmapper-get.1 and so on
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = seconds(text)?;
    if time.is_zero() { Err("it must be more than 0".to_owned()) } else { Ok(time) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// `A-B` or `A-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) first: u64,
    /// The last byte, which is part of the range.
    pub(crate) last: Option<u64>,
}

impl ByteRange {
    /// Everything.
    pub(crate) const ALL: Self = Self { first: 0, last: None };

    /// As the library takes it.
    pub(crate) fn bounds(self) -> (Bound<u64>, Bound<u64>) {
        (Bound::Included(self.first), self.last.map_or(Bound::Unbounded, Bound::Included))
    }

    /// How many bytes of an object of that size; `None` if it begins past the end.
    pub(crate) fn length_in(self, size: u64) -> Option<u64> {
        let room = size.checked_sub(self.first)?;
        let wanted = self.last.map_or(u64::MAX, |last| (last - self.first).saturating_add(1));
        Some(room.min(wanted))
    }
}

impl FromStr for ByteRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "write it as A-B or A-, for example 0-99".to_owned();
        let (first, last) = text.split_once('-').ok_or_else(form)?;
        let first = first.parse().map_err(|_| form())?;
        let last = match last {
            "" => None,
            last => Some(last.parse().map_err(|_| form())?),
        };
        if last.is_some_and(|last| last < first) {
            return Err(format!("it ends before it begins: {}", form()));
        }
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn ranges_count_both_ends() {
        let range: ByteRange = "10-19".parse().unwrap();
        assert_eq!(range.length_in(100), Some(10));
        assert_eq!(range.length_in(15), Some(5));
        assert_eq!(range.length_in(10), Some(0));
        assert_eq!(range.length_in(9), None);
        let range: ByteRange = "10-".parse().unwrap();
        assert_eq!(range.length_in(100), Some(90));
        assert_eq!("0-18446744073709551615".parse::<ByteRange>().unwrap().length_in(7), Some(7));
        for bad in ["", "-", "5", "-5", "9-5", "a-b", "1-2-3"] {
            assert!(bad.parse::<ByteRange>().is_err(), "{bad}");
        }
    }
}
