//! Shared descriptions: handed out again while nothing has changed, and never when something has.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use objmapper::refusal::Miss;
use objmapper::shared::Counters;
use objmapper::{
    Caller, Delivered, Delivery, Links, Mode, Mount, Mounts, Opened, Patience, Refusal, Rules,
    Shared, Store, Tree, Want,
};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    store: Store,
    me: Caller,
}

fn mounts(dir: &Path, links: Links) -> Mounts {
    let tree = Arc::new(Tree::open(dir, links).unwrap());
    let mount = Mount::new("/t".parse().unwrap(), tree, Rules::owner_only()).shared(true);
    Mounts::new(vec![mount]).unwrap()
}

impl Place {
    fn with(links: Links, descriptors: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let shared = Shared::new(descriptors).unwrap();
        let store = Store::new(mounts(dir.path(), links)).sharing(Some(shared));
        let place = Self { dir, store, me: Caller::own() };
        place.write("a/b/f", "old");
        place
    }

    fn new() -> Self {
        Self::with(Links::Refuse, 64)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file so old that all that happens to it shows.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.settle(name);
    }

    fn settle(&self, name: &str) {
        let mut me = Caller::own();
        let uri = format!("/t/{name}");
        let mut version =
            || self.store.stat(&mut me, uri.as_bytes(), Patience::Block).unwrap().version;
        while version() != version() {
            std::thread::yield_now();
        }
    }

    fn deliver(&mut self, name: &str, mode: Mode) -> Result<Delivery, Miss> {
        self.store.observe();
        let uri = format!("/t/{name}");
        let want = Want { uri: uri.as_bytes(), mode, shared: true, ..Want::default() };
        self.store.deliver(&mut self.me, &want, Patience::Block)
    }

    fn open(&mut self, name: &str) -> Result<Delivered, Refusal> {
        match self.deliver(name, Mode::Fdpass) {
            Ok(delivery) => Ok(delivery.delivered),
            Err(Miss::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        }
    }

    #[track_caller]
    fn shares(&mut self, name: &str) -> Arc<Opened> {
        match self.open(name) {
            Ok(Delivered::Shared(file)) => file,
            other => panic!("{other:?}"),
        }
    }

    fn counters(&self) -> Counters {
        self.store.shared_counters()
    }

    /// Asks twice, so that the second is a hit.
    #[track_caller]
    fn hit(&mut self, name: &str) -> Arc<Opened> {
        let first = self.shares(name).as_fd().as_raw_fd();
        let hits = self.counters().hits;
        let again = self.shares(name);
        assert_eq!((again.as_fd().as_raw_fd(), self.counters().hits), (first, hits + 1));
        again
    }
}

fn text(file: &Arc<Opened>) -> String {
    let mut bytes = [0; 64];
    let n = objmapper_os::file::read_at(file.as_fd(), &mut bytes, 0).unwrap();
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}

#[test]
fn one_description_is_given_again_and_again() {
    let mut place = Place::new();
    let file = place.hit("a/b/f");
    assert_eq!(text(&file), "old");
    let counters = place.counters();
    assert_eq!((counters.hits, counters.misses), (1, 1));
    assert_eq!((counters.descriptors, counters.watches), (1, 3));
}

#[test]
fn a_file_renamed_over_it_is_seen() {
    let mut place = Place::new();
    place.hit("a/b/f");
    place.write("new", "new");
    fs::rename(place.path("new"), place.path("a/b/f")).unwrap();
    place.settle("a/b/f");
    assert_eq!(text(&place.hit("a/b/f")), "new");
}

/// The file itself does not show it: another name was given away, and this one stays.
#[test]
fn a_name_that_was_moved_away_is_seen() {
    let mut place = Place::new();
    place.hit("a/b/f");
    fs::rename(place.path("a/b"), place.path("a/c")).unwrap();
    assert_eq!(place.open("a/b/f").unwrap_err(), Refusal::NotFound);
    assert_eq!(text(&place.hit("a/c/f")), "old");
    fs::rename(place.path("a"), place.path("z")).unwrap();
    assert_eq!(place.open("a/c/f").unwrap_err(), Refusal::NotFound);
    fs::create_dir_all(place.path("a/c")).unwrap();
    place.write("a/c/f", "another");
    assert_eq!(text(&place.hit("a/c/f")), "another");
}

#[test]
fn directories_that_change_places_are_seen() {
    let mut place = Place::new();
    fs::create_dir_all(place.path("x/b")).unwrap();
    place.write("x/b/f", "other");
    place.hit("a/b/f");
    place.hit("x/b/f");
    for (from, to) in [("a", "tmp"), ("x", "a"), ("tmp", "x")] {
        fs::rename(place.path(from), place.path(to)).unwrap();
    }
    assert_eq!(text(&place.shares("a/b/f")), "other");
    assert_eq!(text(&place.shares("x/b/f")), "old");
}

#[test]
fn a_removal_is_seen_and_nothing_is_kept_of_it() {
    let mut place = Place::new();
    place.hit("a/b/f");
    fs::remove_file(place.path("a/b/f")).unwrap();
    place.store.observe();
    let counters = place.counters();
    assert_eq!((counters.descriptors, counters.watches), (0, 0));
    assert_eq!(place.open("a/b/f").unwrap_err(), Refusal::NotFound);
}

#[test]
fn what_is_done_to_the_file_is_seen() {
    let mut place = Place::new();
    place.hit("a/b/f");
    place.write("a/b/f", "longer than it was");
    assert_eq!(text(&place.hit("a/b/f")), "longer than it was");
    fs::File::options().write(true).open(place.path("a/b/f")).unwrap().set_len(4).unwrap();
    assert_eq!(place.deliver("a/b/f", Mode::Fdpass).unwrap().object.size, 4);
    // It is still young: nobody shares it.
    assert!(matches!(place.open("a/b/f"), Ok(Delivered::Descriptor(_))));
    assert!(place.counters().invalidations >= 2);
}

/// Permissions of a directory are asked by the kernel at each open. A hit asks nobody, so it must
/// not happen, whoever this test runs as.
#[test]
fn a_chmod_of_a_directory_on_the_way_ends_all_beneath() {
    for dir in ["", "a", "a/b"] {
        let mut place = Place::new();
        let hits = {
            place.hit("a/b/f");
            place.counters().hits
        };
        fs::set_permissions(place.path(dir), Permissions::from_mode(0o700)).unwrap();
        place.store.observe();
        assert_eq!(place.counters().descriptors, 0, "{dir:?}");
        place.shares("a/b/f");
        assert_eq!(place.counters().hits, hits, "{dir:?}");
        place.hit("a/b/f");
    }
}

#[test]
fn what_happens_to_others_is_nobodys_business() {
    let mut place = Place::new();
    place.write("a/b/g", "other");
    place.write("a/h", "other");
    let file = place.hit("a/b/f").as_fd().as_raw_fd();
    fs::remove_file(place.path("a/b/g")).unwrap();
    fs::rename(place.path("a/h"), place.path("a/b/h")).unwrap();
    fs::create_dir(place.path("a/k")).unwrap();
    let (hits, again) = (place.counters().hits, place.shares("a/b/f").as_fd().as_raw_fd());
    assert_eq!((again, place.counters().hits), (file, hits + 1));
    assert_eq!(place.counters().invalidations, 0);
}

#[test]
fn one_directory_under_two_names_has_one_watch_and_both_are_told() {
    let mut place = Place::new();
    let mount = |uri: &str, path: &Path| {
        let tree = Arc::new(Tree::open(path, Links::Refuse).unwrap());
        Mount::new(uri.parse().unwrap(), tree, Rules::owner_only()).shared(true)
    };
    let both = vec![mount("/t", place.dir.path()), mount("/u", &place.path("a"))];
    place.store.swap(Mounts::new(both).unwrap());
    place.hit("a/b/f");
    let ask = |place: &mut Place| {
        place.store.observe();
        let want = Want { uri: b"/u/b/f", mode: Mode::Fdpass, shared: true, ..Want::default() };
        place.store.deliver(&mut place.me, &want, Patience::Block)
    };
    assert!(matches!(ask(&mut place).unwrap().delivered, Delivered::Shared(_)));
    assert_eq!((place.counters().descriptors, place.counters().watches), (2, 3));
    fs::rename(place.path("a/b"), place.path("a/c")).unwrap();
    assert!(matches!(ask(&mut place), Err(Miss::Refused(Refusal::NotFound))));
    assert_eq!(place.open("a/b/f").unwrap_err(), Refusal::NotFound);
    assert_eq!((place.counters().descriptors, place.counters().watches), (0, 0));
}

#[test]
fn what_is_not_there_is_not_watched() {
    let mut place = Place::new();
    assert_eq!(place.open("a/b/missing").unwrap_err(), Refusal::NotFound);
    assert_eq!(place.open("a/b").unwrap_err(), Refusal::NotRegular);
    assert_eq!(place.counters().watches, 0);
}

#[test]
fn what_a_symlink_leads_to_is_not_shared() {
    let mut place = Place::with(Links::Beneath, 64);
    symlink("a", place.path("l")).unwrap();
    symlink("b/f", place.path("a/m")).unwrap();
    for name in ["l/b/f", "a/m"] {
        assert!(matches!(place.open(name), Ok(Delivered::Descriptor(_))), "{name}");
    }
    place.hit("a/b/f");
    assert_eq!(place.counters().descriptors, 1);
}

#[test]
fn bytes_are_never_read_from_a_shared_description() {
    let mut place = Place::new();
    place.hit("a/b/f");
    for mode in [Mode::Auto, Mode::Copy, Mode::Splice] {
        let delivered = place.deliver("a/b/f", mode).unwrap().delivered;
        assert!(
            matches!(delivered, Delivered::Inline(_) | Delivered::Stream(_)),
            "{mode} {delivered:?}"
        );
    }
    let size = 17 * 1024;
    place.write("large", &"x".repeat(size));
    assert!(matches!(place.deliver("large", Mode::Auto).unwrap().delivered, Delivered::Shared(_)));
}

#[test]
fn what_the_caller_has_is_not_sent() {
    let mut place = Place::new();
    place.hit("a/b/f");
    let version = place.deliver("a/b/f", Mode::Fdpass).unwrap().object.version;
    let unless = Some(version);
    let want =
        Want { uri: b"/t/a/b/f", mode: Mode::Fdpass, shared: true, unless, ..Want::default() };
    let delivered = place.store.deliver(&mut place.me, &want, Patience::Block).unwrap().delivered;
    assert!(matches!(delivered, Delivered::NotModified));
}

#[test]
fn rules_are_asked_for_each_request() {
    let mut place = Place::new();
    place.hit("a/b/f");
    place.me = Caller::new(4242, 4242, &[]);
    assert_eq!(place.open("a/b/f").unwrap_err(), Refusal::Denied { uid: 4242 });
    assert_eq!(
        place.store.flush(&place.me, b"/").unwrap_err(),
        Miss::Refused(Refusal::NotOwner { uid: 4242 })
    );
}

#[test]
fn never_more_than_allowed_and_directories_are_let_go_with_the_last_file() {
    let mut place = Place::with(Links::Refuse, 8);
    for n in 0..40 {
        fs::create_dir(place.path(&format!("d{n}"))).unwrap();
        fs::write(place.path(&format!("d{n}/f")), "x").unwrap();
    }
    place.write("d0/f", "x");
    for n in 0..40 {
        place.shares(&format!("d{n}/f"));
    }
    let counters = place.counters();
    assert!(counters.descriptors <= 8 && counters.evictions >= 32, "{counters:?}");
    assert!(counters.watches <= counters.descriptors + 2, "{counters:?}");
}

#[test]
fn flush_lets_go_of_what_lies_below() {
    let mut place = Place::new();
    place.write("a/g", "x");
    place.write("ab", "x");
    let fill = |place: &mut Place| {
        for name in ["a/b/f", "a/g", "ab"] {
            place.shares(name);
        }
    };
    for (prefix, flushed) in
        [("/t/a/b/f", 1), ("/t/a/b/", 1), ("/t/a", 2), ("/t", 3), ("/t/", 3), ("/", 3), ("/x", 0)]
    {
        fill(&mut place);
        assert_eq!(place.store.flush(&place.me, prefix.as_bytes()), Ok(flushed), "{prefix}");
        assert_eq!(place.counters().descriptors, 3 - flushed as u64, "{prefix}");
    }
}

#[test]
fn a_mount_that_goes_takes_its_descriptions_along() {
    let mut place = Place::new();
    place.hit("a/b/f");
    let other = tempfile::tempdir().unwrap();
    place.store.swap(mounts(other.path(), Links::Refuse));
    assert_eq!((place.counters().descriptors, place.counters().watches), (0, 0));
}

/// Two threads ask without a pause while a third renames: whoever asks after a rename was told of
/// sees it.
#[test]
fn nobody_sees_the_past() {
    let mut place = Place::new();
    fs::create_dir_all(place.path("other/b")).unwrap();
    place.write("other/b/f", "new");
    place.write("a/b/f", "old");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut me = Caller::own();
                while !done.load(Ordering::Relaxed) {
                    place.store.observe();
                    let uri = b"/t/a/b/f";
                    let want = Want { uri, mode: Mode::Fdpass, shared: true, ..Want::default() };
                    let _ = place.store.deliver(&mut me, &want, Patience::Block);
                }
            });
        }
        let mut me = Caller::own();
        let mut expected = ["old", "new"];
        for _ in 0..2000 {
            place.store.observe();
            let want =
                Want { uri: b"/t/a/b/f", mode: Mode::Fdpass, shared: true, ..Want::default() };
            let delivery = place.store.deliver(&mut me, &want, Patience::Block).unwrap();
            let read = match delivery.delivered {
                Delivered::Shared(file) => text(&file),
                Delivered::Descriptor(file) => text(&Arc::new(file)),
                other => panic!("{other:?}"),
            };
            if read != expected[0] {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(read, expected[0]);
            fs::rename(place.path("a"), place.path("tmp")).unwrap();
            fs::rename(place.path("other"), place.path("a")).unwrap();
            fs::rename(place.path("tmp"), place.path("other")).unwrap();
            expected.swap(0, 1);
        }
        done.store(true, Ordering::Relaxed);
    });
    let counters = place.counters();
    assert!(counters.hits > 0 && counters.invalidations > 0, "{counters:?}");
    place.me = Caller::own();
}
