//! What `objmapper kv` keeps in files: nothing is missing in them, and what is damaged is not taken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::command::{kv, kv_with, text};
use common::daemon::Daemon;
use objmapper_client::Put;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn moment() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(33_177_117_420_123)
}

/// Keys in all databases, each other ones, of all lengths, one with an end.
fn fill(daemon: &Daemon) {
    let mut client = daemon.client();
    for db in 0..16 {
        let mut keys = client.keys(db);
        for length in 0..5_usize.pow(1 + u32::from(db) % 3) {
            keys.set(format!("db {db}, {length}"), vec![db; length * 10]).unwrap();
        }
        keys.set_with("ends", db.to_string(), &Put::new().expires_at(moment())).unwrap();
    }
}

/// What each database has, as lines.
fn exported(daemon: &Daemon) -> Vec<String> {
    (0..16).map(|db| kv(daemon, ["export", "--db", &db.to_string()]).fine()).collect()
}

#[test]
fn each_database_is_exported_and_restored_as_it_was() {
    let Some(mut daemon) = Daemon::start_keeping() else { return };
    fill(&daemon);
    let before = exported(&daemon);
    for (db, lines) in before.iter().enumerate() {
        assert!(lines.contains(&format!("\"key\":\"db {db}, 0\"")), "{db}: {lines}");
        let ends = format!("{{\"expires_ms\":33177117420123,\"key\":\"ends\",\"value\":\"{db}\"}}");
        assert!(lines.lines().any(|line| line == ends), "{db}: {lines}");
        assert_eq!(lines.lines().count(), 5_usize.pow(1 + u32::try_from(db).unwrap() % 3) + 1);
    }
    let (file, directory) = (daemon.dir().join("backup"), daemon.dir().join("kv"));
    let told = kv(&daemon, ["backup", text(&file)]).fine();
    let keys: usize = before.iter().map(|lines| lines.lines().count()).sum();
    assert!(told.starts_with(&format!("backed up {keys} keys, ")), "{told}");
    daemon.stop();
    fs::remove_dir_all(&directory).unwrap();
    kv(&daemon, ["restore", text(&file), text(&directory)]).fine();
    daemon.start_again();
    daemon.wait();
    assert_eq!(exported(&daemon), before);
    // Importing gives back all of it, the end included.
    for (db, lines) in before.iter().enumerate() {
        let db = db.to_string();
        let mut client = daemon.client();
        let mut keys = client.keys(db.parse().unwrap());
        let all: Vec<_> = keys.scan().map(|found| found.unwrap().key).collect();
        keys.delete(all).unwrap();
        kv_with(&daemon, ["import", "--db", &db, "--dry-run"], lines.as_bytes()).fine();
        assert_eq!(keys.scan().count(), 0, "nothing is set yet");
        kv_with(&daemon, ["import", "--db", &db], lines.as_bytes()).fine();
    }
    assert_eq!(exported(&daemon), before);
}

/// A file with one thing wrong.
fn broken(whole: &[u8], at: &Path) -> Vec<(String, PathBuf)> {
    let (length, mut all) = (whole.len(), Vec::new());
    let mut make = |what: String, bytes: &[u8]| {
        let path = at.join(&what);
        fs::write(&path, bytes).unwrap();
        all.push((what, path));
    };
    for cut in [0, 1, 31, 32, 60, length / 3, length / 2, length - 57, length - 52, length - 1] {
        make(format!("cut to {cut}"), &whole[..cut]);
    }
    // Heads, what they stand before, and the end.
    for part in 0..24 {
        let at = (length - 1) * part / 23;
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        make(format!("bit of {at}"), &bytes);
    }
    make("longer".to_owned(), &[whole, b"x"].concat());
    all
}

#[test]
fn a_backup_that_is_not_whole_is_told_and_not_restored() {
    let Some(daemon) = Daemon::start_keeping() else { return };
    fill(&daemon);
    let file = daemon.dir().join("backup");
    kv(&daemon, ["backup", text(&file)]).fine();
    let whole = fs::read(&file).unwrap();
    let place = daemon.dir().join("broken");
    fs::create_dir(&place).unwrap();
    let to = daemon.dir().join("to");
    for (what, path) in broken(&whole, &place) {
        for args in [&["verify", text(&path)][..], &["restore", text(&path), text(&to)]] {
            let said = kv(&daemon, args).fails(1);
            let damaged = said.contains(" is damaged at byte ")
                && said.contains("hint: this file cannot be restored");
            let other = said.contains(" is not a backup of objmapper")
                && said.contains("hint: 'objmapper kv backup FILE' writes one");
            assert!(damaged || other, "{what}: {said}");
            assert!(!said.contains("skip"), "{what}: {said}");
            assert!(!to.exists(), "{what}: something is left over");
        }
    }
    for path in [place.join("none"), place] {
        let said = kv(&daemon, ["restore", text(&path), text(&to)]).fails(5);
        assert!(said.contains(&format!("cannot read {}", path.display())), "{said}");
        assert!(!to.exists(), "something is left over");
    }
    // A directory that was there is left there.
    fs::create_dir(&to).unwrap();
    let (_, path) = broken(&whole, daemon.dir()).swap_remove(0);
    kv(&daemon, ["restore", text(&path), text(&to)]).fails(1);
    kv(&daemon, ["restore", text(&file), text(&to)]).fine();
    assert!(kv(&daemon, ["verify", text(&to)]).fine().contains(" is whole: "));
    let said = kv(&daemon, ["restore", text(&file), text(&to)]).fails(1);
    assert!(said.contains("has a keyspace already"), "{said}");
}

#[test]
fn a_directory_that_is_damaged_is_told_and_left_as_it_is() {
    let Some(mut daemon) = Daemon::start_keeping() else { return };
    fill(&daemon);
    kv(&daemon, ["compact"]).fine();
    fill(&daemon);
    let keys: usize = exported(&daemon).iter().map(|lines| lines.lines().count()).sum();
    daemon.stop();
    let directory = daemon.dir().join("kv");
    let said = kv(&daemon, ["verify", text(&directory)]).fine();
    assert!(said.contains(&format!(" is whole: {keys} keys, ")), "{said}");
    let json = kv(&daemon, ["verify", text(&directory), "--json"]).fine();
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["keys"], keys);
    assert!(told["begun_ms"].as_u64() > Some(0) && told["records"].as_u64() > Some(0), "{json}");
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
    let mut tried = 0;
    for path in names.iter().filter(|path| !path.ends_with("LOCK")) {
        let whole = fs::read(path).unwrap();
        for part in 1..10 {
            let at = (whole.len() - 60) * part / 10;
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(path, &bytes).unwrap();
            let said = kv(&daemon, ["verify", text(&directory)]).fails(1);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(&format!("{name} is damaged at byte ")), "{at}: {said}");
            assert!(said.contains("--kv-damage skip"), "{said}");
            assert!(fs::read(path).unwrap() == bytes, "nothing is changed");
            tried += 1;
        }
        fs::write(path, whole).unwrap();
    }
    assert_eq!(tried, 18, "a snapshot and a segment");
    kv(&daemon, ["verify", text(&directory)]).fine();
}
