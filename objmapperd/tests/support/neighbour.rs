//! A well-behaved client that must not notice what others do.

use objmapper_client::{Client, Mode};

use super::content::content;
use super::daemon::Daemon;

const SMALL: &str = "/neighbour/small";
const LARGE: &str = "/neighbour/large";

/// A client with two files of its own and a connection that it keeps.
#[derive(Debug)]
pub struct Neighbour {
    pub client: Client,
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Neighbour {
    /// Has been served once already.
    pub fn of(daemon: &Daemon) -> Self {
        let (small, large) = (content(300, 1), content(700_000, 2));
        daemon.write(&SMALL[1..], &small);
        daemon.write(&LARGE[1..], &large);
        let mut neighbour = Self { client: daemon.client(), small, large };
        neighbour.check();
        neighbour
    }

    /// Is served in every mode, over the old connection.
    #[track_caller]
    pub fn check(&mut self) {
        self.client.ping().unwrap();
        for mode in Mode::ALL {
            for (uri, expected) in [(SMALL, &self.small), (LARGE, &self.large)] {
                let object = self.client.get(uri, mode).unwrap();
                assert!(object.into_bytes().unwrap() == *expected, "{uri} by {mode}");
            }
        }
    }

    /// And so is somebody who comes now.
    #[track_caller]
    pub fn check_anew(&mut self, daemon: &Daemon) {
        self.check();
        assert!(daemon.client().open(LARGE).unwrap().read_to_vec().unwrap() == self.large);
    }
}
