//! A file system that is really full before long: a small tmpfs, in a mount namespace of its own, which
//! a process in it keeps. Nobody else sees it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::daemon::Setup;
use super::{is_root, skip};

/// See above; gone when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    /// Ends when its standard input does.
    keeper: Child,
}

impl SmallDisk {
    /// Mounts one of so many bytes at this place, which is made. `None`, and told, where that cannot be.
    pub fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let script = "mount -t tmpfs -o size=\"$1\",mode=0700 objmapper-test \"$0\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", script]);
        command.arg(at).arg(bytes.to_string());
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut keeper) = spawned else {
            skip("unshare is not installed (util-linux): a full disk is not tested");
            return None;
        };
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let disk = Self { keeper };
        if said != "mounted\n" {
            skip("no tmpfs can be mounted in a namespace here: a full disk is not tested");
            return None;
        }
        Some(disk)
    }

    /// What a command begins with that is to see it.
    fn inside(&self) -> Vec<String> {
        let pid = format!("--target={}", self.keeper.id());
        let user = ["--user", "--preserve-credentials"];
        let user = user.into_iter().filter(|_| !is_root());
        let words = ["nsenter", &pid, "--mount"];
        words.into_iter().chain(user).map(str::to_owned).collect()
    }

    /// A daemon that sees it.
    pub fn under(&self, setup: Setup) -> Setup {
        let words = self.inside();
        setup.wrapper(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A command that sees it, and succeeds.
    fn run(&self, words: &[&str]) {
        let inside = self.inside();
        let done = Command::new(&inside[0]).args(&inside[1..]).args(words).status().unwrap();
        assert!(done.success(), "{words:?}: {done}");
    }

    /// From now on it has so many bytes.
    pub fn resize(&self, at: &Path, bytes: u64) {
        let options = format!("remount,size={bytes}");
        self.run(&["mount", "-o", &options, at.to_str().unwrap()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
