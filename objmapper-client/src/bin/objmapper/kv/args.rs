//! What `objmapper kv --help` says.

use clap::{Args, Subcommand, ValueHint};
use objmapper_client::Mode;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Behind the list of subcommands.
const MORE: &str = "\
Examples:
  objmapper kv set users/42 ada                    a value
  objmapper kv set model --file a.gguf             a long one, from a file
  tar c conf | objmapper kv set conf.tar           or from standard input
  objmapper kv set lock me --if-absent --ttl 30s   exits with 6 if somebody has it
  objmapper kv get users/42                        its bytes, nothing added
  objmapper kv incr visits                         adds 1 and prints the sum
  objmapper kv scan --prefix users/ -l             keys in order, with size and end
  objmapper kv export > keys.jsonl                 a database as lines of JSON
  objmapper kv --db 3 import keys.jsonl            into another database
  objmapper kv status                              keys, memory, what is on the disk
  objmapper kv compact                             a shorter journal: less disk, a faster start
  objmapper kv backup keys.backup                  all databases, while they are used
  objmapper kv verify keys.backup                  reads it through
  objmapper kv restore keys.backup /var/lib/kv     a directory for objmapperd --kv-dir

Keys and values are any bytes. Where they are shown to people, a backslash stands before what is no
text: \\n, \\t, \\\\, \\xff. A line of JSON has \"key\" and \"value\" if they are UTF-8, else
\"key_base64\" and \"value_base64\"; \"expires_ms\" is when the key ends by itself, in milliseconds
since 1970.";

/// Keys and values: read, write, list, export, import; backups
#[derive(Debug, Args)]
#[command(after_help = MORE, max_term_width = 100)]
pub(crate) struct Kv {
    /// The database, 0 to 15 (backup, compact and status are about all)
    #[arg(
        long, global = true, value_name = "N", default_value = "0",
        value_parser = clap::value_parser!(u8).range(0..16)
    )]
    pub(crate) db: u8,
    /// Keys on the command line are written in base64: for those with a zero byte
    #[arg(long, global = true)]
    pub(crate) base64: bool,
    #[command(subcommand)]
    pub(crate) command: KvCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Write a value to standard output or to a file
    Get(Get),
    /// Set a key to an argument, to a file, or to what comes by standard input
    Set(Set),
    /// Remove keys, and say how many there were
    Del(Del),
    /// Add to the integer that a value spells (0 if there is none), and print the sum
    Incr(Incr),
    /// Show or change when a key ends by itself
    Expire(Expire),
    /// List keys in the order of their bytes
    Scan(Scan),
    /// Write keys and values as lines of JSON
    Export(Export),
    /// Set keys from lines of JSON
    Import(Import),
    /// Show how the keyspace is: keys, memory, journal
    Status(Status),
    /// Make the journal as short as it can be, and wait for it
    Compact(Compact),
    /// Copy all keys of all databases to a file, while they are used
    Backup(Backup),
    /// Make a directory for objmapperd --kv-dir from a backup. Asks no daemon
    Restore(Restore),
    /// Read a backup, or a directory that no daemon has open, through. Asks no daemon
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key
    pub(crate) key: OsString,
    /// File to write, whole or not at all; `-` for standard output [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// How to fetch it: auto, fdpass or copy
    #[arg(short, long, default_value = "auto", value_parser = Mode::from_str)]
    pub(crate) mode: Mode,
    /// Print a JSON object with key, value and expires_ms
    #[arg(long, conflicts_with_all = ["output", "mode"])]
    pub(crate) json: bool,
}

/// With neither VALUE nor --file the value comes by standard input, to its end. More than 256 KiB go
/// as memory that is passed, which the daemon's operator allows by destinations.allow.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The key
    pub(crate) key: OsString,
    /// The value, as it stands here
    #[arg(conflicts_with = "file")]
    pub(crate) value: Option<OsString>,
    /// The value is what is in this file; `-` for standard input
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Only if the key is not there; else exit with 6
    #[arg(long, conflicts_with = "if_present")]
    pub(crate) if_absent: bool,
    /// Only if the key is there; else exit with 6
    #[arg(long)]
    pub(crate) if_present: bool,
    /// It ends by itself after so long: 90, 90s, 1500ms, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = ttl, conflicts_with = "keep_ttl")]
    pub(crate) ttl: Option<Duration>,
    /// It ends when it did before, if it did
    #[arg(long)]
    pub(crate) keep_ttl: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Del {
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<OsString>,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Incr {
    /// The key
    pub(crate) key: OsString,
    /// How much
    #[arg(default_value = "1", allow_negative_numbers = true)]
    pub(crate) by: i64,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// With neither TTL nor --never it is only shown.
#[derive(Debug, Args)]
pub(crate) struct Expire {
    /// The key
    pub(crate) key: OsString,
    /// It ends after so long: 90, 90s, 1500ms, 10m, 2h, 7d
    #[arg(value_parser = ttl, conflicts_with = "never")]
    pub(crate) ttl: Option<Duration>,
    /// It does not end by itself
    #[arg(long)]
    pub(crate) never: bool,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which keys.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only keys that begin so
    #[arg(short, long, value_name = "PREFIX", conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<OsString>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Show size, and when it ends by itself
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) long: bool,
    /// Show values, behind a tab
    #[arg(long, conflicts_with = "long")]
    pub(crate) values: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// The database may change meanwhile: a key that is there all the while is in it once. For all
/// databases as of one moment, see backup.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) which: Which,
    /// File to write, whole or not at all; `-` for standard output [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// Lines as export writes them; empty ones are skipped. Keys that are there are set anew, others
/// stay, so it can be done again from the beginning.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; `-` for standard input
    #[arg(default_value = "-", hide_default_value = true, value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Tell which lines cannot be imported, and go on with the others. It fails all the same
    #[arg(short, long)]
    pub(crate) keep_going: bool,
    /// Look at all lines, and set nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON object with how many were set
    #[arg(long)]
    pub(crate) json: bool,
}

/// For a directory that no daemon has open: verify. All counters of the daemon: objmapper stats.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print a JSON object, by the names of the manual (docs/operating.md, Counters)
    #[arg(long)]
    pub(crate) json: bool,
}

/// The daemon writes a snapshot of all keys and removes what of the journal that replaces; others use
/// them meanwhile. It does so by itself, too, when there is enough to be saved (kv.compact_from,
/// kv.compact_percent). Needs as much free disk as the keys take. For root and the daemon's own user.
#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The daemon writes them to a file without a name and passes its descriptor, so it never opens a
/// path of yours. The copy is read through, and on the disk, before it gets its name. For root and
/// the daemon's own user.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file; one that is there is replaced when the backup is complete
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run it as the user that the daemon runs as: what it makes belongs to whoever runs it.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The directory: made if it is not there, else it must be empty
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Exits with 1 if something is damaged, and says where.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A backup, or a directory of objmapperd --kv-dir
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl KvCommand {
    /// Whether values may have to be passed as memory.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Import(_))
    }

    /// Whether the daemon has to write all keys for it.
    pub(crate) fn takes_long(&self) -> bool {
        matches!(self, Self::Backup(_) | Self::Compact(_))
    }
}

/// A time with its unit, seconds without one.
fn ttl(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || format!("'{text}' is no time: write it as 90, 90s, 1500ms, 10m, 2h or 7d");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit) {
        Some(0) => Err("it must be more than 0: 'del' removes a key at once".to_owned()),
        Some(ms) if i64::try_from(ms).is_ok() => Ok(Duration::from_millis(ms)),
        _ => Err(format!("'{text}' is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1500ms", 1500),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(ttl(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in
            ["", "s", "0", "-1", "1.5", "1y", "1 s", "99999999999999999999", "9999999999999d"]
        {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
