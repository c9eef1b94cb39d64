//! Opening beneath a root: what openat2 answers to names that want out, wait, or are cold.

mod common;

use common::{
    Balance, CHILD, assert_passed, child, directory, disk_directory, file, in_a_namespace, skip,
};
use objmapper_os::errno;
use objmapper_os::file::{Kind, identity, read_at, read_dir, reopen};
use objmapper_os::root::{Links, Resolve, Root};
use rustix::fs::{FileType, Mode, OFlags};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const LINKS: [Links; 2] = [Links::Refuse, Links::Beneath];

#[allow(clippy::unwrap_used)] // fails its test
fn errno_of(root: &Root, name: &[u8], links: Links) -> i32 {
    root.open_file(name, links, Resolve::MayBlock).unwrap_err().errno()
}

#[test]
fn openat2_beneath_refuses_dotdot_with_exdev() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "outside", b"secret");
    std::fs::create_dir_all(directory.path().join("root/sub")).unwrap();
    let root = Root::open(&directory.path().join("root")).unwrap();
    for links in LINKS {
        for name in [&b".."[..], b"../outside", b"sub/../../outside", b"sub/../.."] {
            assert_eq!(errno_of(&root, name, links), errno::EXDEV, "{name:?}");
        }
        assert!(root.open_dir(b"sub/..", links).is_ok(), "beneath is beneath");
        assert_eq!(errno_of(&root, b"/etc/passwd", links), errno::EINVAL);
        assert_eq!(errno_of(&root, b"sub\0/x", links), errno::EINVAL);
    }
}

#[test]
fn links_are_eloop_or_stay_beneath() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "a", b"a");
    symlink("a", directory.path().join("in")).unwrap();
    symlink("/etc/passwd", directory.path().join("absolute")).unwrap();
    symlink("../../etc/passwd", directory.path().join("up")).unwrap();
    symlink("round", directory.path().join("round")).unwrap();
    let root = Root::open(directory.path()).unwrap();
    for name in [&b"in"[..], b"absolute", b"up", b"round"] {
        assert_eq!(errno_of(&root, name, Links::Refuse), errno::ELOOP);
        assert_eq!(root.open_path(name, Links::Refuse).unwrap_err().errno(), errno::ELOOP);
    }
    assert!(root.open_file(b"in", Links::Beneath, Resolve::MayBlock).is_ok());
    assert_eq!(errno_of(&root, b"absolute", Links::Beneath), errno::EXDEV);
    assert_eq!(errno_of(&root, b"up", Links::Beneath), errno::EXDEV);
    assert_eq!(errno_of(&root, b"round", Links::Beneath), errno::ELOOP);
}

#[test]
fn magic_links_are_eloop() {
    let _balance = Balance::new();
    let root = Root::open(Path::new("/proc/self")).unwrap();
    for links in LINKS {
        assert_eq!(errno_of(&root, b"root/etc/passwd", links), errno::ELOOP);
        assert_eq!(errno_of(&root, b"fd/0", links), errno::ELOOP);
    }
}

#[test]
fn missing_names_cost_no_text() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "a", b"a");
    let root = Root::open(directory.path()).unwrap();
    let error = root.open_file(b"no", Links::Refuse, Resolve::MayBlock).unwrap_err();
    assert!(error.is_not_found() && error.detail().is_none());
    let error = root.open_file(b"a/b", Links::Refuse, Resolve::MayBlock).unwrap_err();
    assert_eq!(error.errno(), errno::ENOTDIR);
    let error = root.open_file(b"../x", Links::Refuse, Resolve::MayBlock).unwrap_err();
    assert_eq!(error.to_string(), "openat2(\"../x\"): Cross-device link (EXDEV)");
    let error = Root::open(&directory.path().join("a")).unwrap_err();
    assert_eq!(error.errno(), errno::ENOTDIR);
}

#[test]
fn names_may_be_long_and_are_bytes() {
    let _balance = Balance::new();
    let directory = directory();
    let root = Root::open(directory.path()).unwrap();
    let part = "d".repeat(200);
    let mut deep = directory.path().to_owned();
    let mut name = Vec::new();
    for _ in 0..5 {
        deep.push(&part);
        name.extend_from_slice(part.as_bytes());
        name.push(b'/');
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), b"deep").unwrap();
    name.extend_from_slice(b"file");
    let opened = root.open_file(&name, Links::Refuse, Resolve::MayBlock).unwrap();
    let mut buf = [0; 8];
    assert_eq!(read_at(opened.as_fd(), &mut buf, 0).unwrap(), 4);
    for length in [4096, 5000] {
        assert_eq!(errno_of(&root, &vec![b'x'; length], Links::Refuse), errno::ENAMETOOLONG);
    }
    assert_eq!(errno_of(&root, &[b'x'; 300], Links::Refuse), errno::ENAMETOOLONG);
    assert_eq!(errno_of(&root, b"\xff\xfe", Links::Refuse), errno::ENOENT);
    let itself = root.open_dir(b"", Links::Refuse).unwrap();
    assert_eq!(identity(itself.as_fd()).unwrap(), identity(root.as_fd()).unwrap());
}

#[test]
fn a_name_that_was_never_asked_for_is_cold() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "warm", b"w");
    let root = Root::open(directory.path()).unwrap();
    let cached = |name| root.open_file(name, Links::Refuse, Resolve::CachedOnly);
    let warm = cached(b"warm").map(|fd| identity(fd.as_fd()).unwrap().size);
    if !objmapper_os::probe::features().open_cached {
        assert!(warm.unwrap_err().is_would_block(), "everything is cold");
        return skip("this kernel has no RESOLVE_CACHED");
    }
    assert_eq!(warm.unwrap(), 1, "it was just created");
    let error = cached(b"never asked for").unwrap_err();
    assert!(error.is_would_block() && error.detail().is_none());
    assert_eq!(errno_of(&root, b"never asked for", Links::Refuse), errno::ENOENT);
}

#[test]
fn resolve_no_xdev_stays_in_the_mount() {
    let _balance = Balance::new();
    let root = Root::open(Path::new("/")).unwrap();
    let open = |resolve| root.open_file(b"proc", Links::Refuse, resolve);
    let mount = open(Resolve::MayBlock).and_then(|fd| identity(fd.as_fd()));
    if mount.is_ok_and(|proc| proc.dev == identity(root.as_fd()).unwrap().dev) {
        return skip("nothing is mounted at /proc");
    }
    if objmapper_os::probe::features().open_cached {
        assert!(open(Resolve::CachedOnly).is_ok());
        let error = open(Resolve::CachedHere).unwrap_err().errno();
        assert!([errno::EAGAIN, errno::EXDEV].contains(&error), "{error}");
        assert!(root.open_file(b"etc", Links::Refuse, Resolve::CachedHere).is_ok());
    }
}

#[test]
fn fifo_open_does_not_block() {
    let _balance = Balance::new();
    let directory = directory();
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let root = Root::open(directory.path()).unwrap();
    let opened = root.open_file(b"fifo", Links::Refuse, Resolve::MayBlock).unwrap();
    let identity = identity(opened.as_fd()).unwrap();
    assert!(!identity.is_regular() && !identity.is_dir());
}

/// Whoever holds a lease is asked to give it up, and nobody waits for that. fcntl(2), `F_SETLEASE`
#[test]
fn a_leased_file_is_eagain_at_once() {
    let _balance = Balance::new();
    let directory = disk_directory();
    let path = file(&directory, "f", b"x");
    let holder = "import fcntl, signal, sys\n\
        signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
        f = open(sys.argv[1], 'r+')\n\
        fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
        print('held', flush=True)\n\
        sys.stdin.read()\n";
    let mut command = Command::new("python3");
    command.args(["-c", holder]).arg(&path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut holder) = command.spawn() else { return skip("needs python3") };
    let mut said = [0; 4];
    let held = holder.stdout.take().unwrap().read_exact(&mut said);
    let root = Root::open(directory.path()).unwrap();
    let error = root.open_file(b"f", Links::Refuse, Resolve::MayBlock).map(drop);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    if held.is_err() {
        return skip("this file system has no leases");
    }
    assert!(error.unwrap_err().is_would_block());
    root.open_file(b"f", Links::Refuse, Resolve::MayBlock).unwrap();
}

/// An `O_PATH` descriptor: what the name leads to can be asked about by those who may not read it.
#[test]
fn a_place_is_known_without_being_opened() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "f", b"123");
    let root = Root::open(directory.path()).unwrap();
    let place = root.open_path(b"f", Links::Refuse).unwrap();
    assert_eq!(identity(place.as_fd()).unwrap().size, 3);
    assert_eq!(read_at(place.as_fd(), &mut [0; 8], 0).unwrap_err().errno(), errno::EBADF);
    let mut bytes = [0; 8];
    assert_eq!(read_at(reopen(place.as_fd()).unwrap().as_fd(), &mut bytes, 0).unwrap(), 3);
}

#[test]
fn a_socket_cannot_be_opened() {
    let _balance = Balance::new();
    let directory = directory();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    let root = Root::open(directory.path()).unwrap();
    assert_eq!(errno_of(&root, b"socket", Links::Refuse), errno::ENXIO);
    assert!(root.open_path(b"socket", Links::Refuse).is_ok());
}

#[test]
fn an_opened_file_keeps_its_inode_when_the_name_is_taken_over() {
    let _balance = Balance::new();
    let directory = directory();
    let path = file(&directory, "a", b"old");
    let root = Root::open(directory.path()).unwrap();
    let opened = root.open_file(b"a", Links::Refuse, Resolve::MayBlock).unwrap();
    assert_eq!(identity(opened.as_fd()).unwrap().nlink, 1);
    std::fs::rename(file(&directory, "b", b"newer"), &path).unwrap();
    assert_eq!(identity(opened.as_fd()).unwrap().nlink, 0);
    let mut buf = [0; 8];
    assert_eq!(read_at(opened.as_fd(), &mut buf, 0).unwrap(), 3);
    let fresh = root.open_file(b"a", Links::Refuse, Resolve::MayBlock).unwrap();
    assert_eq!(identity(fresh.as_fd()).unwrap().size, 5);
}

#[test]
fn a_directory_lists_its_names_however_often() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "a", b"");
    std::fs::create_dir(directory.path().join("d")).unwrap();
    symlink("a", directory.path().join("l")).unwrap();
    let root = Root::open(directory.path()).unwrap();
    for fd in [root.open_dir(b"", Links::Refuse), root.open_path(b"", Links::Refuse)] {
        let fd = fd.unwrap();
        for _ in 0..2 {
            let mut names: Vec<_> = read_dir(fd.as_fd()).unwrap().map(Result::unwrap).collect();
            names.sort_by(|one, other| one.name.cmp(&other.name));
            let kinds: Vec<_> = names.iter().map(|entry| (&*entry.name, entry.kind)).collect();
            let expected = [(&b"a"[..], Kind::File), (b"d", Kind::Dir), (b"l", Kind::Link)];
            assert_eq!(kinds, expected);
        }
    }
}

/// Opens what the descriptor stands for again, for writing, as its receiver could.
fn reopen_for_writing(fd: &impl AsRawFd) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

#[test]
fn a_read_only_descriptor_can_be_reopened_for_writing() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "a", b"a");
    let root = Root::open(directory.path()).unwrap();
    let opened = root.open_file(b"a", Links::Refuse, Resolve::MayBlock).unwrap();
    assert!(rustix::io::write(&opened, b"x").is_err());
    let writable = reopen_for_writing(&opened).unwrap();
    assert_eq!(rustix::io::write(&writable, b"x").unwrap(), 1);
}

#[test]
fn descriptor_through_read_only_clone_cannot_be_reopened_for_writing() {
    let _balance = Balance::new();
    let directory = directory();
    file(&directory, "a", b"a");
    let root = match Root::read_only_clone(directory.path()) {
        Ok(root) => root,
        Err(error) => return skip(&error.to_string()),
    };
    let opened = root.open_file(b"a", Links::Refuse, Resolve::MayBlock).unwrap();
    assert_eq!(reopen_for_writing(&opened).unwrap_err(), rustix::io::Errno::ROFS);
    let again = reopen(opened.as_fd()).unwrap();
    assert_eq!(reopen_for_writing(&again).unwrap_err(), rustix::io::Errno::ROFS);
    let place = root.open_path(b"a", Links::Refuse).unwrap();
    assert_eq!(reopen_for_writing(&place).unwrap_err(), rustix::io::Errno::ROFS);
    // A whole directory may be given away: not even root creates or removes anything through it.
    let tree = root.open_dir(b"", Links::Refuse).unwrap();
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let created = rustix::fs::openat(&tree, "new", flags, Mode::RUSR);
    assert_eq!(created.unwrap_err(), rustix::io::Errno::ROFS);
    let removed = rustix::fs::unlinkat(&tree, "a", rustix::fs::AtFlags::empty());
    assert_eq!(removed.unwrap_err(), rustix::io::Errno::ROFS);
    // And ".." from its root leads nowhere else.
    let up = rustix::fs::statat(&tree, "..", rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(up.st_ino, identity(tree.as_fd()).unwrap().ino);
    // The original sees the same files, and changes made there are seen here.
    std::fs::write(directory.path().join("a"), b"changed").unwrap();
    assert_eq!(identity(opened.as_fd()).unwrap().size, 7);
}

/// What is mounted below at the moment of the clone belongs to it, and nothing that comes later.
#[test]
fn a_clone_shows_the_mounts_of_its_moment() {
    let test = "a_clone_shows_the_mounts_of_its_moment";
    let Some(dir) = std::env::var_os(CHILD) else {
        let _balance = Balance::new();
        let Some(before) = in_a_namespace("--mount") else { return };
        let dir = directory();
        for sub in ["before", "after"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        return assert_passed(&child(&before, test, dir.path()).output().unwrap());
    };
    let dir = Path::new(&dir);
    let mount = |sub: &str| {
        let over = dir.join(sub);
        let words = ["-t", "tmpfs", "none"];
        assert!(Command::new("mount").args(words).arg(&over).status().unwrap().success());
        std::fs::write(over.join("f"), sub).unwrap();
    };
    mount("before");
    let clone = match Root::read_only_clone(dir) {
        Ok(clone) => clone,
        Err(error) => return skip(&error.to_string()),
    };
    mount("after");
    let plain = Root::open(dir).unwrap();
    let there = |root: &Root, name: &[u8]| {
        root.open_file(name, Links::Refuse, Resolve::MayBlock).map_err(|error| error.errno())
    };
    assert!(there(&plain, b"after/f").is_ok() && there(&plain, b"before/f").is_ok());
    assert_eq!(there(&clone, b"after/f").unwrap_err(), errno::ENOENT);
    let inner = there(&clone, b"before/f").unwrap();
    assert_eq!(reopen_for_writing(&inner).unwrap_err(), rustix::io::Errno::ROFS);
}
