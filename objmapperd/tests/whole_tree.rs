//! Whole trees, every file in every mode, compared with a direct read. The program that does it
//! for any directory is an example of the client library; here it goes over a small one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

#[path = "../../objmapper-client/examples/verify_tree.rs"]
#[allow(dead_code)] // its main function
mod verify_tree;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use support::content::{Numbers, content};
use support::daemon::{Daemon, Place};
use support::skip;

/// Directories in directories, sizes of every order of magnitude, names that need escapes.
fn plant(place: &Place) -> (usize, u64) {
    let mut numbers = Numbers::new(1);
    let (mut files, mut bytes) = (0, 0);
    for number in 0..600_u64 {
        let depth = numbers.below(5);
        let mut name: Vec<u8> = (0..depth).flat_map(|_| [b"abc"[numbers.below(3)], b'/']).collect();
        match number % 10 {
            0 => name.extend_from_slice("süß & 100% \"?#\"".as_bytes()),
            1 => name.extend_from_slice(b"\xff\xfe not utf-8 "),
            _ => {}
        }
        name.extend_from_slice(format!("f{number}").as_bytes());
        let magnitude = numbers.below(20);
        let size = numbers.below(1 << magnitude);
        place.write(OsStr::from_bytes(&name), &content(size, number));
        (files, bytes) = (files + 1, bytes + size as u64);
    }
    place.write("large", &content(5_000_001, 9));
    symlink("large", place.path("link")).unwrap();
    (files + 1, bytes + 5_000_001)
}

#[test]
fn every_file_in_every_mode() {
    let daemon = Daemon::start();
    let (files, bytes) = plant(&daemon);
    let (known, direct) = verify_tree::read_directly(&daemon.tree()).unwrap();
    assert_eq!((direct.files, direct.bytes), (files, bytes));
    for pass in verify_tree::verify(&mut daemon.client(), &known) {
        assert_eq!(pass.different, Vec::<String>::new(), "{}", pass.name);
        assert_eq!((pass.files, pass.bytes), (files, bytes), "{}", pass.name);
    }
}

#[test]
fn a_difference_is_found() {
    let daemon = Daemon::start();
    daemon.write("stays", b"same");
    daemon.write("changes", b"some content");
    daemon.write("goes", b"content");
    let (known, _) = verify_tree::read_directly(&daemon.tree()).unwrap();
    daemon.write("changes", b"same-content");
    std::fs::remove_file(daemon.path("goes")).unwrap();
    for pass in verify_tree::verify(&mut daemon.client(), &known) {
        assert_eq!((pass.files, pass.different.len()), (2, 2), "{pass}");
    }
}

/// The client that is written from the specification alone, in another language.
#[test]
fn the_python_client_sees_the_same() {
    const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/objmapper.py");
    if !std::path::Path::new(PROGRAM).exists() {
        return skip("examples/python/objmapper.py is not there");
    }
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("python3 is not installed");
    }
    let daemon = Daemon::start();
    let mut expected = Vec::new();
    let mut uris = Vec::new();
    for size in [0, 1, 5000, 65_536, 65_537, 262_145, 3_000_000] {
        let name = format!("dir/file {size}");
        let path = daemon.write(&name, &content(size, size as u64));
        let uri = format!("/dir/file%20{size}");
        let sums = Command::new("sha256sum").arg(path).output().unwrap();
        let sum = String::from_utf8(sums.stdout).unwrap()[..64].to_owned();
        for mode in ["fdpass", "copy"] {
            expected.push(format!("{mode} {size} {sum} {uri}"));
        }
        uris.push(uri);
    }
    let output =
        Command::new("python3").arg(PROGRAM).arg(daemon.socket()).args(&uris).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut said: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    said.sort_unstable();
    expected.sort_unstable();
    assert_eq!(said, expected);
    // A refusal is one, and not a crash.
    let output = Command::new("python3").arg(PROGRAM).arg(daemon.socket()).arg("/missing").output();
    assert!(!output.unwrap().status.success());
}
