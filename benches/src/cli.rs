//! The command line.
//!
//! Only what is asked, checked one by one; what follows from several answers together is decided
//! where it is used.

pub(crate) mod kv;

use crate::assertion::Assertion;
use crate::neighbour::Neighbour;
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  # One connection, client and server on CPU 1, beside the floor
  objmapper-bench --pin 1 --floor
  # A batch of 64 descriptors per request
  objmapper-bench --batch 64 --pin 1 --floor
  # A daemon that runs already, 100 connections, for a script
  objmapper-bench --socket /run/objmapper/objmapper.sock --conns 100 --json
  # A bar that a script can check
  objmapper-bench --pin 1 --floor --assert 'p50_ratio<=1.25,server_cpu_ratio<=1.35,p50_us<10'
  # Open loop: 20000 requests/s by the clock, and a picture of the latencies
  objmapper-bench --conns 16 --rate 20000 --floor --svg latency.svg
  # Beside 500 clients that read slowly
  objmapper-bench --pin 1 --beside slow-readers:500
  # Keys, beside redis-server
  objmapper-bench --mode kv --against redis --conns 50 --pipeline 16 --pin 0,1
  # Everything that the project promises about speed, in one table
  objmapper-bench bars
  # Many connections, neighbours, mixed load
  objmapper-bench bars --group scale,neighbours,mixed,idle
  # Keys and values, beside redis-server
  objmapper-bench bars --group keys";

/// The send buffer that the daemon's connections have by default: the floor's are the same.
const SEND_BUFFER: usize = 1 << 20;

/// Measures objmapperd: latency, throughput, and the CPU that the server takes for each request.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures every bar of the project and says which are met
    Bars(BarsArgs),
    /// The raw server that the others are compared with
    #[command(hide = true)]
    FloorServer(FloorArgs),
    /// One of many that map the same value
    #[command(hide = true)]
    Mapper(MapperArgs),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunMode {
    /// Descriptors
    Fdpass,
    /// Bytes, copied by the daemon
    Copy,
    /// Bytes, moved by the kernel
    Splice,
    /// Descriptors and copied bytes, see --fdpass-ratio
    Mixed,
    /// Keys, by the protocol of Redis
    Kv,
    /// In-process: the classic choices for the index
    Index,
}

/// Where the floor gets the file of a copy from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FloorOpen {
    /// Opened and closed for each request, as the daemon has to
    Each,
    /// Opened once and held: nothing but reading and sending is left
    Held,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What is asked for
    #[arg(long, value_enum, default_value = "fdpass")]
    pub(crate) mode: RunMode,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) against: FloorSide,
    /// Also print how the daemon's own counters (STATS) grew
    #[arg(long, conflicts_with = "floor_only")]
    pub(crate) stats: bool,
    /// Rounds; ratios are medians over rounds
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Draws the latencies of all rounds, percentile by percentile
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Appends a line of JSON for each server that was measured
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Goals on the figures, such as 'p50_us<10,server_cpu_ratio<=1.35'; a miss is exit code 1
    #[arg(long, value_delimiter = ',', value_name = "FIGURE<=NUMBER")]
    pub(crate) assert: Vec<Assertion>,
    /// The longest that the whole command may take
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = humantime::parse_duration)]
    pub(crate) time_limit: Duration,
    // Last, since what follows would stand under its heading.
    #[command(flatten)]
    pub(crate) kv: kv::KvArgs,
}

/// What the daemon is compared with.
#[derive(Debug, Args)]
pub(crate) struct FloorSide {
    /// Alternate with a raw server that makes the same system calls and nothing else
    #[arg(long)]
    pub(crate) floor: bool,
    /// Measure the raw server alone: what this machine permits
    #[arg(long, conflicts_with_all = ["floor", "socket"])]
    pub(crate) floor_only: bool,
    /// For copy and splice: how the floor comes by its file
    #[arg(long, value_name = "WHEN", value_enum, default_value = "each")]
    pub(crate) floor_open: FloorOpen,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Connections in all
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) conns: u32,
    /// Client threads; connections are dealt out among them
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
    /// Requests that each connection sends at once, before it waits for all their answers
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pipeline: u32,
    /// Objects in each request (GET_MANY if more than 1)
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,
    /// Ask for descriptors that may be shared; a daemon that is started allows it (the floor knows
    /// no such thing)
    #[arg(long)]
    pub(crate) shared: bool,
    /// Connections that have a burst under way at a time; they take turns [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) active: Option<u32>,
    /// Open loop: requests/s in all, sent when they are due, whether earlier ones are answered or
    /// not, as far as there are free connections; latency counts from when a request was due
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "active")]
    pub(crate) rate: Option<f64>,
    /// Requests in all rounds together; ends earlier than --duration if reached
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u64>,
    /// Time of all rounds together
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Connect anew after so many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests_per_conn: Option<u64>,
    /// Share of descriptor requests with --mode mixed, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = ratio)]
    pub(crate) fdpass_ratio: f64,
    /// Who else is on the server: idle:N, stalled-splice, no-reader, misses or slow-readers:N
    /// (10 KiB/s each); the floor bears only idle and misses
    #[arg(long, value_name = "NEIGHBOUR")]
    pub(crate) beside: Option<Neighbour>,
    /// Time at the head of each round that is not counted
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = humantime::parse_duration)]
    pub(crate) warmup: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Size of each file of the temporary tree
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    pub(crate) file_size: ByteSize,
    /// How many files are asked for in turn
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) files: u32,
    /// Directories between the root and each file of the temporary tree
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=32))]
    pub(crate) depth: u32,
    /// Do not write the files, only set their size (holes)
    #[arg(long)]
    pub(crate) sparse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// A daemon that runs already
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Its process, if not the one that made the socket (socket activation)
    #[arg(long, requires = "socket")]
    pub(crate) pid: Option<i32>,
    /// A tree to ask for instead of a temporary one; with --socket: what the daemon serves at `/`
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// The daemon to start [default: beside this program]
    #[arg(long, value_name = "PATH", env = "OBJMAPPERD")]
    pub(crate) daemon: Option<PathBuf>,
    /// One more argument for the daemon that is started; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) daemon_arg: Vec<String>,
    /// Workers of the daemon that is started [default: its own choice]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) workers: Option<u32>,
    /// CPU of client and server; one number puts both there, under SCHED_BATCH. With --socket only
    /// the client moves
    #[arg(long, value_name = "CPU[,CPU]")]
    pub(crate) pin: Option<Pin>,
}

/// Bars that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BarsGroup {
    /// What one request costs, beside the floor
    Speed,
    /// 10, 1000 and 10 000 connections, and their memory
    Scale,
    /// One client that behaves, beside others that do not
    Neighbours,
    /// Descriptors and bodies at the same time
    Mixed,
    /// What connections cost that say nothing
    Idle,
    /// A question on a connection that is busy with a body
    Order,
    /// Keys and values, beside redis-server
    Keys,
}

impl BarsGroup {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::Scale => "scale",
            Self::Neighbours => "neighbours",
            Self::Mixed => "mixed",
            Self::Idle => "idle",
            Self::Order => "order",
            Self::Keys => "keys",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BarsArgs {
    /// The daemon to start [default: beside this program]
    #[arg(long, value_name = "PATH", env = "OBJMAPPERD")]
    pub(crate) daemon: Option<PathBuf>,
    /// One more argument for the daemon; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) daemon_arg: Vec<String>,
    /// The CPU for the measurements on one CPU [default: the last that may be used]
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<usize>,
    /// Rounds of each measurement
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Time of each round of each side
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = humantime::parse_duration)]
    pub(crate) round: Duration,
    /// Which tables; several with commas between them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "speed")]
    pub(crate) group: Vec<BarsGroup>,
    /// Only measurements whose name contains this; a name that does not exist is told with all that do
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Appends one line of JSON for each result
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// The longest that the whole command may take
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = humantime::parse_duration)]
    pub(crate) time_limit: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    #[arg(long)]
    pub(crate) root: PathBuf,
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// Bytes that the kernel keeps for a client that does not read; 0 leaves its default
    #[arg(long, default_value_t = SEND_BUFFER)]
    pub(crate) send_buffer: usize,
}

#[derive(Debug, Args)]
pub(crate) struct MapperArgs {
    #[arg(long)]
    pub(crate) socket: PathBuf,
    #[arg(long)]
    pub(crate) uri: String,
}

/// Processors for client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Pin {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.trim().parse().map_err(|_| format!("'{word}' is no CPU"));
        match text.split_once(',') {
            Some((client, server)) => Ok(Self { client: number(client)?, server: number(server)? }),
            None => number(text).map(|cpu| Self { client: cpu, server: cpu }),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1e8).contains(&rate) => Ok(rate),
        _ => Err("requests/s are expected, a number from 0.1 to 100000000".into()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("a number from 0 to 1 is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_cpu_is_for_both() {
        assert_eq!("1".parse(), Ok(Pin { client: 1, server: 1 }));
        assert_eq!("0,1".parse(), Ok(Pin { client: 0, server: 1 }));
        assert!("x".parse::<Pin>().is_err());
    }
}
