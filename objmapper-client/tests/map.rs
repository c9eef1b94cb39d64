//! Objects as memory: only what the kernel vouches for, whatever the daemon says.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(unsafe_code)] // what the library leaves to its caller

mod common;

use common::*;
use objmapper_client::{Error, Mapping, Opened};
use objmapper_os::memory::sealed;
use objmapper_proto::{Delivery, ObjectHead, Reply};
use std::os::fd::{AsFd, OwnedFd};

/// What a daemon sends as an immutable object of this size.
fn arrived(fd: OwnedFd, size: u64) -> Opened {
    let (mut client, peer) = against(move |mut peer| {
        let id = peer.request().unwrap().header.id;
        let head = ObjectHead {
            flags: ObjectHead::IMMUTABLE,
            seals: 0xf,
            ..head(Delivery::Descriptor, size)
        };
        peer.reply(id, Reply::Object(item(head)), &[fd.as_fd()]);
    });
    let opened = client.open("/x").unwrap();
    peer.join().unwrap();
    opened
}

#[test]
fn a_sealed_object_is_memory() {
    let _no_leak = no_leak();
    let opened = arrived(sealed("test", b"sealed").unwrap(), 6);
    let mapping = opened.map().unwrap();
    drop(opened);
    assert_eq!(&*mapping, b"sealed");
    let opened = arrived(sealed("test", b"sealed").unwrap(), 3);
    assert_eq!(&*opened.map().unwrap(), b"sea", "no more than was said");
    assert!(arrived(sealed("test", b"").unwrap(), 0).map().unwrap().is_empty());
}

#[test]
fn what_is_said_of_a_file_is_not_believed() {
    let _no_leak = no_leak();
    let error = arrived(file(b"plain").into(), 5).map().unwrap_err();
    assert!(matches!(error, Error::Unsealed) && !error.ends_connection(), "{error}");
    for (size, there) in [(6, b"plain".as_slice()), (u64::MAX, b"")] {
        let read = there.len() as u64;
        for fd in [sealed("test", there).unwrap(), file(there).into()] {
            let error = arrived(fd, size).map().unwrap_err();
            let is_short = |error| matches!(error, Error::Truncated { size: s, read: r } if (s, r) == (size, read));
            assert!(is_short(error));
        }
    }
}

#[test]
fn somebody_else_may_vouch_for_a_file() {
    let _no_leak = no_leak();
    let opened = arrived(file(b"plain").into(), 5);
    // SAFETY: the file has no name, and nobody else has it.
    let mapping = unsafe { Mapping::unsealed(&opened, opened.size()) }.unwrap();
    assert_eq!(&*mapping, b"plain");
}
