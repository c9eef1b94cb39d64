//! Descriptors that nobody asked for, and such as nobody takes.

use std::fs::File;
use std::os::fd::AsFd;

use objmapper_os::errno;
use objmapper_os::socket::refuse_descriptors;
use objmapper_proto::{Mode, Op, Status};

use crate::support::skip;
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
