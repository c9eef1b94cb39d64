//! The servers that keys are asked of: ours, and a rival.

use anyhow::{Context, Result, bail};
use objmapper_os::peer::Peer;
use objmapper_os::socket::Stream;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::cli::kv::{KvArgs, Protocol, Rival};
use crate::placement::Placement;
use crate::stop::PATIENCE;

/// A server that speaks RESP on a Unix socket. What was started here ends with it.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) socket: PathBuf,
    /// Where objects are asked for, of ours.
    pub(crate) objects: Option<PathBuf>,
    pub(crate) pid: i32,
    child: Option<Child>,
    _directory: Option<TempDir>,
}

impl Server {
    /// Our daemon, without any files.
    pub(crate) fn ours(program: &Path, arguments: &[String], place: Placement) -> Result<Self> {
        let directory = directory()?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OBJMAPPERD_") {
                command.env_remove(name);
            }
        }
        let root = directory.path().join("root");
        fs::create_dir(&root)?;
        let objects = directory.path().join("objects");
        command.args(arguments).arg("--root").arg(root).arg("--socket").arg(&objects);
        let socket = directory.path().join("keys");
        command.arg("--kv-socket").arg(&socket);
        let mut server = Self::start("objmapperd", command, socket, directory, place)?;
        server.objects = Some(objects);
        Ok(server)
    }

    /// The rival: one that runs, or one that is started without persistence.
    pub(crate) fn rival(rival: Rival, args: &KvArgs, place: Placement) -> Result<Self> {
        let name = rival.program();
        if let Some(socket) = &args.redis_socket {
            let stream = Stream::connect(socket, Some(PATIENCE))?;
            let pid = Peer::of(&stream)?.pid.context("the server's process is not visible")?;
            let socket = socket.clone();
            let (objects, child) = (None, None);
            return Ok(Self { name, socket, objects, pid, child, _directory: None });
        }
        let directory = directory()?;
        let socket = directory.path().join("keys");
        let mut command = Command::new(name);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(&socket).arg("--dir").arg(directory.path()).args(&args.redis_arg);
        Self::start(name, command, socket, directory, place).with_context(|| {
            format!(
                "{name} is needed for this: install it, or name one that runs by --redis-socket"
            )
        })
    }

    /// Where this protocol is spoken, and that; RESP where the other is not.
    pub(crate) fn endpoint(&self, protocol: Protocol) -> (Protocol, &Path) {
        match (protocol, &self.objects) {
            (Protocol::Objm, Some(objects)) => (Protocol::Objm, objects),
            _ => (Protocol::Resp, &self.socket),
        }
    }

    fn start(
        name: &'static str,
        mut command: Command,
        socket: PathBuf,
        directory: TempDir,
        place: Placement,
    ) -> Result<Self> {
        let log = directory.path().join("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = place.spawn_server(&mut command)?;
        let pid = i32::try_from(child.id())?;
        let mut server = Self {
            name,
            socket,
            objects: None,
            pid,
            child: Some(child),
            _directory: Some(directory),
        };
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = Stream::connect(&server.socket, Some(PATIENCE)) {
            let ended = server.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("{name} does not listen ({error}): {said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
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

fn directory() -> Result<TempDir> {
    TempDir::with_prefix("objmapper-bench-").context("cannot make a directory")
}
