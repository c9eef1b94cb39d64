//! Descriptions that are shared: given where the mount allows it and the client asks, and never
//! instead of what opening the name at that moment would give.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use objmapper_client::{Client, Opened};
use objmapper_proto::word::mode::Mode;
use objmapper_proto::{Get, GetMany, ObjectHead, Range, Reply, Request, Status};
use support::daemon::{Daemon, NOBODY, Setup, counter, settle};
use support::{is_root, skip, until};

fn setup() -> Setup {
    Setup::default().root_options("shared = true\n").unprivileged()
}

/// A daemon with one file that is old enough to be shared.
fn daemon() -> (Daemon, Client) {
    with(setup())
}

fn with(setup: Setup) -> (Daemon, Client) {
    let daemon = setup.start();
    daemon.write("dir/sub/file", b"old");
    let mut client = daemon.client();
    settle(&mut client, "/dir/sub/file");
    (daemon, client)
}

fn text(object: &Opened) -> String {
    String::from_utf8(object.read_to_vec().unwrap()).unwrap()
}

/// Opens it twice; the second is a hit.
#[track_caller]
fn hit(client: &mut Client, uri: &str) -> Opened {
    assert!(client.open_shared(uri).unwrap().metadata().is_shared(), "{uri}");
    let hits = counter(client, "shared.hits");
    let object = client.open_shared(uri).unwrap();
    assert_eq!((object.metadata().is_shared(), counter(client, "shared.hits")), (true, hits + 1));
    object
}

/// What the very next request says after a change.
#[track_caller]
fn after(change: impl FnOnce(&Daemon)) -> Result<String, Status> {
    let (daemon, mut client) = daemon();
    hit(&mut client, "/dir/sub/file");
    let hits = counter(&mut client, "shared.hits");
    change(&daemon);
    let seen = client.open_shared("/dir/sub/file");
    assert_eq!(counter(&mut client, "shared.hits"), hits, "nobody hit upon the old one");
    let seen = seen.map(|object| text(&object)).map_err(|error| error.status().unwrap());
    for dir in ["", "dir", "dir/sub"] {
        if daemon.path(dir).exists() {
            mode(&daemon.path(dir), 0o755);
        }
    }
    flush(&daemon, "/");
    seen
}

/// By a user who may.
fn flush(daemon: &Daemon, prefix: &str) -> u32 {
    daemon.client().flush(prefix).unwrap()
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

#[test]
fn those_who_ask_have_one_description_together() {
    let (daemon, mut client) = daemon();
    let first = hit(&mut client, "/dir/sub/file");
    let second = daemon.client().open_shared("/dir/sub/file").unwrap();
    let private = client.open("/dir/sub/file").unwrap();
    assert!(!private.metadata().is_shared());
    let (mut first, mut second, mut private) =
        (first.into_file(), second.into_file(), private.into_file());
    first.seek(SeekFrom::Start(2)).unwrap();
    assert_eq!(second.stream_position().unwrap(), 2);
    let mut rest = String::new();
    second.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "d");
    assert_eq!(private.stream_position().unwrap(), 0);
    assert_eq!(flush(&daemon, "/"), 1);
}

#[test]
fn a_mount_that_does_not_allow_it_gives_private_ones() {
    let daemon = Daemon::start();
    daemon.write("file", b"x");
    let mut client = daemon.client();
    settle(&mut client, "/file");
    for _ in 0..2 {
        assert!(!client.open_shared("/file").unwrap().metadata().is_shared());
    }
    assert_eq!(counter(&mut client, "shared.misses"), 0);
    assert_eq!(client.flush("/").unwrap(), 0);
}

#[test]
fn nothing_is_shared_where_there_is_room_for_none() {
    let (_daemon, mut client) = with(setup().config("[limits]\nshared_descriptors = 0\n"));
    for _ in 0..2 {
        assert!(!client.open_shared("/dir/sub/file").unwrap().metadata().is_shared());
    }
}

#[test]
fn a_file_renamed_over_it() {
    let seen = after(|daemon| {
        let new = daemon.write("new", b"new");
        fs::rename(new, daemon.path("dir/sub/file")).unwrap();
    });
    assert_eq!(seen.as_deref(), Ok("new"));
}

#[test]
fn a_rename_of_the_name() {
    let seen = after(|daemon| {
        fs::rename(daemon.path("dir/sub/file"), daemon.path("dir/sub/other")).unwrap();
    });
    assert_eq!(seen, Err(Status::NotFound));
}

#[test]
fn a_rename_of_its_directory() {
    let seen = after(|daemon| fs::rename(daemon.path("dir/sub"), daemon.path("sub")).unwrap());
    assert_eq!(seen, Err(Status::NotFound));
}

#[test]
fn a_rename_of_a_directory_above() {
    let seen = after(|daemon| {
        fs::rename(daemon.path("dir"), daemon.path("gone")).unwrap();
        daemon.write("dir/sub/file", b"another");
    });
    assert_eq!(seen.as_deref(), Ok("another"));
}

#[test]
fn a_symlink_in_the_place_of_a_directory() {
    let seen = after(|daemon| {
        fs::rename(daemon.path("dir"), daemon.path("real")).unwrap();
        symlink("real", daemon.path("dir")).unwrap();
    });
    assert_eq!(seen, Err(Status::Escape));
}

#[test]
fn a_chmod_of_a_directory_above() {
    // The mount's own among them.
    for dir in ["dir/sub", "dir", ""] {
        let seen = after(|daemon| mode(&daemon.path(dir), 0o600));
        assert_eq!(seen, Err(Status::Denied), "{dir}");
    }
}

#[test]
fn a_chmod_of_the_file() {
    let seen = after(|daemon| mode(&daemon.path("dir/sub/file"), 0o000));
    assert_eq!(seen, Err(Status::Denied));
}

#[test]
fn a_deletion() {
    let seen = after(|daemon| fs::remove_file(daemon.path("dir/sub/file")).unwrap());
    assert_eq!(seen, Err(Status::NotFound));
}

#[test]
fn a_deletion_of_all_above() {
    let seen = after(|daemon| fs::remove_dir_all(daemon.path("dir")).unwrap());
    assert_eq!(seen, Err(Status::NotFound));
}

#[test]
fn an_overwrite() {
    let seen = after(|daemon| drop(daemon.write("dir/sub/file", b"longer than before")));
    assert_eq!(seen.as_deref(), Ok("longer than before"));
}

#[test]
fn a_truncation() {
    let seen = after(|daemon| {
        let file = File::options().write(true).open(daemon.path("dir/sub/file")).unwrap();
        file.set_len(1).unwrap();
    });
    assert_eq!(seen.as_deref(), Ok("o"));
}

/// The watch is on the directory, whichever mount it is looked at through.
#[test]
fn changes_are_seen_through_a_read_only_clone() {
    if !is_root() {
        return skip("needs CAP_SYS_ADMIN");
    }
    let options = "shared = true\nread_only_clone = \"on\"\n";
    let (daemon, mut client) = with(Setup::default().root_options(options));
    hit(&mut client, "/dir/sub/file");
    fs::rename(daemon.path("dir"), daemon.path("gone")).unwrap();
    let seen = client.open_shared("/dir/sub/file").map(drop).map_err(|error| error.status());
    assert_eq!(seen, Err(Some(Status::NotFound)));
    assert_eq!(counter(&mut client, "shared.descriptors"), 0);
}

/// Requests that arrive together are answered by what was true when they had arrived, and a change
/// between two of them that arrive one after the other is seen by the second, on one connection
/// and in one turn of its worker or not.
#[test]
fn every_batch_looks_anew() {
    let (daemon, mut client) = daemon();
    fs::create_dir_all(daemon.path("other/sub")).unwrap();
    daemon.write("other/sub/file", b"new");
    settle(&mut client, "/other/sub/file");
    let mut expected = ["old", "new"];
    for _ in 0..300 {
        assert_eq!(text(&client.open_shared("/dir/sub/file").unwrap()), expected[0]);
        for (from, to) in [("dir", "tmp"), ("other", "dir"), ("tmp", "other")] {
            fs::rename(daemon.path(from), daemon.path(to)).unwrap();
        }
        expected.swap(0, 1);
    }
    assert!(counter(&mut client, "shared.invalidations") > 0);
    flush(&daemon, "/");
}

/// Even if nobody asks for it: a file that is deleted takes no room on the disk.
#[test]
fn what_is_deleted_is_let_go_of() {
    let (daemon, mut client) = daemon();
    drop(hit(&mut client, "/dir/sub/file"));
    fs::remove_file(daemon.path("dir/sub/file")).unwrap();
    until("it is closed", || counter(&mut client, "shared.descriptors") == 0);
}

#[test]
fn lost_events_drop_everything_and_are_counted() {
    let (daemon, mut client) = with(setup().workers(1));
    let queue: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if queue > 1 << 17 {
        return skip("the queue of events is too long to be filled");
    }
    hit(&mut client, "/dir/sub/file");
    // While it is stopped nobody reads events.
    daemon.signal("STOP");
    let noise = daemon.write("dir/sub/noise", b"");
    for n in 0..=queue {
        mode(&noise, if n % 2 == 0 { 0o600 } else { 0o644 });
        if n % 2 == 0 {
            // Equal neighbours are one event.
            mode(&daemon.path("dir/sub/file"), 0o644);
        }
    }
    fs::rename(daemon.path("dir"), daemon.path("gone")).unwrap();
    daemon.signal("CONT");
    let seen = client.open_shared("/dir/sub/file").map(drop).map_err(|error| error.status());
    assert_eq!(seen, Err(Some(Status::NotFound)));
    assert_eq!(counter(&mut client, "shared.overflows"), 1);
    assert_eq!(counter(&mut client, "shared.watches"), 0);
    settle(&mut client, "/gone/sub/file");
    hit(&mut client, "/gone/sub/file");
    flush(&daemon, "/");
}

/// Ends in exec, as what a daemon is started by has to: a user namespace of its own, where limits
/// and mounts are nobody else's, and a step in it. user_namespaces(7)
fn alone(step: &str) -> Option<Setup> {
    let flags = ["--user", "--map-root-user", "--mount"];
    let tried = Command::new("unshare").args(flags).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        skip("no user namespaces here (unshare -Urm true)");
        return None;
    }
    let step = format!("{step} && exec \"$0\" \"$@\"");
    let mut words = vec!["/usr/bin/env", "unshare"];
    words.extend(flags);
    words.extend(["/bin/sh", "-c", &step]);
    // A clone would not show what is mounted later.
    let setup = Setup::default().root_options("shared = true\nread_only_clone = \"off\"\n");
    // The search path of env(1), which is all that it takes.
    Some(setup.variable("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").wrapper(&words))
}

/// Where the user has used up his watches, everybody gets a description of their own, and what
/// could be watched is let go of for those that come later.
#[test]
fn out_of_watches_it_is_private_and_counted() {
    let Some(setup) = alone("echo 2 >/proc/sys/user/max_inotify_watches") else { return };
    let (daemon, mut client) = with(setup);
    daemon.write("near", b"near");
    daemon.write("next/file", b"next");
    for uri in ["/near", "/next/file"] {
        settle(&mut client, uri);
    }
    // One directory and two are watched; a third is too many.
    hit(&mut client, "/near");
    hit(&mut client, "/next/file");
    for missing in 1..=2 {
        let object = client.open_shared("/dir/sub/file").unwrap();
        assert_eq!((object.metadata().is_shared(), text(&object).as_str()), (false, "old"));
        assert_eq!(counter(&mut client, "shared.no_watch"), missing);
    }
    assert!(client.open_shared("/near").unwrap().metadata().is_shared());
    assert_eq!(counter(&mut client, "shared.descriptors"), 2);
    // As little as before: what is kept is as good as ever.
    let hits = counter(&mut client, "shared.hits");
    fs::rename(daemon.path("next"), daemon.path("gone")).unwrap();
    let seen = client.open_shared("/next/file").map(drop).map_err(|error| error.status());
    assert_eq!(seen, Err(Some(Status::NotFound)));
    assert_eq!(counter(&mut client, "shared.hits"), hits);
    // The watch that has become free serves another directory.
    settle(&mut client, "/gone/file");
    hit(&mut client, "/gone/file");
    flush(&daemon, "/");
}

/// Mounting over a directory is no change of the directory, and no watch tells of it. What is kept
/// open in a mount keeps it busy, until it is flushed.
#[test]
fn what_is_mounted_is_seen_and_can_be_unmounted_after_a_flush() {
    let Some(setup) = alone("true") else { return };
    let (daemon, mut client) = with(setup);
    let there = |words: &[&str]| {
        let pid = daemon.pid().to_string();
        let enter = ["--user", "--mount", "--preserve-credentials", "--target", &pid];
        let done = Command::new("nsenter").args(enter).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(said) }
    };
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let (dir, file) = (name(&daemon.path("dir/sub")), name(&daemon.path("dir/sub/file")));
    let other = name(&daemon.write("other", b"other"));
    settle(&mut client, "/other");

    hit(&mut client, "/dir/sub/file");
    there(&["mount", "-t", "tmpfs", "none", &dir]).unwrap();
    let seen = client.open_shared("/dir/sub/file").map(drop).map_err(|error| error.status());
    assert_eq!(seen, Err(Some(Status::NotFound)), "nothing is in what was mounted");
    there(&["umount", &dir]).unwrap();

    // Nothing is watched any more: that of the unmounting is heard with the next that is kept.
    assert_eq!(text(&client.open_shared("/dir/sub/file").unwrap()), "old");
    hit(&mut client, "/dir/sub/file");
    there(&["mount", "--bind", &other, &file]).unwrap();
    assert_eq!(text(&hit(&mut client, "/dir/sub/file")), "other");
    assert!(there(&["umount", &file]).unwrap_err().contains("busy"));
    assert_eq!(flush(&daemon, "/dir"), 1);
    there(&["umount", &file]).unwrap();
    assert_eq!(text(&client.open_shared("/dir/sub/file").unwrap()), "old");
    flush(&daemon, "/");
}

/// Who may pass a directory and not read it can open what is in it, and cannot watch it.
#[test]
fn a_directory_that_cannot_be_watched_is_not_shared_and_counted() {
    if !is_root() {
        return skip("needs another user, whose daemon may not read a directory");
    }
    let (daemon, mut client) = daemon();
    mode(&daemon.path("dir/sub"), 0o711);
    for _ in 0..3 {
        assert!(!client.open_shared("/dir/sub/file").unwrap().metadata().is_shared());
    }
    assert_eq!(counter(&mut client, "shared.no_watch"), 3);
    assert_eq!(counter(&mut client, "shared.descriptors"), 0);
}

#[test]
fn flush_is_for_root_and_the_daemons_user() {
    if !is_root() {
        return skip("needs another user");
    }
    let setup = Setup::default().root_options("shared = true\nallow = [\"any\"]\n");
    let (daemon, mut client) = with(setup.config("[listen]\nmode = \"0666\"\n"));
    hit(&mut client, "/dir/sub/file");
    let program = env!("CARGO_BIN_EXE_objmapperd");
    assert!(Path::new(program).exists());
    let socket = daemon.socket();
    let script = "import os,socket,struct,sys\n\
        os.setgid(12345); os.setuid(12345)\n\
        s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
        s.sendall(struct.pack('<IBBHQ',32,1,0,0,1)+b'OBJM'+struct.pack('<HHQIIH6x',1,1,0,524288,0,253))\n\
        s.sendall(struct.pack('<IBBHQ',1,9,0,0,2)+b'/')\n\
        b=b''\n\
        while len(b)<66: b+=s.recv(4096)\n\
        print(hex(b[52]), hex(struct.unpack_from('<H',b,64)[0]))\n";
    let said = Command::new("python3").args(["-c", script]).arg(socket).output();
    let Ok(said) = said else { return skip("needs python3") };
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.trim(), "0x8f 0x103", "uid {NOBODY} is told DENIED");
    assert_eq!(counter(&mut client, "shared.descriptors"), 1);
    assert_eq!(flush(&daemon, "/dir/"), 1);
    assert_eq!(counter(&mut client, "shared.descriptors"), 0);
}

#[test]
fn a_batch_is_shared_item_by_item() {
    let (daemon, mut client) = daemon();
    daemon.write("dir/b", b"b");
    settle(&mut client, "/dir/b");
    hit(&mut client, "/dir/sub/file");
    let mut peer = daemon.greeted();
    let mut uris = Vec::new();
    for uri in ["/dir/sub/file", "/dir/none", "/dir/b", "/dir/b"] {
        GetMany::push_uri(&mut uris, uri.as_bytes());
    }
    let many = GetMany::new(Mode::Fdpass, &uris).unwrap().sharing(true);
    peer.request(Request::GetMany(many));
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let frame = peer.frame();
        let Reply::Objects(objects) = frame.reply() else { panic!("{:?}", frame.reply()) };
        let is_shared = |head: ObjectHead| head.flags & ObjectHead::SHARED != 0;
        seen.extend(objects.items().map(|item| (item.head.status, is_shared(item.head))));
    }
    let (ok, none) = (Status::Ok, Status::NotFound);
    assert_eq!(seen, [(ok, true), (none, false), (ok, true), (ok, true)]);
    // Bytes are as ever.
    let get = Get { shared: true, ..Get::new(Mode::Copy, Range::ALL, b"/dir/b") };
    peer.request(Request::Get(get));
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{:?}", frame.reply()) };
    assert_eq!((item.inline, item.head.flags), (&b"b"[..], ObjectHead::CHECKED));
    drop(peer);
    flush(&daemon, "/");
}
