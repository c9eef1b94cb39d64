//! What may be passed, by whom, and how many.

use std::fs::File;
use std::io::PipeReader;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use objmapper_client::Error;
use objmapper_os::fds::FdQueue;
use objmapper_os::socket::Stream;
use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{Hello, HelloAck, Reply, Status};

use crate::scene::{ask, passer, passing, scene, scene_with};
use crate::support::daemon::{Daemon, Setup, counter};
use crate::support::peer::Peer;
use crate::support::{skip, until};

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

/// Makes them, and knows afterwards whether anything was done to them.
const STRANGE: &str = include_str!("strange.py");

/// Every kind of descriptor that the kernel has: refused with a reason that fits, closed before that
/// is told, and left as it was.
#[test]
fn whatever_is_none_is_refused_closed_and_left_as_it_was() {
    let (daemon, mut client) = scene();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let python = Command::new("python3")
        .args(["-c", STRANGE])
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .spawn();
    let Ok(python) = python else { return skip("python3 is needed") };
    let link = Stream::from_fd(ours.into()).unwrap();
    daemon.settles_with(1);
    let before = daemon.open_fds();
    let (mut seen, mut fds) = (Vec::new(), FdQueue::with_capacity(1));
    loop {
        let mut words = [0; 256];
        let received = link.recv(&mut words, &mut fds).unwrap();
        if received.bytes == 0 {
            break;
        }
        let words = std::str::from_utf8(&words[..received.bytes]).unwrap();
        let (name, why) = words.split_once('\t').unwrap();
        let to = fds.pop_front().unwrap();
        for uri in ["/large", "/empty"] {
            let refused = client.send_to(uri, .., &to).unwrap_err();
            assert_eq!(daemon.open_fds(), before, "{name}");
            assert_eq!(refused.status(), Some(Status::BadDestination), "{name}: {refused}");
            let said = refused.to_string();
            assert!(said.contains(why), "{name}: {refused}");
            assert!(said.ends_with("or a connected stream socket"), "{name}: {refused}");
            assert!(!refused.ends_connection(), "{name}: {refused}");
        }
        seen.push(name.to_owned());
    }
    link.send(b"x", &[], false).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.lines().for_each(skip);
    assert!(seen.len() > 25, "{seen:?}, {said}");
    assert_eq!(client.read("/small").unwrap(), b"small");
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
fn an_error_names_what_it_was_about() {
    let (_daemon, mut client) = scene();
    let (_, writer) = std::io::pipe().unwrap();
    let gone = client.send_to("/large", .., writer).unwrap_err();
    assert!(matches!(gone, Error::Refused { status: Status::DestinationGone, .. }));
    assert!(gone.to_string().starts_with("/large: DESTINATION_GONE: nobody reads"), "{gone}");
}
