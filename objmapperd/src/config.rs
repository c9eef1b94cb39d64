//! What the daemon runs with: [`Settings`], complete and checked.
//!
//! ```text
//!  file ──▶ Raw ◀── environment, flags (crate::cli)        a later word replaces an earlier one
//!            │
//!            ▼ resolve: one line for each setting: its name, default, kind and range
//!  Loaded { settings, effective, warnings }   or   Problems, all of them at once
//! ```
//!
//! What must stay true:
//! - every setting has one name, one default and one range, whoever says it: they stand in
//!   `config/resolve.rs` and nowhere else;
//! - a name that nobody knows is an error with its line, never ignored;
//! - a value that is refused is told with its name, where it was said, and what is allowed;
//! - users and groups are numbers in here: names were looked up.
//!
//! Not here: the command line ([`crate::cli`]), and whether the machine grants what is asked for
//! (descriptors, directories that may be opened): that is found out at start.
//!
//! A new setting is a field in `config/file.rs`, a field here, a line in `config/resolve.rs`, its
//! name in `config/change.rs` and a line in the example file; a flag for it is two more in
//! `cli.rs`. A test compares the example.

mod given;
mod value;

mod file;
mod sheet;

mod change;

mod allow;
mod mount;
mod resolve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use objmapper::kv::Policy;
use objmapper::kv::journal::Damage;
use objmapper::{Links, Rule};
use objmapper_proto::UriBuf;

pub use file::{Document, Raw};
pub use given::{Given, Origin, Scalar};
pub use resolve::resolve;
pub use sheet::{Problem, Problems};

/// Where the configuration file is looked for when nothing else is said; it need not exist.
pub const DEFAULT_FILE: &str = "/etc/objmapper/objmapperd.toml";

/// The answer to "what shall I run with?".
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the daemon runs with.
    pub settings: Settings,
    /// The same as a configuration file, with a remark at each value that is not a default.
    pub effective: String,
    /// What is no error and yet hardly meant, in whole sentences.
    pub warnings: Vec<String>,
}

/// All settings, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is served, no two with the same URI; at least one, unless keys are served.
    pub mounts: Vec<MountSpec>,
    /// Where clients connect.
    pub listen: Listen,
    /// Who may pass descriptors for bodies to be moved into.
    pub destinations: Destinations,
    /// Threads.
    pub pool: Pool,
    /// In which form objects are delivered.
    pub delivery: Delivery,
    /// What may be used up.
    pub limits: Limits,
    /// How long to wait for a peer.
    pub timeouts: Timeouts,
    /// How long connections may finish what is under way after the first SIGTERM; then they are
    /// closed. Zero closes them at once.
    pub drain_deadline: Duration,
    /// The keyspace.
    pub kv: Kv,
    /// What is logged, and how.
    pub log: Log,
}

/// The socket that the daemon makes if the service manager gave it none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// An absolute path, or `@` and an abstract name.
    pub path: PathBuf,
    /// Whether the daemon makes it: not for a keyspace alone, unless it was named.
    pub is_wanted: bool,
    /// Permission bits of the path: who may write may connect.
    pub mode: u32,
    /// The user who shall own it; `None` leaves it with the daemon's.
    pub owner: Option<u32>,
    /// The group that shall own it; `None` leaves it with the daemon's.
    pub group: Option<u32>,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Who may ask for the figures.
    pub stats: Stats,
}

/// Descriptors that clients pass for bodies to be moved into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    /// Who may pass some. Empty: nothing was said, so the daemon's own user and root.
    pub allow: Vec<Rule>,
}

/// Who may ask for the figures (STATS), of those who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stats {
    /// Everybody.
    Any,
    /// The daemon's own user and root.
    Owner,
}

/// A directory tree and the URI under which it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// The prefix; `/a/` was cut to `/a`, which means the same.
    pub uri: UriBuf,
    /// The root of the tree, an absolute path.
    pub dir: PathBuf,
    /// What to do with symbolic links.
    pub symlinks: Links,
    /// Whether to serve it through a read-only mount of our own.
    pub read_only_clone: ReadOnlyClone,
    /// Whether bytes go through a buffer, so that they are of one version.
    pub strict: bool,
    /// Whether clients who ask for it get open file descriptions that others have as well.
    pub shared: bool,
    /// Who may do what. Empty: nothing was said, so the daemon's own user and root.
    pub allow: Vec<Rule>,
}

/// Whether a tree is served through a private read-only clone of its mount, so that nobody can
/// reopen a descriptor for writing. Making one needs `CAP_SYS_ADMIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnlyClone {
    /// If it is permitted.
    Auto,
    /// Always; refuse to start without.
    On,
    /// Never.
    Off,
}

/// The threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Workers that serve connections; 0: one for each core.
    pub workers: usize,
    /// Threads for what has to wait for a disk.
    pub helpers: usize,
    /// How long a worker looks for more before it sleeps, if the last request came no longer
    /// ago than that. Zero: it sleeps at once.
    pub spin: Duration,
}

/// The sizes at which the form of a delivery turns, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The largest body that is read and put into its reply; longer ones are streams. 0: all are.
    pub inline_limit: u64,
    /// Mode `auto` sends bodies of at most so many bytes, and a descriptor above.
    pub auto_limit: u64,
    /// The largest stream that a worker sends itself if it is in memory and the socket takes it;
    /// longer ones, and what is left of them, are for the transfer path. 0: all are.
    pub in_place_limit: u64,
}

/// What may be used up. Reaching one makes somebody wait or be refused, never fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Those of one user; 0: three times as many as are left.
    pub connections_per_uid: usize,
    /// Descriptors sent and not yet taken, in all; 0: half of `RLIMIT_NOFILE`.
    pub descriptors_in_flight: usize,
    /// The same for all connections of one user; 0: as many as are left.
    pub descriptors_per_uid: usize,
    /// The same for one connection.
    pub descriptors_per_connection: usize,
    /// Names in the index; 0: there is none.
    pub index_entries: usize,
    /// Bytes that the index may take.
    pub index_bytes: usize,
    /// Shards of the index, a power of two.
    pub index_shards: usize,
    /// Bytes of replies that the kernel keeps for a client that does not read (`SO_SNDBUF`); 0:
    /// as many as it does by itself.
    pub send_buffer: usize,
    /// Bodies under way, each of which has a file open; 0: a quarter of `RLIMIT_NOFILE`, or
    /// `connections` if that is less. One user may have three times as many as are left.
    pub bodies: usize,
    /// Bytes of unfinished requests and unsent replies that are kept for all connections; 0: as
    /// many as suit those who may connect. One user may have as many as are left.
    pub queued_bytes: usize,
    /// Open file descriptions that are kept to be shared; 0: nothing is.
    pub shared_descriptors: usize,
}

/// How long to wait for a peer; zero is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For HELLO.
    pub hello: Duration,
    /// For the rest of a request that has begun.
    pub request: Duration,
    /// For the next request.
    pub idle: Duration,
    /// For it to read something of what was sent.
    pub send: Duration,
}

/// The keyspace, and where Redis clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv {
    /// An absolute path, or `@` and an abstract name; `None`: there is no such socket.
    pub socket: Option<PathBuf>,
    /// Permission bits of the path: who may write may connect.
    pub mode: u32,
    /// An address of this machine's own, for TCP; `None`: there is none.
    pub listen: Option<SocketAddr>,
    /// Whoever connects to that address needs no password.
    pub listen_without_password: bool,
    /// A file with the password; `None`: there is none.
    pub password_file: Option<PathBuf>,
    /// Who needs no password, of those who may connect to the socket. Empty: nothing was said, so
    /// the daemon's own user and root.
    pub allow: Vec<Rule>,
    /// Bytes that keys and values may take; 0: as many as there are.
    pub max_memory: u64,
    /// What goes when there is no room.
    pub eviction: Policy,
    /// The directory of the journal; `None`: keys last as long as this process.
    pub dir: Option<PathBuf>,
    /// When a change must be on the disk.
    pub sync: KvSync,
    /// With [`KvSync::Interval`]: how much later than it was answered at most.
    pub sync_interval: Duration,
    /// What to do with a journal that is not as it was written.
    pub damage: Damage,
    /// Bytes of a file of the journal.
    pub segment: u64,
    /// The journal is compacted when it has so many bytes beside the last snapshot ..
    pub compact_from: u64,
    /// .. and so many per cent of it; 0: only when it is asked for.
    pub compact_percent: u32,
    /// The longest time between two compactions while something is written; zero: any.
    pub compact_every: Duration,
}

/// When a change of the keyspace must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSync {
    /// Before it is answered.
    Always,
    /// An interval later at most.
    Interval,
    /// When the kernel gets to it.
    Never,
}

impl KvSync {
    /// As it is written in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
        }
    }
}

impl Kv {
    /// Whether there is a keyspace: a socket of its own was named, or where it is kept.
    pub const fn is_served(&self) -> bool {
        self.socket.is_some() || self.listen.is_some() || self.dir.is_some()
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Which events, as `tracing_subscriber::EnvFilter` reads it; it was checked.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `Journal` if standard error is the journal, else `Plain`.
    Auto,
    /// With the time; in colours on a terminal.
    Plain,
    /// With the priority in front as the journal reads it (sd-daemon(3)), without the time.
    Journal,
}
