//! What splice(2) does between a Unix socket and a pipe.

use objmapper_os::pipe::{is_blocking_pipe, splice};
use objmapper_os::socket::Stream;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

#[test]
fn a_socket_splices_into_a_pipe_and_says_when_it_ends() {
    let (ours, theirs) = Stream::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    theirs.send(b"abcdef", &[], false).unwrap();
    assert_eq!(splice(ours.as_fd(), writer.as_fd(), 4).unwrap(), 4);
    drop(theirs);
    assert_eq!(splice(ours.as_fd(), writer.as_fd(), 4).unwrap(), 2);
    assert_eq!(splice(ours.as_fd(), writer.as_fd(), 4).unwrap(), 0);
    drop(writer);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"abcdef");
}

#[test]
fn a_read_timeout_holds_for_splice_too() {
    let (ours, _theirs) = Stream::pair().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    ours.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let error = splice(ours.as_fd(), writer.as_fd(), 1).unwrap_err();
    assert!(error.is_would_block(), "{error}");
}

#[test]
fn a_pipe_without_a_reader_is_an_error() {
    // Test programs ignore SIGPIPE, as all Rust programs do.
    let (ours, theirs) = Stream::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    theirs.send(b"x", &[], false).unwrap();
    drop(reader);
    let error = splice(ours.as_fd(), writer.as_fd(), 1).unwrap_err();
    assert!(error.is_disconnected(), "{error}");
}

#[test]
fn only_blocking_pipes_are_called_so() {
    let (reader, writer) = std::io::pipe().unwrap();
    assert!(is_blocking_pipe(writer.as_fd()).unwrap());
    assert!(is_blocking_pipe(reader.as_fd()).unwrap());
    let file = tempfile::tempfile().unwrap();
    assert!(!is_blocking_pipe(file.as_fd()).unwrap());
    let (socket, _other) = Stream::pair().unwrap();
    assert!(!is_blocking_pipe(socket.as_fd()).unwrap());
}

#[test]
fn splice_from_a_socket_closes_descriptors_silently() {
    let (ours, theirs) = Stream::pair().unwrap();
    let (kept, sent) = Stream::pair().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    theirs.send(b"abc", &[sent.as_fd()], false).unwrap();
    drop(sent);
    assert!(!kept.has_hung_up().unwrap());
    assert_eq!(splice(ours.as_fd(), writer.as_fd(), 8).unwrap(), 3);
    assert!(kept.has_hung_up().unwrap(), "nobody has it any more");
}
