//! Settings as an operator meets them: the program is run, its output is read.
//!
//! Every run is alone: no configuration of this machine, no variable of this shell.

#![allow(clippy::unwrap_used)] // what a test cannot go on without

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use objmapperd::config::{Document, Raw, Settings, resolve};
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../../systemd/objmapperd.toml");
const MANUAL: &str = include_str!("../../docs/operating.md");

/// A directory with an empty tree to serve, and perhaps a configuration file.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tree(&self) -> String {
        self.path("tree").to_str().unwrap().to_owned()
    }

    /// `[[mount]]` for the tree, then what else the file shall say.
    fn file(&self, rest: &str) -> PathBuf {
        let path = self.path("objmapperd.toml");
        let mount = format!("[[mount]]\nuri = \"/\"\ndir = {:?}\n", self.tree());
        fs::write(&path, mount + rest).unwrap();
        path
    }
}

/// `objmapperd --config file ...`; without a file there is none at all.
fn objmapperd(file: Option<&Path>, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_objmapperd"))
        .env_clear()
        .envs(variables.iter().copied())
        .arg("--config")
        .arg(file.unwrap_or(Path::new("/dev/null")))
        .args(arguments)
        .output()
        .unwrap()
}

/// The settings that `--check-config` prints.
fn checked(file: Option<&Path>, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let arguments = [&["--check-config"], arguments].concat();
    let output = objmapperd(file, &arguments, variables);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
    String::from_utf8(output.stdout).unwrap()
}

/// What is said about settings that are refused.
fn refused(file: Option<&Path>, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = objmapperd(file, arguments, variables);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn settings(text: &str) -> Settings {
    let document = Document { path: "test.toml".into(), text: text.to_owned() };
    let raw = Raw::parse(&document).unwrap_or_else(|problems| panic!("{problems}"));
    resolve(raw, Some(&document)).unwrap_or_else(|problems| panic!("{problems}")).settings
}

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

#[test]
fn a_name_that_is_not_known_is_told_with_its_line() {
    let place = Place::new();
    let file = place.file("[pool]\nworkrs = 3\n");
    let said = refused(Some(&file), &[], &[]);
    let expected = format!(
        "objmapperd: there is a mistake in the configuration:\n  \
         {}:5: unknown key `workrs`, expected one of `workers`, `helpers`, `spin`\n    workrs = 3\n",
        file.display()
    );
    assert_eq!(said, expected);
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let place = Place::new();
    let said = refused(Some(&place.file("[pool\n")), &[], &[]);
    assert!(said.contains("objmapperd.toml:4: ") && said.ends_with("    [pool\n"), "{said}");
    let said = refused(Some(&place.file("[pool]\nworkers = true\n")), &[], &[]);
    let expected = "objmapperd.toml:5: must be a text in quotes or a whole number, this is boolean\n    workers = true\n";
    assert!(said.ends_with(expected), "{said}");
    let said = refused(Some(&place.path("nowhere")), &[], &[]);
    assert!(said.contains("nowhere: cannot be read: No such file"), "{said}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let place = Place::new();
    let file = place.file(
        "allow = [\"user:no-such-user\", \"anybody\"]\n[limits]\nsend_buffer = \"64QB\"\n\
         index_shards = 12\n[listen]\nmode = 660\n",
    );
    let flags = ["--drain-deadline", "soon", "--mount", "/x", "--mount", "/y=/no/such/dir"];
    let said = refused(Some(&file), &flags, &[("OBJMAPPERD_POOL_SIZE", "many")]);
    let file = file.display().to_string();
    for expected in [
        "objmapperd: there are 9 mistakes in the configuration:",
        "\n  --drain-deadline \"soon\": must be a duration",
        &format!("{file}:9: listen.mode = 660: must be octal digits in quotes"),
        "\n  OBJMAPPERD_POOL_SIZE \"many\": must be a whole number from 0 to 1024",
        &format!("{file}:6: limits.send_buffer = \"64QB\": must be a size from 0 to \"512MiB\""),
        &format!("{file}:7: limits.index_shards = 12: must be a power of two"),
        "--mount \"/x\": must be URI=DIR",
        "\n  --mount, dir \"/no/such/dir\": must be a directory that exists",
        &format!("{file}:4: mount.allow = \"user:no-such-user\": must be a user that exists"),
        &format!("{file}:4: mount.allow = \"anybody\": must be \"any\", \"uid:N\""),
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin: {said}");
    }
}

#[test]
fn mistakes_of_form_and_of_value_are_told_together() {
    let place = Place::new();
    let file = place.file(
        "alow = [\"any\"]\n[pol]\n[[mount]]\nuri = \"/b\"\nallow = \"any\"\n[limits]\n\
         send_bufer = 1\nindex_shards = 12\nindex_bytes = [1]\nconnections = 99999999999999999999\n\
         [log]\nfilter = 1.5\n",
    );
    let said = refused(Some(&file), &["--pool-size", "many", "--root", "/no/such/dir"], &[]);
    let file = file.display();
    let expected = [
        "objmapperd: there are 11 mistakes in the configuration:".to_owned(),
        format!("{file}:4: unknown key `alow`, expected one of `uri`, `dir`, "),
        format!("{file}:5: unknown key `pol`, expected one of `drain_deadline`, `mount`"),
        format!("{file}:6: missing key `dir`\n    [[mount]]"),
        format!("{file}:8: must be a list of texts in [ ]\n    allow = \"any\""),
        format!("{file}:10: unknown key `send_bufer`, expected one of `connections`"),
        format!("{file}:11: limits.index_shards = 12: must be a power of two"),
        format!("{file}:12: must be a text in quotes or a whole number, this is array"),
        format!("{file}:13: a number as large as this is not understood"),
        format!("{file}:15: must be a text in quotes or a whole number, this is float"),
        "--pool-size \"many\": must be a whole number".to_owned(),
        "--root \"/no/such/dir\": must be a directory that exists".to_owned(),
    ];
    let mut rest = said.as_str();
    for line in expected {
        let (_, after) = rest.split_once(&line).unwrap_or_else(|| panic!("{line}\nin: {said}"));
        rest = after;
    }
}

#[test]
fn every_line_that_is_no_toml_is_told() {
    let place = Place::new();
    let said = refused(Some(&place.file("[pool]\nworkers 3\nhelpers = 4 =\n[log\n")), &[], &[]);
    for line in ["toml:5: ", "toml:6: ", "toml:7: "] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("there are 3 mistakes"), "{said}");
}

#[test]
fn a_mode_without_quotes_is_told_how_to_write_it() {
    let place = Place::new();
    let said = refused(Some(&place.file("[listen]\nmode = 0660\n")), &[], &[]);
    assert!(said.contains("write octal digits in quotes, such as \"0660\""), "{said}");
}

#[test]
fn what_would_be_accepted_is_told_as_it_is_to_be_written() {
    let place = Place::new();
    let tree = place.tree();
    let flags =
        ["--root", &tree, "--spin", "5", "--socket-mode", "999", "--kv-maxmemory", "1 parsec"];
    let said = refused(None, &flags, &[]);
    for expected in [
        "--spin \"5\": must be a duration with its unit, such as \"5ms\", of at most 10ms\n",
        "--socket-mode \"999\": must be octal digits, from \"0000\" to \"0777\"\n",
        "--kv-maxmemory \"1 parsec\": must be a size from 0 to \"1PiB\"",
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin: {said}");
    }
}

#[test]
fn one_socket_does_not_serve_objects_and_keys() {
    let place = Place::new();
    let (tree, socket) = (place.tree(), place.path("s"));
    let socket = socket.to_str().unwrap();
    let flags = ["--root", &tree, "--socket", socket, "--kv-socket", socket];
    let said = refused(None, &flags, &[]);
    assert!(said.contains("cannot be the socket for objects and for Redis clients"), "{said}");
}

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
fn keys_in_memory_cannot_always_be_on_the_disk() {
    let keys = ["--kv-socket", "@no-such", "--kv-sync"];
    let said = refused(None, &[&keys[..], &["always"]].concat(), &[]);
    assert!(said.contains("--kv-sync \"always\": must have a directory to sync"), "{said}");
    // What `--check-config` prints of keys in memory can be used as a file.
    let shown = checked(None, &[&keys[..], &["interval"]].concat(), &[]);
    assert!(shown.contains("sync = \"interval\""), "{shown}");
    let place = Place::new();
    let kept = place.path("kv").display().to_string();
    let shown = checked(None, &[&keys[..], &["always", "--kv-dir", &kept]].concat(), &[]);
    assert!(shown.contains("sync = \"always\""), "{shown}");
}

#[test]
fn two_mounts_at_one_uri_are_a_mistake() {
    let place = Place::new();
    let file =
        place.file("[[mount]]\nuri = \"/a\"\ndir = \"/\"\n[[mount]]\nuri = \"/a/\"\ndir = \"/\"\n");
    let said = refused(Some(&file), &[], &[]);
    let file = file.display();
    let expected = format!(
        "{file}:8: mount.uri = \"/a/\": must be mounted only once: {file}:5 already mounts it"
    );
    assert!(said.contains(&expected), "{said}");
    let said = refused(None, &["--root", "/usr", "--mount", "/=/etc"], &[]);
    assert!(
        said.contains("--mount, uri \"/\": must be mounted only once: --root already mounts it"),
        "{said}"
    );
}

#[test]
fn without_a_mount_one_is_told_what_to_do() {
    let said = refused(None, &[], &[]);
    assert!(
        said.contains("nothing to serve") && said.contains("`objmapperd --root DIR`"),
        "{said}"
    );
    let output = objmapperd(None, &["--frobnicate"], &[]);
    assert_eq!(output.status.code(), Some(2));
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

#[test]
fn the_example_is_made_of_the_defaults_and_leaves_none_out() {
    let place = Place::new();
    let quoted = format!("{:?}", place.tree());
    let example = EXAMPLE.replace("\"/srv/objmapper\"", &quoted);
    // "#name = value" is a setting, "# text" is text.
    let is_setting = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let uncover =
        |line: &str| line.strip_prefix('#').filter(|_| is_setting(line)).unwrap_or(line).to_owned();
    let uncovered = example.lines().map(uncover).collect::<Vec<_>>().join("\n");
    let mount = format!("[[mount]]\nuri = \"/\"\ndir = {quoted}\n");
    let root = "[listen]\npath = \"/run/objmapper/objmapper.sock\"\n";
    let defaults = settings(&format!("{mount}{root}"));
    assert_eq!(settings(&uncovered), defaults);
    let example_at_root = example.replace("[listen]\n", root);
    assert_eq!(settings(&example_at_root), defaults);

    let file = place.file("");
    let effective = checked(Some(&file), &[], &[]);
    for key in effective.lines().filter_map(key_of) {
        assert!(example.contains(&format!("{key} = ")), "{key} is not in the example");
        assert!(MANUAL.contains(&format!("`{key}`")), "{key} is not in the manual");
    }
}

#[test]
fn the_manual_explains_every_counter() {
    let mut lines = String::new();
    objmapperd::metrics::Metrics::default().write(&mut lines);
    for name in lines.lines().filter_map(|line| line.split(' ').next()) {
        assert!(MANUAL.contains(&format!("`{name}`")), "{name} is not in the manual");
    }
}

/// The name of the setting that a line of the effective settings is about, set or not.
fn key_of(line: &str) -> Option<&str> {
    let (key, rest) = line.trim_start_matches("# ").split_once(' ')?;
    (rest.starts_with("= ") || rest == "is not set").then_some(key)
}

#[test]
fn help_tells_the_defaults_that_hold() {
    let place = Place::new();
    let effective = checked(Some(&place.file("")), &[], &[]);
    let output = objmapperd(None, &["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, key) in [
        ("--socket-mode", "mode"),
        ("--max-connections", "connections"),
        ("--pool-size", "workers"),
        ("--helpers", "helpers"),
        ("--inline-limit", "inline_limit"),
        ("--auto-limit", "auto_limit"),
        ("--in-place-limit", "in_place_limit"),
        ("--drain-deadline", "drain_deadline"),
        ("--log", "filter"),
        ("--log-format", "format"),
    ] {
        let (_, after) = words.split_once(&format!("{flag} <")).unwrap();
        let default = after.split_once("[default: ").unwrap().1.split(']').next().unwrap();
        let line = effective.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        assert_eq!(line.replace('"', ""), format!("{key} = {default}"), "{flag}");
    }
    let output = objmapperd(None, &["--version"], &[]);
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(version, format!("objmapperd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_manual_page_needs_no_settings_and_has_every_flag() {
    let output = objmapperd(Some(Path::new("/none")), &["--man"], &[]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    for part in [
        ".TH objmapperd 8",
        ".SH EXAMPLES\n.nf\n",
        "objmapperd \\-\\-root /srv/objects",
        ".SH NOTES\nFlags override the environment",
        "\n.PP\nSIGHUP reloads mounts",
        ".I /etc/objmapper/objmapperd.toml",
        ".SH SIGNALS",
        "docs/operating.md",
    ] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    let help = String::from_utf8(objmapperd(None, &["--help"], &[]).stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    for flag in flags.filter_map(|line| line.split_whitespace().next()) {
        let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
        assert!(page.contains(&escaped), "--{flag} is missing");
    }
}
