//! The library and the command against a real objmapperd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::daemon::{Daemon, long_body};
use objmapper_client::{Answer, Client, Error, Kind, Mode, Object, Reconnect, Status};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn command(daemon: &Daemon, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_objmapper"))
        .args(args)
        .env("OBJMAPPER_SOCKET", daemon.socket())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn one_object_every_way() {
    let Some(daemon) = Daemon::start() else { return };
    let body = long_body();
    daemon.put("long", &body);
    daemon.put("sp ace/short", b"short");
    let mut client = daemon.client();
    let opened = client.open("/long").unwrap();
    assert_eq!((opened.size(), opened.metadata().kind()), (3_000_000, Kind::File));
    assert!(opened.read_to_vec().unwrap() == body);
    assert!(client.read("/long").unwrap() == body);
    assert_eq!(client.read_range("/long", 1000..2000).unwrap(), body[1000..2000]);
    assert_eq!(client.read_range("/long", 2_999_999..).unwrap(), body[2_999_999..]);
    assert_eq!(client.read_range("/long", 3_000_000..).unwrap(), b"");
    let beyond = client.read_range("/long", 3_000_001..).unwrap_err();
    assert_eq!(beyond.status(), Some(Status::BadRange));
    let mut copied = Vec::new();
    assert_eq!(client.copy_to("/long", &mut copied).unwrap(), 3_000_000);
    assert!(copied == body);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let drain = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    assert_eq!(client.splice_to("/long", &writer).unwrap(), 3_000_000);
    drop(writer);
    assert!(drain.join().unwrap().unwrap() == body);
    let small = client.get("/sp%20ace/short", Mode::Auto).unwrap();
    assert!(matches!(small, Object::Bytes(bytes, _) if bytes == b"short"));
    let large = client.get("/long", Mode::Auto).unwrap();
    assert!(matches!(large, Object::Descriptor(_)));
    assert!(client.open("/none").unwrap_err().is_not_found());
    assert!(client.ping().unwrap() < Duration::from_secs(5));
    assert!(!client.stats().unwrap().is_empty());
    client.close().unwrap();
}

#[test]
fn versions_follow_the_content() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.put("x", b"one");
    let mut client = daemon.client();
    let before = client.open("/x").unwrap();
    daemon.put("new", b"two!");
    let root = daemon.dir().join("root");
    fs::rename(root.join("new"), root.join("x")).unwrap();
    let after = client.stat("/x").unwrap();
    assert_ne!(before.metadata().version(), after.version());
    assert_eq!(after.size(), 4);
    assert_eq!(before.read_to_vec().unwrap(), b"one", "an open object stays what it was");
}

#[test]
fn many_objects() {
    let Some(daemon) = Daemon::start() else { return };
    let names: Vec<String> = (0..600).map(|i| format!("d/{i:04}")).collect();
    for name in &names {
        daemon.put(name, name.as_bytes());
    }
    let mut client = daemon.client();
    let mut uris: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    uris.insert(300, "/d/none".into());
    for (uri, opened) in uris.iter().zip(client.open_many(&uris)) {
        match opened {
            Ok(opened) => assert_eq!(opened.read_to_vec().unwrap(), uri.as_bytes()[1..]),
            Err(error) => assert!(error.is_not_found() && uri == "/d/none", "{uri}: {error}"),
        }
    }
    // Over the 4096 of one request.
    let again: Vec<&String> = uris.iter().cycle().take(9000).collect();
    for (uri, bytes) in again.iter().zip(client.read_many(&again)) {
        assert_eq!(bytes.is_ok(), *uri != "/d/none");
        assert!(bytes.is_err() || bytes.unwrap() == uri.as_bytes()[1..]);
    }
    let listed = client.list("/d").unwrap().page_size(7).collect::<Result<Vec<_>, _>>().unwrap();
    let listed: Vec<String> = listed.iter().map(|entry| entry.uri()[1..].to_owned()).collect();
    assert_eq!(listed, names);
}

#[test]
fn a_long_pipeline() {
    let Some(daemon) = Daemon::start() else { return };
    let body = long_body();
    daemon.put("small", b"small");
    daemon.put("large", &body[..300_000]);
    let mut client = daemon.client();
    let mut pipeline = client.pipeline().unwrap();
    for i in 0..3000 {
        match i % 4 {
            0 => pipeline.get("/small", Mode::Fdpass).unwrap(),
            1 => pipeline.get("/large", Mode::Copy).unwrap(),
            2 => pipeline.stat("/none").unwrap(),
            _ => pipeline.get("/small", Mode::Auto).unwrap(),
        };
    }
    for (i, (_, answer)) in pipeline.by_ref().enumerate() {
        match (i % 4, answer) {
            (2, Err(error)) => assert!(error.is_not_found(), "{error}"),
            (1, Ok(Answer::Object(object))) => {
                assert!(object.into_bytes().unwrap() == body[..300_000]);
            }
            (_, Ok(Answer::Object(object))) => assert_eq!(object.into_bytes().unwrap(), b"small"),
            (_, other) => panic!("{i}: {other:?}"),
        }
    }
    // One that is left alone half-way, with large bodies and descriptors under way.
    for i in 0..200 {
        let (uri, mode) = [("/large", Mode::Splice), ("/small", Mode::Fdpass)][i % 2];
        pipeline.get(uri, mode).unwrap();
    }
    pipeline.flush().unwrap();
    assert!(pipeline.next().unwrap().1.is_ok());
    drop(pipeline);
    assert_eq!(client.read("/small").unwrap(), b"small");
}

/// The other client of this repository says its refusals in words.
#[test]
fn what_python_says() {
    let Some(daemon) = Daemon::start() else { return };
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/objmapper.py");
    let asked = Command::new("python3").arg(program).arg(daemon.socket()).arg("/none").output();
    let Ok(output) = asked else {
        return eprintln!("skipped: python3 is not installed");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim_end(), "objmapper.py: NOT_FOUND: no object of that name");
}

#[test]
fn a_daemon_that_goes_away() {
    let Some(mut daemon) = Daemon::start() else { return };
    let mut client = daemon.client();
    let mut faithful = daemon.builder().reconnect(Reconnect::Never).connect().unwrap();
    client.ping().unwrap();
    daemon.kill();
    assert!(matches!(faithful.ping(), Err(Error::Closed { .. })));
    assert!(matches!(client.ping(), Err(Error::Unreachable(_))));
    let again = Client::builder().path(daemon.socket()).connect();
    assert!(matches!(again, Err(Error::Unreachable(_))));
}

#[test]
fn the_command() {
    let Some(daemon) = Daemon::start() else { return };
    let body = long_body();
    daemon.put("long", &body);
    daemon.put("dir/a b", b"0123456789");
    let target = daemon.dir().join("out");
    let target = target.to_str().unwrap();
    for mode in ["auto", "fdpass", "copy", "splice"] {
        let (code, out, err) = command(&daemon, &["get", "/long", "-m", mode, "-o", target]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""), "{mode}");
        assert!(fs::read(target).unwrap() == body, "{mode}");
        let (code, out, _) = command(&daemon, &["get", "/dir/a%20b", "-m", mode, "-r", "3-5"]);
        assert_eq!((code, out.as_str()), (0, "345"), "{mode}");
        let (code, _, err) = command(&daemon, &["get", "/dir/a%20b", "-m", mode, "-r", "11-"]);
        assert!(code == 1 && err.contains("BAD_RANGE"), "{mode}: {err}");
    }
    let (code, out, err) = command(&daemon, &["cat", "/dir/a%20b", "/none", "/dir/a%20b"]);
    assert_eq!((code, out.as_str()), (1, "01234567890123456789"));
    assert!(err.contains("/none: NOT_FOUND"), "{err}");
    assert_eq!(command(&daemon, &["ls"]).1, "dir/\nlong\n");
    assert_eq!(command(&daemon, &["ls", "-r", "/"]).1, "dir/\nlong\ndir/a%20b\n");
    let (_, out, _) = command(&daemon, &["ls", "-l"]);
    let [dir, long] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert!(dir.starts_with("dir              -  20") && dir.ends_with("  dir/"), "{out}");
    assert!(long.starts_with("file       2.9 MiB  20") && long.ends_with("  long"), "{out}");
    let (_, out, _) = command(&daemon, &["stat", "/dir/a%20b", "--json"]);
    assert!(out.contains("\"size\":10") && out.lines().count() == 1, "{out}");
    let (code, out, _) = command(&daemon, &["ping", "-c", "3"]);
    assert!(code == 0 && out.starts_with("3 round trips: min "), "{out}");
    let (_, out, _) = command(&daemon, &["ping", "-c", "3", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["count"], 3);
    let in_order = ["min_ns", "median_ns", "p99_ns", "max_ns"].map(|name| told[name].as_u64());
    assert!(in_order.is_sorted() && in_order[0] > Some(0), "{out}");
    assert!(command(&daemon, &["stats", "--json"]).1.starts_with('{'));
    let (_, out, _) = command(&daemon, &["stats"]);
    assert!(out.starts_with("connections."), "{out}");
    assert!(out.contains("\n\nrequests.fdpass"), "{out}");
}

/// The version that `stat` prints is the one that `get` and `cat` take.
#[test]
fn the_command_asks_for_what_is_new() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.put("x", b"old");
    let stat = || command(&daemon, &["stat", "/x"]).1;
    let mut said = stat();
    // A moment after it was written it has a version that is not given again.
    while said != stat() {
        said = stat();
    }
    let version = said.lines().find_map(|line| line.strip_prefix("version")).unwrap().trim();
    let json = command(&daemon, &["stat", "/x", "--json"]).1;
    assert!(json.contains(&format!("\"version\":\"{version}\"")), "{json}");
    for args in [&["get", "/x"][..], &["get", "/x", "-m", "copy"], &["cat", "/x"]] {
        let (code, out, err) = command(&daemon, &[args, &["--unless", version]].concat());
        assert_eq!((code, out.as_str(), err.as_str()), (6, "", "not modified: /x\n"), "{args:?}");
    }
    daemon.put("x", b"new!");
    let (code, out, _) = command(&daemon, &["get", "/x", "--unless", version]);
    assert_eq!((code, out.as_str()), (0, "new!"));
}

#[test]
fn the_command_again_and_again() {
    let Some(mut daemon) = Daemon::start() else { return };
    let (code, out, err) = command(&daemon, &["ping", "--watch", "0.01", "--count", "3"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 4 && lines[3].starts_with("3 round trips: min "), "{out}");
    assert!(lines[..3].iter().all(|line| line.starts_with("20")), "{out}");

    let (_, out, _) = command(&daemon, &["ping", "--watch", "0.01", "--count", "3", "--json"]);
    let told = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let lines: Vec<_> = out.lines().map(told).collect();
    let whole = lines.iter().all(|line| line["round_trip_ns"].is_u64() && line["time_ns"].is_u64());
    assert!(lines.len() == 3 && whole, "{out}");
    let (code, out, _) = command(&daemon, &["stats", "--watch", "0.01", "--count", "3"]);
    assert_eq!(code, 0);
    let asked: Vec<&str> = out.lines().filter(|line| line.contains("requests.other")).collect();
    // The first round shows what is there, the others what has come: the question itself.
    assert!(asked.len() == 3 && asked[1..].iter().all(|line| line.ends_with(" +1")), "{out}");
    assert!(!out.contains("requests.fdpass") && !out.contains('\x1b'), "{out}");

    let (_, out, _) = command(&daemon, &["stats", "--json", "-w", "0.01", "-c", "2"]);
    assert!(out.lines().count() == 2 && out.lines().all(|line| line.contains("\"time_ns\":")));

    // A restart is waited for.
    let mut child = Command::new(env!("CARGO_BIN_EXE_objmapper"))
        .args(["ping", "--watch", "0.01"])
        .env("OBJMAPPER_SOCKET", daemon.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    daemon.stop();
    let before = lines.by_ref().map(Result::unwrap);
    std::thread::scope(|scope| {
        scope.spawn(|| daemon.start_again());
        // More than a pipe has room for did not come before the stop.
        assert_eq!(before.take(50).count(), 50);
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The README shows a program that is part of the build, and it does what it says.
#[test]
fn the_example_of_the_readme() {
    let readme = include_str!("../../README.md");
    let shown = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(include_str!("../examples/tour.rs").ends_with(shown), "they differ:\n{shown}");
    let program = Path::new(env!("CARGO_BIN_EXE_objmapper")).with_file_name("examples/tour");
    if !program.exists() {
        return eprintln!("skipped: `cargo build --example tour` makes what this runs");
    }
    let Some(daemon) = Daemon::start() else { return };
    for (name, content) in
        [("LICENSE-APACHE", "five."), ("LICENSE-MIT", "six..."), ("docs/operating.md", "")]
    {
        daemon.put(name, content.as_bytes());
    }
    let output = Command::new(program).env("OBJMAPPER_SOCKET", daemon.socket()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[3]), (4, "5 bytes", "6 bytes"), "{said}");
}
