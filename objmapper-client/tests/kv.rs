//! `objmapper kv` as a user sees it, with a real objmapperd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::command::{kv, kv_with, raw, text};
use common::daemon::Daemon;
use objmapper_client::{Applied, Batch};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn values_of_any_length_come_back_as_they_were() {
    let Some(daemon) = Daemon::start() else { return };
    let out = daemon.dir().join("out");
    let file = daemon.dir().join("value");
    for length in [0, 3, 70_000, 300_000, 3_000_000_usize] {
        let value: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap() ^ 0x80).collect();
        fs::write(&file, &value).unwrap();
        let key = raw(b"k/\xff \n");
        for from_file in [true, false] {
            if from_file {
                kv(&daemon, [OsStr::new("set"), &key, "--file".as_ref(), file.as_ref()]).fine();
            } else {
                kv_with(&daemon, [OsStr::new("set"), &key], &value).fine();
            }
            for mode in ["auto", "fdpass", "copy", "splice"] {
                let done = kv(&daemon, [OsStr::new("get"), &key, "-m".as_ref(), mode.as_ref()]);
                assert!(done.0 == 0 && done.1 == value, "{length}, {mode}: {}", done.2);
            }
            let to_file = [OsStr::new("get"), &key, "-o".as_ref(), out.as_ref()];
            assert_eq!(kv(&daemon, to_file).fine(), "");
            assert!(fs::read(&out).unwrap() == value);
        }
        assert!(daemon.client().keys(0).get(b"k/\xff \n").unwrap().unwrap() == value);
    }
    fs::write(&out, "before").unwrap();
    let said = kv(&daemon, ["get", "none", "-o", text(&out)]).fails(1);
    assert_eq!(said, "error: none: NOT_FOUND: no such key\n");
    assert_eq!(fs::read_to_string(&out).unwrap(), "before");
    let said = kv(&daemon, ["set", "a", "--file", "/no/such/file"]).fails(5);
    assert!(said.contains("cannot read /no/such/file"), "{said}");
    assert!(daemon.client().keys(0).get("a").unwrap().is_none());
}

#[test]
fn one_key() {
    let Some(daemon) = Daemon::start() else { return };
    assert_eq!(
        kv(&daemon, ["set", "a", "1", "--if-present"]).fails(6),
        "not set: a: it does not exist\n"
    );
    kv(&daemon, ["set", "a", "1", "--if-absent"]).fine();
    assert_eq!(kv(&daemon, ["set", "a", "2", "--if-absent"]).fails(6), "not set: a: it exists\n");
    assert_eq!(kv(&daemon, ["get", "a"]).fine(), "1");
    kv(&daemon, ["set", "below", "-1"]).fine();
    assert_eq!(kv(&daemon, ["incr", "below", "-1"]).fine(), "-2\n");
    assert_eq!(kv(&daemon, ["expire", "a"]).fine(), "never\n");
    kv(&daemon, ["set", "a", "2", "--if-present", "--ttl", "2h"]).fine();
    let ends = daemon.client().keys(0).expiry("a").unwrap().unwrap().unwrap();
    let left = ends.duration_since(std::time::SystemTime::now()).unwrap().as_secs();
    assert!((7000..=7200).contains(&left), "{left}");
    kv(&daemon, ["set", "a", "3", "--keep-ttl"]).fine();
    assert_eq!(daemon.client().keys(0).expiry("a").unwrap(), Some(Some(ends)));
    let ms = ends.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(kv(&daemon, ["expire", "a", "--json"]).fine(), format!("{{\"expires_ms\":{ms}}}\n"));
    let whole = format!("{{\"expires_ms\":{ms},\"key\":\"a\",\"value\":\"3\"}}\n");
    assert_eq!(kv(&daemon, ["get", "a", "--json"]).fine(), whole);
    assert_eq!(kv(&daemon, ["expire", "a", "--never"]).fine(), "never\n");
    assert!(kv(&daemon, ["expire", "a", "1d"]).fine().ends_with(" UTC\n"));
    assert!(kv(&daemon, ["expire", "none", "1d"]).fails(1).contains("no such key"));
    assert!(kv(&daemon, ["expire", "none"]).fails(1).contains("no such key"));

    assert_eq!(kv(&daemon, ["incr", "n"]).fine(), "1\n");
    assert_eq!(kv(&daemon, ["incr", "n", "-5"]).fine(), "-4\n");
    assert_eq!(kv(&daemon, ["incr", "n", "10", "--json"]).fine(), "{\"sum\":6}\n");
    kv(&daemon, ["set", "word", "ada"]).fine();
    assert!(kv(&daemon, ["incr", "word"]).fails(1).contains("BAD_VALUE"));
    for (edge, by) in [("9223372036854775807", "1"), ("-9223372036854775808", "-1")] {
        kv_with(&daemon, ["set", "edge", "--ttl", "1d"], edge.as_bytes()).fine();
        assert!(kv(&daemon, ["incr", "edge", by]).fails(1).contains("BAD_VALUE"));
        assert_eq!(kv(&daemon, ["get", "edge"]).fine(), edge, "as it was");
        let back = if by == "1" { "-1" } else { "1" };
        kv(&daemon, ["incr", "edge", back]).fine();
        assert_ne!(kv(&daemon, ["expire", "edge"]).fine(), "never\n", "its end stays");
    }

    assert_eq!(kv(&daemon, ["--db", "3", "incr", "n"]).fine(), "1\n", "another database");
    assert_eq!(kv(&daemon, ["--base64", "set", "AP8=", "zero"]).fine(), "");
    assert_eq!(daemon.client().keys(0).get(b"\x00\xff").unwrap().unwrap(), b"zero");
    assert!(kv(&daemon, ["--base64", "get", "?"]).fails(2).contains("is not base64"));
    assert_eq!(kv(&daemon, ["del", "word", "n", "none", "n"]).fine(), "2 keys removed\n");
    assert_eq!(kv(&daemon, ["del", "a", "--json"]).fine(), "{\"removed\":1}\n");
    let many: Vec<OsString> = (0..5000).map(|n| format!("many/{n}").into()).collect();
    let mut args = vec![OsString::from("del")];
    args.extend(many);
    // By two requests, of which each removes some.
    for key in ["many/0", "many/4999"] {
        daemon.client().keys(0).set(key, "").unwrap();
    }
    assert_eq!(kv(&daemon, args).fine(), "2 keys removed\n");
}

#[test]
fn nonsense_is_a_usage_error_and_help_has_examples() {
    let Some(daemon) = Daemon::start() else { return };
    for args in [
        &["frob"][..],
        &["get"],
        &["--db", "16", "get", "a"],
        &["set", "a", "1", "--file", "x"],
        &["set", "a", "1", "--if-absent", "--if-present"],
        &["set", "a", "1", "--ttl", "soon"],
        &["expire", "a", "1h", "--never"],
        &["del"],
        &["incr", "a", "b"],
        &["scan", "--prefix", "a", "--from", "b"],
        &["scan", "-n", "0"],
    ] {
        kv(&daemon, args).fails(2);
    }
    let help = kv(&daemon, ["--help"]).fine();
    for word in ["Examples:", "objmapper kv backup", "value_base64", "--db"] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
}

#[test]
fn a_key_is_of_one_kind_as_an_object() {
    let Some(daemon) = Daemon::start() else { return };
    kv(&daemon, ["set", "short", "1"]).fine();
    kv_with(&daemon, ["set", "long"], &vec![7; 300_000]).fine();
    let mut client = daemon.client();
    let listed: Vec<_> = client.list("kv:").unwrap().map(Result::unwrap).collect();
    assert_eq!(listed.len(), 2);
    for entry in listed {
        assert_eq!(entry.kind(), client.stat(entry.uri()).unwrap().kind(), "{}", entry.uri());
    }
}

#[test]
fn keys_are_listed_in_order() {
    let Some(daemon) = Daemon::start() else { return };
    let mut client = daemon.client();
    let mut keys = client.keys(0);
    for key in [&b"b/2"[..], b"b/1", b"a", b"b/\xff", b"c\n"] {
        keys.set(key, [key, b"!"].concat()).unwrap();
    }
    let all = "a\nb/1\nb/2\nb/\\xff\nc\\n\n";
    assert_eq!(kv(&daemon, ["scan"]).fine(), all);
    assert_eq!(kv(&daemon, ["scan", "--prefix", "b/"]).fine(), "b/1\nb/2\nb/\\xff\n");
    assert_eq!(kv(&daemon, ["scan", "--from", "b/1", "--to", "b/2"]).fine(), "b/1\n");
    assert_eq!(kv(&daemon, ["scan", "--from", "b/2", "-n", "2"]).fine(), "b/2\nb/\\xff\n");
    assert_eq!(kv(&daemon, ["scan", "--values", "-p", "c"]).fine(), "c\\n\tc\\n!\n");
    let json = kv(&daemon, ["scan", "--json", "-p", "b/"]).fine();
    assert_eq!(
        json,
        "{\"key\":\"b/1\",\"size\":4}\n{\"key\":\"b/2\",\"size\":4}\n{\"key_base64\":\"Yi//\",\"size\":4}\n"
    );
    assert_eq!(
        kv(&daemon, ["scan", "-l", "-n", "1"]).fine(),
        format!("{:>10}  {:23}  a\n", "2 B", "never")
    );
    assert_eq!(kv(&daemon, ["--db", "7", "scan"]).fine(), "");
    for n in 0..5000 {
        keys.set(format!("many/{n:04}"), "").unwrap();
    }
    let many = kv(&daemon, ["scan", "-p", "many/", "-n", "4500"]).fine();
    assert!(many.lines().count() == 4500 && many.ends_with("many/4499\n"));
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    let Some(daemon) = Daemon::start() else { return };
    let mut client = daemon.builder().pass_descriptors(true).connect().unwrap();
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_millis(33_177_117_420_123);
    let ends = objmapper_client::Put::new().expires_at(moment);
    let mut keys = client.keys(0);
    keys.set(b"", b"the empty key").unwrap();
    keys.set(b"\x00\xff", b"\xfe\x00\"\\\n").unwrap();
    keys.set("text ä\u{2028}\"", "\u{0}\u{1f}\\").unwrap();
    keys.set("long", vec![0xe9; 700_000]).unwrap();
    keys.set_with("ends", "", &ends).unwrap();
    for n in 0..3000 {
        keys.set(format!("many/{n}"), "x".repeat(n % 400)).unwrap();
    }
    let file = daemon.dir().join("keys.jsonl");
    kv(&daemon, ["export", "-o", text(&file)]).fine();
    let lines = fs::read(&file).unwrap();
    assert_eq!(lines.split(|&byte| byte == b'\n').count(), 3006);
    assert_eq!(kv_with(&daemon, ["--db", "1", "import"], &lines).fine(), "3005 keys set\n");
    assert_eq!(
        kv(&daemon, ["--db", "2", "import", text(&file), "--json"]).fine(),
        "{\"lines_refused\":0,\"set\":3005}\n"
    );
    for db in ["1", "2"] {
        assert!(kv(&daemon, ["--db", db, "export"]).fine().as_bytes() == lines, "{db}");
    }
    let mut copy = client.keys(2);
    assert_eq!(copy.get(b"\x00\xff").unwrap().unwrap(), b"\xfe\x00\"\\\n");
    assert_eq!(copy.expiry("ends").unwrap(), Some(Some(moment)));
    let some = kv(&daemon, ["export", "--prefix", "many/1", "-n", "5"]).fine();
    assert_eq!(some.lines().count(), 5);
    let scanned = kv(&daemon, ["scan", "--json", "--values"]).fine();
    assert_eq!(
        kv_with(&daemon, ["--db", "4", "import"], scanned.as_bytes()).fine(),
        "3005 keys set\n"
    );
}

#[test]
fn a_broken_line_is_told_by_its_number() {
    let Some(daemon) = Daemon::start() else { return };
    let file = daemon.dir().join("in");
    let long = "k".repeat(70_000);
    let lines = format!(
        "{{\"key\":\"a\",\"value\":\"1\"}}\n\n  {{\"key\":\"b\",\"value\":\"2\"}}\r\n{{\"key\":\"c\"}}\n\
         {{\"key\":\"d\",\"value\":\"4\"}}\nrubbish\n{{\"key\":\"{long}\",\"value\":\"\"}}\n\
         {{\"key\":\"e\",\"value\":\"5\"}}"
    );
    fs::write(&file, &lines).unwrap();
    let keys = || kv(&daemon, ["scan"]).fine();
    let shown = text(&file);
    let first = format!("error: {shown}, line 4: \"value\" is missing (or \"value_base64\")\n");

    let done = kv(&daemon, ["import", shown, "--dry-run", "-k"]);
    assert_eq!(done.1, b"4 keys would be set, 3 lines refused\n");
    let said = done.fails(5);
    assert!(said.starts_with(&first), "{said}");
    assert!(said.contains(&format!("{shown}, line 6: not JSON at column 1")), "{said}");
    assert!(said.contains(&format!("{shown}, line 7: the key has 70000 bytes")), "{said}");
    assert_eq!(keys(), "");

    let done = kv(&daemon, ["import", shown]);
    assert_eq!(done.1, b"2 keys set, 1 line refused\n");
    let said = done.fails(5);
    let hint = "hint: the lines before are in; --keep-going goes on with the others\n";
    assert_eq!(said, first + hint);
    assert_eq!(keys(), "a\nb\n");

    let done = kv(&daemon, ["import", shown, "--keep-going"]);
    assert_eq!(done.1, b"4 keys set, 3 lines refused\n");
    done.fails(5);
    assert_eq!(keys(), "a\nb\nd\ne\n");

    let said = kv_with(&daemon, ["import"], b"[]").fails(5);
    assert!(said.starts_with("error: standard input, line 1: it is no JSON object"), "{said}");
    assert!(kv(&daemon, ["import", "/no/such"]).fails(5).contains("cannot read /no/such"));
}

#[test]
fn a_backup_under_load_is_restored_and_of_one_moment() {
    let Some(mut daemon) = Daemon::start_keeping() else { return };
    let (file, directory) = (daemon.dir().join("backup"), daemon.dir().join("kv"));
    let mut client = daemon.client();
    for n in 0..500 {
        client.keys(5).set(format!("old/{n}"), vec![7; n * 10]).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also if something fails below: the writer is waited for.
        let stop = Stop(&done);
        let writer = scope.spawn(|| {
            let mut client = daemon.client();
            let mut n = 0_u64;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                let mut batch = Batch::new();
                batch.set("one", n.to_string()).set("two", n.to_string());
                assert_eq!(client.keys(0).apply(&batch).unwrap(), Applied::Made(2));
            }
        });
        for _ in 0..3 {
            let said = kv(&daemon, ["backup", text(&file)]).fine();
            assert!(said.starts_with("backed up ") && said.contains(" UTC to "), "{said}");
        }
        drop(stop);
        writer.join().unwrap();
    });
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "it holds all keys");
    let kept: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(kept.iter().all(|name| !name.display().to_string().contains("backup")), "{kept:?}");

    for args in [&["verify", text(&directory)][..], &["restore", text(&file), text(&directory)]] {
        let said = kv(&daemon, args).fails(1);
        assert!(
            said.contains("is locked by pid") && said.contains("hint: stop that daemon"),
            "{said}"
        );
    }
    daemon.stop();
    let said = kv(&daemon, ["restore", text(&file), text(&directory)]).fails(1);
    assert!(said.contains("has a keyspace already"), "{said}");
    let said = kv(&daemon, ["restore", text(&file), text(daemon.dir())]).fails(5);
    assert!(said.contains("is not empty"), "{said}");
    assert!(kv(&daemon, ["verify", text(&directory)]).fine().contains(" is whole: "));
    fs::remove_dir_all(&directory).unwrap();
    let told = kv(&daemon, ["verify", text(&file), "--json"]).fine();
    assert_eq!(kv(&daemon, ["restore", text(&file), text(&directory), "--json"]).fine(), told);
    assert!(kv(&daemon, ["verify", text(&directory), "--json"]).fine().contains("\"torn\":null"));

    daemon.start_again();
    let mut client = connect(&daemon);
    let mut keys = client.keys(0);
    assert_eq!(keys.get("one").unwrap().unwrap(), keys.get("two").unwrap().unwrap());
    assert_eq!(client.keys(5).scan().count(), 500);
    assert_eq!(client.keys(5).get("old/499").unwrap().unwrap(), vec![7; 4990]);
}

/// Sets it when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until it answers.
fn connect(daemon: &Daemon) -> objmapper_client::Client {
    let deadline = std::time::Instant::now() + common::PATIENCE;
    loop {
        match daemon.builder().connect() {
            Err(_) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            connected => return connected.unwrap(),
        }
    }
}

#[test]
fn a_backup_replaces_a_file_whole_or_not_at_all() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.client().keys(0).set("a", "1").unwrap();
    let place = daemon.dir().join("place");
    fs::create_dir(&place).unwrap();
    let (file, link) = (place.join("backup"), place.join("link"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    // Of keys that are in memory only.
    let told = kv(&daemon, ["backup", text(&link), "--json"]).fine();
    assert!(told.contains("\"keys\":1"), "{told}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640, "as it was");
    assert!(kv(&daemon, ["verify", text(&file)]).fine().contains("is whole: 1 key, "));

    let mut broken = fs::read(&file).unwrap();
    let middle = broken.len() / 2;
    *broken.get_mut(middle).unwrap() ^= 1;
    fs::write(&file, &broken).unwrap();
    let said = kv(&daemon, ["verify", text(&file)]).fails(1);
    assert!(said.contains("is damaged at byte "), "{said}");
    let to = daemon.dir().join("kv");
    kv(&daemon, ["restore", text(&file), text(&to)]).fails(1);
    assert!(kv(&daemon, ["verify", text(&place)]).fails(5).contains("has no keyspace in it"));

    daemon.stop();
    kv(&daemon, ["backup", text(&file)]).fails(3);
    assert!(fs::read(&file).unwrap() == broken);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 2, "nothing is left over");
    assert!(kv(&daemon, ["backup", "/dev/null"]).fails(3).contains("cannot reach"));
}
