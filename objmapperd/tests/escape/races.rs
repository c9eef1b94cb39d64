//! Files, directories and links that change places while they are asked for.

use std::fs;
use std::os::unix::fs::symlink;

use objmapper_proto::{Mode, Range, Status};

use crate::scene::{INSIDE, SECRET, guarded};
use crate::support::daemon::{Daemon, Setup};
use crate::support::peer::Answer;
use crate::support::until;

/// The bytes of an answer, in whatever form they came.
fn bytes_of(answer: Answer) -> Vec<u8> {
    let mut bytes = answer.bytes;
    if let Some(file) = answer.file {
        std::io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
    }
    bytes
}

/// Does something again and again for as long as others need it. They may have failed.
fn meanwhile<T: Send>(work: impl Fn(), others: [impl FnOnce() -> T + Send; 2]) -> [T; 2] {
    std::thread::scope(|scope| {
        let others = others.map(|other| scope.spawn(other));
        while others.iter().any(|other| !other.is_finished()) {
            work();
        }
        others.map(|other| other.join().unwrap())
    })
}

/// While one thread does something to `/dir/file` again and again, others fetch it. Whatever they
/// get, it is never from outside.
fn race(symlinks: &str, swap: fn(&Daemon)) {
    /// Of each kind, for each who fetches; or so many in all, if one kind is rare.
    const ENOUGH: usize = 300;
    const MANY: usize = 4000;
    let place = guarded();
    symlink("../secrets", place.path("link")).unwrap();
    // As it is mounted: out of a mount of its own no ".." would lead anyway.
    let options = format!("symlinks = \"{symlinks}\"\nread_only_clone = \"off\"\n");
    let daemon = Setup::default().root_options(&options).start_in(place);
    let fetch = |mode: Mode| {
        let mut peer = daemon.greeted();
        move || {
            let (mut hits, mut refusals, mut all) = (0, 0, 0);
            until("both were met often enough", || {
                all += 100;
                for _ in 0..100 {
                    let answer = peer.get(mode, b"/dir/file", Range::ALL);
                    match answer.status() {
                        Status::Ok => {
                            hits += 1;
                            let bytes = bytes_of(answer);
                            assert!(bytes == INSIDE, "{:?}", String::from_utf8_lossy(&bytes));
                        }
                        Status::Escape => refusals += 1,
                        // A copy also notices that the file got another name.
                        Status::Changed | Status::NotFound | Status::Busy => {}
                        other => panic!("{other}: {}", answer.text),
                    }
                }
                let rarer = hits.min(refusals);
                rarer >= ENOUGH || all >= MANY && rarer > 0
            });
        }
    };
    meanwhile(|| swap(&daemon), [Mode::Fdpass, Mode::Copy].map(fetch));
}

/// A link to the outside in the place of the directory, and away again.
fn swap_directory(daemon: &Daemon) {
    let [dir, away, link] = ["dir", "away", "link"].map(|name| daemon.path(name));
    fs::rename(&dir, &away).unwrap();
    fs::rename(&link, &dir).unwrap();
    fs::rename(&dir, &link).unwrap();
    fs::rename(&away, &dir).unwrap();
}

/// A link to the outside over the file, and a file over the link, each in one step.
fn swap_file(daemon: &Daemon) {
    let [file, link, other] = ["dir/file", "dir/l", "dir/f"].map(|name| daemon.path(name));
    symlink("../../secrets/file", &link).unwrap();
    fs::hard_link(daemon.path("file"), &other).unwrap();
    fs::rename(&link, &file).unwrap();
    fs::rename(&other, &file).unwrap();
}

#[test]
fn a_race_of_directory_and_link_with_links_refused() {
    race("refuse", swap_directory);
}

#[test]
fn a_race_of_directory_and_link_with_links_followed() {
    race("beneath", swap_directory);
}

#[test]
fn a_race_of_file_and_link_with_links_refused() {
    race("refuse", swap_file);
}

#[test]
fn a_race_of_file_and_link_with_links_followed() {
    race("beneath", swap_file);
}

#[test]
fn a_race_that_moves_a_directory_while_it_is_walked() {
    const FETCHES: usize = 1000;
    let place = guarded();
    // Two levels up from here is the root, and out of it once dir/deep lies at the top.
    place.write("dir/deep/x", INSIDE);
    symlink("../../file", place.path("dir/deep/up")).unwrap();
    fs::write(place.outside("file"), SECRET).unwrap();
    let options = "symlinks = \"beneath\"\nread_only_clone = \"off\"\n";
    let daemon = Setup::default().root_options(options).start_in(place);
    let fetch = |mode: Mode| {
        let mut peer = daemon.greeted();
        move || {
            for _ in 0..FETCHES {
                let bytes = bytes_of(peer.get(mode, b"/dir/deep/up", Range::ALL));
                assert!(bytes.is_empty() || bytes == INSIDE, "{}", String::from_utf8_lossy(&bytes));
            }
        }
    };
    let (inner, outer) = (daemon.path("dir/deep"), daemon.path("deep"));
    let shift = || {
        fs::rename(&inner, &outer).unwrap();
        fs::rename(&outer, &inner).unwrap();
    };
    meanwhile(shift, [Mode::Fdpass, Mode::Splice].map(fetch));
}
