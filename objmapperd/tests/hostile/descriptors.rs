//! Descriptors that nobody asked for, and such as nobody takes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use objmapper_client::Client;
use objmapper_os::errno;
use objmapper_os::socket::refuse_descriptors;
use objmapper_proto::{Mode, Op, Status};

use crate::support::daemon::{Place, Setup, counter};
use crate::support::{PATIENCE, skip, until, wait_for};
use crate::town::{a_get, all_is_well, dismissed, header, town};

#[test]
fn descriptors_that_are_declared_and_do_not_come() {
    let (daemon, mut neighbour) = town();
    for fds in [1, 253, u16::MAX] {
        let (status, text) = dismissed(&daemon, &header(0, Op::Ping as u8, 0, fds, 2));
        assert_eq!(status, Status::UnexpectedDescriptor);
        assert!(text.contains("takes none"), "{text}");
    }
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn descriptors_that_nobody_asked_for() {
    let (daemon, mut neighbour) = town();
    let null = File::open("/dev/null").unwrap();
    let refused = objmapper_os::probe::features().refuse_descriptors;
    for (count, declared) in [(1, 0), (1, 1), (253, 0)] {
        let fds = vec![null.as_fd(); count];
        for mut peer in [daemon.peer(), daemon.greeted()] {
            let bytes = header(0, Op::Ping as u8, 0, declared, 2);
            if let Err(error) = peer.send_with(&bytes, &fds) {
                assert!(refused && error.errno() == errno::EPERM, "{error}");
            } else {
                // The kernel lets them through: they are closed, and the peer may be sent away.
                assert!(!refused);
                peer.stream.shutdown_write().unwrap();
                while peer.frame_or_end().is_some() {}
            }
            neighbour.check();
        }
    }
    daemon.settles_with(1);
    if !refused {
        skip("this kernel cannot refuse descriptors: only checked that none stays open");
    }
    // Who tried once and was refused is served like anybody.
    let mut peer = daemon.greeted();
    if refused {
        peer.send_with(b"x", &[null.as_fd()]).unwrap_err();
        peer.ping();
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn one_who_asks_for_descriptors_and_refuses_them() {
    let (daemon, mut neighbour) = town();
    for asked in 1..4 {
        let mut peer = daemon.greeted();
        if !refuse_descriptors(peer.as_fd()).unwrap() {
            return skip("this kernel cannot refuse descriptors");
        }
        // At once: the connection ends at the first reply that cannot be sent.
        let gets = (0..asked).map(|_| a_get(&mut peer, Mode::Fdpass, "/neighbour/small"));
        let gets = gets.collect::<Vec<_>>().concat();
        peer.send(&gets);
        peer.expect_end();
        neighbour.check();
    }
    all_is_well(&daemon, &mut neighbour);
}

/// Sends a TCP connection that nobody reads from and whose close waits for an hour (SO_LINGER),
/// behind so many bytes, so often, to a socket that somebody is going to listen at; stays until it
/// is told to go.
const LINGERING: &str = r#"
import array, socket, struct, sys
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
kept = []
for _ in range(int(sys.argv[2])):
    ours = socket.create_connection(server.getsockname())
    kept.append(server.accept())
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    ours.setblocking(False)
    try:
        while True:
            ours.send(bytes(1 << 20))
    except BlockingIOError:
        pass
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(sys.argv[1])
    unix.sendall(b"x" * int(sys.argv[3]))
    rights = array.array("i", [ours.fileno()])
    unix.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    ours.close()
    kept.append(unix)
print("sent", flush=True)
sys.stdin.read()
"#;

#[test]
fn descriptors_from_before_they_were_refused_whose_close_waits() {
    close_waits(0);
}

/// They are closed with the connection, which is over before they are read.
#[test]
fn descriptors_that_nobody_comes_to_read_whose_close_waits() {
    close_waits(100_000);
}

/// All get on while the close of six descriptors waits, each sent behind so many bytes.
fn close_waits(behind: usize) {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let python = Command::new("python3")
        .args(["-c", LINGERING, place.socket().to_str().unwrap(), "6"])
        .arg(behind.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else { return skip("python3 is needed") };
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "sent");
    place.write("file", b"content");
    let mut daemon = Setup::default().inherit(listener.into()).spawn(&place);
    // More of them than there are workers and helpers; they were there first.
    let connect = || Client::builder().path(place.socket()).timeout(PATIENCE).connect().unwrap();
    let mut client = connect();
    until("they are found", || counter(&mut client, "connections.violations") == 6);
    for _ in 0..10 {
        assert_eq!(connect().open("/file").unwrap().read_to_vec().unwrap(), b"content");
        assert_eq!(client.read("/file").unwrap(), b"content");
        client.list("/").unwrap().for_each(|entry| drop(entry.unwrap()));
    }
    // Nor does the daemon wait for them at its end.
    drop(client);
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let status = wait_for("the daemon has ended", || daemon.try_wait().unwrap());
    assert!(status.success(), "{status}");
    drop(python.stdin.take());
    python.wait().unwrap();
}
