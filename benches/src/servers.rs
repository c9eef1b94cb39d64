//! The processes that are measured: a daemon of ours or somebody else's, and the floor.
//!
//! What was started here is killed when dropped, and what it wrote to its log is shown if it dies
//! early. Sockets lie in a directory that is removed with them.

use anyhow::{Context, Result, bail, ensure};
use objmapper_os::fds::FdQueue;
use objmapper_os::peer::Peer;
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{self, Split};
use objmapper_proto::{Hello, HelloAck, Kind, List, Op, Reply, Request, limits};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::placement::Placement;
use crate::stop::PATIENCE;
use crate::tree::Object;

/// Counters of a daemon, by name.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Stats(BTreeMap<String, f64>);

impl Stats {
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// By how much each has grown.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let grown = |(name, value): (&String, &f64)| {
            (name.clone(), value - before.get(name).unwrap_or(0.0))
        };
        Self(self.0.iter().map(grown).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// A server to be asked.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) socket: PathBuf,
    pub(crate) pid: i32,
    child: Option<Child>,
    _directory: Option<TempDir>,
}

impl Server {
    /// Starts a daemon for this tree, whose files may be `shared` or not.
    pub(crate) fn daemon(
        program: &Path,
        root: &Path,
        shared: bool,
        arguments: &[String],
        place: Placement,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            // Settings of a daemon that somebody else means to run.
            if name.to_string_lossy().starts_with("OBJMAPPERD_") {
                command.env_remove(name);
            }
        }
        if shared {
            let mut mount = OsString::from("/=");
            mount.push(root);
            mount.push(",shared=true");
            command.arg("--mount").arg(mount);
        } else {
            command.arg("--root").arg(root);
        }
        Self::start(command, place)
    }

    /// Starts the floor for this tree.
    pub(crate) fn floor(root: &Path, place: Placement) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("who am I")?);
        // The floor leaves when this pipe closes, even if nobody is left to kill it.
        command.arg("floor-server").arg("--root").arg(root).stdin(Stdio::piped());
        Self::start(command, place)
    }

    /// A daemon that runs already.
    pub(crate) fn running(socket: &Path, pid: Option<i32>) -> Result<Self> {
        let stream = Stream::connect(socket, Some(PATIENCE))?;
        let pid = pid.or(Peer::of(&stream)?.pid).context("the daemon's process is not visible")?;
        Ok(Self { socket: socket.to_owned(), pid, child: None, _directory: None })
    }

    fn start(mut command: Command, place: Placement) -> Result<Self> {
        let directory =
            TempDir::with_prefix("objmapper-bench-").context("cannot make a directory")?;
        let socket = directory.path().join("socket");
        let log = directory.path().join("log");
        command.arg("--socket").arg(&socket);
        command.stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = place.spawn_server(&mut command)?;
        let pid = i32::try_from(child.id())?;
        let mut server = Self { socket, pid, child: Some(child), _directory: Some(directory) };
        server.wait_until_ready(&log)?;
        Ok(server)
    }

    fn wait_until_ready(&mut self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = Stream::connect(&self.socket, Some(PATIENCE)) else { return Ok(()) };
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                bail!("the server ended at once ({status}): {}", tail(log));
            }
            if Instant::now() > deadline {
                bail!("the server does not listen after {PATIENCE:?} ({error}): {}", tail(log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The counters that the daemon tells by STATS: name and value of each line.
    pub(crate) fn stats(&self) -> Result<Stats> {
        let text = Control::open(&self.socket)?.ask(Request::Stats, |reply| match reply {
            Reply::Stats(text) => Some(text.to_owned()),
            _ => None,
        })?;
        let pair = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Ok(Stats(text.lines().filter_map(pair).collect()))
    }

    /// Connections that the daemon has, the one that asks included; `None` if it does not tell.
    pub(crate) fn connections(&self) -> Result<Option<f64>> {
        Ok(self.stats()?.get("connections.open"))
    }

    /// Waits, but not for ever, until the daemon has no more connections than so many: it may take
    /// a while to notice that thousands have left, and others may have come.
    pub(crate) fn wait_for_departures(&self, before: Option<f64>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.connections()? > before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Up to `limit` files that the daemon lists, from `/` downwards.
    pub(crate) fn list(&self, limit: usize) -> Result<Vec<Object>> {
        let mut control = Control::open(&self.socket)?;
        let mut found = Vec::new();
        let mut prefixes = vec![b"/".to_vec()];
        while let Some(prefix) = prefixes.pop().filter(|_| found.len() < limit) {
            let mut cursor = Vec::new();
            loop {
                let page = control.list(&prefix, &cursor)?;
                for entry in page.entries {
                    match entry {
                        Listed::Prefix(uri) => prefixes.push(uri),
                        Listed::File(object) if found.len() < limit => found.push(object),
                        Listed::File(_) => {}
                    }
                }
                cursor = page.cursor;
                if cursor.is_empty() || found.len() >= limit {
                    break;
                }
            }
        }
        ensure!(!found.is_empty(), "the daemon lists no file below /");
        Ok(found)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has ended by itself, or ends now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(10);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// A connection for questions that are not measured.
struct Control {
    stream: Stream,
    bytes: Vec<u8>,
    fds: FdQueue,
}

enum Listed {
    Prefix(Vec<u8>),
    File(Object),
}

struct Page {
    cursor: Vec<u8>,
    entries: Vec<Listed>,
}

impl Control {
    fn open(socket: &Path) -> Result<Self> {
        let stream = Stream::connect(socket, Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = Vec::new();
        Hello::default().encode(1, &mut bytes);
        stream.send(&bytes, &[], false)?;
        bytes.clear();
        let mut control = Self { stream, bytes, fds: FdQueue::with_capacity(0) };
        control.next(|frame| {
            ensure!(frame.header.op == Op::HelloAck as u8, "the daemon does not answer HELLO");
            Ok(HelloAck::decode(frame.payload)?)
        })?;
        Ok(control)
    }

    fn ask<T>(&mut self, request: Request<'_>, read: impl Fn(Reply<'_>) -> Option<T>) -> Result<T> {
        let mut bytes = Vec::new();
        request.encode(1, &mut bytes);
        self.stream.send(&bytes, &[], false)?;
        self.next(|frame| match Reply::decode(frame)? {
            Reply::Error(error) => bail!("the daemon says {}: {}", error.status, error.text),
            reply => read(reply).context("the daemon answered something else"),
        })
    }

    /// Reads one whole frame.
    fn next<T>(&mut self, read: impl FnOnce(objmapper_proto::Frame<'_>) -> Result<T>) -> Result<T> {
        let mut piece = [0; 4096];
        loop {
            if let Split::Whole(frame, used) = frame::split(&self.bytes, limits::REPLY_PAYLOAD)? {
                let outcome = read(frame);
                self.bytes.drain(..used);
                return outcome;
            }
            let received = self.stream.recv(&mut piece, &mut self.fds)?;
            ensure!(received.bytes > 0, "the daemon has closed the connection");
            self.bytes.extend_from_slice(piece.get(..received.bytes).unwrap_or_default());
        }
    }

    fn list(&mut self, prefix: &[u8], cursor: &[u8]) -> Result<Page> {
        let limit = 1024; // entries in a page; not tuned
        let entry = |entry: objmapper_proto::Entry<'_>| {
            let mut uri = prefix.to_vec();
            if !uri.ends_with(b"/") {
                uri.push(b'/');
            }
            uri.extend_from_slice(entry.name);
            if entry.kind == Kind::Prefix {
                return Listed::Prefix(uri);
            }
            Listed::File(Object { uri, name: Vec::new(), size: entry.size, ino: None })
        };
        self.ask(Request::List(List { limit, prefix, cursor }), |reply| match reply {
            Reply::Entries(page) => Some(Page {
                cursor: page.cursor.to_vec(),
                entries: page.entries().map(entry).collect(),
            }),
            _ => None,
        })
    }
}

/// The daemon to start: the one named, else the one beside this program.
pub(crate) fn find_daemon(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("who am I")?;
    let beside = own.with_file_name("objmapperd");
    ensure!(
        beside.exists(),
        "{} does not exist: build it, or name the daemon by --daemon, OBJMAPPERD or --socket",
        beside.display()
    );
    Ok(beside)
}
