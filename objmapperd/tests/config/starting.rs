//! Settings that are fine, where the program cannot start all the same.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::scene::{Place, objmapperd};

#[test]
fn a_port_in_use_is_told_with_what_to_do() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, socket) = (taken.local_addr().unwrap().to_string(), place.path("s"));
    let file = place.file("[kv]\nlisten_without_password = true\n");
    let flags = ["--socket", socket.to_str().unwrap(), "--kv-listen", &address];
    let output = objmapperd(Some(&file), &flags, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let told = format!(
        "objmapperd: cannot listen at {address}: stop the process that listens there, or choose \
         another place with --kv-listen\n  because: "
    );
    assert!(said.contains(&told), "{said}");
}

#[test]
fn under_the_journal_every_line_has_its_priority() {
    let place = Place::new();
    let journal = fs::File::create(place.path("journal")).unwrap();
    let metadata = journal.metadata().unwrap();
    let run = |stream: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_objmapperd"));
        command.env_clear().env("JOURNAL_STREAM", stream).args(["--config", "/dev/null"]);
        let status = command.stderr(journal.try_clone().unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(2));
        let text = fs::read_to_string(place.path("journal")).unwrap();
        journal.set_len(0).unwrap();
        text
    };
    let said = run(format!("{}:{}", metadata.dev(), metadata.ino()));
    assert!(said.trim_start_matches('\0').lines().all(|line| line.starts_with("<3>")), "{said}");
    let said = run(format!("{}:{}", metadata.dev(), metadata.ino() + 1));
    assert!(!said.contains("<3>"), "another stream was put in its place: {said}");
}

#[test]
fn a_failure_is_told_with_its_causes() {
    let place = Place::new();
    let socket = place.path("missing").join("x.sock");
    let arguments = ["--socket", socket.to_str().unwrap(), "--root", &place.tree()];
    let output = objmapperd(None, &arguments, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let last = said.find("objmapperd: ").unwrap();
    assert!(said[last..].lines().skip(1).all(|line| line.starts_with("  because: ")), "{said}");
}
