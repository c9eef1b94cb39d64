//! An answer is never stale: what happened to a name before the second of two requests is seen by
//! the second, although the index knew the name already.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use objmapper_client::{Client, Mode, Object, Version};
use objmapper_proto::{Get, Range, Request, Status};
use support::daemon::{Daemon, Setup, counter, mtime_ns, settle};
use support::held::Held;
use support::{is_root, skip};

const OLD: &[u8] = b"the old content";
const NEW: &[u8] = b"this is the new content, and longer";

/// What a request sees.
fn seen(client: &mut Client, uri: &str, mode: Mode) -> Result<(Vec<u8>, Version), Status> {
    match client.get(uri, mode).and_then(|object| {
        let version = object.metadata().version();
        object.into_bytes().map(|bytes| (bytes, version))
    }) {
        Ok(found) => Ok(found),
        Err(error) => Err(error.status().unwrap_or_else(|| panic!("{error}"))),
    }
}

/// For each mode: asks for the URI twice with something happening in between, over one
/// connection, and sees to it that the second was a hit of the index and saw what happened.
#[track_caller]
fn sees(
    setup: &Setup,
    uri: &str,
    prepare: fn(&Daemon),
    change: fn(&Daemon),
    expected: Result<&[u8], Status>,
) {
    for mode in Mode::ALL {
        let daemon = setup.clone().start();
        daemon.write("dir/file", OLD);
        prepare(&daemon);
        let mut client = daemon.client();
        let (bytes, before) = seen(&mut client, uri, mode).unwrap();
        assert_eq!(bytes, OLD);
        // Once more, so that nothing is new to the kernel either.
        seen(&mut client, uri, mode).unwrap();
        let hits = counter(&mut client, "index.hits");
        let misses = counter(&mut client, "index.misses");

        change(&daemon);
        let after = seen(&mut client, uri, mode);

        if let Ok((_, version)) = &after {
            assert_ne!(*version, before, "another content, another version");
        }
        assert_eq!(
            after.map(|(bytes, _)| bytes).as_deref(),
            expected.as_ref().map(|b| *b),
            "{mode}"
        );
        assert!(counter(&mut client, "index.hits") > hits, "the index knew the name");
        assert_eq!(counter(&mut client, "index.misses"), misses, "the index knew the name");
    }
}

fn plain(change: fn(&Daemon), expected: Result<&[u8], Status>) {
    sees(&Setup::default().unprivileged(), "/dir/file", |_| {}, change, expected);
}

#[test]
fn a_file_renamed_over_it() {
    let change = |daemon: &Daemon| {
        let new = daemon.write("new", NEW);
        fs::rename(new, daemon.path("dir/file")).unwrap();
    };
    plain(change, Ok(NEW));
}

#[test]
fn a_truncation() {
    let change = |daemon: &Daemon| {
        File::options().write(true).open(daemon.path("dir/file")).unwrap().set_len(3).unwrap();
    };
    plain(change, Ok(&OLD[..3]));
}

#[test]
fn an_overwrite() {
    plain(|daemon| drop(daemon.write("dir/file", NEW)), Ok(NEW));
}

#[test]
fn a_deletion() {
    plain(|daemon| fs::remove_file(daemon.path("dir/file")).unwrap(), Err(Status::NotFound));
}

#[test]
fn a_deletion_of_the_directory() {
    plain(|daemon| fs::remove_dir_all(daemon.path("dir")).unwrap(), Err(Status::NotFound));
}

#[test]
fn a_chmod_of_the_file() {
    let change = |daemon: &Daemon| mode(&daemon.path("dir/file"), 0o000);
    plain(change, Err(Status::Denied));
}

#[test]
fn a_chmod_of_its_directory() {
    let change = |daemon: &Daemon| mode(&daemon.path("dir"), 0o000);
    plain(change, Err(Status::Denied));
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

#[test]
fn a_directory_renamed_over() {
    let change = |daemon: &Daemon| {
        daemon.write("other/file", NEW);
        fs::rename(daemon.path("dir"), daemon.path("away")).unwrap();
        fs::rename(daemon.path("other"), daemon.path("dir")).unwrap();
    };
    plain(change, Ok(NEW));
}

#[test]
fn a_directory_in_its_place() {
    let change = |daemon: &Daemon| {
        fs::remove_file(daemon.path("dir/file")).unwrap();
        fs::create_dir(daemon.path("dir/file")).unwrap();
    };
    plain(change, Err(Status::NotRegular));
}

#[test]
fn a_link_in_its_place() {
    let change = |daemon: &Daemon| {
        fs::rename(daemon.path("dir/file"), daemon.path("dir/moved")).unwrap();
        symlink("moved", daemon.path("dir/file")).unwrap();
    };
    plain(change, Err(Status::Escape));
}

#[test]
fn a_link_that_points_elsewhere() {
    let prepare = |daemon: &Daemon| {
        daemon.write("dir/other", NEW);
        symlink("file", daemon.path("dir/link")).unwrap();
    };
    let change = |daemon: &Daemon| {
        symlink("other", daemon.path("dir/fresh")).unwrap();
        fs::rename(daemon.path("dir/fresh"), daemon.path("dir/link")).unwrap();
    };
    let setup = Setup::default().root_options("symlinks = \"beneath\"\n");
    sees(&setup, "/dir/link", prepare, change, Ok(NEW));
}

#[test]
fn a_name_that_needs_escapes() {
    let prepare = |daemon: &Daemon| drop(daemon.write("dir/two words%", OLD));
    let change = |daemon: &Daemon| drop(daemon.write("dir/two words%", NEW));
    sees(&Setup::default(), "/dir/two%20words%25", prepare, change, Ok(NEW));
}

#[test]
fn what_was_refused_is_found_as_soon_as_it_is_there() {
    let daemon = Setup::default().unprivileged().start();
    let mut client = daemon.client();
    for status in [Status::NotFound, Status::NotFound] {
        assert_eq!(seen(&mut client, "/dir/file", Mode::Copy).unwrap_err(), status);
    }
    let path = daemon.write("dir/file", OLD);
    assert_eq!(seen(&mut client, "/dir/file", Mode::Copy).unwrap().0, OLD);
    mode(&path, 0o000);
    assert_eq!(seen(&mut client, "/dir/file", Mode::Copy).unwrap_err(), Status::Denied);
    mode(&path, 0o644);
    assert_eq!(seen(&mut client, "/dir/file", Mode::Copy).unwrap().0, OLD);
}

#[test]
fn a_change_that_hides_its_time() {
    let daemon = Daemon::start();
    let path = daemon.write("file", OLD);
    let mut client = daemon.client();
    settle(&mut client, "/file");
    let before = client.stat("/file").unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let other: Vec<u8> = OLD.iter().rev().copied().collect();
    fs::write(&path, &other).unwrap();
    let times = FileTimes::new().set_modified(modified);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let Object::Bytes(bytes, after) = client.get("/file", Mode::Copy).unwrap() else { panic!() };
    assert_eq!((after.size(), after.mtime_ns()), (before.size(), before.mtime_ns()));
    assert_eq!(after.mtime_ns(), mtime_ns(&path));
    assert_ne!(after.version(), before.version());
    assert_eq!(bytes, other);
}

#[test]
fn a_file_that_nobody_touches_keeps_its_version() {
    let daemon = Daemon::start();
    daemon.write("file", OLD);
    let mut client = daemon.client();
    settle(&mut client, "/file");
    let version = client.stat("/file").unwrap().version();
    for mode in Mode::ALL {
        assert_eq!(client.get("/file", mode).unwrap().metadata().version(), version, "{mode}");
    }
    assert_eq!(daemon.client().stat("/file").unwrap().version(), version);
}

#[test]
fn what_the_client_has_already_is_not_sent() {
    let daemon = Daemon::start();
    let path = daemon.write("file", OLD);
    settle(&mut daemon.client(), "/file");
    let mut peer = daemon.greeted();
    let version = peer.stat(b"/file").head.version;
    for mode in Mode::ALL {
        let answer = peer.get_unless(mode, b"/file", version);
        assert_eq!(answer.status(), Status::NotModified, "{mode}");
        assert_eq!(answer.head.size, OLD.len() as u64, "{mode}");
        assert_eq!(answer.head.version, version, "{mode}");
        assert!(answer.file.is_none() && answer.bytes.is_empty(), "{mode}");
    }
    let other: Vec<u8> = OLD.iter().rev().copied().collect();
    fs::write(&path, &other).unwrap();
    let answer = peer.get_unless(Mode::Copy, b"/file", version);
    assert_eq!((answer.status(), answer.bytes), (Status::Ok, other));
    fs::remove_file(&path).unwrap();
    assert_eq!(peer.get_unless(Mode::Copy, b"/file", version).status(), Status::NotFound);
}

#[test]
fn a_version_told_while_the_clock_stood_still_is_never_current() {
    let daemon = Daemon::start();
    daemon.write("file", OLD);
    let mut peer = daemon.greeted();
    // Asked at once: whatever was told, only content that is still the same may be withheld.
    let version = peer.stat(b"/file").head.version;
    daemon.write("file", b"new");
    let answer = peer.get_unless(Mode::Copy, b"/file", version);
    assert_eq!((answer.status(), answer.bytes.as_slice()), (Status::Ok, b"new".as_slice()));
}

/// Writes contents of one size, one right behind the other, and asks after each: all bytes are
/// the last ones written, and no version comes twice. Returns how often a write left the file
/// with the same times as the one before.
fn overwrite_many_times(daemon: &Daemon, path: &Path, uri: &str) -> usize {
    const ROUNDS: u64 = 1500;
    let mut client = daemon.client();
    let mut versions = std::collections::HashSet::new();
    let (mut last, mut unseen) = (None, 0);
    for round in 0..ROUNDS {
        fs::write(path, round.to_le_bytes()).unwrap();
        let asked = Mode::ALL[usize::try_from(round).unwrap() % 4];
        let (bytes, version) = seen(&mut client, uri, asked).unwrap();
        assert_eq!(bytes, round.to_le_bytes(), "by {asked}");
        assert!(versions.insert(version), "version {version} in round {round} was given before");
        let metadata = fs::metadata(path).unwrap();
        let stamp = Some((metadata.ctime(), metadata.ctime_nsec()));
        unseen += usize::from(stamp == last);
        last = stamp;
    }
    unseen
}

#[test]
fn overwrites_of_the_same_size_in_a_row() {
    let daemon = Daemon::start();
    let path = daemon.write("file", b"");
    overwrite_many_times(&daemon, &path, "/file");
}

/// Some file systems stamp more finely once they were asked; this one never does.
#[test]
fn overwrites_of_the_same_size_within_one_tick() {
    if !is_root() {
        return skip("a file system with a coarse clock has to be mounted, which takes root");
    }
    let script = "mount -t ramfs none \"$1\" && shift && exec \"$@\"";
    let place = support::daemon::Place::new();
    let tree = place.tree();
    let words = ["unshare", "-m", "sh", "-c", script, "sh", tree.to_str().unwrap()];
    let daemon = Setup::default().wrapper(&words).start_in(place);
    // As the daemon sees it; nobody else has this mount.
    let inside = format!("/proc/{}/root{}", daemon.pid(), tree.join("file").display());
    let unseen = overwrite_many_times(&daemon, Path::new(&inside), "/file");
    assert!(unseen > 0, "no two of the writes came within one tick: nothing was tested");
}

#[test]
fn a_short_copy_does_not_mind_another_name_or_other_permissions() {
    let changes: [fn(&Path); 2] = [
        |file| fs::hard_link(file, file.with_extension("too")).unwrap(),
        |file| fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap(),
    ];
    for change in changes {
        let daemon = Setup::default().workers(1).start();
        let file = daemon.write("file", OLD);
        let mut peer = daemon.greeted();
        assert_eq!(peer.get(Mode::Copy, b"/file", Range::ALL).bytes, OLD);
        // Between opening and reading.
        let Some(held) = Held::at(&daemon, "worker-0", ("preadv2", 1), 600) else {
            return skip("strace is needed to hold a thread back");
        };
        let id = peer.request(Request::Get(Get::new(Mode::Copy, Range::ALL, b"/file")));
        held.is_caught();
        change(&file);
        drop(held);
        let answer = peer.object(id);
        assert_eq!((answer.status(), answer.bytes.as_slice()), (Status::Ok, OLD));
    }
}
