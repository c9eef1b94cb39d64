//! Which setting holds, and how it is shown.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::{Place, checked, objmapperd, refused};

#[test]
fn flags_beat_the_environment_and_that_beats_the_file() {
    let place = Place::new();
    let file = place.file("[pool]\nworkers = 1\nhelpers = 1\n[log]\nfilter = \"error\"\n");
    let variables = [("OBJMAPPERD_POOL_SIZE", "2"), ("OBJMAPPERD_HELPERS", "2")];
    let text = checked(Some(&file), &["--pool-size", "3"], &variables);
    assert!(text.contains("workers = 3  # --pool-size\n"), "{text}");
    assert!(text.contains("helpers = 2  # OBJMAPPERD_HELPERS\n"), "{text}");
    assert!(text.contains(&format!("filter = \"error\"  # {}:8\n", file.display())), "{text}");
    assert!(text.contains("backlog = 4096\n"), "{text}");
}

#[test]
fn a_variable_of_clients_moves_no_daemon_that_was_told_where_to_listen() {
    let places = [Place::new(), Place::new()];
    let [file, silent] = [places[0].file("[listen]\npath = \"/file\"\n"), places[1].file("")];
    let in_file = |file: &Path, arguments: &[&str], variables: &[(&str, &str)]| {
        let text = checked(Some(file), arguments, variables);
        let line = text.lines().find(|line| line.starts_with("path = ")).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let shared = ("OBJMAPPER_SOCKET", "/shared");
    let own = ("OBJMAPPERD_SOCKET", "/own");
    assert_eq!(in_file(&silent, &[], &[shared]), "/shared");
    let path = |arguments: &[&str], variables: &_| in_file(&file, arguments, variables);
    assert_eq!(path(&[], &[]), "/file");
    assert_eq!(path(&[], &[shared]), "/file");
    assert_eq!(path(&[], &[shared, own]), "/own");
    assert_eq!(path(&["--socket", "/flag"], &[shared, own]), "/flag");
    assert_eq!(path(&[], &[("OBJMAPPERD_SOCKET", "")]), "/file", "empty is not set");
}

#[test]
fn a_later_mount_replaces_an_earlier_one_and_its_rules() {
    let place = Place::new();
    let file = place.file("allow = [\"any\"]\n");
    let text = checked(Some(&file), &["--root", "/usr"], &[]);
    assert_eq!(text.matches("[[mount]]").count(), 1);
    assert!(text.contains("dir = \"/usr\"  # --root\n") && text.contains("allow = []\n"), "{text}");

    let more = "/b/=/usr,symlinks=beneath,allow=uid:7 read,allow=any list; /c=/etc";
    let text = checked(Some(&file), &[], &[("OBJMAPPERD_MOUNT", more)]);
    assert_eq!(text.matches("[[mount]]").count(), 3);
    assert!(text.contains("uri = \"/b\"  # OBJMAPPERD_MOUNT\n"), "{text}");
    assert!(text.contains("allow = [\"uid:7 read\", \"any list\"]"), "{text}");
    assert!(text.contains("symlinks = \"beneath\"  # OBJMAPPERD_MOUNT\n"), "{text}");
}

#[test]
fn a_switch_is_true_or_false() {
    let place = Place::new();
    for (said, shown) in
        [("strict = true", "strict = true"), ("strict = \"false\"", "strict = false")]
    {
        let text = checked(Some(&place.file(said)), &[], &[]);
        assert!(text.contains(shown), "{text}");
    }
    let text = checked(None, &["--mount", "/=/usr,strict=true"], &[]);
    assert!(text.contains("strict = true  # --mount"), "{text}");
    let said = refused(Some(&place.file("strict = 1")), &[], &[]);
    assert!(said.contains("mount.strict = 1: must be true or false"), "{said}");
}

#[test]
fn what_is_printed_means_the_same_when_read() {
    let place = Place::new();
    let file =
        place.file("strict = true\nallow = [\"uid:7 read\"]\n[limits]\nindex_bytes = 100000\n");
    let flags = ["--inline-limit", "2048", "--drain-deadline", "90s", "--socket-mode", "666"];
    let text = checked(Some(&file), &flags, &[]);
    fs::write(place.path("again.toml"), &text).unwrap();
    let again = checked(Some(&place.path("again.toml")), &[], &[]);
    let values = |text: &str| -> Vec<String> {
        let bare = |line: &str| line.split("  #").next().unwrap_or_default().to_owned();
        text.lines().skip(2).map(bare).collect()
    };
    assert_eq!(values(&text), values(&again));
    assert!(text.contains("drain_deadline = \"1m 30s\""), "{text}");
}

/// Of names, a table of numbers, and settings: the third column lines up.
#[test]
fn a_check_adds_up_what_the_limits_could_use() {
    let place = Place::new();
    let limits = "[limits]\nconnections = 100\nsend_buffer = 0\nqueued_bytes = \"5 MiB\"\n\
        bodies = 7\ndescriptors_in_flight = 300\nshared_descriptors = 30\n";
    let file = place.path("limits.toml");
    let check = |limits: &str| {
        fs::write(&file, limits).unwrap();
        let script = "ulimit -n 1000 && exec \"$0\" \"$@\"";
        let output = Command::new("/bin/sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_objmapperd"), "--check-config", "--config"])
            .arg(&file)
            .args(["--root", "/usr", "--mount=/s=/usr,shared=true"])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let said = check(limits);
    assert!(said.parse::<toml::Table>().is_ok(), "still a file of settings: {said}");
    let row = |what: &str| {
        let row = said.lines().find(|line| line.contains(&format!("  {what}")));
        let row = row.unwrap_or_else(|| panic!("{what}: {said}"));
        let (most, rest) = row.trim_start_matches('#').trim().split_once("  ").unwrap();
        (most.to_owned(), rest.strip_prefix(what).unwrap().trim().to_owned())
    };
    for (what, most, limit) in [
        ("our own", "66", ""),
        ("connections", "100", "limits.connections"),
        ("files of bodies under way", "7", "limits.bodies"),
        ("their destinations", "7", "limits.bodies"),
        ("waiting to be sent", "300", "limits.descriptors_in_flight"),
        ("kept to be shared", "30", "limits.shared_descriptors"),
        ("allowed", "1000", "RLIMIT_NOFILE"),
        ("replies and requests kept", "5.0 MiB", "limits.queued_bytes"),
        ("requests that have begun", "400.0 KiB", "limits.connections"),
        ("pages in pipes", "0 B", ""),
    ] {
        assert_eq!(row(what), (most.to_owned(), limit.to_owned()), "{what}");
    }
    assert!(said.contains("#        510  in all\n"), "{said}");
    let (buffers, limit) = row("replies in send buffers");
    assert_eq!(limit, "limits.connections x limits.send_buffer");
    assert!(buffers.ends_with("iB") && buffers != "0 B", "{buffers}");
    let columns: Vec<usize> = said.lines().filter_map(|line| line.find(" limits.")).collect();
    assert!(columns.len() == 10 && columns.iter().all(|at| *at == columns[0]), "{said}");

    let kv = format!("{limits}[kv]\nsocket = \"/tmp/kv\"\nmax_memory = \"3 GiB\"\n");
    let said = check(&kv);
    assert!(said.contains("#       1024  large values of keys\n"), "{said}");
    assert!(said.contains("#       1534  in all\n"), "{said}");
    assert!(said.contains("#    3.0 GiB  keys                       kv.max_memory\n"), "{said}");

    let said = check(&limits.replace("300", "2000"));
    assert!(
        said.contains("# Here it would not start: limits.descriptors_in_flight is 2000, "),
        "{said}"
    );
}

#[test]
fn a_variable_that_looks_like_ours_and_is_none_is_told() {
    let variables = [("OBJMAPPERD_POOLSIZE", "3"), ("OBJMAPPER_OTHER", "1")];
    let output = objmapperd(None, &["--check-config", "--root", "/usr"], &variables);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("OBJMAPPERD_POOLSIZE has no meaning here"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
