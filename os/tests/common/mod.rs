//! What the kernel tests share: the descriptor count around a test, sockets, files.
// Each test file uses a part of it, and a helper that fails fails its test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use objmapper_os::fds::{FdQueue, MAX_PER_MESSAGE, count_open};
use objmapper_os::socket::Stream;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs one test of a file at a time and sees to it that it leaves as many descriptors as it
/// found. Every test of a file that counts takes one, first thing.
pub struct Balance {
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Balance {
    pub fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: count_open().unwrap(), _alone: alone }
    }
}

impl Drop for Balance {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(count_open().unwrap(), self.before, "descriptors before and after");
        }
    }
}

/// Two connected sockets, the second non-blocking.
pub fn pair() -> (Stream, Stream) {
    let (one, other) = Stream::pair().unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

pub fn queue() -> FdQueue {
    FdQueue::with_capacity(2 * MAX_PER_MESSAGE)
}

pub fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// The same descriptor `count` times.
pub fn times(fd: &impl AsFd, count: usize) -> Vec<BorrowedFd<'_>> {
    vec![fd.as_fd(); count]
}

/// A directory with a short path, as sockets need it; removed at the end.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A directory on the file system that the build is on, which is more likely a disk.
pub fn disk_directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A file of these bytes in the directory.
pub fn file(directory: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

/// Says why a test proves nothing here; nothing passes in silence.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Tells a child that it is one, and what it is to work on.
pub const CHILD: &str = "OBJMAPPER_TEST_CHILD";

/// One test of this program in a process of its own, behind the words of another command.
pub fn child(before: &[&str], test: &str, told: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match before.split_first() {
        Some((first, others)) => {
            let mut command = Command::new(first);
            command.args(others).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(["--exact", test, "--nocapture"]).env(CHILD, told).current_dir("/");
    command
}

pub fn assert_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{failed}");
}

/// Words before a command that make it root where limits, mounts and users are nobody else's;
/// `None`, with a word about it, if this is not allowed here. user_namespaces(7)
pub fn in_a_namespace(kind: &str) -> Option<[&str; 4]> {
    let words = ["unshare", "--user", "--map-root-user", kind];
    let tried = Command::new(words[0]).args(&words[1..]).arg("true").status();
    if tried.is_ok_and(|status| status.success()) {
        return Some(words);
    }
    skip("no user namespaces here");
    None
}
