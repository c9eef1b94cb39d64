//! What is asked about the keyspace.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;

/// What is asked of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    /// GET of keys that are there
    Get,
    /// SET of keys that are there, with values of the same size
    Set,
    /// Both, see --get-ratio
    Mixed,
}

/// How often which key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Spread {
    /// Each as often as any other
    Even,
    /// The n-th in proportion to 1/n (Zipf)
    Zipf,
}

/// Which of the daemon's two sockets is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// RESP, as Redis clients do
    Resp,
    /// Our own protocol: `KV_GET` and `KV_SET`
    Objm,
}

/// Whom the daemon is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rival {
    /// redis-server: started, unless --redis-socket says where one runs
    Redis,
    /// valkey-server
    Valkey,
}

impl Rival {
    /// The program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "With --mode kv")]
pub(crate) struct KvArgs {
    /// What is asked
    #[arg(long, value_enum, value_name = "VERB", default_value = "get")]
    pub(crate) verb: Verb,
    /// In which protocol the daemon is asked (a rival is asked in RESP)
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value = "resp")]
    pub(crate) protocol: Protocol,
    /// Share of GET with --verb mixed, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.9", value_parser = super::ratio)]
    pub(crate) get_ratio: f64,
    /// Keys there are
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) keys: u32,
    /// Bytes of each key's name, at least 16
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(16..=1024))]
    pub(crate) key_size: u16,
    /// Size of each value
    #[arg(long, value_name = "SIZE", default_value = "64")]
    pub(crate) value_size: ByteSize,
    /// How often which key is asked for
    #[arg(long, value_enum, value_name = "HOW", default_value = "even")]
    pub(crate) spread: Spread,
    /// Alternate with another server
    #[arg(long, value_enum, value_name = "SERVER")]
    pub(crate) against: Option<Rival>,
    /// Where it runs already
    #[arg(long, value_name = "PATH", requires = "against")]
    pub(crate) redis_socket: Option<PathBuf>,
    /// One more argument for the server that is started; may be repeated
    #[arg(long, value_name = "ARG", requires = "against", allow_hyphen_values = true)]
    pub(crate) redis_arg: Vec<String>,
}

impl KvArgs {
    /// As the flags have it by default, for bars.
    pub(crate) fn usual(verb: Verb) -> Self {
        Self {
            verb,
            protocol: Protocol::Resp,
            get_ratio: 0.9,
            keys: 100_000,
            key_size: 16,
            value_size: ByteSize::b(64),
            spread: Spread::Even,
            against: Some(Rival::Redis),
            redis_socket: None,
            redis_arg: Vec::new(),
        }
    }
}
