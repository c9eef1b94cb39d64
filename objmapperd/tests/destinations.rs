//! Bodies that go into a pipe or a stream socket which the client passed: what may be passed, what
//! arrives there, and that nobody but the transfer itself waits for it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

mod support;

use std::fs::{self, File};
use std::io::{PipeReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::thread::{self, JoinHandle};

use objmapper_client::{Answer, Client, Error, Mode, Request as Asked};
use objmapper_proto::hello::{OUT_OF_ORDER, PASS_FDS};
use objmapper_proto::{Delivery, Get, Hello, HelloAck, Range, Reply, Request, Status, Version};
use support::content::content;
use support::daemon::{Daemon, Setup, counter, settle};
use support::neighbour::Neighbour;
use support::peer::Peer;
use support::{PATIENCE, is_root, skip, until};

/// Far more than pipes and sockets hold.
const LARGE: usize = 5_000_001;

fn scene() -> (Daemon, Client) {
    scene_with(Setup::default())
}

fn scene_with(setup: Setup) -> (Daemon, Client) {
    let daemon = setup.start();
    daemon.write("large", &content(LARGE, 1));
    daemon.write("other", &content(LARGE, 2));
    daemon.write("small", b"small");
    daemon.write("empty", b"");
    let client = passing(&daemon);
    assert!(client.may_send_to());
    (daemon, client)
}

fn passing(daemon: &Daemon) -> Client {
    let builder = Client::builder().path(daemon.socket()).timeout(PATIENCE);
    builder.pass_descriptors(true).connect().unwrap()
}

/// A peer that may pass descriptors.
fn passer(daemon: &Daemon, more: u64) -> Peer {
    let mut peer = daemon.peer();
    let capabilities = PASS_FDS | more;
    let ack = peer.greet_with(Hello { capabilities, ..Hello::default() });
    assert_eq!((ack.capabilities, ack.max_descriptors), (capabilities, 16));
    peer
}

/// Asks for an object to be sent there; the id.
fn ask(peer: &mut Peer, uri: &str, to: impl AsFd) -> u64 {
    let mut bytes = Vec::new();
    let get = Get { to: true, ..Get::new(Mode::Splice, Range::ALL, uri.as_bytes()) };
    let id = peer.encode(Request::Get(get), &mut bytes);
    assert_eq!(peer.send_with(&bytes, &[to.as_fd()]).unwrap(), bytes.len());
    id
}

/// The OBJECT that says so; the bytes that are promised.
#[track_caller]
fn begun(peer: &mut Peer, id: u64) -> u64 {
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!((frame.header.id, item.head.delivery), (id, Delivery::Destination));
    item.head.range.length
}

/// The END.
#[track_caller]
fn ended(peer: &mut Peer, id: u64) -> (Status, u64, String) {
    let frame = peer.frame();
    let Reply::End(end) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(frame.header.id, id);
    assert_eq!(end.status == Status::Ok, end.text.is_empty(), "a failure has a text");
    (end.status, end.length, end.text.to_owned())
}

/// Reads to the end on a thread.
fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Both ends of everything that may be passed: where to read, and what to pass.
fn destinations(daemon: &Daemon) -> Vec<(&'static str, Box<dyn Read + Send>, OwnedFd)> {
    let (pipe, into_pipe) = std::io::pipe().unwrap();
    let (pair, into_pair) = UnixStream::pair().unwrap();
    let path = daemon.outside("listening");
    let listener = UnixListener::bind(&path).unwrap();
    let into_unix = UnixStream::connect(&path).unwrap();
    let unix = listener.accept().unwrap().0;
    fs::remove_file(path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let into_tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let tcp = listener.accept().unwrap().0;
    let name = daemon.outside("fifo");
    assert!(Command::new("mkfifo").arg(&name).status().unwrap().success());
    let fifo = File::options().read(true).write(true).open(&name).unwrap();
    let into_fifo = File::options().write(true).open(&name).unwrap();
    let reader = File::open(&name).unwrap();
    drop(fifo);
    fs::remove_file(name).unwrap();
    vec![
        ("a pipe", Box::new(pipe), into_pipe.into()),
        ("a pair", Box::new(pair), into_pair.into()),
        ("a Unix socket", Box::new(unix), into_unix.into()),
        ("a TCP socket", Box::new(tcp), into_tcp.into()),
        ("a FIFO", Box::new(reader), into_fifo.into()),
    ]
}

#[test]
fn pipes_and_stream_sockets_get_the_bytes() {
    for options in ["", "strict = true\n"] {
        let (daemon, mut client) = scene_with(Setup::default().root_options(options));
        let large = content(LARGE, 1);
        for (what, reader, to) in destinations(&daemon) {
            let received = drain(reader);
            assert_eq!(client.send_to("/large", .., &to).unwrap(), LARGE as u64, "{what}");
            assert_eq!(client.send_to("/large", 7..1000, &to).unwrap(), 993, "{what}");
            assert_eq!(client.send_to("/empty", .., &to).unwrap(), 0, "{what}");
            assert_eq!(client.send_to("/small", 5.., &to).unwrap(), 0, "{what}");
            assert_eq!(client.send_to("/small", .., &to).unwrap(), 5, "{what}");
            drop(to);
            let expected = [&large, &large[7..1000], b"small"].concat();
            assert!(received.join().unwrap() == expected, "{what}, {options}");
        }
        assert_eq!(client.read("/small").unwrap(), b"small");
    }
}

#[test]
fn the_end_is_told_when_the_daemon_has_let_go() {
    let (_daemon, mut client) = scene();
    for _ in 0..50 {
        let (mut reader, writer) = std::io::pipe().unwrap();
        client.send_to("/small", .., &writer).unwrap();
        drop(writer);
        // Would wait for ever if anybody else could still write.
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"small");
    }
}

#[test]
fn anything_else_is_refused_and_the_connection_goes_on() {
    let (daemon, mut client) = scene();
    let file = File::options().write(true).open(daemon.write("file", b"")).unwrap();
    let path = 0o10_000_000; // O_PATH
    let (reader, writer) = std::io::pipe().unwrap();
    let (half, _other) = UnixDatagram::pair().unwrap();
    let pipe_path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let wrong: Vec<(&str, OwnedFd)> = vec![
        ("regular file", file.into()),
        ("directory", File::open(daemon.tree()).unwrap().into()),
        ("reading end", reader.try_clone().unwrap().into()),
        ("not a stream socket", half.into()),
        ("not a stream socket", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("listening", TcpListener::bind("127.0.0.1:0").unwrap().into()),
        ("listening", UnixListener::bind(daemon.outside("listener")).unwrap().into()),
        (
            "neither a pipe nor a socket",
            File::options().write(true).open("/dev/null").unwrap().into(),
        ),
        ("O_PATH", File::options().read(true).custom_flags(path).open(pipe_path).unwrap().into()),
        ("regular file", objmapper_os::memory::sealed("sealed", b"x").unwrap()),
    ];
    for (why, to) in wrong {
        let refused = client.send_to("/large", .., &to).unwrap_err();
        assert_eq!(refused.status(), Some(Status::BadDestination), "{refused}");
        assert!(refused.to_string().contains(why) && !refused.ends_connection(), "{refused}");
    }
    let refused = client.send_to("/no/such", .., &writer).unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    let refused = client.send_to("/small", 6.., &writer).unwrap_err();
    assert_eq!(refused.status(), Some(Status::BadRange), "{refused}");
    assert_eq!(client.read("/small").unwrap(), b"small");
    drop((reader, client));
    daemon.settles_with(0);
}

#[test]
fn who_is_not_named_may_not_pass_any() {
    let allow = "[destinations]\nallow = [\"uid:4242\"]\n";
    let daemon = Setup::default().config(allow).start();
    daemon.write("small", b"small");
    let mut peer = daemon.peer();
    let ack: HelloAck = peer.greet_with(Hello { capabilities: !0, ..Hello::default() });
    assert_eq!((ack.capabilities, ack.max_descriptors), (OUT_OF_ORDER, 0));
    let mut client = passing(&daemon);
    assert!(!client.may_send_to());
    let (_reader, writer) = std::io::pipe().unwrap();
    let refused = client.send_to("/small", .., &writer).unwrap_err();
    assert_eq!(refused.status(), Some(Status::Unsupported), "{refused}");
    // Nor who could and did not ask for it.
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let refused = client.send_to("/small", .., &writer).unwrap_err();
    assert!(refused.to_string().contains("pass_descriptors"), "{refused}");
    assert!(client.pipeline().unwrap().send_to("/small", .., &writer).is_err());
}

#[test]
fn a_stalled_destination_stops_its_own_transfer_alone() {
    let (daemon, _client) = scene();
    let mut neighbour = Neighbour::of(&daemon);
    let mut stalled = Vec::new();
    // More than there are helpers.
    for (n, (what, reader, to)) in (0..3).flat_map(|_| destinations(&daemon)).enumerate() {
        let mut peer = passer(&daemon, if n % 2 == 0 { OUT_OF_ORDER } else { 0 });
        let id = ask(&mut peer, "/large", &to);
        assert_eq!(begun(&mut peer, id), LARGE as u64, "{what}");
        if n % 2 == 0 {
            peer.ping();
        }
        stalled.push((peer, id, reader, to));
    }
    neighbour.check();
    let (reader, writer) = std::io::pipe().unwrap();
    let received = drain(reader);
    assert_eq!(passing(&daemon).send_to("/large", .., writer).unwrap(), LARGE as u64);
    assert!(received.join().unwrap() == content(LARGE, 1));
    for (mut peer, id, reader, to) in stalled {
        let received = drain(reader);
        assert_eq!(ended(&mut peer, id), (Status::Ok, LARGE as u64, String::new()));
        drop(to);
        assert!(received.join().unwrap() == content(LARGE, 1));
        peer.ping();
    }
    neighbour.check();
}

#[test]
fn a_destination_that_takes_nothing_is_given_up() {
    let (daemon, _client) = scene_with(Setup::default().config("[timeouts]\nsend = \"200ms\"\n"));
    for (what, reader, to) in destinations(&daemon) {
        for capability in [0, OUT_OF_ORDER] {
            let mut peer = passer(&daemon, capability);
            let id = ask(&mut peer, "/large", &to);
            begun(&mut peer, id);
            let (status, length, text) = ended(&mut peer, id);
            assert_eq!(status, Status::DestinationStalled, "{what}");
            assert!(length < LARGE as u64, "{what}: {length}");
            assert!(text.contains("200ms, timeouts.send"), "{text}");
            peer.ping();
        }
        drop(reader);
    }
}

#[test]
fn a_slow_reader_is_waited_for() {
    let (_daemon, mut client) = scene_with(Setup::default().config("[timeouts]\nsend = \"1s\"\n"));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let slow = thread::spawn(move || {
        let mut bytes = vec![0; LARGE];
        // Each pause is far below the timeout, all together are above it.
        for piece in bytes.chunks_mut(LARGE / 24) {
            reader.read_exact(piece).unwrap();
            thread::sleep(std::time::Duration::from_millis(60));
        }
        bytes
    });
    assert_eq!(client.send_to("/large", .., &writer).unwrap(), LARGE as u64);
    assert!(slow.join().unwrap() == content(LARGE, 1));
}

#[test]
fn a_reader_that_goes_ends_the_transfer() {
    let (daemon, mut client) = scene();
    for (what, reader, to) in destinations(&daemon) {
        let mut peer = passer(&daemon, 0);
        let id = ask(&mut peer, "/large", &to);
        begun(&mut peer, id);
        drop(reader);
        let (status, length, text) = ended(&mut peer, id);
        assert_eq!(status, Status::DestinationGone, "{what}: {text}");
        assert!(length < LARGE as u64, "{what}: {length}");
        // And from the start.
        let gone = client.send_to("/large", .., &to).unwrap_err();
        let status = gone.status().unwrap();
        // A TCP socket that was reset is not connected any more.
        let told = [Status::DestinationGone, Status::BadDestination].contains(&status);
        assert!(told && !gone.ends_connection(), "{what}: {gone}");
        peer.ping();
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let gone = client.send_to("/small", .., &theirs).unwrap_err();
    assert_eq!(gone.status(), Some(Status::DestinationGone), "{gone}");
    drop(ours);
}

#[test]
fn a_connection_that_ends_takes_its_transfers_along() {
    let (daemon, client) = scene();
    drop(client);
    for capability in [0, OUT_OF_ORDER] {
        for (what, mut reader, to) in destinations(&daemon) {
            let mut peer = passer(&daemon, capability);
            let id = ask(&mut peer, "/large", &to);
            begun(&mut peer, id);
            drop((peer, to));
            // Nobody reads, and nobody else holds it: the daemon lets go of it by itself.
            daemon.settles_with(0);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() < LARGE, "{what}");
            assert!(content(LARGE, 1).starts_with(&bytes), "{what}");
        }
    }
}

#[test]
fn several_at_once_where_that_was_agreed_on() {
    let (daemon, _client) = scene();
    let mut peer = passer(&daemon, OUT_OF_ORDER);
    let (stalled, into_stalled) = std::io::pipe().unwrap();
    let first = ask(&mut peer, "/large", &into_stalled);
    begun(&mut peer, first);
    let (reader, writer) = UnixStream::pair().unwrap();
    let received = drain(reader);
    let second = ask(&mut peer, "/other", &writer);
    begun(&mut peer, second);
    // A body over the connection itself, beside both.
    let third = peer.request(Request::Get(Get::new(Mode::Splice, Range::ALL, b"/large")));
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    while ends.len() < 2 {
        let frame = peer.frame();
        match frame.reply() {
            Reply::Data(piece) => bytes.extend_from_slice(piece),
            Reply::End(end) => ends.push((frame.header.id, end.status, end.length)),
            Reply::Object(item) => assert_eq!(item.head.delivery, Delivery::Stream),
            other => panic!("{other:?}"),
        }
    }
    ends.sort_unstable_by_key(|end| end.0);
    let whole = |id| (id, Status::Ok, LARGE as u64);
    assert_eq!(ends, [whole(second), whole(third)]);
    assert!(bytes == content(LARGE, 1));
    drop(writer);
    assert!(received.join().unwrap() == content(LARGE, 2));
    peer.ping();
    // CLOSE says what is still to come.
    let close = peer.request(Request::Close);
    let frame = peer.frame();
    assert_eq!((frame.header.id, frame.reply()), (close, Reply::CloseAck(1)));
    drop(into_stalled);
    let received = drain(stalled);
    assert_eq!(ended(&mut peer, first), (Status::Ok, LARGE as u64, String::new()));
    peer.expect_end();
    assert!(received.join().unwrap() == content(LARGE, 1));
}

#[test]
fn a_pipeline_of_them() {
    for out_of_order in [false, true] {
        let (daemon, _) = scene();
        let builder = Client::builder().path(daemon.socket()).timeout(PATIENCE);
        let mut client =
            builder.pass_descriptors(true).out_of_order(out_of_order).connect().unwrap();
        let mut pipeline = client.pipeline().unwrap();
        let mut readers = Vec::new();
        // More than one message may carry, more than may be under way.
        for n in 0..40_u64 {
            let (reader, writer) = std::io::pipe().unwrap();
            readers.push(drain(reader));
            pipeline.send_to("/large", n..n + 100_000, &writer).unwrap();
            if n % 10 == 0 {
                pipeline.queue(Asked::get("/small", Mode::Copy)).unwrap();
            }
        }
        let mut sent = 0;
        for (_, answer) in &mut pipeline {
            match answer.unwrap() {
                Answer::Sent(metadata) => {
                    assert_eq!(metadata.size(), LARGE as u64);
                    sent += 1;
                }
                other => assert!(matches!(other, Answer::Object(_)), "{other:?}"),
            }
        }
        assert_eq!(sent, 40);
        let large = content(LARGE, 1);
        for (n, reader) in readers.into_iter().enumerate() {
            assert!(reader.join().unwrap() == large[n..n + 100_000], "{n}");
        }
    }
}

#[test]
fn what_the_client_does_to_the_flags_does_not_matter() {
    let (daemon, _client) = scene();
    let mut neighbour = Neighbour::of(&daemon);
    let (reader, writer) = UnixStream::pair().unwrap();
    let mut peer = passer(&daemon, 0);
    let id = ask(&mut peer, "/large", &writer);
    begun(&mut peer, id);
    for n in 0..20 {
        writer.set_nonblocking(n % 2 == 0).unwrap();
        neighbour.check();
    }
    let received = drain(reader);
    assert_eq!(ended(&mut peer, id).0, Status::Ok);
    drop(writer);
    assert!(received.join().unwrap() == content(LARGE, 1));
}

#[test]
fn a_change_that_is_seen_is_told() {
    for options in ["", "strict = true\n"] {
        let (daemon, _client) = scene_with(Setup::default().root_options(options));
        let mut peer = passer(&daemon, 0);
        let (reader, writer) = std::io::pipe().unwrap();
        let id = ask(&mut peer, "/large", &writer);
        begun(&mut peer, id);
        let file = File::options().write(true).open(daemon.path("large")).unwrap();
        file.set_len(1_000_000).unwrap();
        let received = drain(reader);
        let (status, length, text) = ended(&mut peer, id);
        assert_eq!(status, Status::Changed, "{text}");
        drop(writer);
        assert_eq!(received.join().unwrap().len() as u64, length);
        peer.ping();
    }
}

#[test]
fn what_the_client_has_is_not_sent() {
    let (daemon, mut client) = scene();
    settle(&mut client, "/large");
    let Version(version) = client.stat("/large").unwrap().version();
    let mut peer = passer(&daemon, 0);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut bytes = Vec::new();
    let get = Get::new(Mode::Splice, Range::ALL, b"/large");
    let get = Get { to: true, unless: Some(Version(version)), ..get };
    peer.encode(Request::Get(get), &mut bytes);
    peer.send_with(&bytes, &[writer.as_fd()]).unwrap();
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!((item.head.status, item.head.delivery), (Status::NotModified, Delivery::None));
    peer.ping();
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn each_counts_as_a_body_of_its_senders() {
    let (daemon, mut client) = scene_with(Setup::default().config("[limits]\nbodies = 3\n"));
    let stall = |peer: &mut Peer| -> (PipeReader, u64) {
        let (reader, writer) = std::io::pipe().unwrap();
        let id = ask(peer, "/large", writer);
        (reader, id)
    };
    let mut peer = passer(&daemon, OUT_OF_ORDER);
    let mut held = Vec::new();
    let refused = loop {
        let (reader, id) = stall(&mut peer);
        let frame = peer.frame();
        assert_eq!(frame.header.id, id);
        match frame.reply() {
            Reply::Object(_) => held.push(reader),
            Reply::Error(error) => break (error.status, error.text.to_owned()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused.0, Status::Busy);
    assert!(refused.1.contains("limits.bodies"), "{}", refused.1);
    assert_eq!(counter(&mut client, "bodies.under_way"), held.len() as u64);
    drop((peer, held));
    until("all are given back", || counter(&mut client, "bodies.under_way") == 0);
}

#[test]
fn a_drain_waits_for_them() {
    let (mut daemon, client) = scene();
    drop(client);
    let mut peer = passer(&daemon, 0);
    let (reader, writer) = std::io::pipe().unwrap();
    let id = ask(&mut peer, "/large", &writer);
    begun(&mut peer, id);
    daemon.signal("TERM");
    until("it drains", || Peer::connect(&daemon.socket()).is_err());
    let received = drain(reader);
    assert_eq!(ended(&mut peer, id).0, Status::Ok);
    drop(writer);
    assert!(received.join().unwrap() == content(LARGE, 1));
    assert_eq!(peer.expect_dismissal().0, Status::Stopping);
    assert!(daemon.wait().success());
}

/// Holds the lock of a pipe: reads from it into memory that is not there, until it is told to
/// stop. userfaultfd(2)
const HOLDER: &str = r#"
import ctypes, fcntl, mmap, os, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
uffd = libc.syscall({"x86_64": 323, "aarch64": 282}[os.uname().machine], os.O_CLOEXEC)
if uffd < 0:
    sys.exit("no userfaultfd")
fcntl.ioctl(uffd, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
page = libc.mmap(None, 4096, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
fcntl.ioctl(uffd, 0xC020AA00, bytearray(struct.pack("QQQQ", page, 4096, 1, 0)))
libc.read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
held = threading.Thread(target=lambda: libc.read(0, page, 4096))
held.start()
os.read(uffd, 32)
print("held", flush=True)
os.read(2, 1)
fcntl.ioctl(uffd, 0xC020AA04, bytearray(struct.pack("QQQq", page, 4096, 0, 0)))
held.join()
"#;

#[test]
fn who_holds_a_pipes_lock_holds_up_nobody_else() {
    if !is_root() {
        return skip("userfaultfd(2) takes root");
    }
    let (daemon, _client) = scene();
    let mut neighbour = Neighbour::of(&daemon);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let (told, mut tell) = std::io::pipe().unwrap();
    let Some((mut holder, said)) = hold(&reader, told) else {
        return skip("python3 with userfaultfd(2) is needed");
    };
    assert_eq!(said, "held\n");
    // More than one user gets helpers for.
    let peers: Vec<_> = (0..6)
        .map(|_| {
            let mut peer = passer(&daemon, 0);
            let id = ask(&mut peer, "/large", &writer);
            (peer, id)
        })
        .collect();
    until("a helper is lost", || counter(&mut neighbour.client, "helpers.running") > 0);
    for _ in 0..10 {
        neighbour.check();
        neighbour.client.list("/").unwrap().for_each(|entry| drop(entry.unwrap()));
    }
    tell.write_all(b"x").unwrap();
    assert!(holder.wait().unwrap().success());
    let received = drain(reader);
    for (mut peer, id) in peers {
        begun(&mut peer, id);
        assert_eq!(ended(&mut peer, id).0, Status::Ok);
    }
    drop(writer);
    assert_eq!(received.join().unwrap().len(), 6 * LARGE);
}

/// Starts the holder, with the pipe as its standard input, and what it is told over as its standard
/// error; what it says first.
fn hold(pipe: &PipeReader, told: PipeReader) -> Option<(std::process::Child, String)> {
    let mut child = Command::new("python3")
        .args(["-c", HOLDER])
        .stdin(pipe.try_clone().unwrap())
        .stdout(std::process::Stdio::piped())
        .stderr(told)
        .spawn()
        .ok()?;
    let mut said = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut said).unwrap();
    if said.is_empty() {
        child.wait().unwrap();
        return None;
    }
    Some((child, said))
}

#[test]
fn an_error_names_what_it_was_about() {
    let (_daemon, mut client) = scene();
    let (_, writer) = std::io::pipe().unwrap();
    let gone = client.send_to("/large", .., writer).unwrap_err();
    assert!(matches!(gone, Error::Refused { status: Status::DestinationGone, .. }));
    assert!(gone.to_string().starts_with("/large: DESTINATION_GONE: nobody reads"), "{gone}");
}
