//! A body on its way into a destination that the client passed, and how that went.
//!
//! ```text
//!  Ready ──a helper moves bytes──▶ Waiting ──room, or too late──▶ Ready ─ … ─▶ Ended ──▶ END
//! ```
//!
//! Bytes are moved by helpers alone, who may wait: the destination's owner can make any call on
//! it wait ([`objmapper_os::destination`]), and then that is charged to them. For room in it nobody
//! waits but epoll. When END is sent the destination is closed.
//!
//! The file's identity is compared at the beginning of each turn and at the end; a body that must
//! be read goes through a buffer, each piece being of the version that was opened.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use objmapper::{Body, Patience};
use objmapper_os as os;
use objmapper_proto::Status;
use objmapper_proto::reply::End;
use os::destination::{self, Kind};
use os::errno;

use crate::destination::Destination;
use crate::seldom;
use crate::transfer::{judge, words};

/// Bytes that one turn moves: then others of the connection have theirs. Not tuned.
const TURN: u64 = 1 << 20;

/// Bytes that are read at once where the kernel cannot move them: what a pipe holds.
const PIECE: u64 = 64 * 1024;

/// How long a turn goes on waiting for a reader that keeps up: two changes of thread for each
/// 64 KiB that a pipe holds cost as much as the rest. Not tuned.
const LINGER: Duration = Duration::from_millis(2);

/// The least that [`Forward::hurry`] leaves: longer than a helper lingers. Not tuned.
const LEAST: Duration = Duration::from_millis(10);

/// A body that is being moved into a destination.
#[derive(Debug)]
pub struct Forward {
    body: Body,
    id: u64,
    /// `None` once it has ended.
    destination: Option<Destination>,
    kind: Option<Kind>,
    /// Where in the file to go on, and how much is left from there.
    offset: u64,
    left: u64,
    /// Bytes at `offset` that were read, if they have to be.
    piece: Vec<u8>,
    /// How long the destination may take nothing; zero is for ever.
    patience: Duration,
    /// Whether that is less than the settings say.
    hurried: bool,
    /// By when it has to take something, if it did not lately.
    due: Option<Instant>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// A helper can go on.
    Ready,
    /// There has to be room first.
    Waiting,
    /// What END says.
    Ended(Ending),
}

#[derive(Debug, Clone)]
struct Ending(Status, Cow<'static, str>);

impl Forward {
    /// The body of the reply with this id.
    pub fn new(body: Body, id: u64, destination: Destination, patience: Duration) -> Self {
        let range = body.range();
        Self {
            body,
            id,
            destination: Some(destination),
            kind: None,
            offset: range.offset,
            left: range.length,
            piece: Vec::new(),
            patience,
            hurried: false,
            due: None,
            state: State::Ready,
        }
    }

    /// One before it was given up, which took nothing for so long: this one has half of that.
    pub fn hurry(&mut self, given_up_after: Duration) {
        let half = (given_up_after / 2).max(LEAST);
        self.hurried = half < self.patience;
        self.patience = self.patience.min(half);
    }

    /// How long the destination may take nothing.
    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// Whose reply it belongs to.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Whether a helper can go on.
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// The destination, while it is open.
    pub const fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// By when the destination must have room, if it has to have some first.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| matches!(self.state, State::Waiting))
    }

    /// END, if it has come to that.
    pub fn end(&self) -> Option<End<'_>> {
        let State::Ended(Ending(status, text)) = &self.state else { return None };
        Some(End { status: *status, length: self.moved(), text })
    }

    const fn moved(&self) -> u64 {
        self.body.range().length - self.left
    }

    /// Looks whether what it waits for is there: room, or the end of its time. Never waits.
    pub fn look(&mut self, now: Instant) {
        let State::Waiting = self.state else { return };
        let Some(destination) = &self.destination else { return };
        // Who cannot be asked is tried.
        let room = destination::is_writable(destination.as_fd(), Duration::ZERO).unwrap_or(true);
        if room || self.due.is_some_and(|due| due <= now) {
            self.state = State::Ready;
        }
    }

    /// Moves as much as goes without waiting for room, up to a turn's worth. `brief`: others of
    /// the same connection wait meanwhile. For helpers: everything else may be waited for.
    pub fn run(&mut self, brief: bool) {
        let Some(destination) = self.destination.take() else { return };
        let linger = if brief { Duration::ZERO } else { LINGER };
        self.state = match self.advance(destination.as_fd(), linger) {
            Ok(state) => {
                self.destination = Some(destination);
                state
            }
            Err(ending) => {
                // Before END: whoever is told finds nobody else writing there.
                destination.close();
                State::Ended(ending)
            }
        };
        // It can be read again; kept by all who wait it would be a lot.
        self.piece = Vec::new();
    }

    fn advance(&mut self, to: BorrowedFd<'_>, linger: Duration) -> Result<State, Ending> {
        let kind = self.kind_of(to)?;
        let end_of_turn = Instant::now() + linger;
        let stop = self.left.saturating_sub(TURN);
        self.check()?;
        while self.left > 0 {
            if self.left <= stop {
                return Ok(State::Ready);
            }
            match self.step(to, kind)? {
                Some(0) => return Err(ending(Status::Changed)),
                Some(n) => {
                    self.offset += n as u64;
                    self.left = self.left.saturating_sub(n as u64);
                    self.due = None;
                }
                None => {
                    let left = end_of_turn.saturating_duration_since(Instant::now());
                    if left.is_zero() || !destination::is_writable(to, left).unwrap_or(true) {
                        return self.wait();
                    }
                }
            }
        }
        self.check()?;
        Err(ending(Status::Ok))
    }

    /// What it is, which is looked at once.
    fn kind_of(&mut self, to: BorrowedFd<'_>) -> Result<Kind, Ending> {
        let kind = match self.kind {
            Some(kind) => kind,
            None => destination::kind(to)
                .map_err(|error| trouble(&error))?
                .map_err(|why| Ending(Status::BadDestination, unfit(why)))?,
        };
        self.kind = Some(kind);
        Ok(kind)
    }

    /// One call; `None` if there is no room.
    fn step(&mut self, to: BorrowedFd<'_>, kind: Kind) -> Result<Option<usize>, Ending> {
        let moved = if kind == Kind::Pipe && !self.body.is_read() {
            let count = usize::try_from(self.left.min(TURN)).unwrap_or(0);
            destination::splice_file(to, self.body.file(), self.offset, count)
        } else {
            if self.piece.is_empty() {
                let length = self.left.min(PIECE);
                let read = self.body.read(&mut self.piece, self.offset, length, Patience::Block);
                read.map_err(|miss| ending(judge(&miss)))?;
            }
            let written = destination::write(to, kind, &self.piece);
            written.inspect(|&n| drop(self.piece.drain(..n)))
        };
        match moved {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.is_would_block() => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// There is no room. By when there has to be was said when that began.
    fn wait(&mut self) -> Result<State, Ending> {
        if self.patience.is_zero() {
            return Ok(State::Waiting);
        }
        let now = Instant::now();
        if *self.due.get_or_insert(now + self.patience) <= now {
            let time = humantime::format_duration(self.patience);
            let behind =
                if self.hurried { " halved for each that was given up before it" } else { "" };
            let text = format!(
                "the destination took nothing for {time}, timeouts.send{behind}: read faster"
            );
            return Err(Ending(Status::DestinationStalled, text.into()));
        }
        Ok(State::Waiting)
    }

    /// Whether the file is what it was; what is read is compared then.
    fn check(&self) -> Result<(), Ending> {
        match self.body.is_unchanged() {
            _ if self.body.is_read() => Ok(()),
            Ok(true) => Ok(()),
            Ok(false) => Err(ending(Status::Changed)),
            Err(miss) => Err(ending(judge(&miss))),
        }
    }
}

fn ending(status: Status) -> Ending {
    Ending(status, words(status).into())
}

fn unfit(why: &str) -> Cow<'static, str> {
    format!("{why}: pass the writing end of a pipe, or a connected stream socket").into()
}

/// How it ends if the destination fails; what fails of the file is told by the body.
fn trouble(error: &os::Error) -> Ending {
    match error.errno() {
        errno::EPIPE | errno::ECONNRESET | errno::ENOTCONN | errno::ETIMEDOUT => {
            Ending(Status::DestinationGone, "nobody reads from the destination any more".into())
        }
        _ if error.is_resource() => ending(Status::Busy),
        _ => {
            seldom!(WARN, %error, "cannot move a file into a destination");
            ending(Status::Io)
        }
    }
}
