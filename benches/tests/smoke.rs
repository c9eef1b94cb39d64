//! The program as a whole: short runs, their figures' form, and what they leave behind.
//!
//! Nothing here depends on how fast anything is. The floor is always there; where objmapperd lies
//! beside the program the same is asked of it.

// A test that panics has failed, and one that is skipped says so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::{PROGRAM, assert_empty, bench, daemon_is_there};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn figures(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{text}");
    serde_json::from_str(&text).unwrap()
}

/// Every kind of load, asked of one server.
fn every_mode(server: &[&str]) {
    let room = TempDir::new().unwrap();
    let loads: [&[&str]; 9] = [
        &[],
        &["--pipeline", "16"],
        &["--batch", "300", "--files", "100"],
        &["--conns", "5", "--threads", "2", "--requests-per-conn", "3"],
        &["--mode", "copy"],
        &["--mode", "copy", "--batch", "5", "--file-size", "100KiB", "--files", "3"],
        &["--mode", "splice", "--file-size", "600KiB", "--files", "2", "--conns", "3"],
        &["--mode", "mixed", "--fdpass-ratio", "0.3", "--pipeline", "7", "--depth", "2"],
        &["--mode", "copy", "--file-size", "0", "--requests", "20"],
    ];
    for load in loads {
        let arguments: Vec<&str> = server.iter().chain(load).copied().collect();
        let found = figures(&bench(room.path(), &arguments).output().unwrap());
        assert_eq!(found["errors"], 0, "{load:?} {found}");
        assert!(found["requests"].as_u64().unwrap() > 0, "{load:?} {found}");
        for key in ["p50_us", "p99_us", "p999_us", "requests_per_s", "server_cpu_us_per_request"] {
            assert!(found[key].as_f64().unwrap() > 0.0, "{load:?} {key} {found}");
        }
        assert!(found["rss_bytes"].as_u64().unwrap() > 0);
    }
    assert_empty(&room);
}

#[test]
fn the_floor_answers_every_kind_of_load() {
    every_mode(&["--floor-only"]);
}

#[test]
fn a_daemon_named_by_the_environment_is_no_hindrance() {
    let room = TempDir::new().unwrap();
    let mut command = bench(room.path(), &["--floor-only"]);
    let output = command.env("OBJMAPPERD", "/nonexistent/objmapperd").output().unwrap();
    assert_eq!(figures(&output)["errors"], 0);
}

#[test]
fn a_daemon_that_runs_already_is_asked_for_what_it_lists() {
    if !daemon_is_there() {
        return;
    }
    let room = TempDir::new().unwrap();
    std::fs::create_dir_all(room.path().join("tree/a b")).unwrap();
    std::fs::write(room.path().join("tree/a b/100%"), "some bytes").unwrap();
    std::fs::write(room.path().join("tree/c"), "more").unwrap();
    let socket = room.path().join("socket");
    let mut daemon = Command::new(Path::new(PROGRAM).with_file_name("objmapperd"))
        .args(["--config", "/dev/null", "--root"])
        .arg(room.path().join("tree"))
        .arg("--socket")
        .arg(&socket)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !socket.exists() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let run =
        |more: &[&str]| bench(room.path(), more).arg("--socket").arg(&socket).output().unwrap();
    let (seen, listed) =
        (run(&["--floor", "--root", room.path().join("tree").to_str().unwrap()]), run(&[]));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for output in [seen, listed] {
        let found = figures(&output);
        assert_eq!((&found["errors"], &found["settings"]["files"]), (&0.into(), &2.into()));
    }
}

#[test]
fn the_daemon_answers_every_kind_of_load() {
    if daemon_is_there() {
        every_mode(&["--workers", "2"]);
    }
}

#[test]
fn ours_and_the_floor_stand_side_by_side() {
    if !daemon_is_there() {
        return;
    }
    let room = TempDir::new().unwrap();
    let found = figures(&bench(room.path(), &["--floor", "--stats"]).output().unwrap());
    for key in ["p50_us", "server_cpu_us_per_request", "errors"] {
        assert!(found["floor"][key].is_number(), "{key} {found}");
    }
    assert!(found["ratio"]["p50"].as_f64().unwrap() > 0.0);
    assert!(found["ratio"]["server_cpu"].as_f64().unwrap() > 0.0);
    assert!(found["floor_multiple"].as_f64().unwrap() > 0.0);
    assert!(found["stats"]["requests.fdpass"].as_f64().unwrap() > 0.0);
    assert_empty(&room);
}

#[test]
fn a_missed_goal_is_told_and_fails() {
    let room = TempDir::new().unwrap();
    let arguments = ["--floor-only", "--assert", "errors==0,p50_us<0.001"];
    let output = bench(room.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("missed: p50_us<0.001"), "{told}");
    assert!(!told.contains("errors"), "{told}");
    assert_empty(&room);
}

#[test]
fn mistakes_are_told_in_words() {
    let room = TempDir::new().unwrap();
    // What is wrong with the words is told before anything is started.
    let nobody = ["--daemon", "/nonexistent/objmapperd"];
    let cases: [(&[&str], &str); 8] = [
        (&[nobody[0], nobody[1], "--assert", "speed>1"], "there is no figure 'speed'"),
        (&[nobody[0], nobody[1], "--assert", "p50_ratio<2"], "add --floor"),
        (&[nobody[0], nobody[1], "--assert", "unreached==0"], "add --rate"),
        (&[nobody[0], nobody[1], "--pin", "1000"], "CPU 1000 cannot be used: choose from"),
        (&["--floor-only", "--report", "/nonexistent/report"], "cannot write to /nonexistent"),
        (&["--floor-only", "--pipeline", "1024", "--batch", "4096"], "lower --pipeline"),
        (&["--daemon", "/nonexistent/objmapperd"], "cannot start /nonexistent/objmapperd"),
        (&["--socket", "/nonexistent/socket"], "connect"),
    ];
    for (arguments, text) in cases {
        let output = bench(room.path(), arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(text), "{arguments:?}: {told}");
    }
    assert_empty(&room);
}

#[test]
fn a_server_that_ends_at_once_is_told_with_its_last_words() {
    let room = TempDir::new().unwrap();
    let output = bench(room.path(), &["--daemon", "/bin/false"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the server ended at once"), "{told}");
    assert_empty(&room);
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let room = TempDir::new().unwrap();
    let mut command = bench(room.path(), &["--floor-only"]);
    command.args(["--duration", "1min"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while std::fs::read_dir(room.path()).unwrap().count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(10), "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let told = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(told.success());
    assert!(!child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(20), "it took too long to end");
    assert_empty(&room);
}

#[test]
fn the_time_limit_holds() {
    let room = TempDir::new().unwrap();
    let arguments = ["--floor-only", "--duration", "1min", "--time-limit", "300ms"];
    let start = Instant::now();
    let output = bench(room.path(), &arguments).output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(String::from_utf8_lossy(&output.stderr).contains("time limit"));
    assert_empty(&room);
}
