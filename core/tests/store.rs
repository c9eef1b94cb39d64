//! The core as a program embeds it: no socket, no daemon, a `Store` and the verbs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use objmapper::index::{Bounds, Counters};
use objmapper::{
    Caller, Delivered, Kind, Limits, Links, Listing, Miss, Mode, Mount, Mounts, Patience, Refusal,
    Rule, Rules, Status, Store, Subject, Tree, Verbs, Want,
};
use tempfile::TempDir;

/// Directories, each with files that tell where they are.
struct Forest {
    dir: TempDir,
}

impl Forest {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn plant(&self, tree: &str, files: &[&str]) -> &Self {
        for file in files {
            let path = self.path(tree).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{file} of {tree}")).unwrap();
        }
        self
    }

    fn mount(&self, uri: &str, tree: &str, rules: Rules) -> Mount {
        let tree = Tree::open(&self.path(tree), Links::Refuse).unwrap();
        Mount::new(uri.parse().unwrap(), Arc::new(tree), rules)
    }

    /// Everybody may do everything.
    fn open_to_all(&self, mounts: &[(&str, &str)]) -> Mounts {
        let all = || rules(&[(Subject::Anyone, Verbs::ALL)]);
        let mounts = mounts.iter().map(|(uri, tree)| self.mount(uri, tree, all()));
        Mounts::new(mounts.collect()).unwrap()
    }
}

fn rules(given: &[(Subject, Verbs)]) -> Rules {
    Rules::new(given.iter().map(|&(subject, verbs)| Rule { subject, verbs }).collect())
}

fn user(uid: u32) -> Caller {
    Caller::new(uid, uid, &[])
}

/// The content of an object, or why there is none.
fn read(store: &Store, caller: &mut Caller, uri: &str) -> Result<String, Refusal> {
    let want = Want { uri: uri.as_bytes(), mode: Mode::Fdpass, ..Want::default() };
    match store.deliver(caller, &want, Patience::Block) {
        Ok(delivery) => {
            let Delivered::Descriptor(fd) = delivery.delivered else {
                panic!("{:?}", delivery.delivered)
            };
            let mut text = String::new();
            fs::File::from(OwnedFd::from(fd)).read_to_string(&mut text).unwrap();
            assert_eq!(delivery.object.size, text.len() as u64);
            Ok(text)
        }
        Err(Miss::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{uri}: {other}"),
    }
}

fn names(store: &Store, caller: &mut Caller, prefix: &str) -> Result<Vec<String>, Refusal> {
    let listing = Listing { prefix: prefix.as_bytes(), cursor: b"", limit: 100 };
    let text = |name: Box<[u8]>| String::from_utf8(name.into()).unwrap();
    match store.list(caller, &listing) {
        Ok(page) => Ok(page.names.into_iter().map(|name| text(name.name)).collect()),
        Err(Miss::Refused(refusal)) => Err(refusal),
        Err(other) => panic!("{prefix}: {other}"),
    }
}

#[test]
fn the_longest_prefix_answers() {
    let forest = Forest::new();
    forest.plant("root", &["x", "a/x", "ab/x", "a/b/x"]).plant("a", &["x", "b/x", "only-a"]);
    forest.plant("b", &["x"]).plant("kv", &["x"]);
    // In whatever order they are given.
    let mut mounts = [("/", "root"), ("/a", "a"), ("/a/b", "b"), ("kv:", "kv")];
    for _ in 0..mounts.len() {
        mounts.rotate_left(1);
        let store = Store::new(forest.open_to_all(&mounts));
        let me = &mut user(1);
        // Twice: found by the mounts, and found by the index.
        for _ in 0..2 {
            for (uri, expected) in [
                ("/x", "x of root"),
                ("/ab/x", "ab/x of root"),
                ("/a/x", "x of a"),
                ("/a/b/x", "x of b"),
                ("kv:x", "x of kv"),
                ("KV:x", "x of kv"),
                ("/%61/b/%78", "x of b"),
            ] {
                assert_eq!(read(&store, me, uri).as_deref(), Ok(expected), "{uri}");
            }
            // What is mounted over is hidden, whatever it would be.
            assert_eq!(read(&store, me, "/a/b/only-a"), Err(Refusal::NotFound));
            assert_eq!(read(&store, me, "/only-a"), Err(Refusal::NotFound));
            assert_eq!(read(&store, me, "s3://x"), Err(Refusal::NotMounted));
        }
        assert_eq!(names(&store, me, "/").unwrap(), ["a/", "ab/", "x"]);
        assert_eq!(names(&store, me, "/a").unwrap(), ["b/", "only-a", "x"]);
    }
}

#[test]
fn mounts_that_make_no_table() {
    let forest = Forest::new();
    forest.plant("a", &["x"]);
    let table = |mounts: &[&str]| {
        let all = mounts.iter().map(|uri| forest.mount(uri, "a", Rules::owner_only()));
        Mounts::new(all.collect()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(table(&["/a", "/b", "/"]), Ok(()));
    assert_eq!(table(&[]), Ok(()), "nothing is found in it");
    assert!(table(&["/a", "/b", "/a"]).unwrap_err().contains("two mounts at /a"));
    assert!(table(&["/a", "/a/"]).unwrap_err().contains("two mounts at /a"));
    assert!(table(&["/a", "/%61"]).unwrap_err().contains("two mounts at /a"));
}

#[test]
fn rules_hold_for_each_caller_and_each_verb() {
    let forest = Forest::new();
    forest.plant("a", &["x"]).plant("b", &["x"]);
    let of_a = rules(&[(Subject::User(1), Verbs::READ), (Subject::Group(100), Verbs::LIST)]);
    let mounts = vec![
        forest.mount("/a", "a", of_a),
        forest.mount("/b", "b", rules(&[(Subject::User(2), Verbs::ALL)])),
        forest.mount("/nobody", "b", Rules::default()),
    ];
    let store = Store::new(Mounts::new(mounts).unwrap());
    let denied = |uid| Err(Refusal::Denied { uid });
    let (mut one, mut two, mut member) = (user(1), user(2), Caller::new(3, 3, &[7, 100]));
    // Each of them more than once, in between each other: verdicts are kept for the caller.
    for _ in 0..3 {
        assert_eq!(read(&store, &mut one, "/a/x").as_deref(), Ok("x of a"));
        assert_eq!(read(&store, &mut two, "/a/x"), denied(2));
        assert_eq!(read(&store, &mut member, "/a/x"), denied(3));
        assert_eq!(read(&store, &mut one, "/b/x"), denied(1));
        assert_eq!(read(&store, &mut two, "/b/x").as_deref(), Ok("x of b"));
        assert_eq!(names(&store, &mut one, "/a"), Err(Refusal::Denied { uid: 1 }));
        assert_eq!(names(&store, &mut member, "/a").unwrap(), ["x"]);
        assert_eq!(names(&store, &mut two, "/b").unwrap(), ["x"]);
        for caller in [&mut one, &mut two, &mut member, &mut user(0)] {
            let uid = caller.uid();
            assert_eq!(read(&store, caller, "/nobody/x"), denied(uid));
            // Neither does a refusal tell whether it is there.
            assert_eq!(read(&store, caller, "/nobody/missing"), denied(uid));
        }
    }
    // A mount is seen in a listing by those who may do anything there.
    assert_eq!(names(&store, &mut one, "/").unwrap(), ["a/"]);
    assert_eq!(names(&store, &mut two, "/").unwrap(), ["b/"]);
    assert_eq!(names(&store, &mut member, "/").unwrap(), ["a/"]);
    assert_eq!(names(&store, &mut user(9), "/"), Err(Refusal::NotMounted));
}

#[test]
fn nothing_said_means_oneself_and_root() {
    let forest = Forest::new();
    forest.plant("a", &["x"]);
    let mounts = vec![forest.mount("/", "a", Rules::owner_only())];
    let store = Store::new(Mounts::new(mounts).unwrap());
    assert!(read(&store, &mut Caller::own(), "/x").is_ok());
    assert!(read(&store, &mut user(0), "/x").is_ok());
    let stranger = Caller::own().uid() + 1;
    let denied = read(&store, &mut user(stranger), "/x").unwrap_err();
    assert_eq!(denied.status(), Status::Denied);
    assert!(denied.to_string().contains("add one under 'allow'"), "{denied}");
}

/// A store whose index holds few names.
fn small_index(forest: &Forest, mounts: &[(&str, &str)]) -> Store {
    let bounds = Bounds { entries: 64, bytes: 1 << 20, shards: 4 };
    Store::with_limits(forest.open_to_all(mounts), Limits::default(), Some(bounds))
}

#[test]
fn a_flood_of_misses_adds_nothing_and_pushes_nothing_out() {
    let forest = Forest::new();
    forest.plant("a", &["hot", "d/file"]);
    fs::create_dir(forest.path("a/empty")).unwrap();
    let store = small_index(&forest, &[("/", "a")]);
    let me = &mut user(1);
    for uri in ["/hot", "/hot", "/d/file", "/d/file"] {
        read(&store, me, uri).unwrap();
    }
    let before = store.index_counters();
    assert_eq!((before.entries, before.hits, before.misses), (2, 2, 2));
    for n in 0..5000 {
        for uri in [
            format!("/missing-{n}"),
            format!("/d/{n}/x"),
            format!("/empty?{n}"),
            format!("/d/../{n}"),
            format!("/%{n}"),
            format!("nowhere:{n}"),
        ] {
            read(&store, me, &uri).unwrap_err();
        }
        read(&store, me, "/empty").unwrap_err();
    }
    let after = store.index_counters();
    let same = |c: Counters| (c.entries, c.bytes, c.evictions, c.hits);
    assert_eq!(same(after), same(before));
    read(&store, me, "/hot").unwrap();
    assert_eq!(store.index_counters().hits, before.hits + 1, "it was not pushed out");
}

#[test]
fn other_spellings_of_a_name_add_nothing() {
    let forest = Forest::new();
    forest.plant("a", &["name", "with blank"]);
    let store = small_index(&forest, &[("/", "a")]);
    let me = &mut user(1);
    for uri in ["/name", "/%6eame", "/n%61me", "/%6E%61%6d%65", "/with%20blank", "/wit%68%20blank"]
    {
        assert!(read(&store, me, uri).is_ok(), "{uri}");
    }
    assert_eq!(store.index_counters().entries, 2);
}

#[test]
fn a_scan_of_what_exists_stays_within_the_bounds() {
    let forest = Forest::new();
    let all: Vec<String> = (0..3000).map(|n| format!("{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    forest.plant("a", &all).plant("a", &["hot"]);
    let store = small_index(&forest, &[("/", "a")]);
    let me = &mut user(1);
    for name in &all {
        // What is asked for again and again stays, though the scan is far larger.
        read(&store, me, "/hot").unwrap();
        assert_eq!(read(&store, me, &format!("/{name}")).unwrap(), format!("{name} of a"));
        assert!(store.index_counters().entries <= 64);
    }
    let counters = store.index_counters();
    assert_eq!(counters.entries + counters.evictions, 3001, "{counters:?}");
    assert_eq!(counters.hits, 2999, "every request for the hot one but the first");
}

#[test]
fn without_an_index_everything_is_the_same() {
    let forest = Forest::new();
    forest.plant("a", &["x"]);
    let mounts = forest.open_to_all(&[("/", "a")]);
    let store = Store::with_limits(mounts, Limits::default(), None);
    for _ in 0..3 {
        assert_eq!(read(&store, &mut user(1), "/x").as_deref(), Ok("x of a"));
        assert_eq!(read(&store, &mut user(1), "/y"), Err(Refusal::NotFound));
    }
    assert_eq!(store.index_counters(), Counters::default());
}

#[test]
fn other_mounts_are_seen_at_once() {
    let forest = Forest::new();
    forest.plant("a", &["x", "d/x", "only-a"]).plant("b", &["x", "d/x"]);
    let store = Store::new(forest.open_to_all(&[("/", "a")]));
    let me = &mut user(1);
    let under_way = store.mounts();
    for uri in ["/x", "/d/x", "/only-a"] {
        read(&store, me, uri).unwrap();
    }
    // The same prefix, another tree.
    store.swap(forest.open_to_all(&[("/", "b")]));
    assert_eq!(read(&store, me, "/x").as_deref(), Ok("x of b"));
    assert_eq!(read(&store, me, "/only-a"), Err(Refusal::NotFound));
    // A mount further down takes over names that were known already.
    store.swap(forest.open_to_all(&[("/", "b"), ("/d", "a")]));
    assert_eq!(read(&store, me, "/d/x").as_deref(), Ok("x of a"));
    assert_eq!(read(&store, me, "/x").as_deref(), Ok("x of b"));
    // The numbers of mounts change: the one that answers must not.
    store.swap(forest.open_to_all(&[("/", "b"), ("/zzzz", "a"), ("/d", "b")]));
    assert_eq!(read(&store, me, "/d/x").as_deref(), Ok("x of b"));
    assert_eq!(read(&store, me, "/x").as_deref(), Ok("x of b"));
    store.swap(forest.open_to_all(&[("/elsewhere", "b")]));
    assert_eq!(read(&store, me, "/x"), Err(Refusal::NotMounted));
    // Who had the old ones goes on with them.
    let (_, first) = under_way.iter().next().unwrap();
    assert!(first.backing().open(b"only-a", Patience::Block).is_ok());
}

#[test]
fn other_rules_are_seen_at_once() {
    let forest = Forest::new();
    forest.plant("a", &["x"]);
    let table = |given: &[(Subject, Verbs)]| {
        Mounts::new(vec![forest.mount("/", "a", rules(given))]).unwrap()
    };
    let store = Store::new(table(&[(Subject::User(1), Verbs::ALL)]));
    let (mut one, mut two) = (user(1), user(2));
    assert!(read(&store, &mut one, "/x").is_ok());
    assert_eq!(read(&store, &mut two, "/x"), Err(Refusal::Denied { uid: 2 }));
    store.swap(table(&[(Subject::User(2), Verbs::ALL)]));
    assert_eq!(read(&store, &mut one, "/x"), Err(Refusal::Denied { uid: 1 }));
    assert!(read(&store, &mut two, "/x").is_ok());
}

#[test]
fn many_threads_while_mounts_are_swapped() {
    /// Reads of each tree by each thread, before it is enough.
    const ENOUGH: usize = 100;
    let forest = Forest::new();
    forest.plant("a", &["x", "y/z"]).plant("b", &["x", "y/z"]);
    let store = Store::new(forest.open_to_all(&[("/", "a")]));
    let reading = AtomicUsize::new(3);
    let reader = |uid| {
        let (mut me, mut seen) = (user(uid), [0; 2]);
        while seen.iter().any(|&count| count < ENOUGH) {
            for uri in ["/x", "/y/z"] {
                let text = read(&store, &mut me, uri).unwrap();
                assert!(text.starts_with(&uri[1..]), "{uri}: {text}");
                seen[usize::from(text.ends_with('b'))] += 1;
            }
        }
        reading.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        (0..3).for_each(|uid| drop(scope.spawn(move || reader(uid))));
        let end = Instant::now() + Duration::from_mins(1);
        for round in 0.. {
            if reading.load(Ordering::SeqCst) == 0 {
                break;
            }
            assert!(Instant::now() < end, "both trees are seen at last");
            let tree = ["b", "a"][round % 2];
            // With one more mount the numbers change too.
            let both = [("/", tree), ("/y/z/nothing", "a")];
            store.swap(forest.open_to_all(both.get(..=round % 3 % 2).unwrap()));
            std::thread::yield_now();
        }
    });
}

#[test]
fn forms_and_what_is_said_about_them() {
    let forest = Forest::new();
    let dir = forest.path("a");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("small"), vec![1; 100]).unwrap();
    fs::write(dir.join("large"), vec![2; 100_000]).unwrap();
    let mounts = forest.open_to_all(&[("/", "a")]);
    let store = Store::with_limits(mounts, Limits { inline: 1000, auto: 1000 }, None);
    let form = |uri: &[u8], mode| {
        let want = Want { uri, mode, ..Want::default() };
        let delivery = store.deliver(&mut user(1), &want, Patience::Block).unwrap();
        assert_eq!(delivery.object.kind, Kind::File);
        match delivery.delivered {
            Delivered::Descriptor(_) => "descriptor",
            Delivered::Inline(_) => "inline",
            Delivered::Stream(_) => "stream",
            Delivered::Shared(_) => "shared",
            Delivered::NotModified => "not modified",
        }
    };
    assert_eq!(form(b"/small", Mode::Copy), "inline");
    assert_eq!(form(b"/large", Mode::Copy), "stream");
    assert_eq!(form(b"/small", Mode::Splice), "stream");
    assert_eq!(form(b"/small", Mode::Auto), "inline");
    assert_eq!(form(b"/large", Mode::Auto), "descriptor");
    assert_eq!(form(b"/small", Mode::Fdpass), "descriptor");
}

#[test]
fn a_tree_that_is_none() {
    let forest = Forest::new();
    forest.plant("a", &["file"]);
    let error = |path: &Path| Tree::open(path, Links::Refuse).unwrap_err().to_string();
    assert!(error(&forest.path("missing")).contains("missing"));
    assert!(error(&forest.path("a/file")).contains("a/file"));
}

/// `kv:..` is a name like any other, but beneath a directory such a segment would be a second
/// name for what lies elsewhere, and a way around the rules of a mount further down.
#[test]
fn opaque_names_do_not_lead_around_a_mount() {
    let forest = Forest::new();
    forest.plant("tree", &["pub/file", "private/file"]);
    let nobody = rules(&[]);
    let all = rules(&[(Subject::Anyone, Verbs::ALL)]);
    let mounts = Mounts::new(vec![
        forest.mount("data:", "tree", all),
        forest.mount("data:private", "tree/private", nobody),
    ]);
    let store = Store::new(mounts.unwrap());
    let mut caller = user(7);
    let mut status = |uri: &str| {
        let want = Want { uri: uri.as_bytes(), ..Want::default() };
        match store.deliver(&mut caller, &want, Patience::Block) {
            Ok(_) => Status::Ok,
            Err(Miss::Refused(refusal)) => refusal.status(),
            Err(other) => panic!("{uri}: {other}"),
        }
    };
    assert_eq!(status("data:pub/file"), Status::Ok);
    assert_eq!(status("data:private/file"), Status::Denied);
    for around in ["./private/file", "pub/../private/file", "pub//../private/file", "/private/file"]
    {
        assert_eq!(status(&format!("data:{around}")), Status::BadUri, "{around}");
    }
    let listing = Listing { prefix: b"data:./private", cursor: b"", limit: 9 };
    let listed = store.list(&mut user(7), &listing);
    assert_eq!(listed, Err(Miss::Refused(Refusal::BadName)));
}

#[test]
fn a_mount_that_no_cursor_could_name_is_not_listed() {
    let forest = Forest::new();
    forest.plant("a", &["x"]);
    let (long, longer) = ("y".repeat(1023), "x".repeat(1024));
    let uris = ["/b", &format!("/{long}/z"), &format!("/{longer}/z")].map(str::to_owned);
    let mounts: Vec<_> = uris.iter().map(|uri| (uri.as_str(), "a")).collect();
    let store = Store::new(forest.open_to_all(&mounts));
    let mut cursor = Vec::new();
    let mut names = Vec::new();
    loop {
        let listing = Listing { prefix: b"/", cursor: &cursor, limit: 1 };
        let page = store.list(&mut user(7), &listing).unwrap();
        names.extend(
            page.names.into_iter().map(|name| String::from_utf8(name.name.into()).unwrap()),
        );
        let Some(next) = page.next else { break };
        assert!(next.len() <= 1024, "{}", next.len());
        cursor = next.into();
    }
    assert_eq!(names, ["b/".to_owned(), format!("{long}/")]);
    let object = store.stat(&mut user(7), format!("{}/x", uris[2]).as_bytes(), Patience::Block);
    assert!(object.is_ok(), "it is served all the same");
}
