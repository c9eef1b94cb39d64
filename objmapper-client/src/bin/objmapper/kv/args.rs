//! What `objmapper kv --help` says.

use clap::{Args, Subcommand, ValueHint};
use objmapper_client::Mode;
use objmapper_proto::limits::DATABASES;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::args::{count, interval, mode};

/// Behind the list of subcommands: paragraphs; one whose first line ends with a colon has a heading.
const MORE: &str = "\
Examples:
  objmapper kv set users/42 ada                    a value
  objmapper kv set model --file a.gguf             a large one, from a file
  tar c conf | objmapper kv set conf.tar           or from standard input
  objmapper kv set lock me --if-absent --ttl 30s   exits with 6 if somebody has it
  objmapper kv get users/42                        its bytes, nothing added
  objmapper kv incr visits                         adds 1 and prints the sum
  objmapper kv scan --prefix users/ -l             keys in order, with size and expiry
  objmapper kv export > keys.jsonl                 a database as lines of JSON
  objmapper kv --db 3 import keys.jsonl            into another database
  objmapper kv status                              keys, memory, what is on the disk
  objmapper kv compact                             a shorter journal: less disk, a faster start
  objmapper kv backup keys.backup                  all databases, while they are used
  objmapper kv verify keys.backup                  reads it through
  objmapper kv restore keys.backup /var/lib/kv     a directory for objmapperd --kv-dir

Keys and values are any bytes. In tables and messages, bytes that are not printable text are escaped
(\\n, \\t, \\\\, \\xff). A line of JSON has \"key\" and \"value\" if they are UTF-8, else \"key_base64\" and
\"value_base64\"; \"expires_ms\" is when the key expires, in milliseconds since 1970.";

/// Keys and values: read, write, list, export, import; backups
#[derive(Debug, Args)]
#[command(after_help = MORE, max_term_width = 100)]
pub(crate) struct Kv {
    /// The database, 0 to 15 [default: 0]; backup, restore, verify, compact and status are about all
    /// of them
    #[arg(long, global = true, value_name = "N", value_parser = database, help_heading = "Keys")]
    db: Option<u8>,
    /// Keys on the command line are written in base64: for those with a zero byte
    #[arg(long, global = true, help_heading = "Keys")]
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
    /// Show or change when a key expires
    Expire(Expire),
    /// List keys in the order of their bytes
    Scan(Scan),
    /// Write keys and values as lines of JSON
    Export(Export),
    /// Set keys from lines of JSON
    Import(Import),
    /// Show keys, memory and the state of the journal
    Status(Status),
    /// Make the journal as short as it can be, and wait for it
    Compact(Compact),
    /// Copy all keys of all databases to a file, while they are used
    Backup(Backup),
    /// Make a directory for objmapperd --kv-dir from a backup; needs no daemon
    Restore(Restore),
    /// Check a backup, or a directory that no daemon has open; needs no daemon
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key
    pub(crate) key: OsString,
    /// File to write, whole or not at all; `-` for standard output [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// How to fetch it; splice is as copy
    #[arg(short, long, default_value = "auto", value_parser = mode())]
    pub(crate) mode: Mode,
    /// Print a JSON object with key, value and expires_ms
    #[arg(long, conflicts_with_all = ["output", "mode"])]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With neither VALUE nor --file the value is read from standard input, to its end. A value of more
than 256 KiB is passed as memory, which the daemon's operator allows by destinations.allow.")]
pub(crate) struct Set {
    /// The key
    pub(crate) key: OsString,
    /// The value
    #[arg(conflicts_with = "file", allow_negative_numbers = true)]
    pub(crate) value: Option<OsString>,
    /// File to read the value from; `-` for standard input
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Only if the key does not exist; otherwise exit with 6
    #[arg(long, conflicts_with = "if_present")]
    pub(crate) if_absent: bool,
    /// Only if the key exists; otherwise exit with 6
    #[arg(long)]
    pub(crate) if_present: bool,
    /// Let the key expire after this time: 90, 90s, 1500ms, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = ttl, conflicts_with = "keep_ttl")]
    pub(crate) ttl: Option<Duration>,
    /// Keep the expiry that the key has, if any
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
    #[arg(default_value = "1", allow_negative_numbers = true, value_parser = integer)]
    pub(crate) by: i64,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "With neither TIME nor --never it only shows.")]
pub(crate) struct Expire {
    /// The key
    pub(crate) key: OsString,
    /// Let it expire after this time: 90, 90s, 1500ms, 10m, 2h, 7d
    #[arg(value_name = "TIME", value_parser = ttl, conflicts_with = "never")]
    pub(crate) ttl: Option<Duration>,
    /// It does not expire
    #[arg(long)]
    pub(crate) never: bool,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which keys.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only keys that begin with PREFIX
    #[arg(short, long, value_name = "PREFIX", conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<OsString>,
    /// Only keys from KEY on, KEY included
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Only keys before KEY
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// At most N keys
    #[arg(short = 'n', long, value_name = "N", value_parser = count::<u64>)]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Show size and expiry
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) long: bool,
    /// Show values, after a tab
    #[arg(long, conflicts_with = "long")]
    pub(crate) values: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The database may change meanwhile: a key that is there all the while is exported once. For all
databases as of one moment see 'objmapper kv backup'.")]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) which: Which,
    /// File to write, whole or not at all; `-` for standard output [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Lines are as 'objmapper kv export' writes them; empty ones are skipped. A key that is there is
replaced, other keys stay, so an import can be repeated from the beginning.")]
pub(crate) struct Import {
    /// The file; `-` for standard input
    #[arg(default_value = "-", hide_default_value = true, value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Report lines that cannot be imported and go on with the others; fails in the end all the same
    #[arg(short, long)]
    pub(crate) keep_going: bool,
    /// Check all lines, and set nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON object with how many were set
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For a directory that no daemon has open see 'objmapper kv verify', for all of the daemon's counters
'objmapper stats'.")]
pub(crate) struct Status {
    /// Print a JSON object; its names are those of the counters in docs/operating.md. With --watch
    /// one per line, with the time
    #[arg(long)]
    pub(crate) json: bool,
    /// Repeat every SECONDS: on a terminal, redraw. Survives a restart of the daemon of up to
    /// --timeout
    #[arg(short, long, value_name = "SECONDS", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
    /// How many times [default: until interrupted]
    #[arg(short, long, value_name = "N", requires = "watch", value_parser = count::<u32>)]
    pub(crate) count: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For root and the daemon's own user. The daemon writes a snapshot of all keys and removes the journal
files that it replaces; clients go on meanwhile. It also does so by itself, when there is enough to be
saved (kv.compact_from, kv.compact_percent). Needs as much free disk as the keys take.")]
pub(crate) struct Compact {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
For root and the daemon's own user. The daemon writes to a file without a name and passes its
descriptor: it never opens FILE. The copy is checked, and on the disk, before it is named FILE.")]
pub(crate) struct Backup {
    /// The file; one that is there is replaced when the backup is complete
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Run it as the user that the daemon runs as: the files belong to whoever runs it.")]
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

#[derive(Debug, Args)]
#[command(after_help = "Exits with 1 if something is damaged, and says where.")]
pub(crate) struct Verify {
    /// A backup, or a directory of objmapperd --kv-dir
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl Kv {
    /// The database that is meant.
    pub(crate) fn database(&self) -> u8 {
        self.db.unwrap_or(0)
    }

    /// What cannot be said of each argument alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        let about_all = self.command.is_about_all();
        match self.db {
            Some(db) if about_all => Err(format!(
                "this is about all databases: --db means nothing here ('objmapper kv --db {db} \
                 export' writes one)"
            )),
            _ if self.base64 && (about_all || matches!(self.command, KvCommand::Import(_))) => {
                Err("no key is named here: --base64 means nothing".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl KvCommand {
    fn is_about_all(&self) -> bool {
        match self {
            Self::Backup(_) | Self::Compact(_) | Self::Status(_) => true,
            _ => !self.connects(),
        }
    }

    /// Whether a daemon is asked.
    pub(crate) fn connects(&self) -> bool {
        !matches!(self, Self::Restore(_) | Self::Verify(_))
    }

    /// Whether it goes on for so long that the daemon may be restarted meanwhile.
    pub(crate) fn watches(&self) -> bool {
        matches!(self, Self::Status(Status { watch: Some(_), .. }))
    }

    /// Whether values may have to be passed as memory.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Import(_))
    }

    /// Whether the daemon has to write all keys for it.
    pub(crate) fn takes_long(&self) -> bool {
        matches!(self, Self::Backup(_) | Self::Compact(_))
    }
}

fn database(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| *number < DATABASES);
    number.ok_or_else(|| format!("it must be a number from 0 to {}", DATABASES - 1))
}

fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "it must be an integer of 64 bits".to_owned())
}

/// A time with its unit, seconds without one.
fn ttl(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || format!("'{text}' is not a time: write it as 90, 90s, 1500ms, 10m, 2h or 7d");
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
