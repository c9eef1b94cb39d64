//! SIGHUP: mounts and rules are replaced under clients that stay connected.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use objmapper_proto::{Get, Mode, Range, Reply, Request, Status};
use support::content::content;
use support::daemon::{Daemon, Place, Setup};
use support::peer::Peer;
use support::{is_root, skip, until};

/// Larger than any socket's buffer.
const LARGE: usize = 24 << 20;

const TAKEN: &str = "INFO reloaded";
const REFUSED: &str = "ERROR not reloaded";

fn config(place: &Place) -> PathBuf {
    place.outside("objmapperd.toml")
}

/// A mount of a directory beside the tree, with a file `x` that says which it is.
fn mount(place: &Place, uri: &str, name: &str, options: &str) -> String {
    let dir = place.outside(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("x"), name).unwrap();
    format!("[[mount]]\nuri = \"{uri}\"\ndir = \"{}\"\n{options}\n", dir.display())
}

fn tree(place: &Place) -> String {
    format!("[[mount]]\nuri = \"/\"\ndir = \"{}\"\n", place.tree().display())
}

fn told(daemon: &Daemon, what: &str) -> usize {
    daemon.log().matches(what).count()
}

/// Tells it to reload, and waits until the log says how that ended.
#[track_caller]
fn reload(daemon: &Daemon, text: &str, outcome: &str) {
    fs::write(config(daemon), text).unwrap();
    let before = (told(daemon, TAKEN), told(daemon, REFUSED));
    daemon.signal("HUP");
    until("the reload is over", || (told(daemon, TAKEN), told(daemon, REFUSED)) != before);
    assert_eq!(told(daemon, outcome), 1 + if outcome == TAKEN { before.0 } else { before.1 });
}

#[track_caller]
fn read(peer: &mut Peer, uri: &str) -> Result<String, Status> {
    let answer = peer.get(Mode::Copy, uri.as_bytes(), Range::ALL);
    match answer.status() {
        Status::Ok => Ok(String::from_utf8(answer.bytes).unwrap()),
        status => Err(status),
    }
}

#[test]
fn a_connection_sees_new_mounts_and_new_rules_with_its_next_request() {
    let place = Place::new();
    let nobody = "allow = [\"uid:4242\"]";
    let one = mount(&place, "/one", "one", "");
    let two = mount(&place, "/two", "two", "");
    let closed = mount(&place, "/two", "two", nobody);
    let daemon = Setup::default().start_in(place);
    daemon.write("two/x", b"in the tree");
    let both = one.clone() + &two;
    let mut peer = daemon.greeted();
    reload(&daemon, &both, TAKEN);
    // Twice: the second time by the index and the verdict that is kept.
    for _ in 0..2 {
        assert_eq!(read(&mut peer, "/one/x").as_deref(), Ok("one"));
        assert_eq!(read(&mut peer, "/two/x").as_deref(), Ok("two"));
        assert_eq!(read(&mut peer, "/y"), Err(Status::NotFound), "nothing is mounted at /");
    }
    reload(&daemon, &closed, TAKEN);
    for _ in 0..2 {
        assert_eq!(read(&mut peer, "/one/x"), Err(Status::NotFound), "its mount is gone");
        assert_eq!(read(&mut peer, "/two/x"), Err(Status::Denied));
        assert_eq!(peer.list(b"/two", b"", 10).unwrap_err().status(), Status::Denied);
    }
    reload(&daemon, &both, TAKEN);
    assert_eq!(read(&mut peer, "/one/x").as_deref(), Ok("one"));
    assert_eq!(read(&mut peer, "/two/x").as_deref(), Ok("two"));
    reload(&daemon, &tree(&daemon), TAKEN);
    assert_eq!(read(&mut peer, "/two/x").as_deref(), Ok("in the tree"));
    daemon.settles_with(1);
    let log = daemon.log();
    for line in ["unmounted uri=/one", "rules changed uri=/two", "mounted uri=/two"] {
        assert!(log.contains(line), "{line}:\n{log}");
    }
}

#[test]
fn what_was_resolved_before_is_never_answered_after() {
    let place = Place::new();
    // One more mount, and the numbers of the others change.
    let tables = [
        mount(&place, "/", "a", ""),
        mount(&place, "/", "b", "") + &mount(&place, "/further/down", "a", ""),
    ];
    let daemon = Setup::default().start_in(place);
    let mut peers: Vec<Peer> = (0..4).map(|_| daemon.greeted()).collect();
    for round in 0..20 {
        reload(&daemon, &tables[round % 2], TAKEN);
        for peer in &mut peers {
            for _ in 0..2 {
                assert_eq!(read(peer, "/x").as_deref(), Ok(["a", "b"][round % 2]));
            }
        }
    }
    reload(&daemon, &tree(&daemon), TAKEN);
    daemon.settles_with(4);
}

#[test]
fn a_pipeline_is_answered_across_a_reload() {
    let daemon = Daemon::start();
    daemon.write("large", &content(LARGE, 1));
    daemon.write("x", b"of the tree");
    let mut peer = daemon.greeted();
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("of the tree"));
    let get = |mode, uri| Request::Get(Get::new(mode, Range::ALL, uri));
    let body = peer.request(get(Mode::Copy, b"/large"));
    let behind: Vec<u64> = (0..200).map(|_| peer.request(get(Mode::Fdpass, b"/x"))).collect();
    let head = peer.frame();
    let Reply::Object(item) = head.reply() else { panic!("{head:?}") };
    // The body is under way and cannot end before it is read.
    reload(&daemon, &mount(&daemon, "/", "other", ""), TAKEN);
    let (bytes, end) = peer.body(body, item.head.range.length);
    assert!(end == Status::Ok && bytes == content(LARGE, 1), "the body is whole");
    for id in behind {
        let answer = peer.object(id);
        assert_eq!(answer.status(), Status::Ok);
        assert_eq!(std::io::read_to_string(answer.file.unwrap()).unwrap(), "other");
    }
    reload(&daemon, &tree(&daemon), TAKEN);
}

#[test]
fn nobody_notices_reloads_that_change_nothing_for_them() {
    let place = Place::new();
    let kept = mount(&place, "/kept", "kept", "");
    let more = mount(&place, "/more", "more", "");
    let daemon = Setup::default().start_in(place);
    reload(&daemon, &kept, TAKEN);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut peer = daemon.greeted();
            let enough = &enough;
            scope.spawn(move || {
                while !enough.load(Ordering::SeqCst) {
                    let uris = [&b"/kept/x"[..]; 50];
                    for answer in peer.get_many(Mode::Fdpass, &uris) {
                        assert_eq!(answer.status(), Status::Ok);
                    }
                }
            });
        }
        for round in 0..30 {
            let text = if round % 2 == 0 { more.clone() + &kept } else { kept.clone() };
            reload(&daemon, &text, TAKEN);
        }
        enough.store(true, Ordering::SeqCst);
    });
    daemon.settles_with(0);
}

#[test]
fn settings_that_are_wrong_leave_everything_as_it_is() {
    let daemon = Daemon::start();
    daemon.write("x", b"still here");
    let mut peer = daemon.greeted();
    let good = mount(&daemon, "/good", "good", "");
    let gone = daemon.outside("gone").display().to_string();
    let wrong = [
        ("[[mount]\n".to_owned(), "objmapperd.toml:1: "),
        (good.clone() + "[pool]\nworkrs = 3\n", "unknown key `workrs`"),
        (good.clone() + "allow = [\"everybody\"]\n", "mount.allow = \"everybody\": must be"),
        (format!("{good}[[mount]]\nuri = \"/b\"\ndir = \"{gone}\"\n"), "a directory that exists"),
        (good.clone() + &good, "must be mounted only once"),
        (String::new(), "nothing to serve"),
    ];
    for (text, why) in &wrong {
        reload(&daemon, text, REFUSED);
        // The reasons come behind that line.
        until(why, || daemon.log().contains(why));
        assert_eq!(read(&mut peer, "/x").as_deref(), Ok("still here"));
        assert_eq!(read(&mut daemon.greeted(), "/x").as_deref(), Ok("still here"));
        assert_eq!(read(&mut peer, "/good/x"), Err(Status::NotFound));
    }
    fs::remove_file(config(&daemon)).unwrap();
    daemon.signal("HUP");
    until("that was told", || daemon.log().contains("objmapperd.toml: cannot be read"));
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("still here"));
    daemon.settles_with(1);
    reload(&daemon, &good, TAKEN);
    assert_eq!(read(&mut peer, "/good/x").as_deref(), Ok("good"));
}

#[test]
fn a_mount_that_cannot_be_made_leaves_everything_as_it_is() {
    if !is_root() {
        return skip("root is needed to run the daemon without the right to mount");
    }
    let daemon = Setup::default().unprivileged().config("allow = [\"any\"]\n").start();
    daemon.write("x", b"still here");
    let mut peer = daemon.greeted();
    let good = mount(&daemon, "/good", "good", "");
    reload(
        &daemon,
        &(good + "[[mount]]\nuri = \"/b\"\ndir = \"/\"\nread_only_clone = \"on\"\n"),
        REFUSED,
    );
    for why in ["cannot mount / at /b", "because: open_tree"] {
        until(why, || daemon.log().contains(why));
    }
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("still here"));
    assert_eq!(read(&mut peer, "/good/x"), Err(Status::NotFound), "not even the part that works");
    daemon.settles_with(1);
}

#[test]
fn what_needs_a_restart_is_named() {
    let daemon = Daemon::start();
    let text = format!(
        "drain_deadline = \"3s\"\n{}[limits]\nindex_entries = 5\nconnections = 16384\n\
         [log]\nfilter = \"warn\"\n[pool]\nworkers = 7\n",
        mount(&daemon, "/", "other", "")
    );
    reload(&daemon, &text, TAKEN);
    let log = daemon.log();
    let named = "next start settings=drain_deadline, limits.index_entries, log.filter\n";
    assert!(log.contains(named), "{log}");
    assert_eq!(read(&mut daemon.greeted(), "/x").as_deref(), Ok("other"), "mounts are taken over");
}

/// Descriptors that lead to this directory, by number.
fn held(daemon: &Daemon, dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let link = |entry: fs::DirEntry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?));
    let all: BTreeMap<_, _> = entries.filter_map(|entry| link(entry.ok()?)).collect();
    let ours = all.into_iter().filter(|(_, target)| target == dir);
    ours.map(|(number, _)| number.into_string().unwrap()).collect()
}

#[test]
fn a_mount_that_stays_keeps_its_descriptor() {
    let place = Place::new();
    let stays = mount(&place, "/stays", "stays", "read_only_clone = \"off\"");
    let moved = mount(&place, "/moved", "stays", "read_only_clone = \"off\"\nallow = [\"any\"]");
    let linked =
        mount(&place, "/stays", "stays", "read_only_clone = \"off\"\nsymlinks = \"beneath\"");
    let other = mount(&place, "/other", "other", "");
    let daemon = Setup::default().start_in(place);
    let dir = daemon.outside("stays");
    reload(&daemon, &stays, TAKEN);
    let first = held(&daemon, &dir);
    assert_eq!(first.len(), 1, "{first:?}");
    for text in [stays.clone() + &other, moved, other.clone() + &stays] {
        reload(&daemon, &text, TAKEN);
        assert_eq!(held(&daemon, &dir), first);
    }
    reload(&daemon, &linked, TAKEN);
    let second = held(&daemon, &dir);
    assert!(second.len() == 1 && second != first, "it was opened for another use: {second:?}");
    reload(&daemon, &tree(&daemon), TAKEN);
    assert_eq!(held(&daemon, &dir), Vec::<String>::new());
}

#[test]
fn a_directory_that_was_replaced_is_taken_up() {
    let place = Place::new();
    let text = mount(&place, "/", "now", "");
    let daemon = Setup::default().start_in(place);
    let now = daemon.outside("now");
    reload(&daemon, &text, TAKEN);
    let mut peer = daemon.greeted();
    fs::rename(&now, daemon.outside("before")).unwrap();
    mount(&daemon, "/", "next", "");
    symlink(daemon.outside("next"), &now).unwrap();
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("now"), "until it is told");
    reload(&daemon, &text, TAKEN);
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("next"));
}

/// The file's place is taken by a FIFO: whoever opens it to read waits for a writer.
fn make_fifo(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_reload_that_has_to_wait_stops_nobody() {
    let mut daemon = Daemon::start();
    daemon.write("x", b"of the tree");
    let mut peer = daemon.greeted();
    let threads = daemon.running_threads();
    make_fifo(&config(&daemon));
    daemon.signal("HUP");
    until("it waits", || daemon.running_threads() == threads + 1);
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("of the tree"));
    assert_eq!(read(&mut daemon.greeted(), "/x").as_deref(), Ok("of the tree"));
    // Asked for again meanwhile: that is done as well, and with what is there by then.
    daemon.signal("HUP");
    let text = mount(&daemon, "/", "other", "");
    let mut fifo = fs::File::options().write(true).open(config(&daemon)).unwrap();
    fs::remove_file(config(&daemon)).unwrap();
    fs::write(config(&daemon), mount(&daemon, "/", "third", "")).unwrap();
    fifo.write_all(text.as_bytes()).unwrap();
    drop(fifo);
    until("both are over", || told(&daemon, TAKEN) == 2);
    assert_eq!(read(&mut peer, "/x").as_deref(), Ok("third"));
    until("its thread has gone", || daemon.running_threads() == threads);

    make_fifo(&config(&daemon));
    daemon.signal("HUP");
    until("it waits", || daemon.running_threads() == threads + 1);
    drop(peer);
    assert!(daemon.stop().success(), "told to stop it does not wait for that");
}

#[test]
fn a_stop_that_comes_together_with_a_reload_is_heard() {
    let mut daemon = Daemon::start();
    // A reload that never ends: nothing of it wakes anybody.
    make_fifo(&config(&daemon));
    daemon.signal("STOP");
    daemon.signal("HUP");
    daemon.signal("TERM");
    daemon.signal("CONT");
    assert!(daemon.wait().success());
}
