//! Destinations that nobody reads from, or too slowly, or that are held on purpose: nobody but the
//! transfer itself waits.

use std::io::{PipeReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;

use objmapper_proto::Status;
use objmapper_proto::hello::OUT_OF_ORDER;

use crate::scene::{
    LARGE, ask, ask_all, begun, destinations, drain, ended, passer, passing, scene, scene_with,
};
use crate::support::content::content;
use crate::support::daemon::{Setup, counter};
use crate::support::neighbour::Neighbour;
use crate::support::peer::Peer;
use crate::support::{is_root, skip, until};

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

/// Who sends many requests ahead and reads from none holds their descriptors about twice as long as
/// one of them may take, and nobody else up.
#[test]
fn those_behind_one_that_is_given_up_have_less_time() {
    const FIRST: &str = " 800ms,";
    let (daemon, client) = scene_with(Setup::default().config("[timeouts]\nsend = \"800ms\"\n"));
    drop(client);
    let mut neighbour = Neighbour::of(&daemon);
    let mut peer = passer(&daemon, 0);
    let mut given_up = |peer: &mut Peer, id, time: &str| {
        neighbour.check();
        begun(peer, id);
        let (status, _, text) = ended(peer, id);
        assert_eq!(status, Status::DestinationStalled);
        assert!(text.contains(time), "{time}: {text}");
        assert_eq!(text.contains("halved"), time != FIRST, "{text}");
    };
    let pipes: Vec<_> = (0..12).map(|_| std::io::pipe().unwrap()).collect();
    let row = [FIRST, " 400ms,", " 200ms,", " 100ms,", " 50ms,", " 25ms,", " 12ms 500us,"];
    let row = row.into_iter().chain([" 10ms,", " 10ms,"]);
    let of = |n: usize| if n == 9 { "/small" } else { "/large" };
    let all: Vec<_> = pipes.iter().enumerate().map(|(n, (_, to))| (of(n), to.as_fd())).collect();
    let ids = ask_all(&mut peer, &all[..11]);
    for (&id, time) in ids.iter().zip(row) {
        given_up(&mut peer, id, time);
    }
    // One that is taken: those behind it have all the time again.
    begun(&mut peer, ids[9]);
    assert_eq!(ended(&mut peer, ids[9]).0, Status::Ok);
    given_up(&mut peer, ids[10], FIRST);
    // So has one that is asked for when nothing else is left.
    let alone = ask(&mut peer, "/large", all[11].1);
    given_up(&mut peer, alone, FIRST);
    drop(peer);
    daemon.settles_with(1);
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
