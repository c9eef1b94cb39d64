//! A file system that hangs stops its own requests and nobody else's.
//!
//! The file system is a real one, in user space (support/fuse.py): it never answers an open, a
//! read or a close, until it is told to. Names in it are in the kernel's cache, so that nothing
//! but the daemon's own care keeps its workers out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use objmapper_client::Mode;
use objmapper_proto::{Get, Range, Request, Status};
use support::daemon::{Daemon, Place, Setup, counter};
use support::peer::{Answer, Peer};
use support::{is_root, skip, until};

const SIZE: usize = 700_000;

fn content() -> Vec<u8> {
    b"0123456789abcde".iter().copied().cycle().take(SIZE).collect()
}

/// A daemon that serves a local tree at `/`, with the file system at `/below`, and the file
/// system by itself at `/hung`.
struct Hanging {
    daemon: Daemon,
    release: PathBuf,
}

fn start() -> Option<Hanging> {
    if !is_root() {
        skip("mounting a file system takes root");
        return None;
    }
    let place = Place::new();
    let below = place.path("below");
    fs::create_dir(&below).unwrap();
    place.write("local", &vec![7; 3 << 20]);
    fs::create_dir(place.outside("other")).unwrap();
    fs::write(place.outside("other/file"), b"other").unwrap();
    let release = place.outside("release");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fuse.py");
    let words = [Path::new("/usr/bin/python3"), &script, &below, &release];
    let words = words.map(|path| path.to_str().unwrap());
    let tried = Command::new(words[0]).args(&words[1..]).arg("/bin/true").status();
    if !tried.is_ok_and(|status| status.success()) {
        skip("no file system in user space can be mounted here (python3, /dev/fuse)");
        return None;
    }
    let setup = Setup::default()
        .wrapper(&words)
        .argument(format!("--mount=/hung={}", below.display()))
        .argument(format!("--mount=/other={}", place.outside("other").display()));
    Some(Hanging { daemon: setup.start_in(place), release })
}

impl Hanging {
    fn release(&self) {
        File::create(&self.release).unwrap();
    }

    /// Asks on a connection of its own and does not wait.
    fn ask(&self, mode: Mode, uri: &str) -> (Peer, u64) {
        let mut peer = self.daemon.greeted();
        let get = Get { mode, uri: uri.as_bytes(), ..get_all() };
        let id = peer.request(Request::Get(get));
        (peer, id)
    }

    /// All that does not need the file system works: what is in memory, bodies, directories.
    fn others_go_on(&self) {
        let mut client = self.daemon.client();
        for mode in Mode::ALL {
            let local = client.get("/local", mode).unwrap();
            assert!(local.into_bytes().unwrap() == vec![7; 3 << 20], "{mode}");
        }
        // A directory is an errand always.
        let names = self.daemon.greeted().list(b"/other", b"", 10).unwrap().names;
        assert_eq!(names.len(), 1);
    }

    fn until_counter(&self, name: &str, condition: impl Fn(u64) -> bool) {
        let mut client = self.daemon.client();
        until(name, || condition(counter(&mut client, name)));
    }
}

fn get_all() -> Get<'static> {
    Get { mode: Mode::Auto, range: Range::ALL, uri: b"/", unless: None, shared: false, to: false }
}

fn bytes_of(answer: &Answer) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    assert_eq!(answer.status(), Status::Ok, "{}", answer.text);
    assert_eq!(answer.end, Status::Ok);
    let Some(file) = &answer.file else { return answer.bytes.clone() };
    let mut bytes = vec![0; SIZE];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn everything_can_be_had_from_it_while_it_answers() {
    let Some(hanging) = start() else { return };
    let mut peer = hanging.daemon.greeted();
    for uri in ["/hung/plain", "/below/plain"] {
        for mode in Mode::ALL {
            let answer = peer.get(mode, uri.as_bytes(), Range::ALL);
            assert!(bytes_of(&answer) == content(), "{uri} by {mode}");
        }
        assert_eq!(peer.stat(uri.as_bytes()).head.size, SIZE as u64);
        let part = peer.get(Mode::Copy, uri.as_bytes(), Range { offset: 300_000, length: 10 });
        assert_eq!(part.bytes, content()[300_000..300_010]);
    }
    assert!(counter(&mut hanging.daemon.client(), "pool.errands") > 0);
}

#[test]
fn an_open_that_hangs_stops_its_mount_alone() {
    for uri in ["/hung/hang-open", "/below/hang-open"] {
        let Some(hanging) = start() else { return };
        // The names are in memory: whoever opens them by mistake hangs.
        hanging.daemon.greeted().stat(b"/hung/plain");
        let mut asked: Vec<_> = (0..8).map(|_| hanging.ask(Mode::Fdpass, uri)).collect();
        hanging.until_counter("helpers.waiting", |waiting| waiting == 7);
        hanging.until_counter("helpers.longest_ms", |ms| ms > 0);
        hanging.others_go_on();
        // One user's share. Errands of others may be over a moment before they are counted so.
        hanging.until_counter("helpers.running", |running| running == 1);
        hanging.release();
        for (peer, id) in &mut asked {
            assert!(bytes_of(&peer.object(*id)) == content());
        }
    }
}

#[test]
fn a_read_that_hangs_stops_its_own_body_alone() {
    let Some(hanging) = start() else { return };
    let (mut peer, id) = hanging.ask(Mode::Splice, "/hung/hang-read");
    let (mut below, other) = hanging.ask(Mode::Copy, "/below/hang-read");
    hanging.until_counter("helpers.running", |running| running == 2);
    hanging.others_go_on();
    hanging.release();
    assert!(bytes_of(&peer.object(id)) == content());
    assert!(bytes_of(&below.object(other)) == content());
}

#[test]
fn closes_that_hang_are_not_collected_without_end() {
    let Some(hanging) = start() else { return };
    let mut peer = hanging.daemon.greeted();
    // Kept: closing one here would hang this test.
    let mut answers = Vec::new();
    let refused = loop {
        assert!(answers.len() < 400, "a limit is met");
        let answer = peer.get(Mode::Fdpass, b"/hung/hang-flush", Range::ALL);
        if answer.status() != Status::Ok {
            break answer;
        }
        answers.push(answer);
    };
    assert_eq!(refused.status(), Status::Busy);
    assert!(refused.text.contains("wait to be closed"), "{}", refused.text);
    assert!(answers.len() > 200, "{}", answers.len());
    hanging.others_go_on();
    hanging.release();
    hanging.until_counter("helpers.closing", |closing| closing == 0);
    assert_eq!(peer.get(Mode::Fdpass, b"/hung/hang-flush", Range::ALL).status(), Status::Ok);
}

#[test]
fn a_close_that_hangs_stops_nobody() {
    let Some(hanging) = start() else { return };
    let (mut peer, id) = hanging.ask(Mode::Fdpass, "/hung/hang-flush");
    let answer = peer.object(id);
    assert!(bytes_of(&answer) == content());
    hanging.until_counter("helpers.closing", |closing| closing == 1);
    assert!(bytes_of(&peer.get(Mode::Copy, b"/hung/hang-flush", Range::ALL)) == content());
    hanging.until_counter("helpers.closing", |closing| closing == 2);
    assert!(bytes_of(&peer.get(Mode::Copy, b"/hung/plain", Range::ALL)) == content());
    hanging.others_go_on();
    hanging.release();
    hanging.until_counter("helpers.closing", |closing| closing == 0);
}
