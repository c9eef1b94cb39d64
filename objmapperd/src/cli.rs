//! The command line and the environment: what they lay over the configuration file.
//!
//! Each flag has a variable, `OBJMAPPERD_` and its name; a flag beats its variable, a variable
//! beats the file. Values are handed on as they were written: they are judged in one place,
//! [`crate::config`], together with those of the file.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use objmapper_proto::socket;

use crate::config::{DEFAULT_FILE, Document, Given, Loaded, Origin, Problems, Raw, resolve};
use crate::manual;

const PREFIX: &str = "OBJMAPPERD_";

const MORE: &str = "\
Examples:
  objmapperd --root /srv/objects
      serve a directory to yourself and root
  objmapperd --mount /models=/data/models,allow=group:ml --socket-group ml
      serve a directory under /models to the members of a group
  objmapperd --root /usr/share --socket /tmp/objm.sock --log debug
      try it out
  objmapperd --kv-socket /tmp/kv.sock
      run as a key-value store for Redis clients only
  objmapperd --check-config
      print the effective settings and where each comes from

Flags override the environment, which overrides the file. Each flag that takes a value
has a variable: OBJMAPPERD_ and its name, as in OBJMAPPERD_POOL_SIZE. OBJMAPPERD_MOUNT
takes several mounts, separated by ';'. OBJMAPPER_SOCKET, which is for clients, is
where the daemon listens if nothing else is said, in the file neither.

SIGHUP reloads mounts and rules without disconnecting anybody; all other settings
take effect at the next start.

Exit status: 0 after a requested stop, 1 after a failure, 2 if the settings are wrong.";

/// Serves objects by URI as open descriptors over a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "objmapperd", version, after_help = MORE, max_term_width = 100)]
struct Flags {
    /// Configuration file [default: /etc/objmapper/objmapperd.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "OBJMAPPERD_CONFIG", hide_env = true)]
    config: Option<OsString>,

    /// Print the effective settings and where each comes from, then exit
    #[arg(long)]
    check_config: bool,

    /// Print the manual page, then exit
    #[arg(long)]
    man: bool,

    /// Serve this directory at /
    #[arg(long, value_name = "DIR", env = "OBJMAPPERD_ROOT", hide_env = true)]
    #[arg(help_heading = "Objects")]
    root: Option<OsString>,

    /// Serve a directory at a URI; may be repeated. Options as in the file:
    /// ,symlinks=beneath ,read_only_clone=off ,allow=RULE
    #[arg(long, value_name = "URI=DIR[,OPT...]", env = "OBJMAPPERD_MOUNT", hide_env = true)]
    #[arg(help_heading = "Objects")]
    mount: Vec<OsString>,

    /// Path of the socket, or @name for an abstract one [default: /run/objmapper/objmapper.sock for
    /// root, else $XDG_RUNTIME_DIR/objmapper.sock]
    #[arg(long, value_name = "PATH", env = "OBJMAPPERD_SOCKET", hide_env = true)]
    #[arg(help_heading = "Connections")]
    socket: Option<OsString>,

    /// Permissions of the socket; connecting takes write permission [default: 0660]
    #[arg(long, value_name = "OCTAL", env = "OBJMAPPERD_SOCKET_MODE", hide_env = true)]
    #[arg(help_heading = "Connections")]
    socket_mode: Option<OsString>,

    /// Group that owns the socket
    #[arg(long, value_name = "GROUP", env = "OBJMAPPERD_SOCKET_GROUP", hide_env = true)]
    #[arg(help_heading = "Connections")]
    socket_group: Option<OsString>,

    /// Path, or @name, of a socket for Redis clients [default: none]
    #[arg(long, value_name = "PATH", env = "OBJMAPPERD_KV_SOCKET", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_socket: Option<OsString>,

    /// Loopback address for Redis clients over TCP, such as 127.0.0.1:6379 [default: none]
    #[arg(long, value_name = "ADDRESS", env = "OBJMAPPERD_KV_LISTEN", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_listen: Option<OsString>,

    /// File with the password for Redis clients that no rule admits [default: none]
    #[arg(long, value_name = "FILE", env = "OBJMAPPERD_KV_PASSWORD_FILE", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_password_file: Option<OsString>,

    /// Memory for keys and values; 0: no limit [default: 0]
    #[arg(long, value_name = "SIZE", env = "OBJMAPPERD_KV_MAXMEMORY", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_maxmemory: Option<OsString>,

    /// What to evict at that limit: noeviction, allkeys-lru, ... [default: noeviction]
    #[arg(long, value_name = "POLICY", env = "OBJMAPPERD_KV_EVICTION", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_eviction: Option<OsString>,

    /// Directory of the journal [default: none, keys are lost when the daemon stops]
    #[arg(long, value_name = "DIR", env = "OBJMAPPERD_KV_DIR", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_dir: Option<OsString>,

    /// When to sync the journal: always (before each reply), interval, never [default: interval]
    #[arg(long, value_name = "WHEN", env = "OBJMAPPERD_KV_SYNC", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_sync: Option<OsString>,

    /// Longest time from a reply to its sync, with --kv-sync interval [default: 100ms]
    #[arg(long, value_name = "TIME", env = "OBJMAPPERD_KV_SYNC_INTERVAL", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_sync_interval: Option<OsString>,

    /// What to do if the journal is damaged: refuse to start, or skip what is damaged and lose it
    /// [default: refuse]
    #[arg(long, value_name = "WHAT", env = "OBJMAPPERD_KV_DAMAGE", hide_env = true)]
    #[arg(help_heading = "Keyspace")]
    kv_damage: Option<OsString>,

    /// Most connections at a time [default: 16384]
    #[arg(long, value_name = "N", env = "OBJMAPPERD_MAX_CONNECTIONS", hide_env = true)]
    #[arg(help_heading = "Connections")]
    max_connections: Option<OsString>,

    /// Number of workers; 0: one per core [default: 0]
    #[arg(long, value_name = "N", env = "OBJMAPPERD_POOL_SIZE", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    pool_size: Option<OsString>,

    /// Threads per mount that may wait for a disk [default: 4]
    #[arg(long, value_name = "N", env = "OBJMAPPERD_HELPERS", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    helpers: Option<OsString>,

    /// How long an idle worker looks for more work before it sleeps [default: 30us]
    #[arg(long, value_name = "TIME", env = "OBJMAPPERD_SPIN", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    spin: Option<OsString>,

    /// Largest body that is put into the reply itself [default: 64KiB]
    #[arg(long, value_name = "SIZE", env = "OBJMAPPERD_INLINE_LIMIT", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    inline_limit: Option<OsString>,

    /// Mode auto: largest object sent as bytes [default: 16KiB]
    #[arg(long, value_name = "SIZE", env = "OBJMAPPERD_AUTO_LIMIT", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    auto_limit: Option<OsString>,

    /// Largest stream that a worker sends itself [default: 1MiB]
    #[arg(long, value_name = "SIZE", env = "OBJMAPPERD_IN_PLACE_LIMIT", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    in_place_limit: Option<OsString>,

    /// How long connections may take to finish after SIGTERM [default: 10s]
    #[arg(long, value_name = "TIME", env = "OBJMAPPERD_DRAIN_DEADLINE", hide_env = true)]
    #[arg(help_heading = "Tuning")]
    drain_deadline: Option<OsString>,

    /// Log level, or target=level,... [default: info]
    #[arg(long, value_name = "FILTER", env = "OBJMAPPERD_LOG", hide_env = true)]
    #[arg(help_heading = "Log")]
    log: Option<OsString>,

    /// Log format: auto, plain or journal [default: auto]
    #[arg(long, value_name = "FORMAT", env = "OBJMAPPERD_LOG_FORMAT", hide_env = true)]
    #[arg(help_heading = "Log")]
    log_format: Option<OsString>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Order {
    /// Serve.
    Serve(Box<Loaded>),
    /// Print the effective settings, do nothing else.
    CheckConfig(Box<Loaded>),
    /// Print the manual page, do nothing else.
    Manual(Vec<u8>),
}

/// Why there is nothing to be done.
#[derive(Debug)]
pub enum Stop {
    /// The flags make no sense, or help or version were asked for: clap says it best.
    Flags(clap::Error),
    /// The settings are wrong.
    Settings(Problems),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self::Flags(error)
    }
}

impl From<Problems> for Stop {
    fn from(problems: Problems) -> Self {
        Self::Settings(problems)
    }
}

/// Reads command line, environment and file.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Order, Stop> {
    let mut command = Flags::command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let flags = Flags::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if flags.man {
        let page = manual::page(&command);
        let page = page.map_err(|error| command.error(ErrorKind::Io, error))?;
        return Ok(Order::Manual(page));
    }
    let check = flags.check_config;
    let document = document(flags.config.as_deref())?;
    let mut raw = document.as_ref().map_or_else(|| Ok(Raw::default()), Raw::parse)?;
    overlay(flags, &matches, &mut raw);
    let mut loaded = resolve(raw, document.as_ref())?;
    loaded.warnings.extend(unknown_variables(&command));
    let loaded = Box::new(loaded);
    Ok(if check { Order::CheckConfig(loaded) } else { Order::Serve(loaded) })
}

/// Reads everything again: the file as it is now, under this process's own flags and environment.
pub fn read_again() -> anyhow::Result<Loaded> {
    match read(std::env::args_os()) {
        Ok(Order::Serve(loaded) | Order::CheckConfig(loaded)) => Ok(*loaded),
        Ok(Order::Manual(_)) => anyhow::bail!("--man serves nothing"),
        Err(Stop::Settings(problems)) => Err(problems.into()),
        Err(Stop::Flags(error)) => Err(error.into()),
    }
}

/// The file that was named, or the usual one if there is one.
fn document(named: Option<&OsStr>) -> Result<Option<Document>, Problems> {
    match named {
        Some(name) if !name.is_empty() => Document::read(Path::new(name)).map(Some),
        _ if Path::new(DEFAULT_FILE).exists() => Document::read(Path::new(DEFAULT_FILE)).map(Some),
        _ => Ok(None),
    }
}

/// Lays flags and environment over what the file says.
fn overlay(flags: Flags, matches: &ArgMatches, raw: &mut Raw) {
    // What clients find the socket by: the daemon listens there rather than at a place of its own
    // choice, and never moves for it from where it was told to be.
    if raw.listen.path.is_none()
        && let Some(path) = std::env::var_os(socket::VARIABLE).filter(|path| !path.is_empty())
    {
        raw.listen.path = Some(Given::text(path, &Origin::Variable(socket::VARIABLE.to_owned())));
    }
    let put = |slot: &mut Option<Given>, id: &str, value: Option<OsString>| {
        // An empty variable is one that was not set.
        if let Some(value) = value.filter(|value| !value.is_empty() || is_flag(matches, id)) {
            *slot = Some(Given::text(value, &origin(matches, id)));
        }
    };
    put(&mut raw.listen.path, "socket", flags.socket);
    put(&mut raw.listen.mode, "socket_mode", flags.socket_mode);
    put(&mut raw.listen.group, "socket_group", flags.socket_group);
    put(&mut raw.kv.socket, "kv_socket", flags.kv_socket);
    put(&mut raw.kv.listen, "kv_listen", flags.kv_listen);
    put(&mut raw.kv.password_file, "kv_password_file", flags.kv_password_file);
    put(&mut raw.kv.max_memory, "kv_maxmemory", flags.kv_maxmemory);
    put(&mut raw.kv.eviction, "kv_eviction", flags.kv_eviction);
    put(&mut raw.kv.dir, "kv_dir", flags.kv_dir);
    put(&mut raw.kv.sync, "kv_sync", flags.kv_sync);
    put(&mut raw.kv.sync_interval, "kv_sync_interval", flags.kv_sync_interval);
    put(&mut raw.kv.damage, "kv_damage", flags.kv_damage);
    put(&mut raw.limits.connections, "max_connections", flags.max_connections);
    put(&mut raw.pool.workers, "pool_size", flags.pool_size);
    put(&mut raw.pool.helpers, "helpers", flags.helpers);
    put(&mut raw.pool.spin, "spin", flags.spin);
    put(&mut raw.delivery.inline_limit, "inline_limit", flags.inline_limit);
    put(&mut raw.delivery.auto_limit, "auto_limit", flags.auto_limit);
    put(&mut raw.delivery.in_place_limit, "in_place_limit", flags.in_place_limit);
    put(&mut raw.drain_deadline, "drain_deadline", flags.drain_deadline);
    put(&mut raw.log.filter, "log", flags.log);
    put(&mut raw.log.format, "log_format", flags.log_format);
    put(&mut raw.root, "root", flags.root);
    raw.mount_words = words(flags.mount, is_flag(matches, "mount"))
        .map(|word| Given::text(word, &origin(matches, "mount")))
        .collect();
}

/// The mounts one by one: a flag holds one, the variable all of them.
fn words(values: Vec<OsString>, are_flags: bool) -> impl Iterator<Item = OsString> {
    let pieces = move |value: OsString| -> Vec<OsString> {
        if are_flags {
            return vec![value];
        }
        let pieces = value.as_bytes().split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let pieces = pieces.filter(|piece| !piece.is_empty());
        pieces.map(|piece| OsString::from_vec(piece.to_vec())).collect()
    };
    values.into_iter().flat_map(pieces)
}

fn is_flag(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// How it was said. Flags and variables have one name in two spellings.
fn origin(matches: &ArgMatches, id: &str) -> Origin {
    if is_flag(matches, id) {
        Origin::Flag(format!("--{}", id.replace('_', "-")))
    } else {
        Origin::Variable(format!("{PREFIX}{}", id.to_ascii_uppercase()))
    }
}

/// A warning for each variable that looks like ours and is none. Not an error, since there are
/// programs that set variables for everything that they know the name of.
fn unknown_variables(command: &clap::Command) -> Vec<String> {
    let known: BTreeSet<&OsStr> = command.get_arguments().filter_map(clap::Arg::get_env).collect();
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.as_bytes().starts_with(PREFIX.as_bytes()))
        .filter(|name| !known.contains(name.as_os_str()))
        .map(|name| {
            let name = name.to_string_lossy().into_owned();
            format!("the variable {name} has no meaning here: is it misspelt? See --help")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_sound_and_have_a_variable_each() {
        let command = Flags::command();
        command.clone().debug_assert();
        for argument in command.get_arguments().filter(|a| a.get_action().takes_values()) {
            let expected = format!("{PREFIX}{}", argument.get_id().as_str().to_ascii_uppercase());
            assert_eq!(argument.get_env(), Some(OsStr::new(&expected)));
        }
    }

    #[test]
    fn a_variable_holds_several_mounts_and_a_flag_one() {
        let value = || vec![OsString::from("/a=/x; /b=/y;")];
        assert_eq!(words(value(), false).collect::<Vec<_>>(), ["/a=/x", "/b=/y"]);
        assert_eq!(words(value(), true).collect::<Vec<_>>(), ["/a=/x; /b=/y;"]);
    }

    #[test]
    fn help_fits_a_terminal() {
        let help = Flags::command().term_width(80).render_help().to_string();
        for line in help.lines() {
            assert!(line.len() <= 88, "{line}");
        }
    }
}
