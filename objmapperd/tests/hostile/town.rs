//! A daemon with a neighbour, and what bad peers have in common.

use objmapper_proto::{Get, Header, Mode, Range, Request, Status};

use crate::support::daemon::Daemon;
use crate::support::neighbour::Neighbour;
use crate::support::peer::Peer;

/// A daemon with a neighbour.
pub fn town() -> (Daemon, Neighbour) {
    let daemon = Daemon::start();
    let neighbour = Neighbour::of(&daemon);
    (daemon, neighbour)
}

/// Nothing is left of the bad peers; the neighbour is still there, and somebody new is welcome.
#[track_caller]
pub fn all_is_well(daemon: &Daemon, neighbour: &mut Neighbour) {
    daemon.settles_with(1);
    neighbour.check_anew(daemon);
}

pub fn a_get(peer: &mut Peer, mode: Mode, uri: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let get = Get::new(mode, Range::ALL, uri.as_bytes());
    peer.encode(Request::Get(get), &mut bytes);
    bytes
}

/// The fields of a header, out of reach of the encoder.
pub fn header(length: u32, op: u8, flags: u8, fds: u16, id: u64) -> Vec<u8> {
    Header { length, op, flags, fds, id }.encode().to_vec()
}

/// What a greeted peer that sends these bytes is told before its connection ends.
#[track_caller]
pub fn dismissed(daemon: &Daemon, bytes: &[u8]) -> (Status, String) {
    let mut peer = daemon.greeted();
    peer.send(bytes);
    peer.expect_dismissal()
}
