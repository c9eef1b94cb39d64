//! A daemon with keys, and a client of each protocol.

use objmapper_client::{Client, Error, Status};

use crate::support::daemon::{Daemon, Place, Setup};
use crate::support::resp::{Resp, connect, keyspace};

pub(crate) fn scene() -> (Daemon, Client, Resp) {
    scene_with(Setup::default())
}

pub(crate) fn scene_with(setup: Setup) -> (Daemon, Client, Resp) {
    let place = Place::new();
    let daemon = keyspace(setup, &place).start_in(place);
    let (client, resp) = (daemon.client(), connect(&daemon));
    (daemon, client, resp)
}

pub(crate) fn status<T: std::fmt::Debug>(answered: Result<T, Error>) -> Status {
    answered.unwrap_err().status().unwrap()
}
