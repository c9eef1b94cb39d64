//! What the tests of the program share.

#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)] // what fails here fails its test

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_objmapper-bench");

/// A short run whose temporary files go into `room`.
pub(crate) fn bench(room: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--duration", "60ms", "--rounds", "2", "--warmup", "5ms", "--json"]);
    command.args(arguments).env("TMPDIR", room).env_remove("OBJMAPPERD");
    command
}

/// Nothing was left behind.
pub(crate) fn assert_empty(room: &TempDir) {
    let left: Vec<_> = std::fs::read_dir(room.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Whether there is a daemon to be measured.
pub(crate) fn daemon_is_there() -> bool {
    let there = Path::new(PROGRAM).with_file_name("objmapperd").exists();
    if !there {
        println!("skipped: objmapperd is not built");
    }
    there
}
