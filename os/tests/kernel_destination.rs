//! What the kernel does with pipes and sockets that others share with us.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Balance;
use objmapper_os::destination::{self, Kind};
use objmapper_os::errno;
use objmapper_os::memory::sealed;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// More than a pipe or a socket holds.
const MUCH: usize = 4 << 20;

#[test]
fn a_splice_that_must_not_wait_does_not_wait_for_a_pipe_that_does() {
    let _balance = Balance::new();
    let file = sealed("test", &vec![7; MUCH]).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap(); // both ends block
    let mut sent = 0;
    let full = loop {
        match destination::splice_file(writer.as_fd(), file.as_fd(), sent, MUCH) {
            Ok(n) => sent += n as u64,
            Err(error) => break error,
        }
    };
    assert!(full.is_would_block() && sent > 0, "{full}");
    assert!(!destination::is_writable(writer.as_fd(), Duration::ZERO).unwrap());
    reader.read_exact(&mut vec![0; usize::try_from(sent).unwrap()]).unwrap();
    assert!(destination::is_writable(writer.as_fd(), Duration::ZERO).unwrap());
}

#[test]
fn bytes_go_into_what_blocks_without_waiting() {
    let _balance = Balance::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let both: [(Kind, _, Box<dyn Read>); 2] = [
        (Kind::Pipe, writer.as_fd(), Box::new(reader)),
        (Kind::Socket, ours.as_fd(), Box::new(theirs)),
    ];
    for (kind, to, mut from) in both {
        assert_eq!(destination::kind(to).unwrap(), Ok(kind));
        let bytes: Vec<u8> = (0..MUCH).map(|n| n.to_le_bytes()[1]).collect();
        let mut sent = 0;
        let full = loop {
            match destination::write(to, kind, &bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error) => break error,
            }
        };
        assert!(full.is_would_block() && sent > 0, "{full}");
        let mut came = vec![0; sent];
        from.read_exact(&mut came).unwrap();
        assert!(came == bytes[..sent]);
        drop(from);
        let gone = destination::write(to, kind, b"x").unwrap_err();
        assert_eq!(gone.errno(), errno::EPIPE);
        assert!(destination::is_writable(to, Duration::ZERO).unwrap(), "trying tells");
    }
}

#[test]
fn a_reading_end_of_a_pipe_could_be_opened_for_writing() {
    let _balance = Balance::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    assert!(destination::kind(reader.as_fd()).unwrap().is_err());
    drop(writer);
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let mut upgraded = std::fs::File::options().write(true).open(name).unwrap();
    upgraded.write_all(b"x").unwrap();
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}
