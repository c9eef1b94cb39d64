//! A real objmapperd, as a child of the test: the one that OBJMAPPERD names, else the one that the
//! same build put beside this test. Without one a test says so and does nothing.

use objmapper_client::{Builder, Client};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    keeps: bool,
}

impl Daemon {
    /// Serves an empty directory, whose files may be shared, or nothing if there is no daemon to be
    /// found.
    pub fn start() -> Option<Self> {
        Self::start_as(false)
    }

    /// The same, and keeps its keys in the directory `kv`, durable before it answers.
    pub fn start_keeping() -> Option<Self> {
        Self::start_as(true)
    }

    fn start_as(keeps: bool) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: `cargo build -p objmapperd` makes the daemon that this asks");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let daemon = Self { child: spawn(&program, dir.path(), keeps), dir, keeps };
        daemon.wait();
        Some(daemon)
    }

    /// Ends it as a crash would; its socket stays and refuses.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has said goodbye to everybody.
    pub fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Starts it again, for the same tree at the same socket; does not wait for it.
    pub fn start_again(&mut self) {
        self.child = spawn(&program().unwrap(), self.dir.path(), self.keeps);
    }

    /// Another daemon in its place, which is ready.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
        self.wait();
    }

    /// Until it takes clients.
    pub fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Client::builder().path(self.socket()).connect().is_err() {
            assert!(Instant::now() < deadline, "the daemon does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.dir.path().join("root").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn builder(&self) -> Builder {
        Client::builder().path(self.socket())
    }

    pub fn client(&self) -> Client {
        self.builder().connect().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, dir: &Path, keeps: bool) -> Child {
    let mut mount = std::ffi::OsString::from("/=");
    mount.push(dir.join("root"));
    mount.push(",shared=true");
    let mut command = Command::new(program);
    if keeps {
        command.arg("--kv-dir").arg(dir.join("kv")).args(["--kv-sync", "always"]);
    }
    command
        .arg("--mount")
        .arg(mount)
        .arg("--socket")
        .arg(dir.join("socket"))
        .arg("--kv-socket")
        .arg(dir.join("keys"))
        .env_clear()
        // Where it was built with a sanitizer: see objmapperd/tests/sanitize.
        .envs(std::env::vars().filter(|(name, _)| name.ends_with("SAN_OPTIONS")))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("OBJMAPPERD") {
        return Some(named.into());
    }
    // .../debug/deps/this, .../debug/objmapperd
    let beside = std::env::current_exe().unwrap().parent()?.with_file_name("objmapperd");
    beside.exists().then_some(beside)
}

/// A body of many DATA frames.
pub fn long_body() -> Vec<u8> {
    (0..3_000_000_u32).map(|i| (i % 253).to_le_bytes()[0]).collect()
}
