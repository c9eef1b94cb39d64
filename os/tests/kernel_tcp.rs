//! TCP, as far as the daemon speaks it: listening on this machine's own address, and bytes.

mod common;

use common::Balance;
use objmapper_os::errno;
use objmapper_os::peer::Peer;
use objmapper_os::socket::{Listener, Stream};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

#[allow(clippy::unwrap_used)] // fails its test
fn listen() -> (Listener, SocketAddr) {
    let listener = Listener::bind_tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap();
    let address = listener.address().unwrap();
    (listener, address)
}

/// The next connection: here at once after connect(2) has returned.
#[allow(clippy::unwrap_used)] // fails its test
fn accepted(listener: &Listener) -> Stream {
    listener.accept().unwrap()
}

#[test]
fn bytes_go_to_and_fro_and_nobody_has_credentials() {
    let _balance = Balance::new();
    let (listener, address) = listen();
    assert!(address.ip().is_loopback() && address.port() != 0 && listener.path().is_none());
    assert!(listener.accept().unwrap_err().is_would_block());
    let mut client = TcpStream::connect(address).unwrap();
    let server = accepted(&listener);
    assert_eq!(server.peer_address(), client.local_addr().ok());
    let error = Peer::of(&server).unwrap_err();
    assert_eq!(error.errno(), errno::ENOTCONN, "who it is, is not known: {error}");
    client.write_all(b"hello").unwrap();
    let mut buffer = [0; 8];
    while !server.has_input().unwrap() {}
    assert_eq!(server.recv_bytes(&mut buffer).unwrap(), 5);
    server.send(b"and you", &[], false).unwrap();
    client.read_exact(&mut buffer[..7]).unwrap();
    assert_eq!(&buffer[..7], b"and you");
    drop(client);
    while server.recv_bytes(&mut buffer).is_err() {}
}

#[test]
fn what_is_sent_does_not_wait_for_more() {
    let _balance = Balance::new();
    let (listener, address) = listen();
    let _client = TcpStream::connect(address).unwrap();
    let server = accepted(&listener);
    let same = TcpStream::from(server.as_fd().try_clone_to_owned().unwrap());
    assert!(same.nodelay().unwrap());
}

#[test]
fn what_the_peer_has_not_taken_is_known() {
    let _balance = Balance::new();
    let (listener, address) = listen();
    let client = TcpStream::connect(address).unwrap();
    let server = accepted(&listener);
    while server.send(&[0; 4096], &[], false).is_ok() {}
    let before = server.unread().unwrap();
    assert!(before > 0);
    server.shutdown().unwrap();
    drop(client);
}

#[test]
fn an_address_in_use_is_refused_and_one_that_was_is_not() {
    let _balance = Balance::new();
    let (listener, address) = listen();
    let error = Listener::bind_tcp(address, 16).unwrap_err();
    assert_eq!(error.errno(), errno::EADDRINUSE);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    // Closed by us first, so that our end is in TIME_WAIT.
    let mut client = TcpStream::connect(address).unwrap();
    drop(accepted(&listener));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    drop(listener);
    let again = Listener::bind_tcp(address, 16).unwrap();
    assert_eq!(again.address(), Some(address));
}

#[test]
fn version_6_of_the_protocol_will_do() {
    let _balance = Balance::new();
    let Ok(listener) = Listener::bind_tcp("[::1]:0".parse().unwrap(), 16) else {
        return common::skip("there is no IPv6 here");
    };
    let _client = TcpStream::connect(listener.address().unwrap()).unwrap();
    accepted(&listener);
}
