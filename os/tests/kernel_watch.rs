//! Watching directories: what inotify tells of names, and when.

mod common;

use common::{CHILD, assert_passed, child, directory, file, in_a_namespace, skip};
use objmapper_os::errno;
use objmapper_os::root::{Resolve, Root};
use objmapper_os::watch::{Seen, Watch, Watcher, tells_all};
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Name(Watch, String),
    Itself(Watch),
    Mounts,
    Lost,
}

#[allow(clippy::unwrap_used)] // fails its test
fn told(watcher: &Watcher) -> Vec<Told> {
    let mut all = Vec::new();
    watcher
        .changes(|seen| {
            all.push(match seen {
                Seen::Name(watch, name) => {
                    Told::Name(watch, String::from_utf8(name.to_vec()).unwrap())
                }
                Seen::Itself(watch) => Told::Itself(watch),
                Seen::Mounts => Told::Mounts,
                Seen::Lost => Told::Lost,
            });
        })
        .unwrap();
    all
}

#[allow(clippy::unwrap_used)] // fails its test
fn watch(watcher: &Watcher, root: &Path, name: &[u8]) -> Watch {
    let root = Root::open(root).unwrap();
    // An O_PATH descriptor, closed at once: the watch is on the directory.
    watcher.add(root.open_dir_place(name, Resolve::MayBlock).unwrap().as_fd()).unwrap()
}

fn name(watch: Watch, name: &str) -> Told {
    Told::Name(watch, name.to_owned())
}

#[test]
fn inotify_tells_renames_removals_and_chmods_of_names_before_the_call_returns() {
    let dir = directory();
    file(&dir, "a", b"a");
    let watcher = Watcher::new().unwrap();
    let at = watch(&watcher, dir.path(), b"");
    assert_eq!(told(&watcher), []);
    let path = |name: &str| dir.path().join(name);
    fs::rename(path("a"), path("b")).unwrap();
    assert_eq!(told(&watcher), [name(at, "a"), name(at, "b")]);
    fs::set_permissions(path("b"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(told(&watcher), [name(at, "b")]);
    fs::remove_file(path("b")).unwrap();
    assert_eq!(told(&watcher), [name(at, "b")]);
}

/// So a busy directory does not cost anything unless names change.
#[test]
fn inotify_says_nothing_of_creations_reads_and_writes_that_nobody_asked_for() {
    let dir = directory();
    let watcher = Watcher::new().unwrap();
    let _ = watch(&watcher, dir.path(), b"");
    file(&dir, "a", b"a");
    fs::write(dir.path().join("a"), b"more").unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"more");
    assert_eq!(told(&watcher), []);
}

#[test]
fn inotify_tells_a_directory_its_own_rename_chmod_and_removal() {
    let dir = directory();
    let sub = dir.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let watcher = Watcher::new().unwrap();
    let at = watch(&watcher, dir.path(), b"sub");
    fs::set_permissions(&sub, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(told(&watcher), [Told::Itself(at)]);
    fs::rename(&sub, dir.path().join("moved")).unwrap();
    assert_eq!(told(&watcher), [Told::Itself(at)]);
    fs::remove_dir(dir.path().join("moved")).unwrap();
    // Attributes, removal, and that the watch has gone.
    assert!(told(&watcher).iter().all(|told| *told == Told::Itself(at)));
    assert_eq!(watcher.remove(at).unwrap_err().errno(), errno::EINVAL);
}

/// Both directories of an exchange are told, though neither name comes or goes.
#[test]
fn inotify_tells_both_of_a_rename_exchange() {
    let dir = directory();
    for sub in ["x", "y"] {
        fs::create_dir(dir.path().join(sub)).unwrap();
    }
    let watcher = Watcher::new().unwrap();
    let (x, y) = (watch(&watcher, dir.path(), b"x"), watch(&watcher, dir.path(), b"y"));
    let root = fs::File::open(dir.path()).unwrap();
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    match rustix::fs::renameat_with(&root, "x", &root, "y", flags) {
        Err(rustix::io::Errno::INVAL) => return skip("the file system cannot exchange"),
        exchanged => exchanged.unwrap(),
    }
    let told = told(&watcher);
    assert!(told.contains(&Told::Itself(x)) && told.contains(&Told::Itself(y)), "{told:?}");
}

#[test]
fn one_directory_has_one_watch_and_another_after_it_was_removed() {
    let dir = directory();
    let watcher = Watcher::new().unwrap();
    let first = watch(&watcher, dir.path(), b"");
    assert_eq!(watch(&watcher, dir.path(), b""), first);
    watcher.remove(first).unwrap();
    assert_eq!(told(&watcher), [Told::Itself(first)]);
    assert_ne!(watch(&watcher, dir.path(), b""), first, "numbers are not given again at once");
}

#[test]
fn only_directories_are_watched_and_no_links_followed() {
    let dir = directory();
    file(&dir, "f", b"");
    std::os::unix::fs::symlink(".", dir.path().join("l")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let errno = |name| root.open_dir_place(name, Resolve::MayBlock).unwrap_err().errno();
    assert_eq!((errno(b"f"), errno(b"l")), (errno::ENOTDIR, errno::ELOOP));
}

#[test]
fn too_many_events_are_told_as_lost() {
    let path = "/proc/sys/fs/inotify/max_queued_events";
    let most: usize = fs::read_to_string(path).unwrap().trim().parse().unwrap();
    if most > 1 << 15 {
        return skip("the queue takes more than is read in one go");
    }
    let dir = directory();
    for n in ["a", "b"] {
        file(&dir, n, b"");
    }
    let watcher = Watcher::new().unwrap();
    let _ = watch(&watcher, dir.path(), b"");
    for n in 0..=most {
        // Equal neighbours would be one event.
        let path = dir.path().join(if n % 2 == 0 { "a" } else { "b" });
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    let told = told(&watcher);
    assert_eq!((told.len(), told.last()), (most + 1, Some(&Told::Lost)));
}

#[test]
fn too_many_watches_of_a_user_are_enospc() {
    let Some(dir) = std::env::var_os(CHILD) else {
        let Some(before) = in_a_namespace("--mount") else { return };
        let (test, dir) = ("too_many_watches_of_a_user_are_enospc", directory());
        return assert_passed(&child(&before, test, dir.path()).output().unwrap());
    };
    fs::write("/proc/sys/user/max_inotify_watches", "2").unwrap();
    let dir = Path::new(&dir);
    for sub in ["a", "b"] {
        fs::create_dir(dir.join(sub)).unwrap();
    }
    let watcher = Watcher::new().unwrap();
    let (root, a) = (watch(&watcher, dir, b""), watch(&watcher, dir, b"a"));
    let b = Root::open(&dir.join("b")).unwrap().open_dir_place(b"", Resolve::MayBlock).unwrap();
    let errno = |added: objmapper_os::Result<Watch>| added.map_err(|error| error.errno());
    assert_eq!(errno(watcher.add(b.as_fd())), Err(errno::ENOSPC));
    assert_eq!(errno(Watcher::new().unwrap().add(b.as_fd())), Err(errno::ENOSPC), "the user's");
    // Those that are there tell as ever, and one that goes makes room.
    fs::rename(dir.join("a"), dir.join("c")).unwrap();
    let told = told(&watcher);
    assert!(told.contains(&name(root, "a")) && told.contains(&Told::Itself(a)), "{told:?}");
    watcher.remove(a).unwrap();
    watcher.add(b.as_fd()).unwrap();
}

#[test]
fn inotify_is_silent_about_mounts_and_mountinfo_tells_each_once() {
    let Some(dir) = std::env::var_os(CHILD) else {
        let Some(before) = in_a_namespace("--mount") else { return };
        let dir = directory();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let test = "inotify_is_silent_about_mounts_and_mountinfo_tells_each_once";
        return assert_passed(&child(&before, test, dir.path()).output().unwrap());
    };
    let sub = Path::new(&dir).join("sub");
    let watcher = Watcher::new().unwrap();
    let _ = watch(&watcher, Path::new(&dir), b"sub");
    let run = |words: &[&str]| {
        assert!(Command::new(words[0]).args(&words[1..]).arg(&sub).status().unwrap().success());
    };
    for words in [&["mount", "-t", "tmpfs", "none"][..], &["umount"]] {
        run(words);
        assert_eq!(told(&watcher), [Told::Mounts], "{words:?}");
        assert_eq!(told(&watcher), [], "{words:?}");
    }
}

/// A file system of this kernel's own tells; /proc changes without anybody's rename.
#[test]
fn only_file_systems_that_are_known_tell_all() {
    let dir = directory();
    let open = |path: &Path| fs::File::open(path).unwrap();
    assert!(tells_all(open(dir.path()).as_fd()).unwrap());
    assert!(!tells_all(open(Path::new("/proc")).as_fd()).unwrap());
}
