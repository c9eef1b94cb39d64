//! `objmapper kv` as a child of the test, asking a real daemon.

use super::daemon::Daemon;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a command did: exit code, standard output, standard error.
pub struct Done(pub i32, pub Vec<u8>, pub String);

impl Done {
    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!((self.0, self.2.as_str()), (0, ""));
        String::from_utf8(self.1).unwrap()
    }

    /// What it says, after it has failed with this code and written nothing else.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.0, code, "{}", self.2);
        self.2
    }
}

pub fn kv<A: AsRef<OsStr>>(daemon: &Daemon, args: impl IntoIterator<Item = A>) -> Done {
    kv_with(daemon, args, b"")
}

/// With this at its standard input.
pub fn kv_with<A: AsRef<OsStr>>(
    daemon: &Daemon,
    args: impl IntoIterator<Item = A>,
    input: &[u8],
) -> Done {
    let mut child = Command::new(env!("CARGO_BIN_EXE_objmapper"))
        .arg("kv")
        .args(args)
        .env("OBJMAPPER_SOCKET", daemon.socket())
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end without having read all of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    Done(output.status.code().unwrap(), output.stdout, told)
}

pub fn raw(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
