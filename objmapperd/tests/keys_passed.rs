//! Values that clients pass as memory: what is kept where it is, what is copied, what is refused; and
//! that whoever made the memory can change nothing about it afterwards.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use objmapper_client::{Client, Put, Status};
use objmapper_os::memory;
use objmapper_proto::hello::PASS_FDS;
use objmapper_proto::kv::{Condition, Expiry, Given, Kv, Set, Verb};
use objmapper_proto::{Hello, KvDone, Mode, Reply, Request};
use support::content::content;
use support::daemon::{Daemon, Place, Setup};
use support::resp::{Resp, connect, keyspace};
use support::{PATIENCE, is_root, skip};

/// Longer than lies beside its key, and a whole number of pages.
const LENGTH: usize = 1 << 20;

fn scene_with(setup: Setup) -> (Daemon, Client, Resp) {
    let place = Place::new();
    let daemon = keyspace(setup, &place).start_in(place);
    let (client, resp) = (passing(&daemon), connect(&daemon));
    (daemon, client, resp)
}

fn scene() -> (Daemon, Client, Resp) {
    scene_with(Setup::default())
}

fn passing(daemon: &Daemon) -> Client {
    let builder = Client::builder().path(daemon.socket()).timeout(PATIENCE);
    builder.pass_descriptors(true).connect().unwrap()
}

/// Somebody who makes files of all kinds and keeps them, to do more with them later.
struct Maker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Maker {
    /// `None` if there is no Python.
    fn start() -> Option<Self> {
        let script = "import os, sys, mmap, fcntl\n\
            SEAL, SHRINK, GROW, WRITE = 1, 2, 4, 8\n\
            def seal(fd, seals=15): fcntl.fcntl(fd, 1033, seals)\n\
            def memfd(size, flags=2, hole=0):\n\
            \x20   fd = os.memfd_create('made', flags)\n\
            \x20   os.ftruncate(fd, size)\n\
            \x20   if flags == 2: os.pwrite(fd, bytes(range(256)) * ((size - hole) // 256), hole)\n\
            \x20   return fd\n\
            for line in sys.stdin:\n\
            \x20   try: print(eval(line), flush=True)\n\
            \x20   except OSError as e: print('OSError', e.errno, flush=True)\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, input, output })
    }

    fn say(&mut self, expression: &str) -> String {
        writeln!(self.input, "{expression}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// One of its descriptors, opened again.
    fn file(&self, fd: &str) -> File {
        File::open(format!("/proc/{}/fd/{fd}", self.child.id())).unwrap()
    }

    /// A sealed memory file of [`LENGTH`] bytes.
    fn sealed(&mut self) -> (String, File) {
        let fd = self.say(&format!("memfd({LENGTH})"));
        assert_eq!(self.say(&format!("seal({fd})")), "None");
        let file = self.file(&fd);
        (fd, file)
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        // It holds nothing but its own files.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the maker writes.
fn written(length: usize) -> Vec<u8> {
    (0..=255).cycle().take(length).collect()
}

/// The inode that a value lies in.
fn inode(client: &mut Client, key: &str) -> u64 {
    let opened = client.keys(0).open(key).unwrap().unwrap();
    opened.into_file().metadata().unwrap().ino()
}

#[track_caller]
fn refused(client: &mut Client, file: impl AsFd, why: &str) {
    let error = client.keys(0).set_file("refused", file, &Put::new()).unwrap_err();
    assert_eq!(error.status(), Some(Status::BadSource), "{error}");
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.to_string().contains("send the bytes"), "{error}");
    assert_eq!(client.keys(0).get("refused").unwrap(), None);
}

#[test]
fn sealed_memory_becomes_the_value_without_a_copy() {
    let (daemon, mut client, mut resp) = scene();
    let value = content(LENGTH, 1);
    let file = File::from(memory::sealed("ours", &value).unwrap());
    assert!(client.keys(0).set_file("a", &file, &Put::new()).unwrap());
    assert_eq!(inode(&mut client, "a"), file.metadata().unwrap().ino(), "it is the same memory");
    assert!(client.keys(0).get("a").unwrap().unwrap() == value);
    assert!(resp.say("GET a").bytes() == value);
    assert!(client.read("kv:a").unwrap() == value);
    assert_eq!(resp.say("MEMORY USAGE a").integer() >> 20, 1, "it is charged for");
    // What is handed out is for reading, and nobody else's.
    let (one, other) = (client.keys(0).open("a").unwrap(), client.keys(0).open("a").unwrap());
    let mut one = one.unwrap().into_file();
    std::io::Read::read_exact(&mut one, &mut [0; 100]).unwrap();
    let mut other = other.unwrap().into_file();
    assert_eq!(std::io::Seek::stream_position(&mut other).unwrap(), 0);
    assert!(one.write(b"x").is_err());
    // Conditions and ends as with bytes.
    assert!(!client.keys(0).set_file("a", &file, &Put::new().if_absent()).unwrap());
    let put = Put::new().if_present().expires_in(std::time::Duration::from_secs(1000));
    assert!(client.keys(0).set_file("a", &file, &put).unwrap());
    assert!(resp.say("TTL a").integer() > 990);
    drop((one, other, file));
    assert_eq!(client.keys(0).delete(["a"]).unwrap(), 1);
    let fds = daemon.open_fds();
    drop((client, resp));
    support::until("nothing is left open", || daemon.open_fds() < fds);
}

/// What is long goes this way by itself.
#[test]
fn the_library_passes_what_is_too_long_to_send() {
    let (daemon, mut client, mut resp) = scene();
    let value = content(5_000_001, 2);
    client.keys(0).set("a", &value).unwrap();
    assert!(resp.say("GET a").bytes() == value);
    let error = daemon.client().keys(0).set("b", &value).unwrap_err();
    assert_eq!(error.status(), Some(Status::TooLarge));
    assert!(error.to_string().contains("pass_descriptors"), "{error}");
    let file = memory::sealed("ours", b"short").unwrap();
    let error = daemon.client().keys(0).set_file("b", &file, &Put::new()).unwrap_err();
    assert_eq!(error.status(), Some(Status::Unsupported));
    // A short one is copied beside its key.
    assert!(client.keys(0).set_file("b", &file, &Put::new()).unwrap());
    assert_eq!(resp.say("GET b").bytes(), b"short");
    assert!(client.keys(0).set_file("b", memory::sealed("", b"").unwrap(), &Put::new()).unwrap());
    assert_eq!(resp.say("GET b").bytes(), b"");
    resp.say("FLUSHALL");
}

#[test]
fn what_could_change_is_refused() {
    let (daemon, mut client, mut resp) = scene();
    let Some(mut maker) = Maker::start() else { return skip("python3 is not installed") };
    let fd = maker.say(&format!("memfd({LENGTH})"));
    refused(&mut client, maker.file(&fd), "F_SEAL_WRITE");
    for seals in [8, 1 | 2 | 4, 2 | 4 | 8, 1 | 2 | 8, 1 | 4 | 8, 1 | 2 | 4 | 16] {
        let fd = maker.say(&format!("memfd({LENGTH})"));
        maker.say(&format!("seal({fd}, {seals})"));
        refused(&mut client, maker.file(&fd), "is not sealed");
    }
    let fd = maker.say(&format!("memfd({LENGTH}, 0)"));
    refused(&mut client, maker.file(&fd), "is not sealed");
    daemon.write("file", &content(LENGTH, 1));
    refused(&mut client, File::open(daemon.path("file")).unwrap(), "no memory file");
    let (reader, writer) = std::io::pipe().unwrap();
    refused(&mut client, &reader, "no memory file");
    refused(&mut client, &writer, "no memory file");
    refused(&mut client, File::open("/dev/zero").unwrap(), "no memory file");
    refused(&mut client, File::open("/").unwrap(), "no memory file");
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    refused(&mut client, &one, "no memory file");
    // Only a name, or only for writing.
    let fd = maker.say(&format!("memfd({LENGTH})"));
    maker.say(&format!("seal({fd})"));
    let path = format!("/proc/{}/fd/{fd}", maker.child.id());
    let mut options = File::options();
    let name = options.read(true).custom_flags(0o10_000_000).open(&path).unwrap();
    refused(&mut client, &name, "not open for reading");
    let blind = File::options().write(true).open(&path).unwrap();
    refused(&mut client, &blind, "not open for reading");
    // Huge pages, where there are any.
    let fd = maker.say("memfd(2 << 20, 2 | 4)");
    if fd.starts_with("OSError") {
        skip("there is no memory with huge pages");
    } else {
        maker.say(&format!("seal({fd})"));
        refused(&mut client, maker.file(&fd), "huge pages");
    }
    assert_eq!(resp.say("DBSIZE").integer(), 0);
}

#[test]
fn what_has_holes_or_an_odd_size_is_whole() {
    let (_daemon, mut client, mut resp) = scene();
    let Some(mut maker) = Maker::start() else { return skip("python3 is not installed") };
    // A hole of half its length: its pages would come when others read it.
    let fd = maker.say(&format!("memfd({LENGTH}, 2, {})", LENGTH / 2));
    maker.say(&format!("seal({fd})"));
    let file = maker.file(&fd);
    assert!(client.keys(0).set_file("holes", &file, &Put::new()).unwrap());
    assert_ne!(inode(&mut client, "holes"), file.metadata().unwrap().ino(), "copied");
    let value = [vec![0; LENGTH / 2], written(LENGTH / 2)].concat();
    assert!(resp.say("GET holes").bytes() == value);
    // Nothing but a hole, as long as a value may be at most, and longer.
    let fd = maker.say("memfd((512 << 20) + 1, 2, 512 << 20)");
    maker.say(&format!("seal({fd})"));
    let error = client.keys(0).set_file("long", maker.file(&fd), &Put::new()).unwrap_err();
    assert_eq!(error.status(), Some(Status::TooLarge), "{error}");
    assert!(error.to_string().contains("536870912"), "{error}");
    let odd = memory::sealed("odd", &content(LENGTH + 17, 3)).unwrap();
    assert!(client.keys(0).set_file("odd", &odd, &Put::new()).unwrap());
    assert!(client.keys(0).get("odd").unwrap().unwrap() == content(LENGTH + 17, 3));
    resp.say("FLUSHALL");
}

/// By a daemon that is not root, so that modes count.
#[test]
fn whoever_made_it_can_change_nothing_afterwards() {
    if !is_root() {
        return skip("only root can start a daemon that is another user");
    }
    let config = "[listen]\nmode = \"0666\"\n[kv]\nallow = [\"uid:0\"]\n[destinations]\nallow = [\"uid:0\"]\n";
    let (_daemon, mut client, mut resp) =
        scene_with(Setup::default().config(config).unprivileged());
    let Some(mut maker) = Maker::start() else { return skip("python3 is not installed") };
    let (fd, file) = maker.sealed();
    let of_maker = file.metadata().unwrap().ino();
    assert!(client.keys(0).set_file("a", &file, &Put::new()).unwrap());
    assert_eq!(inode(&mut client, "a"), of_maker);
    // Nobody may open it any more; it cannot be shortened either.
    assert_eq!(maker.say(&format!("os.fchmod({fd}, 0)")), "None");
    assert!(maker.say(&format!("os.ftruncate({fd}, 1)")).starts_with("OSError"));
    assert!(maker.say(&format!("os.pwrite({fd}, b'x', 0)")).starts_with("OSError"));
    for _ in 0..3 {
        let opened = client.keys(0).open("a").unwrap().unwrap();
        assert!(opened.read_to_vec().unwrap() == written(LENGTH));
        assert!(client.keys(0).get("a").unwrap().unwrap() == written(LENGTH));
        assert!(client.read("kv:a").unwrap() == written(LENGTH));
        assert!(resp.say("GET a").bytes() == written(LENGTH));
    }
    // Forbidden before it was passed: the bytes are copied.
    let (fd, file) = maker.sealed();
    maker.say(&format!("os.fchmod({fd}, 0)"));
    assert!(client.keys(0).set_file("b", &file, &Put::new()).unwrap());
    assert_ne!(inode(&mut client, "b"), file.metadata().unwrap().ino());
    assert!(resp.say("GET b").bytes() == written(LENGTH));
    resp.say("FLUSHALL");
}

/// Raw: descriptors with other verbs, without their flag, too many, too few.
#[test]
fn a_descriptor_belongs_to_a_set_that_says_so() {
    let (daemon, mut client, mut resp) = scene();
    let file = memory::sealed("ours", b"value").unwrap();
    let set = |value| {
        let (expiry, condition) = (Expiry::Never, Condition::Always);
        Request::Kv(Kv { db: 0, verb: Verb::Set(Set { key: b"a", value, expiry, condition }) })
    };
    let passer = || {
        let mut peer = daemon.peer();
        peer.greet_with(Hello { capabilities: PASS_FDS, ..Hello::default() });
        peer
    };
    // Two in one message, each to its own.
    let mut peer = passer();
    let mut bytes = Vec::new();
    peer.encode(set(Given::Passed), &mut bytes);
    peer.encode(
        Request::Kv(Kv { db: 0, verb: Verb::Get { mode: Mode::Copy, key: b"a" } }),
        &mut bytes,
    );
    peer.encode(set(Given::Passed), &mut bytes);
    assert_eq!(peer.send_with(&bytes, &[file.as_fd(), file.as_fd()]).unwrap(), bytes.len());
    assert_eq!(peer.frame().reply(), Reply::KvDone(KvDone { done: true, number: 0 }));
    let frame = peer.frame();
    assert!(matches!(frame.reply(), Reply::Object(item) if item.inline == b"value"), "{frame:?}");
    assert_eq!(peer.frame().reply(), Reply::KvDone(KvDone { done: true, number: 0 }));

    let mut sound = Vec::new();
    peer.encode(set(Given::Passed), &mut sound);
    // (bytes 5 to 8 are the header's flags and the number of descriptors)
    let changed = |at: usize, to: u8| {
        let mut bytes = sound.clone();
        bytes[at] = to;
        bytes
    };
    for (bytes, fds) in [
        (changed(6, 0), 1),
        (changed(6, 2), 2),
        (changed(5, 0), 1),
        (changed(4, 0x22), 1),
        (changed(4, 0x20), 1),
    ] {
        let mut peer = passer();
        let fds = vec![file.as_fd(); fds];
        assert_eq!(peer.send_with(&bytes, &fds).unwrap(), bytes.len());
        assert_eq!(peer.expect_dismissal().0, Status::UnexpectedDescriptor);
    }
    // A request that makes no sense takes its descriptor with it.
    let mut peer = passer();
    let bytes = changed(16, 16);
    assert_eq!(peer.send_with(&bytes, &[file.as_fd()]).unwrap(), bytes.len());
    let frame = peer.frame();
    assert!(
        matches!(frame.reply(), Reply::Error(e) if e.status == Status::BadRequest),
        "{frame:?}"
    );
    peer.ping();
    // Who did not agree on it is told.
    let mut peer = daemon.greeted();
    let bytes = changed(6, 0);
    peer.send(&bytes);
    let frame = peer.frame();
    assert!(
        matches!(frame.reply(), Reply::Error(e) if e.status == Status::Unsupported),
        "{frame:?}"
    );
    assert_eq!(client.keys(0).get("a").unwrap().unwrap(), b"value");
    resp.say("FLUSHALL");
}

/// A value that was passed is in the journal as any other.
#[test]
fn it_is_there_after_a_kill() {
    let start = |place: Place| {
        let dir = place.outside("journal");
        let config = format!("[kv]\ndir = \"{}\"\nsync = \"always\"\n", dir.display());
        Setup::default().config(&config).start_in(place)
    };
    let daemon = start(Place::new());
    let mut client = passing(&daemon);
    client.keys(0).set("a", content(LENGTH, 5)).unwrap();
    drop(client);
    let daemon = start(daemon.kill());
    assert!(daemon.client().keys(0).get("a").unwrap().unwrap() == content(LENGTH, 5));
    // (A long value is open from the start.)
    drop(daemon.kill());
}
