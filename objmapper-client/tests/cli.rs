//! The command as a user sees it, as far as that needs no daemon: what it says when there is none,
//! when the command line makes no sense, and when what answers is no daemon.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use objmapper_proto::reply::Held;
use objmapper_proto::{Delivery, KvEntries, KvEntry, Mode, Reply, Request, Status, Version};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

fn objmapper(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_objmapper"));
    command.args(args).env("OBJMAPPER_SOCKET", socket);
    command.env_remove("NO_COLOR").env_remove("XDG_RUNTIME_DIR");
    command
}

fn run(socket: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = objmapper(socket, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A listening socket, and what answers the first connection.
fn listening(
    script: impl FnOnce(Peer) + Send + 'static,
) -> (tempfile::TempDir, std::path::PathBuf, JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut peer = Peer::over(socket.into());
        peer.greet();
        script(peer);
    });
    (dir, path, thread)
}

#[test]
fn help_has_examples_and_exit_codes() {
    let (code, out, _) = run(Path::new("/none"), &["--help"]);
    assert_eq!(code, 0);
    for word in ["Examples:", "Exit codes:", "OBJMAPPER_SOCKET", "/run/objmapper/objmapper.sock"] {
        assert!(out.contains(word), "{word} is missing in {out}");
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for args in [
        &["frobnicate"][..],
        &["get"],
        &["get", "/x", "--range", "9-5"],
        &["get", "/x", "--unless", "7"],
        &["cat", "/x", "/y", "--unless", "00000000000000000000000000000007"],
        &["ping", "-c", "0"],
        &["stats", "-c", "3"],
        &["ping", "--watch", "0"],
    ] {
        let (code, _, err) = run(Path::new("/none"), args);
        assert_eq!(code, 2, "{args:?}: {err}");
    }
    for (args, word) in [
        (&["ping", "-c", "x"][..], "it must be a whole number, 1 or more"),
        (&["kv", "--db", "16", "get", "k"], "it must be a number from 0 to 15"),
        (&["kv", "incr", "k", "x"], "it must be an integer of 64 bits"),
        (&["kv", "scan", "-n", "0"], "it must be a whole number, 1 or more"),
    ] {
        let (code, _, err) = run(Path::new("/none"), args);
        assert!(code == 2 && err.contains(word), "{args:?}: {err}");
    }
    let (code, _, err) = run(Path::new("/none"), &["get", "/x", "--mode", "teleport"]);
    assert!(code == 2 && err.contains("possible values: auto, fdpass, copy, splice"), "{err}");
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let (code, out, err) = run(Path::new("/no/such/socket"), &["get", "/x"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("/no/such/socket") && err.contains("is objmapperd running?"), "{err}");
    assert!(!err.contains('\x1b'), "no colours into a pipe: {err:?}");
}

#[test]
fn what_is_no_socket_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for other in [&file, dir.path()] {
        let (code, _, err) = run(Path::new("/none"), &["ping", "-s", other.to_str().unwrap()]);
        assert!(code == 3 && err.contains("hint: this is no socket: name objmapperd's"), "{err}");
    }
}

#[test]
fn a_flag_that_means_nothing_is_refused_and_not_shown() {
    for args in [
        &["man", "--socket", "x"][..],
        &["--timeout", "1", "completions", "bash"],
        &["kv", "verify", "x", "--db", "3"],
        &["kv", "--base64", "verify", "x"],
        &["-s", "x", "kv", "restore", "x", "y"],
        &["kv", "--db", "0", "backup", "x"],
        &["kv", "status", "--base64"],
        &["kv", "compact", "--db", "3"],
        &["kv", "import", "--base64", "/dev/null"],
    ] {
        let (code, _, err) = run(Path::new("/none"), args);
        assert!(
            code == 2 && err.contains(" means nothing") || err.contains(" mean nothing"),
            "{args:?}: {err}"
        );
    }
    let shown = |args: &[&str], flag: &str| {
        run(Path::new("/none"), &[args, &["--help"]].concat()).1.contains(flag)
    };
    assert!(shown(&["kv", "get"], "--socket") && shown(&["kv", "get"], "--db"));
    assert!(shown(&["kv", "backup"], "--socket") && !shown(&["kv", "backup"], "--db"));
    assert!(!shown(&["kv", "verify"], "--socket") && !shown(&["kv", "verify"], "--base64"));
    assert!(!shown(&["man"], "--socket"));
}

#[test]
fn a_socket_in_the_environment_is_not_part_of_the_usage() {
    let (_, _, err) = run(Path::new("/none"), &["get"]);
    assert!(err.contains("Usage: objmapper get <URI>\n"), "{err}");
}

#[test]
fn reasons_of_the_kernel_have_one_form() {
    let there = tempfile::tempdir().unwrap();
    for args in [
        &["get", "/x"][..],
        &["kv", "verify", "/none"],
        &["kv", "restore", "/none", there.path().to_str().unwrap()],
    ] {
        let (_, _, err) = run(Path::new("/none"), args);
        assert!(err.contains(": No such file or directory (ENOENT)\n"), "{args:?}: {err}");
    }
}

#[test]
fn a_path_that_is_too_long_is_told_so() {
    let (code, _, err) = run(Path::new(&format!("/{}", "a".repeat(200))), &["get", "/x"]);
    assert!(code == 3 && err.contains("hint: name a shorter path with --socket"), "{err}");
}

#[test]
fn help_of_a_subcommand_says_who_may_and_where_values_come_from() {
    for (args, word) in [
        (&["flush"][..], "For root and the daemon's own user"),
        (&["kv", "backup"], "For root and the daemon's own user"),
        (&["kv", "compact"], "For root and the daemon's own user"),
        (&["kv", "set"], "the value is read from standard input"),
        (&["kv", "verify"], "Exits with 1 if something is damaged"),
    ] {
        let (code, out, _) = run(Path::new("/none"), &[args, &["--help"]].concat());
        assert!(code == 0 && out.contains(word), "{args:?}: {out}");
    }
}

#[test]
fn completions_need_no_daemon() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(Path::new("/none"), &["completions", shell]);
        assert!(code == 0 && out.contains("objmapper"), "{shell}");
    }
}

#[test]
fn manual_pages_need_no_daemon() {
    let (code, out, _) = run(Path::new("/none"), &["man"]);
    assert_eq!(code, 0);
    for part in [".TH objmapper 1", "objmapper\\-get(1)", ".SH EXIT CODES", "OBJMAPPER_SOCKET"] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(Path::new("/none"), &["man", dir.path().to_str().unwrap()]).0, 0);
    for command in ["get", "cat", "stat", "ls", "ping", "stats"] {
        let page = std::fs::read_to_string(dir.path().join(format!("objmapper-{command}.1")));
        assert!(page.unwrap().contains(".SH OPTIONS"), "{command}");
    }
    let page = std::fs::read_to_string(dir.path().join("objmapper-kv.1")).unwrap();
    assert!(
        page.contains(".SH EXAMPLES\n.nf\n") && page.contains("objmapper\\-kv\\-get(1)"),
        "{page}"
    );
    let page = std::fs::read_to_string(dir.path().join("objmapper-kv-set.1")).unwrap();
    assert!(page.contains(".SH NOTES\nWith neither VALUE"), "{page}");
    let page = std::fs::read_to_string(dir.path().join("objmapper-kv.1")).unwrap();
    assert!(page.contains(".PP\nKeys and values are any bytes."), "{page}");
    let named = std::fs::read_to_string(dir.path().join("objmapper.1")).unwrap();
    assert!(!named.contains("objmapper\\-help(1)"), "there is no such page");
    let (code, _, err) = run(Path::new("/none"), &["man", "/no/such/directory"]);
    assert!(code == 5 && err.contains("cannot write to /no/such/directory"), "{err}");
}

#[test]
fn a_file_name_is_no_uri_and_the_hint_says_which_is() {
    let (_dir, path, peer) = listening(|mut peer| peer.listen());
    let (code, _, err) = run(&path, &["get", "/my models/a"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("hint: did you mean '/my%20models/a'?"), "{err}");
    peer.join().unwrap();
}

#[test]
fn a_refusal_is_one_and_leaves_the_file_as_it_was() {
    for mode in ["auto", "fdpass", "copy", "splice"] {
        let (dir, path, peer) = listening(|mut peer| {
            let id = peer.request().unwrap().header.id;
            peer.reply(id, Reply::Object(refused(Status::NotFound, "no such file")), &[]);
        });
        let target = dir.path().join("out");
        std::fs::write(&target, "before").unwrap();
        let args = ["get", "/x", "--mode", mode, "-o", target.to_str().unwrap()];
        let (code, _, err) = run(&path, &args);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("error: /x: NOT_FOUND: no such file"), "{err}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "before");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
        peer.join().unwrap();
    }
}

#[test]
fn a_user_of_another_namespace_is_told_so() {
    let denied = |text: &'static str| {
        let (_dir, path, peer) = listening(move |mut peer| {
            let id = peer.request().unwrap().header.id;
            peer.reply(id, Reply::Object(refused(Status::Denied, text)), &[]);
        });
        let (code, _, err) = run(&path, &["stat", "/x"]);
        peer.join().unwrap();
        assert_eq!(code, 1, "{err}");
        err
    };
    assert!(
        denied("no rule of this mount allows uid 65534")
            .contains("hint: 65534 is how the daemon sees")
    );
    assert!(!denied("no rule of this mount allows uid 6553").contains("hint:"));
}

#[test]
fn a_daemon_that_talks_nonsense_is_four() {
    let (_dir, path, peer) = listening(|mut peer| {
        peer.request().unwrap();
        peer.raw(&[0xff; 64], &[]);
    });
    let (code, _, err) = run(&path, &["stat", "/x"]);
    assert!(code == 4 && err.contains("broke the protocol"), "{err}");
    peer.join().unwrap();
}

#[test]
fn silence_is_four() {
    let (_dir, path, peer) = listening(|mut peer| peer.listen());
    let (code, _, err) = run(&path, &["--timeout", "0.05", "stat", "/x"]);
    assert!(code == 4 && err.contains("--timeout SECONDS waits longer"), "{err}");
    peer.join().unwrap();
}

/// Opens for every URI of a GET_MANY, or for a GET, a file with this content.
fn open_all(peer: &mut Peer, content: &[u8]) {
    let asked = peer.request().unwrap();
    let file = file(content);
    let one = item(head(Delivery::Descriptor, content.len() as u64));
    match Request::decode(asked.frame()).unwrap() {
        Request::Get(_) => peer.reply(asked.header.id, Reply::Object(one), &[borrow(&file)]),
        Request::GetMany(many) => {
            let files: Vec<_> = (0..many.count()).map(|_| reopened(&file)).collect();
            let fds: Vec<_> = files.iter().map(borrow).collect();
            let all = items(&vec![one; many.count()]);
            let objects = objmapper_proto::Objects::new(0, true, &all).unwrap();
            peer.reply(asked.header.id, Reply::Objects(objects), &fds);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn get_and_cat_write_the_bytes() {
    let (dir, path, peer) = listening(|mut peer| open_all(&mut peer, b"0123456789"));
    let target = dir.path().join("out");
    let args = ["get", "/x", "--range", "2-4", "-o", target.to_str().unwrap()];
    assert_eq!(run(&path, &args), (0, String::new(), String::new()));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "234");
    peer.join().unwrap();
    let (_dir, path, peer) = listening(|mut peer| open_all(&mut peer, b"0123456789"));
    let (code, out, _) = run(&path, &["cat", "/x", "/y"]);
    assert_eq!((code, out.as_str()), (0, "01234567890123456789"));
    peer.join().unwrap();
    let (_dir, path, peer) = listening(|mut peer| open_all(&mut peer, b"0123456789"));
    let (code, _, err) = run(&path, &["get", "/x", "--range", "11-"]);
    assert!(code == 1 && err.contains("BAD_RANGE"), "{err}");
    peer.join().unwrap();
}

#[test]
fn what_is_not_modified_is_six_and_writes_nothing() {
    let known = "000000000000000000000000000000ff";
    for args in [
        &["cat", "/x"][..],
        &["get", "/x", "-m", "auto"],
        &["get", "/x", "-m", "fdpass", "-o", "OUT"],
        &["get", "/x", "-m", "copy", "-o", "OUT"],
        &["get", "/x", "-m", "splice", "-o", "OUT"],
        &["get", "/x", "-m", "copy", "-o", "LINK"],
        &["get", "/x", "-m", "fdpass", "-o", "LINK"],
    ] {
        for modified in [false, true] {
            let (dir, path, peer) = listening(move |mut peer| {
                let asked = peer.request().unwrap();
                let Ok(Request::Get(get)) = Request::decode(asked.frame()) else { panic!() };
                assert_eq!(get.unless, Some(Version(0xff)));
                let file = file(b"new");
                match (modified, get.mode) {
                    (false, _) => {
                        let reply = Reply::Object(not_modified(Version(0xff)));
                        peer.reply(asked.header.id, reply, &[]);
                    }
                    (true, Mode::Fdpass) => {
                        let reply = Reply::Object(item(head(Delivery::Descriptor, 3)));
                        peer.reply(asked.header.id, reply, &[borrow(&file)]);
                    }
                    (true, _) => {
                        peer.reply(asked.header.id, Reply::Object(inline(b"new")), &[]);
                    }
                }
            });
            let (out, link) = (dir.path().join("out"), dir.path().join("link"));
            std::fs::write(&out, "before").unwrap();
            std::os::unix::fs::symlink(&out, &link).unwrap();
            let mut args: Vec<&str> = args.to_vec();
            for arg in &mut args {
                match *arg {
                    "OUT" => *arg = out.to_str().unwrap(),
                    "LINK" => *arg = link.to_str().unwrap(),
                    _ => {}
                }
            }
            let to_file = args.contains(&"-o");
            args.extend(["--unless", known]);
            let (code, said, err) = run(&path, &args);
            let there = std::fs::read_to_string(&out).unwrap();
            if modified {
                assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
                assert_eq!(if to_file { &there } else { &said }, "new", "{args:?}");
            } else {
                assert_eq!((code, said.as_str()), (6, ""), "{args:?}: {err}");
                assert_eq!(err, "not modified: /x\n", "{args:?}");
                assert_eq!(there, "before", "{args:?}");
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left over");
            peer.join().unwrap();
        }
    }
}

#[test]
fn keys_are_shown_as_they_come() {
    let (_dir, path, peer) = listening(|mut peer| {
        let id = peer.request().unwrap().header.id;
        let mut page = Vec::new();
        for (key, size, expiry) in [(&b"a"[..], 5, None), (b"b\xff", 1536, Some(1000))] {
            KvEntry { held: Held::LeftOut, expiry, size, key, value: &[] }.encode(&mut page);
        }
        peer.reply(id, Reply::KvEntries(KvEntries::new(true, &page).unwrap()), &[]);
        // And goes, when there is more.
    });
    let (code, out, err) = run(&path, &["kv", "scan", "-l"]);
    let line = |size: &str, end: &str, key: &str| format!("{size:>10}  {end:23}  {key}\n");
    let expected =
        [line("5 B", "never", "a"), line("1.5 KiB", "1970-01-01 00:00:01 UTC", "b\\xff")];
    assert!(code != 0 && out == expected.concat(), "{out}{err}");
    peer.join().unwrap();
}

#[test]
fn flush_tells_how_many() {
    let answer = |count| {
        listening(move |mut peer| {
            let asked = peer.request().unwrap();
            assert_eq!(Request::decode(asked.frame()), Ok(Request::Flush(b"/mnt/")));
            peer.reply(asked.header.id, Reply::Flushed(count), &[]);
        })
    };
    for (count, args, expected) in [
        (2, &["flush", "/mnt/"][..], "2 shared files closed\n"),
        (1, &["flush", "/mnt/"], "1 shared file closed\n"),
        (3, &["flush", "/mnt/", "--json"], "{\"closed\":3,\"prefix\":\"/mnt/\"}\n"),
    ] {
        let (_dir, path, peer) = answer(count);
        assert_eq!(run(&path, args), (0, expected.to_owned(), String::new()));
        peer.join().unwrap();
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (_dir, path, peer) = listening(|mut peer| open_all(&mut peer, &vec![b'x'; 1 << 20]));
    let mut child = objmapper(&path, &["cat", "/x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    peer.join().unwrap();
}

#[test]
fn a_full_disk_is_five() {
    let (_dir, path, peer) = listening(|mut peer| open_all(&mut peer, b"x"));
    let (code, _, err) = run(&path, &["get", "/x", "-o", "/dev/full"]);
    assert!(code == 5 && err.contains("cannot write"), "{err}");
    peer.join().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = objmapper(Path::new("/none"), &["man"]).stdout(full).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let told = err.contains("error: cannot write to standard output: No space left");
    assert!(output.status.code() == Some(5) && told, "{err}");
}
