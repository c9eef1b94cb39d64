//! The program as a whole, part two: open loop, neighbours, many connections, what is written to
//! files, the bars of each group. Short runs; nothing depends on how fast anything is.

// A test that panics has failed, and one that is skipped says so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::{PROGRAM, assert_empty, bench, daemon_is_there};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// A run without an error.
fn figures(room: &Path, arguments: &[&str]) -> Value {
    let output = bench(room, arguments).output().unwrap();
    let found = parsed(&output);
    assert!(output.status.success() && found["errors"] == 0, "{arguments:?} {found}");
    found
}

// ---- the open loop ----

#[test]
fn an_open_loop_tells_what_it_asked_and_what_it_missed() {
    let room = TempDir::new().unwrap();
    let run = |more: &[&str]| {
        figures(room.path(), &[&["--floor-only", "--conns", "3", "--rate"], more].concat())
    };
    let found = run(&["1000", "--threads", "2", "--assert", "late_p99_us>=0,unreached>=0"]);
    let open = &found["open_loop"];
    for key in ["due_per_s", "late_p99_us", "late_max_us"] {
        assert!(open[key].as_f64().unwrap() > 0.0, "{found}");
    }
    // 1000 a second for 60 ms: all that was due is either among the answers or told.
    let unreached = open["unreached"].as_u64().unwrap();
    let due = found["requests"].as_u64().unwrap() + unreached;
    assert!((50..=62).contains(&due), "{found}");
    // More than anything can answer: what is left over is told.
    let found = run(&["10000000", "--pipeline", "4"]);
    assert!(found["open_loop"]["unreached"].as_u64() > found["requests"].as_u64(), "{found}");
    assert_empty(&room);
}

/// A server that stands still most of the time: a closed loop asks while it runs, and hardly sees
/// it; an open loop sees that whoever comes at a random moment waits.
#[test]
fn an_open_loop_sees_what_a_closed_one_omits() {
    let median = |more: &[&str]| {
        let room = TempDir::new().unwrap();
        let mut command = bench(room.path(), &["--floor-only", "--duration", "1s", "--conns", "4"]);
        let child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let id = child.id();
        let waiter = std::thread::spawn(move || child.wait_with_output().unwrap());
        while !waiter.is_finished() {
            for (signal, time) in [("-STOP", 180), ("-CONT", 20)] {
                for server in children(id) {
                    let _ = Command::new("kill").arg(signal).arg(server).status();
                }
                sleep(Duration::from_millis(time)); // the stall itself, not a wait for something
            }
        }
        parsed(&waiter.join().unwrap())["p50_us"].as_f64().unwrap()
    };
    let (closed, open) = (median(&[]), median(&["--rate", "500"]));
    assert!(open > 10.0 * closed, "open {open}, closed {closed}");
}

fn children(pid: u32) -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("children")).ok()
    };
    let all: Vec<String> = tasks.filter_map(of).collect();
    all.iter().flat_map(|text| text.split_whitespace().map(str::to_owned)).collect()
}

// ---- many connections, and others ----

#[test]
fn connections_take_turns_if_only_some_are_active() {
    let room = TempDir::new().unwrap();
    let arguments = ["--floor-only", "--conns", "20", "--active", "3", "--duration", "1min"];
    let found = figures(room.path(), &[&arguments[..], &["--requests", "800"]].concat());
    assert_eq!(found["settings"]["active"], 3);
    // 400 in a round: twenty for each, give or take those under way.
    assert!(found["least_served_share"].as_f64().unwrap() >= 0.8, "{found}");
}

#[test]
fn a_mixed_load_tells_its_two_kinds_apart() {
    let room = TempDir::new().unwrap();
    let found = figures(room.path(), &["--floor-only", "--mode", "mixed", "--pipeline", "3"]);
    for way in ["fdpass", "copy"] {
        assert!(found["by_mode"][way]["p99_us"].as_f64().unwrap() > 0.0, "{found}");
    }
}

#[test]
fn every_neighbour_joins_and_leaves() {
    let room = TempDir::new().unwrap();
    for neighbour in ["idle:30", "misses"] {
        figures(room.path(), &["--floor-only", "--beside", neighbour]);
    }
    if daemon_is_there() {
        for neighbour in ["idle:30", "misses", "stalled-splice", "no-reader", "slow-readers:10"] {
            let found = figures(room.path(), &["--floor", "--beside", neighbour]);
            assert_eq!(found["settings"]["beside"], neighbour);
        }
    }
    let output = bench(room.path(), &["--floor-only", "--beside", "nobody"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("stalled-splice"));
    assert_empty(&room);
}

#[test]
fn connections_that_cannot_be_had_are_told_before_they_are_missing() {
    let room = TempDir::new().unwrap();
    let command = format!("ulimit -n 600; exec {PROGRAM} --floor-only --conns 500 --duration 10ms");
    let output = Command::new("sh").args(["-c", &command]).env("TMPDIR", room.path()).output();
    let told = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(told.contains("RLIMIT_NOFILE is 600"), "{told}");
    assert_empty(&room);
}

// ---- files ----

#[test]
fn a_report_grows_by_a_line_for_each_server_and_a_picture_shows_them() {
    let room = TempDir::new().unwrap();
    let (report, svg) = (room.path().join("report"), room.path().join("picture.svg"));
    let both = ["--report", report.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    for _ in 0..2 {
        figures(room.path(), &[&["--floor-only"], &both[..]].concat());
    }
    let text = std::fs::read_to_string(&report).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!((&line["kind"], &line["server"]), (&"run".into(), &"floor".into()), "{line}");
        assert!(line["p50_us"].as_f64().unwrap() > 0.0 && line["settings"]["conns"] == 1);
        assert!(line["at"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains(">floor<"), "{picture}");
    assert!(picture.contains("99.99 %") && picture.contains(" µs<"), "{picture}");
}

// ---- bars ----

/// One round of some bars, too short to mean anything.
fn bars(room: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["bars", "--rounds", "1", "--round", "15ms", "--json"]).args(arguments);
    command.env("TMPDIR", room).env_remove("OBJMAPPERD").output().unwrap()
}

#[test]
fn a_bar_that_does_not_exist_is_told_with_those_that_do() {
    let room = TempDir::new().unwrap();
    let output = bars(room.path(), &["--only", "zzz", "--daemon", "/nonexistent/objmapperd"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for name in ["zzz", "ping-pong", "scale", "1000 idle connections"] {
        assert!(told.contains(name), "{told}");
    }
    assert_empty(&room);
}

#[test]
fn every_group_of_bars_measures_what_it_says() {
    if !daemon_is_there() {
        return;
    }
    let room = TempDir::new().unwrap();
    let report = room.path().join("report");
    // Of the groups of thousands, those that a small machine can have too.
    for (group, only, count) in [
        ("neighbours", "", 5),
        ("scale", "memory of 1000 ", 1),
        ("idle", "1000 ", 2),
        ("mixed", "one CPU", 7),
        ("order", "one CPU", 3),
    ] {
        let arguments = ["--group", group, "--only", only, "--report", report.to_str().unwrap()];
        let output = bars(room.path(), &arguments);
        let found = parsed(&output);
        let bars = found["bars"].as_array().unwrap();
        assert_eq!(bars.len(), count, "{found}");
        assert!(bars.iter().all(|bar| bar["group"] == group), "{found}");
        let told = |bar: &Value| !bar["measured"].is_null() || bar["note"] != "";
        assert!(bars.iter().all(told), "{found}");
    }
    let lines = std::fs::read_to_string(&report).unwrap();
    assert_eq!(lines.lines().count(), 5 + 1 + 2 + 7 + 3);
    std::fs::remove_file(report).unwrap();
    assert_empty(&room);
}
