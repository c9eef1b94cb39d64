//! The command line, and all that `--help` says.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use objmapper_client::{DEFAULT_TIMEOUT, Mode, Version};
use std::ffi::OsString;
use std::ops::Bound;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::kv::args::Kv;

/// Paragraphs; one whose first line ends with a colon has a heading.
const MORE: &str = "\
Examples:
  objmapper get /models/a.gguf -o a.gguf     copy an object to a file
  objmapper get /logs/today --range 0-99     its first 100 bytes
  objmapper get /conf -o conf -u VERSION     only if it has changed since
  objmapper cat /parts/1 /parts/2 | sort     several objects, one after the other
  objmapper ls -rl /models                   all names below, with size and time
  objmapper stat /models/a.gguf --json       metadata as one line of JSON
  objmapper ping -c 1000                     round-trip times
  objmapper stats --watch 2                  the daemon's counters, every 2 seconds
  objmapper kv set users/42 ada              keys and values; see 'objmapper kv --help'
  objmapper flush /mnt/disk1                 close shared files there, so it can be unmounted

A URI is an absolute path (/a/b) or has a scheme (kv:a); a space in it is written %20.

Exit codes:
  0  success (also if the reader of a pipe left early)
  1  refused: no such object or key, no permission, a bad range, a damaged backup
  2  invalid command line or URI
  3  the daemon cannot be reached
  4  the daemon failed, was too busy, did not answer in time, or broke the protocol
  5  the output could not be written, or another failure on this side
  6  nothing was done: the object still has the version given by --unless, or the
     condition of 'kv set' was not met";

/// Fetches objects from objmapperd.
#[derive(Debug, Parser)]
#[command(name = "objmapper", version, after_help = MORE, max_term_width = 100)]
pub(crate) struct CommandLine {
    /// The daemon's socket, or @name for an abstract one [default: OBJMAPPER_SOCKET in the environment,
    /// else your own daemon's ($XDG_RUNTIME_DIR/objmapper.sock) if it exists, else
    /// /run/objmapper/objmapper.sock]
    #[arg(
        short, long, global = true, value_name = "PATH", help_heading = "Connection",
        value_hint = ValueHint::FilePath, value_parser = clap::value_parser!(OsString)
    )]
    pub(crate) socket: Option<OsString>,
    /// Longest wait for the daemon, in seconds; 0: no limit [default: 30; kv backup and compact: no limit]
    #[arg(
        long, global = true, value_name = "SECONDS", value_parser = seconds,
        help_heading = "Connection"
    )]
    timeout: Option<Duration>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy an object to a file or to standard output
    Get(Get),
    /// Write objects to standard output, one after the other
    Cat(Cat),
    /// Show metadata of objects
    Stat(Stat),
    /// List the names below a prefix
    Ls(Ls),
    /// Measure round-trip times
    Ping(Ping),
    /// Show the daemon's counters
    Stats(Stats),
    /// Make the daemon close the shared files below a prefix
    Flush(Flush),
    Kv(Kv),
    /// Print a shell completion script
    Completions(Completions),
    /// Print the manual page, or write one per command to a directory
    Man(Man),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The object
    pub(crate) uri: String,
    /// File to write, whole or not at all; `-` for standard output [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// How to fetch it
    #[arg(short, long, default_value = "fdpass", value_parser = mode())]
    pub(crate) mode: Mode,
    /// Only bytes A to B, inclusive, counted from 0; `A-` for all from A on
    #[arg(short, long, value_name = "A-B")]
    pub(crate) range: Option<ByteRange>,
    /// Only if the object no longer has this version (see stat); otherwise leave the output as it is
    /// and exit with 6
    #[arg(short, long, value_name = "VERSION", value_parser = Version::from_str)]
    pub(crate) unless: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The objects
    #[arg(required = true, value_name = "URI")]
    pub(crate) uris: Vec<String>,
    /// Only if the object (just one) no longer has this version (see stat); otherwise write nothing
    /// and exit with 6
    #[arg(short, long, value_name = "VERSION", value_parser = Version::from_str)]
    pub(crate) unless: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// The objects
    #[arg(required = true, value_name = "URI")]
    pub(crate) uris: Vec<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// The prefix to list
    #[arg(default_value = "/")]
    pub(crate) prefix: String,
    /// Show kind (`dir` for a prefix of other names), size and time
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) long: bool,
    /// List everything below, not just one level
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// Number of round trips [default: 10; with --watch: until interrupted]
    #[arg(short, long, value_name = "N", value_parser = count::<u32>)]
    pub(crate) count: Option<u32>,
    /// One every SECONDS instead of back to back. Survives a restart of the daemon of up to
    /// --timeout
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
    /// Print a JSON object, in nanoseconds; with --watch one per round trip, with the time
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Print a JSON object; with --watch one per line, with the time
    #[arg(long)]
    pub(crate) json: bool,
    /// Repeat every SECONDS: on a terminal, redraw non-zero counters and their rates; elsewhere,
    /// print a line per counter that has changed. Survives a restart of the daemon of up to
    /// --timeout
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
    /// How many times [default: until interrupted]
    #[arg(
        short, long, value_name = "N", requires = "watch", value_parser = count::<u32>
    )]
    pub(crate) count: Option<u32>,
}

impl CommandLine {
    /// How long the daemon is waited for; zero: as long as it takes.
    pub(crate) fn timeout(&self) -> Duration {
        let long = matches!(&self.command, Command::Kv(kv) if kv.command.takes_long());
        let usual = if long { Duration::ZERO } else { DEFAULT_TIMEOUT };
        self.timeout.unwrap_or(usual)
    }
}

/// The command line as it is parsed and told of: a flag is not shown where [`CommandLine::check`]
/// refuses it.
pub(crate) fn command() -> clap::Command {
    let top = CommandLine::command();
    let flags = |of: &clap::Command| -> Vec<Arg> {
        let flags = of.get_arguments().filter(|flag| flag.is_global_set());
        // A subcommand's own takes the place of the one from above.
        flags.map(|flag| flag.clone().hide(true).global(false)).collect()
    };
    let (connection, keys) = (flags(&top), top.find_subcommand("kv").map(flags));
    let keys = keys.unwrap_or_default();
    let hiding = |flags: Vec<Arg>| move |command: clap::Command| command.args(flags);
    top.mut_subcommand("man", hiding(connection.clone()))
        .mut_subcommand("completions", hiding(connection.clone()))
        .mut_subcommand("kv", |kv| {
            let about_all = ["backup", "compact", "status", "restore", "verify"];
            let kv = about_all
                .into_iter()
                .fold(kv, |kv, name| kv.mut_subcommand(name, hiding(keys.clone())));
            let offline = ["restore", "verify"];
            offline
                .into_iter()
                .fold(kv, |kv, name| kv.mut_subcommand(name, hiding(connection.clone())))
        })
}

impl CommandLine {
    /// What cannot be said of each argument alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &self.command {
            Command::Cat(cat) if cat.unless.is_some() && cat.uris.len() > 1 => {
                return Err("a version is that of one object: use --unless with one URI".to_owned());
            }
            Command::Kv(kv) => kv.check()?,
            _ => (),
        }
        if self.command.connects() || self.socket.is_none() && self.timeout.is_none() {
            return Ok(());
        }
        Err("this asks no daemon: --socket and --timeout mean nothing here".to_owned())
    }
}

impl Command {
    /// Whether a daemon is asked.
    fn connects(&self) -> bool {
        match self {
            Self::Completions(_) | Self::Man(_) => false,
            Self::Kv(kv) => kv.command.connects(),
            _ => true,
        }
    }

    /// Whether descriptors may have to be passed to the daemon.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Kv(kv) if kv.command.passes())
    }

    /// Whether it goes on for so long that the daemon may be restarted meanwhile.
    pub(crate) fn watches(&self) -> bool {
        match self {
            Self::Ping(ping) => ping.watch.is_some(),
            Self::Stats(stats) => stats.watch.is_some(),
            Self::Kv(kv) => kv.command.watches(),
            _ => false,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
For root and the daemon's own user. Descriptors that clients hold stay open; the next shared request
opens the file anew.")]
pub(crate) struct Flush {
    /// Shared files at this name and below
    pub(crate) prefix: String,
    /// Print a JSON object
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

/// The modes by name, which completions offer.
pub(crate) fn mode() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(["auto", "fdpass", "copy", "splice"])
        .try_map(|name| Mode::from_str(&name))
}

/// How many: one at least.
pub(crate) fn count<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| "it must be a whole number, 1 or more".to_owned())
}

pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let time = seconds(text)?;
    if time.is_zero() { Err("it must be more than 0".to_owned()) } else { Ok(time) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("'{text}' is not a number of seconds"))?;
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

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
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
