//! Getting a connection, and getting another one when it is gone.
//!
//! Everything that a client asks only reads, so asking again does no harm: a daemon that was
//! restarted in between costs its clients no more than a new connection, if they want that. How
//! long to try is for the program to say; this bounds it, and spreads the attempts so that a
//! thousand clients do not come back at the same moment.

use crate::error::{Error, Result};
use crate::hello::greet;
use crate::link::Link;
use objmapper_os::errno;
use objmapper_os::socket::Stream;
use objmapper_proto::HelloAck;
use objmapper_proto::hello::Capabilities;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The first pause between two attempts; it doubles from one to the next. Not tuned.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause. Not tuned.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What to do about a connection that was closed, when the next thing is asked.
///
/// A daemon closes connections when it stops or restarts. Whatever the policy, a request whose
/// answer was lost is asked again once at most, and never when part of a body has already been
/// written somewhere; a [`crate::Pipeline`] ends with its connection; and a refusal is an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconnect {
    /// The client says [`Error::Closed`] from then on.
    Never,
    /// Connect again, in one attempt that does not outlast the timeout. This is what happens if
    /// nothing is said: a restart behind a socket that systemd keeps goes unnoticed, and a daemon
    /// that has gone for good is told at once ([`Error::Unreachable`]), by every call.
    #[default]
    Once,
    /// Try for so long, each time after a longer pause (10 ms to 1 s, half of it by chance): rides
    /// out the restart of a daemon that makes its own socket. Only a program knows how long its
    /// calls may take, so somebody has to say it.
    Within(Duration),
}

/// How a connection is made, so that it can be made again.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) path: PathBuf,
    pub(crate) timeout: Option<Duration>,
    pub(crate) reconnect: Reconnect,
    /// What this side offers.
    pub(crate) offered: Capabilities,
}

impl Dial {
    /// Connects and greets, with request `id`.
    pub(crate) fn first(&self, id: u64) -> Result<(Link, HelloAck)> {
        self.attempt(self.timeout, id)
    }

    /// As the policy says; `closed` is why.
    pub(crate) fn again(&self, closed: Error, id: u64) -> Result<(Link, HelloAck)> {
        match self.reconnect {
            Reconnect::Never => Err(closed),
            Reconnect::Once => self.first(id),
            Reconnect::Within(time) => self.within(time, id),
        }
    }

    fn within(&self, time: Duration, id: u64) -> Result<(Link, HelloAck)> {
        let began = Instant::now();
        let left = || time.saturating_sub(began.elapsed()).max(Duration::from_micros(1));
        let mut pause = FIRST_PAUSE;
        loop {
            let bound = self.timeout.map_or(left(), |timeout| timeout.min(left()));
            match self.attempt(Some(bound), id) {
                Ok((mut link, agreed)) => {
                    link.set_timeout(self.timeout)?;
                    return Ok((link, agreed));
                }
                Err(error) if !may_pass(&error) || began.elapsed() >= time => return Err(error),
                Err(_) => std::thread::sleep(spread(pause).min(left())),
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    fn attempt(&self, timeout: Option<Duration>, id: u64) -> Result<(Link, HelloAck)> {
        let stream = Stream::connect(&self.path, timeout).map_err(Error::Unreachable)?;
        greet(stream, timeout, self.offered, id)
    }
}

/// Whether the next attempt may fare better: nobody listens yet, or not for long any more.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Unreachable(error) => {
            let passing = [errno::ENOENT, errno::ECONNREFUSED, errno::ETIMEDOUT, errno::ECONNRESET];
            passing.contains(&error.errno())
        }
        error => is_gone(error) || matches!(error, Error::Timeout),
    }
}

/// Whether the daemon has closed the connection and is likely to take another one.
pub(crate) fn is_gone(error: &Error) -> bool {
    match error {
        Error::Closed { .. } => true,
        Error::Ended { status, .. } => status.may_retry(),
        _ => false,
    }
}

/// Between half of it and all of it.
fn spread(pause: Duration) -> Duration {
    let chance = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(u32::MAX);
    let half = pause / 2;
    half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(reconnect: Reconnect) -> Dial {
        Dial { path: "/no/such/socket".into(), timeout: None, reconnect, offered: 0 }
    }

    #[test]
    fn pauses_are_spread_and_bounded() {
        let pauses: Vec<_> = (0..100).map(|_| spread(LONGEST_PAUSE)).collect();
        assert!(pauses.iter().all(|&pause| pause <= LONGEST_PAUSE && pause >= LONGEST_PAUSE / 2));
        assert!(pauses.iter().any(|&pause| pause != pauses[0]));
    }

    #[test]
    fn the_policy_decides_how_often() {
        let closed = || Error::closed("by a test");
        let never = dial(Reconnect::Never).again(closed(), 1).unwrap_err();
        assert!(matches!(never, Error::Closed { .. }), "{never}");
        let once = dial(Reconnect::Once).again(closed(), 1).unwrap_err();
        assert!(matches!(once, Error::Unreachable(_)), "{once}");
        let time = Duration::from_millis(30);
        let began = Instant::now();
        let within = dial(Reconnect::Within(time)).again(closed(), 1).unwrap_err();
        assert!(matches!(within, Error::Unreachable(_)) && began.elapsed() >= time, "{within}");
    }

    #[test]
    fn what_cannot_pass_is_told_at_once() {
        let mut dial = dial(Reconnect::Within(Duration::from_hours(1)));
        dial.path = "x".repeat(200).into(); // no name of a socket is that long
        assert!(matches!(dial.again(Error::Timeout, 1), Err(Error::Unreachable(_))));
    }
}
