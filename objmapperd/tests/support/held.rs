//! A thread of the daemon that is held back, as if it had lost its CPU.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use super::daemon::Daemon;
use super::wait_for;

/// Until this is dropped.
#[derive(Debug)]
pub struct Held(Child);

impl Held {
    /// Holds the thread with this name back at its next openat2, for so long at most. `None` where
    /// strace(1) is missing or may not trace.
    pub fn back(daemon: &Daemon, thread: &str, seconds: u32) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let named = |dir: &Path| fs::read_to_string(dir.join("comm")).unwrap().trim() == thread;
        let task = tasks.map(|task| task.unwrap().path()).find(|dir| named(dir)).unwrap();
        let log = daemon.outside("strace");
        let strace = Command::new("strace")
            .args(["-p", task.file_name().unwrap().to_str().unwrap(), "-e", "trace=openat2"])
            .args(["-e", &format!("inject=openat2:delay_enter={seconds}s:when=1")])
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .ok()?;
        let mut held = Self(strace);
        let attached = wait_for("strace is attached, or not", || {
            let said = fs::read_to_string(&log).unwrap();
            let ended = held.0.try_wait().unwrap().is_some();
            (ended || said.contains("attached")).then_some(!ended)
        });
        attached.then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Fails if it has ended, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
