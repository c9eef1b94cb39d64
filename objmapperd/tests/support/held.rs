//! A thread of the daemon that is held back, as if it had lost its CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::daemon::Daemon;
use super::{until, wait_for};

/// Until this is dropped.
#[derive(Debug)]
pub struct Held {
    strace: Child,
    log: PathBuf,
    call: &'static str,
    nth: usize,
}

impl Held {
    /// Holds the thread with this name back at its next openat2, for so long at most. `None` where
    /// strace(1) is missing or may not trace.
    pub fn back(daemon: &Daemon, thread: &str, seconds: u32) -> Option<Self> {
        Self::at(daemon, thread, ("openat2", 1), seconds)
    }

    /// The same for the nth of these calls from now on.
    pub fn at(
        daemon: &Daemon,
        thread: &str,
        (call, nth): (&'static str, usize),
        seconds: u32,
    ) -> Option<Self> {
        // Threads come and go while they are looked at, and have their names a moment later.
        let named = |dir: &Path| {
            fs::read_to_string(dir.join("comm")).is_ok_and(|name| name.trim() == thread)
        };
        let task = wait_for("a thread of this name", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
            tasks.filter_map(|task| Some(task.ok()?.path())).find(|dir| named(dir))
        });
        let task = task.file_name().unwrap().to_str().unwrap().to_owned();
        Self::trace(daemon, &["-p", &task], (call, nth), seconds)
    }

    /// The same for whichever thread makes this call; each is held back once.
    pub fn whoever(daemon: &Daemon, call: &'static str, seconds: u32) -> Option<Self> {
        Self::trace(daemon, &["-f", "-p", &daemon.pid().to_string()], (call, 1), seconds)
    }

    fn trace(
        daemon: &Daemon,
        whom: &[&str],
        (call, nth): (&'static str, usize),
        seconds: u32,
    ) -> Option<Self> {
        let log = daemon.outside("strace");
        let strace = Command::new("strace")
            .args(whom)
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:delay_enter={seconds}s:when={nth}")])
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .ok()?;
        let mut held = Self { strace, log, call, nth };
        let attached = wait_for("strace is attached, or not", || {
            let said = held.said();
            let ended = held.strace.try_wait().unwrap().is_some();
            (ended || said.contains("attached")).then_some(!ended)
        });
        attached.then_some(held)
    }

    /// Waits until it is.
    #[track_caller]
    pub fn is_caught(&self) {
        until("the thread is held back", || self.has_caught());
    }

    /// Whether it is, or was.
    pub fn has_caught(&self) -> bool {
        self.said().matches(&format!("{}(", self.call)).count() >= self.nth
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Fails if it has ended, which is as well.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
