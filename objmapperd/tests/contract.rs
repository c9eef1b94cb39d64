//! One body through every interface: the core embedded, the client library, the bare wire; in every
//! mode, at every size where the form of a delivery turns, in every kind of range. The bytes and
//! what is said about them are the same everywhere.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use objmapper::{
    Caller, Delivered, Kind, Links, Miss, Mode, Mount, Mounts, Patience, Range, Reason, Rules,
    Status, Store, Tree, Version, Want,
};
use objmapper_client::{Client, Object};
use objmapper_os::file;
use objmapper_proto::{Delivery, Hello};
use support::content::content;
use support::daemon::{Daemon, Place, Setup, mtime_ns, settle};
use support::peer::Peer;
use support::{is_root, skip};

const KIB: usize = 1 << 10;

/// Around every size at which something else happens: pages, what a worker sends in place, a
/// DATA frame; and far beyond.
const SIZES: [usize; 10] = [
    0,
    1,
    4 * KIB - 1,
    4 * KIB,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    256 * KIB,
    256 * KIB + 1,
    3 * KIB * KIB + 7,
];

/// What came of asking for a range of an object.
#[derive(Debug, PartialEq, Eq)]
struct Fetched {
    bytes: Vec<u8>,
    size: u64,
    mtime_ns: i64,
    version: Version,
    kind: Kind,
    reason: Reason,
    by_descriptor: bool,
}

/// Whatever can be asked for objects.
trait Interface {
    fn fetch(&mut self, uri: &str, mode: Mode, range: Range) -> Result<Fetched, Status>;
}

struct Embedded {
    store: Store,
    caller: Caller,
}

impl Embedded {
    fn new(place: &Place) -> Self {
        let tree = Tree::open(&place.tree(), Links::Refuse).unwrap();
        let mount = Mount::new("/".parse().unwrap(), Arc::new(tree), Rules::owner_only());
        let store = Store::new(Mounts::new(vec![mount]).unwrap());
        Self { store, caller: Caller::own() }
    }
}

impl Interface for Embedded {
    fn fetch(&mut self, uri: &str, mode: Mode, range: Range) -> Result<Fetched, Status> {
        let want = Want { uri: uri.as_bytes(), mode, range, ..Want::default() };
        let delivery = match self.store.deliver(&mut self.caller, &want, Patience::Block) {
            Ok(delivery) => delivery,
            Err(Miss::Refused(refusal)) => return Err(refusal.status()),
            Err(other) => panic!("{other}"),
        };
        let mut bytes = Vec::new();
        let by_descriptor = matches!(delivery.delivered, Delivered::Descriptor(_));
        match delivery.delivered {
            Delivered::Descriptor(fd) => {
                bytes = part(&File::from(OwnedFd::from(fd)), delivery.range);
            }
            Delivered::Inline(body) => {
                body.fill(&mut bytes, Patience::Block).unwrap();
            }
            // As whoever streams does it: from the file, at the range's offset.
            Delivered::Stream(body) => {
                bytes.resize(usize::try_from(body.range().length).unwrap(), 0);
                let mut at = 0;
                while at < bytes.len() {
                    let offset = body.range().offset + at as u64;
                    let read = file::read_at(body.file(), &mut bytes[at..], offset).unwrap();
                    assert!(read > 0);
                    at += read;
                }
                assert!(body.is_unchanged().unwrap());
            }
            Delivered::NotModified | Delivered::Shared(_) => panic!("nobody asked"),
        }
        let object = delivery.object;
        Ok(Fetched {
            bytes,
            size: object.size,
            mtime_ns: object.mtime_ns,
            version: object.version,
            kind: object.kind,
            reason: delivery.reason,
            by_descriptor,
        })
    }
}

impl Interface for Client {
    fn fetch(&mut self, uri: &str, mode: Mode, range: Range) -> Result<Fetched, Status> {
        let end = range.offset.saturating_add(range.length);
        let object = match self.get_range(uri, mode, range.offset..end) {
            Ok(object) => object,
            Err(error) => return Err(error.status().unwrap_or_else(|| panic!("{error}"))),
        };
        let metadata = *object.metadata();
        let by_descriptor = matches!(object, Object::Descriptor(_));
        let bytes = match object {
            Object::Bytes(bytes, _) => bytes,
            Object::Descriptor(opened) => {
                part(&opened.into_file(), range.clamp(metadata.size()).unwrap())
            }
        };
        Ok(Fetched {
            bytes,
            size: metadata.size(),
            mtime_ns: metadata.mtime_ns(),
            version: metadata.version(),
            kind: metadata.kind(),
            reason: metadata.reason(),
            by_descriptor,
        })
    }
}

impl Interface for Peer {
    fn fetch(&mut self, uri: &str, mode: Mode, range: Range) -> Result<Fetched, Status> {
        let answer = self.get(mode, uri.as_bytes(), range);
        if answer.status() != Status::Ok {
            return Err(answer.status());
        }
        assert_eq!(answer.end, Status::Ok);
        let head = answer.head;
        assert_eq!(Some(head.range), range.clamp(head.size), "the range that is served is told");
        let by_descriptor = head.delivery == Delivery::Descriptor;
        let bytes = answer.file.map_or(answer.bytes, |file| part(&file, head.range));
        Ok(Fetched {
            bytes,
            size: head.size,
            mtime_ns: head.mtime_ns,
            version: head.version,
            kind: head.kind,
            reason: head.reason,
            by_descriptor,
        })
    }
}

/// A range of a file, read as whoever got a descriptor reads it.
fn part(file: &File, range: Range) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
    file.read_exact_at(&mut bytes, range.offset).unwrap();
    bytes
}

/// Ranges of an object of that size: all, a middle, to the end, past the end, at the end.
fn ranges(size: usize) -> Vec<Range> {
    let size = size as u64;
    let range = |offset, length| Range { offset, length };
    vec![
        Range::ALL,
        range(size / 3, size / 3),
        range(size / 2, Range::TO_END),
        range(size / 2, size + 1),
        range(size, Range::TO_END),
        range(size, 5),
    ]
}

/// What the delivery of `length` bytes must look like, by the defaults of the settings.
fn expected_form(mode: Mode, length: usize) -> (bool, Reason) {
    match mode {
        Mode::Fdpass => (true, Reason::Asked),
        Mode::Copy | Mode::Splice => (false, Reason::Asked),
        Mode::Auto if length <= 16 * KIB => (false, Reason::Small),
        Mode::Auto => (true, Reason::Large),
    }
}

fn same_through_every_interface(mode: Mode) {
    let daemon = Daemon::start();
    let mut interfaces: Vec<Box<dyn Interface>> = vec![
        Box::new(Embedded::new(&daemon)),
        Box::new(daemon.client()),
        Box::new(daemon.greeted()),
    ];
    let mut client = daemon.client();
    for size in SIZES {
        let bytes = content(size, size as u64);
        let path = daemon.write(size.to_string(), &bytes);
        let uri = format!("/{size}");
        settle(&mut client, &uri);
        let version = client.stat(&uri).unwrap().version();
        for range in ranges(size) {
            let served = range.clamp(size as u64).unwrap();
            let at = usize::try_from(served.offset).unwrap();
            let length = usize::try_from(served.length).unwrap();
            let (by_descriptor, reason) = expected_form(mode, length);
            let expected = Fetched {
                bytes: bytes[at..at + length].to_vec(),
                size: size as u64,
                mtime_ns: mtime_ns(&path),
                version,
                kind: Kind::File,
                reason,
                by_descriptor,
            };
            for (number, interface) in interfaces.iter_mut().enumerate() {
                let fetched = interface.fetch(&uri, mode, range).unwrap();
                assert!(fetched == expected, "interface {number}, {mode} of {range:?} of {size}");
            }
        }
        let beyond = Range { offset: size as u64 + 1, length: Range::TO_END };
        for interface in &mut interfaces {
            assert_eq!(interface.fetch(&uri, mode, beyond).unwrap_err(), Status::BadRange);
        }
    }
}

#[test]
fn fdpass_is_the_same_through_every_interface() {
    same_through_every_interface(Mode::Fdpass);
}

#[test]
fn copy_is_the_same_through_every_interface() {
    same_through_every_interface(Mode::Copy);
}

#[test]
fn splice_is_the_same_through_every_interface() {
    same_through_every_interface(Mode::Splice);
}

#[test]
fn auto_is_the_same_through_every_interface() {
    same_through_every_interface(Mode::Auto);
}

#[test]
fn bytes_come_in_the_form_that_the_settings_say() {
    let daemon =
        Setup::default().config("[delivery]\ninline_limit = 100\nauto_limit = \"1KiB\"\n").start();
    daemon.write("100", &content(100, 1));
    daemon.write("101", &content(101, 2));
    daemon.write("1025", &content(1025, 3));
    daemon.write("0", b"");
    let mut peer = daemon.greeted();
    for (uri, mode, expected) in [
        ("/100", Mode::Copy, Delivery::Inline),
        ("/101", Mode::Copy, Delivery::Stream),
        ("/100", Mode::Splice, Delivery::Stream),
        ("/0", Mode::Splice, Delivery::Inline),
        ("/100", Mode::Auto, Delivery::Inline),
        ("/101", Mode::Auto, Delivery::Stream),
        ("/1025", Mode::Auto, Delivery::Descriptor),
        ("/0", Mode::Fdpass, Delivery::Descriptor),
    ] {
        let answer = peer.get(mode, uri.as_bytes(), Range::ALL);
        assert_eq!(answer.head.delivery, expected, "{uri} by {mode}");
    }
}

#[test]
fn a_client_that_takes_little_at_a_time_gets_the_same() {
    let daemon = Daemon::start();
    for max_payload in [8 * 1024, 8 * 1024 + 1, 100_000] {
        let mut peer = daemon.peer();
        peer.greet_with(Hello { max_payload, ..Hello::default() });
        for size in [0, 1, 7 * KIB, 7 * KIB + 200, 8 * KIB, 64 * KIB, 300 * KIB] {
            let bytes = content(size, size as u64);
            daemon.write("file", &bytes);
            for mode in Mode::ALL {
                let fetched = peer.fetch("/file", mode, Range::ALL).unwrap();
                assert!(fetched.bytes == bytes, "{size} by {mode} in frames of {max_payload}");
            }
        }
    }
}

/// `pos` and `flags` of a descriptor of this process.
fn fdinfo(file: &File) -> (u64, u32) {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{text}")).trim().to_owned()
    };
    (field("pos:").parse().unwrap(), u32::from_str_radix(&field("flags:"), 8).unwrap())
}

#[test]
fn a_descriptor_is_its_receivers_own() {
    const ACCESS: u32 = 0o3;
    const CLOEXEC: u32 = 0o2_000_000;
    let daemon = Daemon::start();
    daemon.write("file", b"0123456789");
    let mut peer = daemon.greeted();
    let mut open = || peer.get(Mode::Fdpass, b"/file", Range::ALL).file.unwrap();
    let (one, other) = (open(), open());
    for file in [&one, &other] {
        let (position, flags) = fdinfo(file);
        assert_eq!((position, flags & ACCESS), (0, 0), "at the start, read-only");
        assert_eq!(flags & CLOEXEC, CLOEXEC);
    }
    std::io::Read::read_exact(&mut &one, &mut [0; 7]).unwrap();
    assert_eq!((fdinfo(&one).0, fdinfo(&other).0), (7, 0), "each has a position of its own");
    let ours = file::identity(File::open(daemon.path("file")).unwrap().as_fd()).unwrap();
    assert_eq!(file::identity(one.as_fd()).unwrap().ino, ours.ino, "the file itself, no copy");
}

#[test]
fn a_descriptor_cannot_be_opened_again_for_writing() {
    if !is_root() {
        return skip("a read-only clone of a mount needs CAP_SYS_ADMIN");
    }
    let daemon = Setup::default().root_options("read_only_clone = \"on\"\n").start();
    daemon.write("file", b"content");
    let opened = daemon.client().open("/file").unwrap().into_file();
    let again = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let error = File::options().write(true).open(again).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn what_was_opened_outlives_name_connection_and_daemon() {
    let daemon = Daemon::start();
    let bytes = content(100_000, 7);
    daemon.write("file", &bytes);
    let opened = daemon.client().open("/file").unwrap();
    std::fs::remove_file(daemon.path("file")).unwrap();
    assert!(daemon.client().open("/file").unwrap_err().is_not_found());
    drop(daemon);
    assert!(opened.read_to_vec().unwrap() == bytes);
}
