//! The daemon as operators run it: the program, as a child, with a tree and a socket of its own.
//!
//! When a [`Daemon`] is dropped, everything that its clients made it open must be closed again:
//! descriptors and threads are counted when it is ready and at the end. Then it is told to stop,
//! and must do so with status 0 and leave no socket behind.

use std::fs::{self, File};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use objmapper_client::Client;
use tempfile::TempDir;

use super::peer::Peer;
use super::{PATIENCE, is_root, skip, until, wait_for};

/// A user that nothing belongs to.
pub const NOBODY: u32 = 12345;

/// A directory with a tree to serve and a place for the socket; removed at the end.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        // Another user must be able to look in.
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["tree", "run"] {
            fs::create_dir(place.dir.path().join(name)).unwrap();
        }
        place
    }

    /// Beside the tree: what is not served.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/socket")
    }

    /// In the tree.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.tree().join(name)
    }

    /// A file in the tree, with the directories that it needs.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// How a daemon is to be started.
#[derive(Debug, Clone)]
pub struct Setup {
    root_options: String,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    workers: usize,
    helpers: usize,
    uid: Option<u32>,
    nofile: Option<u64>,
    wrapper: Vec<String>,
    socket: Option<PathBuf>,
    stdin: Option<Arc<OwnedFd>>,
}

/// Starts a program that dies with its parent. setpriv(1)
const SETPRIV: &str = "/usr/bin/setpriv";

impl Default for Setup {
    /// Two workers, two helpers, the tree at `/`.
    fn default() -> Self {
        Self {
            root_options: String::new(),
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            workers: 2,
            helpers: 2,
            uid: None,
            nofile: None,
            wrapper: Vec::new(),
            socket: None,
            stdin: None,
        }
    }
}

impl Setup {
    /// Lines for the mount of the tree at `/`.
    pub fn root_options(mut self, lines: &str) -> Self {
        self.root_options += lines;
        self
    }

    /// Tables for the configuration file.
    pub fn config(mut self, tables: &str) -> Self {
        self.config += tables;
        self
    }

    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Threads that wait for one mount; one user may have one fewer.
    pub fn helpers(mut self, helpers: usize) -> Self {
        self.helpers = helpers;
        self
    }

    /// Without privileges: as another user if this one is root.
    pub fn unprivileged(mut self) -> Self {
        self.uid = is_root().then_some(NOBODY);
        self
    }

    /// `RLIMIT_NOFILE`, soft and hard.
    pub fn nofile(mut self, limit: u64) -> Self {
        self.nofile = Some(limit);
        self
    }

    /// A program that starts the daemon, with its own arguments; it must end in exec.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Another socket than the place's own.
    pub fn socket(mut self, path: PathBuf) -> Self {
        self.socket = Some(path);
        self
    }

    /// A listening socket that the daemon inherits as from a service manager.
    pub fn inherit(mut self, listener: OwnedFd) -> Self {
        self.stdin = Some(Arc::new(listener));
        let script =
            "LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$0\" \"$@\" 3<&0";
        self.wrapper(&["/bin/sh", "-c", script])
    }

    pub fn start(self) -> Daemon {
        self.start_in(Place::new())
    }

    pub fn start_in(self, place: Place) -> Daemon {
        let child = self.spawn(&place);
        let log = place.outside("log");
        let mut daemon = Daemon { child, place: Some(place), log, fds: 0, threads: 0, ended: None };
        // The probe itself is the one descriptor too many.
        let probe = daemon.wait_until_ready();
        daemon.fds = daemon.open_fds() - 1;
        daemon.threads = daemon.running_threads();
        drop(probe);
        until("the probe is gone", || daemon.open_fds() <= daemon.fds);
        daemon
    }

    /// Serves another place's tree, with a socket of its own.
    pub fn start_beside(self, other: &Place) -> Daemon {
        let place = Place::new();
        fs::remove_dir(place.tree()).unwrap();
        std::os::unix::fs::symlink(other.tree(), place.tree()).unwrap();
        self.start_in(place)
    }

    /// The daemon's process alone, for those that are not expected to become ready.
    pub fn spawn(&self, place: &Place) -> Child {
        if let Some(uid) = self.uid {
            chown(place.outside("run"), Some(uid), Some(uid)).unwrap();
        }
        let program = Path::new(env!("CARGO_BIN_EXE_objmapperd"));
        match self.command(place, program).spawn() {
            // The build's directory need not be open to that user: a copy is.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let copy = place.outside("objmapperd");
                fs::copy(program, &copy).unwrap();
                self.command(place, &copy).spawn().unwrap()
            }
            spawned => spawned.unwrap(),
        }
    }

    fn command(&self, place: &Place, program: &Path) -> Command {
        let config = place.outside("objmapperd.toml");
        let mount = format!("[[mount]]\nuri = \"/\"\ndir = \"{}\"\n", place.tree().display());
        fs::write(&config, mount + &self.root_options + &self.config).unwrap();

        let mut words = Vec::new();
        // A test that is killed takes its daemon along. (Another user's program may have to be
        // copied first, and that a spawn must be refused for shows only without this.)
        if self.uid.is_none() && Path::new(SETPRIV).exists() {
            words.extend([SETPRIV, "--pdeathsig", "KILL"].map(str::to_owned));
        }
        words.extend(self.wrapper.iter().cloned());
        if let Some(limit) = self.nofile {
            let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
            words.extend(["/bin/sh".to_owned(), "-c".to_owned(), script]);
        }
        words.push(program.to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().envs(self.environment.iter().cloned());
        // Where it was built with a sanitizer: see tests/sanitize.
        command.envs(std::env::vars().filter(|(name, _)| name.ends_with("SAN_OPTIONS")));
        let socket = self.socket.clone().unwrap_or_else(|| place.socket());
        command.arg("--config").arg(config).arg("--socket").arg(socket);
        command.args(["--pool-size", &self.workers.to_string()]);
        command.args(["--helpers", &self.helpers.to_string()]);
        command.args(&self.arguments);
        let log = File::options().create(true).append(true).open(place.outside("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(stdin) = &self.stdin {
            command.stdin(stdin.try_clone().unwrap());
        }
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    place: Option<Place>,
    log: PathBuf,
    fds: usize,
    threads: usize,
    ended: Option<ExitStatus>,
}

impl Deref for Daemon {
    type Target = Place;

    fn deref(&self) -> &Place {
        self.place.as_ref().unwrap()
    }
}

impl Daemon {
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// A connection of the client library.
    pub fn client(&self) -> Client {
        Client::builder().path(self.socket()).timeout(PATIENCE).connect().unwrap()
    }

    /// A connection that has not said HELLO.
    pub fn peer(&self) -> Peer {
        Peer::connect(&self.socket()).unwrap()
    }

    /// A connection that has.
    pub fn greeted(&self) -> Peer {
        let mut peer = self.peer();
        peer.greet();
        peer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn open_fds(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid());
        if std::env::var_os("TSAN_OPTIONS").is_some() {
            // ThreadSanitizer starts a symbolizer once it needs a name, and keeps pipes to it.
            return links(&directory).iter().filter(|to| !to.starts_with("pipe:")).count();
        }
        entries(&directory)
    }

    /// Lets `VmHWM` begin anew. proc(5)
    pub fn forget_peaks(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    /// Bytes of memory, as `/proc/PID/status` has them under this name. None at all with a
    /// sanitizer, whose own would be counted with them, and what it keeps of what was freed.
    pub fn memory(&self, name: &str) -> usize {
        if std::env::vars_os().any(|(name, _)| name == "ASAN_OPTIONS" || name == "TSAN_OPTIONS") {
            skip("memory is not measured under a sanitizer");
            return 0;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let fields = |line: &str| {
            line.split_once(':')
                .filter(|(field, _)| *field == name)?
                .1
                .strip_suffix(" kB")?
                .trim()
                .parse::<usize>()
                .ok()
        };
        status.lines().find_map(fields).unwrap() * 1024
    }

    pub fn running_threads(&self) -> usize {
        entries(&format!("/proc/{}/task", self.pid()))
    }

    /// Waits until the daemon has nothing open but what it had at the start and `connections`.
    #[track_caller]
    pub fn settles_with(&self, connections: usize) {
        let (fds, threads) = (self.fds + connections, self.threads);
        let mut now = (0, 0);
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            now = (self.open_fds(), self.running_threads());
            // At the start there may have been one more, for a moment.
            let fewer = connections == 0 && now.0 <= fds && now.1 <= threads;
            if fewer || now == (fds, threads) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!(
            "the daemon has {} descriptors and {} threads, it should have {fds} and {threads}: {:?}",
            now.0,
            now.1,
            links(&format!("/proc/{}/fd", self.pid())),
        );
    }

    /// Sends a signal, by name as kill(1) takes it.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success(), "kill -s {name} {pid}");
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        if self.ended.is_none() {
            let child = &mut self.child;
            self.ended = Some(wait_for("the daemon has ended", || child.try_wait().unwrap()));
        }
        self.ended.unwrap()
    }

    /// SIGTERM, and the end of it.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Kills it without a word, and keeps what it leaves behind.
    pub fn kill(mut self) -> Place {
        self.child.kill().unwrap();
        self.wait();
        self.place.take().unwrap()
    }

    fn wait_until_ready(&mut self) -> Peer {
        let mut peer = wait_for("the daemon listens", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.ended = Some(status);
                panic!("the daemon ended with {status}");
            }
            Peer::connect(&self.socket()).ok()
        });
        peer.greet();
        peer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("---- the daemon's log\n{}", self.log());
            return;
        }
        if self.place.is_none() {
            return;
        }
        if self.ended.is_none() {
            self.settles_with(0);
            self.stop();
        }
        let status = self.wait();
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.log());
    }
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// What the descriptors lead to, for a message.
fn links(directory: &str) -> Vec<String> {
    let target = |entry: std::io::Result<fs::DirEntry>| {
        fs::read_link(entry.ok()?.path()).ok().map(|path| path.display().to_string())
    };
    fs::read_dir(directory).map(|all| all.filter_map(target).collect()).unwrap_or_default()
}

/// One of the daemon's counters, asked for over a connection.
pub fn counter(client: &mut Client, name: &str) -> u64 {
    let counters = client.stats().unwrap();
    let found = counters.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no counter {name}: {counters:?}")).1.parse().unwrap()
}

/// Waits until the file's times are so old that its version stays the same.
pub fn settle(client: &mut Client, uri: &str) {
    until("its version stays the same", || {
        client.stat(uri).unwrap().version() == client.stat(uri).unwrap().version()
    });
}

/// Nanoseconds since 1970, as the file system has it.
pub fn mtime_ns(path: &Path) -> i64 {
    let metadata = fs::metadata(path).unwrap();
    metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()
}
