//! A daemon whose clients may pass destinations, and what they pass.

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread::{self, JoinHandle};

use objmapper_client::Client;
use objmapper_proto::hello::PASS_FDS;
use objmapper_proto::{Delivery, Get, Hello, Mode, Range, Reply, Request, Status};

use crate::support::PATIENCE;
use crate::support::content::content;
use crate::support::daemon::{Daemon, Setup};
use crate::support::peer::Peer;

/// Far more than pipes and sockets hold.
pub const LARGE: usize = 5_000_001;

pub fn scene() -> (Daemon, Client) {
    scene_with(Setup::default())
}

pub fn scene_with(setup: Setup) -> (Daemon, Client) {
    let daemon = setup.start();
    daemon.write("large", &content(LARGE, 1));
    daemon.write("other", &content(LARGE, 2));
    daemon.write("small", b"small");
    daemon.write("empty", b"");
    let client = passing(&daemon);
    assert!(client.may_send_to());
    (daemon, client)
}

pub fn passing(daemon: &Daemon) -> Client {
    let builder = Client::builder().path(daemon.socket()).timeout(PATIENCE);
    builder.pass_descriptors(true).connect().unwrap()
}

/// A peer that may pass descriptors.
pub fn passer(daemon: &Daemon, more: u64) -> Peer {
    let mut peer = daemon.peer();
    let capabilities = PASS_FDS | more;
    let ack = peer.greet_with(Hello { capabilities, ..Hello::default() });
    assert_eq!((ack.capabilities, ack.max_descriptors), (capabilities, 16));
    peer
}

/// Asks for an object to be sent there; the id.
pub fn ask(peer: &mut Peer, uri: &str, to: impl AsFd) -> u64 {
    ask_all(peer, &[(uri, to.as_fd())])[0]
}

/// Asks for several in one message.
pub fn ask_all(peer: &mut Peer, all: &[(&str, BorrowedFd<'_>)]) -> Vec<u64> {
    let mut bytes = Vec::new();
    let mut encode = |uri: &str| {
        let get = Get { to: true, ..Get::new(Mode::Splice, Range::ALL, uri.as_bytes()) };
        peer.encode(Request::Get(get), &mut bytes)
    };
    let ids = all.iter().map(|(uri, _)| encode(uri)).collect();
    let fds: Vec<_> = all.iter().map(|(_, to)| *to).collect();
    assert_eq!(peer.send_with(&bytes, &fds).unwrap(), bytes.len());
    ids
}

/// The OBJECT that says so; the bytes that are promised.
#[track_caller]
pub fn begun(peer: &mut Peer, id: u64) -> u64 {
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!((frame.header.id, item.head.delivery), (id, Delivery::Destination));
    item.head.range.length
}

/// The END.
#[track_caller]
pub fn ended(peer: &mut Peer, id: u64) -> (Status, u64, String) {
    let frame = peer.frame();
    let Reply::End(end) = frame.reply() else { panic!("{frame:?}") };
    assert_eq!(frame.header.id, id);
    assert_eq!(end.status == Status::Ok, end.text.is_empty(), "a failure has a text");
    (end.status, end.length, end.text.to_owned())
}

/// Reads to the end on a thread.
pub fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Both ends of everything that may be passed: where to read, and what to pass.
pub fn destinations(daemon: &Daemon) -> Vec<(&'static str, Box<dyn Read + Send>, OwnedFd)> {
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
