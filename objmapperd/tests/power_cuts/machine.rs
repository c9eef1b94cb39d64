//! A machine with a power cord: a User-Mode Linux, which needs no privileges.
//!
//! Its root is this machine's, read-only; what it writes goes to a disk of its own, a file. What the
//! file was given stays, as with a disk: only the kernel inside, with its page cache, is gone.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{env, thread};

use super::inside::HERE;

/// Runs the rest of its arguments until its input ends; then ends all that they started. The kernel makes
/// a group of processes of its own.
const CORD: &str = r#""$@" </dev/null &
exec >/dev/null
read _
kill -s KILL -- -$! $!"#;

/// Programs that are not everywhere.
#[derive(Debug)]
pub struct Tools {
    kernel: PathBuf,
    mke2fs: PathBuf,
}

impl Tools {
    /// `Err` says what is missing.
    pub fn find() -> Result<Self, String> {
        let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let find = |name: &str| {
            let mut all = env::split_paths(&path).map(|dir| dir.join(name));
            all.find(|path| path.is_file())
        };
        let kernel = env::var_os("OBJMAPPER_UML").map(PathBuf::from).or_else(|| find("linux.uml"));
        Ok(Self {
            kernel: kernel.ok_or(
                "no power to cut: linux.uml is missing (apt-get install user-mode-linux, or set OBJMAPPER_UML)",
            )?,
            mke2fs: find("mke2fs").ok_or("mke2fs is missing (apt-get install e2fsprogs)")?,
        })
    }

    /// The disk, empty.
    pub fn make_disk(&self, dir: &Path) {
        let disk = dir.join("disk");
        File::create(&disk).unwrap().set_len(128 << 20).unwrap();
        let made = Command::new(&self.mke2fs).args(["-q", "-F", "-t", "ext4"]).arg(disk).status();
        assert!(made.unwrap().success());
    }
}

/// One from its start to its power cut. Dropping it pulls the cord, and so does the end of this process.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    cord: Option<ChildStdin>,
    lines: Receiver<String>,
    console: PathBuf,
}

impl Machine {
    /// Starts it with the disk in `dir`, which it sees under the same name.
    pub fn boot(tools: &Tools, dir: &Path) -> Self {
        let (init, console) = (dir.join("init"), dir.join("console"));
        fs::write(&init, script(dir)).unwrap();
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", CORD, "cord"])
            .arg(&tools.kernel)
            .args(["mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
            .args(["con=null", "con0=null,fd:2", "ssl0=null,fd:1"])
            .arg(format!("ubda={}", dir.join("disk").display()))
            .arg(format!("uml_dir={}/", dir.join("uml").display()))
            .arg(format!("init={}", init.display()))
            .env("TMPDIR", dir)
            .env("HOME", dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&console).unwrap())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let mut serial = BufReader::new(child.stdout.take().unwrap());
        // Ends with the machine. A line that was cut is none.
        thread::spawn(move || {
            let mut line = Vec::new();
            while serial.read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n") {
                let _ = send.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
        Self { cord: child.stdin.take(), child, lines, console }
    }

    /// What it says next. `Disconnected` when it went down by itself.
    pub fn line(&mut self, patience: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(patience)
    }

    /// What its kernel says, for a message.
    pub fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// Cuts the power; gives what it had said before.
    pub fn cut(mut self) -> Vec<String> {
        self.pull();
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(super::PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("something of the machine lives on"),
            }
        }
    }

    fn pull(&mut self) {
        drop(self.cord.take());
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.pull();
    }
}

/// What the kernel starts: file systems, then this program.
fn script(dir: &Path) -> String {
    let here = env::current_exe().unwrap();
    format!(
        "#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir /run/disk &&
mount -o noatime /dev/ubda /run/disk && echo up >/dev/ttyS0 &&
exec env {HERE}='{}' '{}' inside --exact --ignored --nocapture
",
        dir.display(),
        here.display()
    )
}
