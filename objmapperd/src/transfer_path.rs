//! The transfer path: one thread and its epoll instance, which streams bodies.
//!
//! ```text
//!  worker ──loan──▶ inbox ──▶ running ──blocked──▶ waiting for room to write
//!                               │ ▲                        │
//!                               │ └────────────────────────┘
//!                               ├──cold──▶ a helper, which waits for the disk, and back
//!                               ├──room in a destination──▶ a helper, which moves bytes, and back
//!                               └──body is out──▶ back to the pool
//! ```
//!
//! It holds a connection from the reply's head to its END, so nothing can overtake.
//! Bodies take turns; one that waits for its peer costs nothing but its place.

mod alarms;
mod destinations;
pub mod inbox;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use inbox::{Inbox, WAKE};
use objmapper_os::poll::{Events, Interest};
use objmapper_os::socket::Readiness;
use objmapper_proto::Status;

use crate::admission;
use crate::connection::{Connection, WaitsFor};
use crate::helpers::Helpers;
use crate::metrics::AnswerCounters;
use crate::pool::slots::Slots;
use crate::pool::{Loan, StartError, Turn};
use crate::sync::Poll;
use crate::transfer::Step;

use alarms::Alarms;

/// Events taken from the kernel at once. Not tuned.
const EVENTS: usize = 256;

/// How long a body waits for descriptors in flight to be taken. Not tuned.
const FULL: Duration = Duration::from_millis(2);

/// The way in.
#[derive(Clone)]
pub struct TransferPath {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Inbox<Loan<Connection>>,
    /// Odd while the thread polls; moves with each poll and each step. One writer.
    marks: AtomicU64,
}

impl TransferPath {
    /// Starts the thread. Bodies that are not in memory go to `helpers`.
    pub fn start(
        helpers: Helpers,
        counters: Arc<CachePadded<AnswerCounters>>,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared { inbox: Inbox::new(&poll)?, marks: AtomicU64::new(0) });
        let streamer = Streamer {
            shared: shared.clone(),
            poll,
            slots: Slots::default(),
            running: VecDeque::new(),
            full: Vec::new(),
            alarms: Alarms::default(),
            helpers,
            counters,
        };
        let thread = thread::Builder::new().name("transfer".to_owned());
        Ok((Self { shared }, thread.spawn(move || streamer.run())?))
    }

    /// Hands over a connection whose body is to be sent.
    pub fn send(&self, loan: Loan<Connection>) {
        self.shared.inbox.send(loan);
    }

    /// How often the thread has done a step or a poll, and whether it is in one now; if
    /// it does neither it is stuck.
    pub fn progress(&self) -> (u64, bool) {
        let marks = self.shared.marks.load(Ordering::Relaxed);
        (marks, marks % 2 == 1)
    }

    /// Stops the thread; bodies that are not out are cut off.
    pub fn stop(&self) {
        self.shared.inbox.stop();
    }
}

impl Shared {
    fn mark(&self, n: u64) {
        self.marks.store(self.marks.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }
}

/// A connection here, and what epoll watches it for.
struct Entry {
    loan: Loan<Connection>,
    watched: Option<Interest>,
    /// Whether it watches the destinations that must have room first, too.
    destinations: bool,
    /// The alarm that is set for them.
    alarm: Option<Instant>,
    queued: bool,
    since: Since,
}

/// What was done with a connection since it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Nothing,
    /// It has had a step: it need not stay for another.
    Step,
    /// That, and then nothing stood before the next one.
    Asked,
}

/// What stands before a connection's next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A turn of a worker: there is something to be read.
    Turn,
    /// Its peer: a frame that was sent is not read, and a reply may come that would wait for two.
    Room,
}

struct Streamer {
    shared: Arc<Shared>,
    poll: Poll,
    slots: Slots<Entry>,
    running: VecDeque<usize>,
    full: Vec<usize>,
    alarms: Alarms,
    helpers: Helpers,
    counters: Arc<CachePadded<AnswerCounters>>,
}

impl Streamer {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while self.take_in() {
            // One round: everybody who can runs once.
            for _ in 0..self.running.len() {
                if let Some(token) = self.running.pop_front() {
                    self.step(token);
                    self.shared.mark(2);
                }
            }
            let timeout = match (self.running.is_empty(), self.full.is_empty()) {
                (false, _) => Some(Duration::ZERO),
                (true, false) => Some(FULL),
                (true, true) => self.alarms.until_first(),
            };
            self.shared.mark(1);
            if let Err(error) = self.poll.wait(&mut events, timeout) {
                tracing::error!(%error, "the transfer path cannot poll");
            }
            self.shared.mark(1);
            for event in events.iter().filter(|event| event.token != WAKE) {
                self.queue(event.token.0);
            }
            for token in std::mem::take(&mut self.full) {
                self.queue(token);
            }
            self.ring();
        }
    }

    /// Takes in what came; false when it is time to stop.
    fn take_in(&mut self) -> bool {
        let (loans, stop) = self.shared.inbox.take();
        for loan in loans {
            let (watched, destinations, alarm) = (None, false, None);
            let (queued, since) = (true, Since::Nothing);
            let entry = Entry { loan, watched, destinations, alarm, queued, since };
            let Ok(token) = self.slots.add(|_| Ok::<_, std::convert::Infallible>(entry));
            self.running.push_back(token);
        }
        !stop
    }

    fn queue(&mut self, token: usize) {
        if let Some(entry) = self.slots.at_mut(token)
            && !entry.queued
        {
            entry.queued = true;
            self.running.push_back(token);
        }
    }

    fn step(&mut self, token: usize) {
        let Some(entry) = self.slots.at_mut(token) else { return };
        entry.queued = false;
        let Some(connection) = entry.loan.connection() else { return self.gone(token) };
        destinations::tell_ends(connection, &self.counters);
        let mut before = match entry.since {
            Since::Asked => Before::Nothing,
            // Whose step is a look at destinations always has it: it finds out who has gone.
            _ if connection.bodies.front().is_none() => Before::Nothing,
            since => before(connection, since == Since::Step),
        };
        let mut did = Step::Again;
        if before == Before::Nothing {
            did = step(connection);
            if did == Step::Again {
                connection.has_sent();
            }
            if matches!(did, Step::Again | Step::Parked) {
                before = self::before(connection, true);
                let again = did == Step::Again && before == Before::Nothing;
                entry.since = if again { Since::Asked } else { Since::Step };
            } else if entry.since == Since::Asked {
                entry.since = Since::Step;
            }
        }
        match did {
            _ if before == Before::Turn => self.lend_back(token),
            Step::Again | Step::Parked | Step::Full | Step::Blocked if self.forward(token) => {}
            _ if before == Before::Room => self.wait(token),
            Step::Again => self.queue(token),
            Step::Full => self.full.push(token),
            Step::Blocked => self.wait(token),
            Step::Parked => self.park(token),
            Step::Cold => self.lend(token),
            Step::Done(status) => self.done(token, status),
            Step::Gone => self.gone(token),
        }
    }

    /// Waits for room to write. Edge-triggered: registered once, and room that there
    /// is by then is reported at once.
    fn wait(&mut self, token: usize) {
        let Some(entry) = self.slots.at_mut(token) else { return };
        let Some(connection) = entry.loan.connection() else { return };
        connection.expect_reading();
        self.watch(token, Interest::WRITABLE);
    }

    /// The next window has to be waited for: by a helper, which has the connection meanwhile.
    fn lend(&mut self, token: usize) {
        let Some(mut loan) = self.take_out(token) else { return };
        let Some(connection) = loan.connection() else { return };
        if let Some(body) = connection.bodies.front() {
            connection.errand = admission::Resource::Mount(body.mount());
        }
        self.counters.cold.add(1);
        self.helpers.send(loan);
    }

    fn done(&mut self, token: usize, status: Status) {
        let Some(mut loan) = self.take_out(token) else { return };
        let Some(connection) = loan.connection() else { return };
        if let Some(body) = connection.bodies.finish() {
            self.counters.body_bytes.add(body.length());
        }
        if status != Status::Ok {
            self.counters.refusal(status);
        }
        // What was read before the body goes on now; else the pool waits for more. A
        // worker also sees to bodies that are left, and to parting.
        let more = !connection.leftover.is_empty()
            || !connection.drained
            || !connection.bodies.is_empty()
            || connection.session.closing;
        if !more {
            connection.expect_more(false);
        }
        loan.give_back(if more { Turn::Again } else { Turn::Wait });
    }

    /// A worker looks after requests; the bodies come back.
    fn lend_back(&mut self, token: usize) {
        if let Some(loan) = self.take_out(token) {
            loan.give_back(Turn::Again);
        }
    }

    /// The pool parts with connections.
    fn gone(&mut self, token: usize) {
        let Some(mut loan) = self.take_out(token) else { return };
        let Some(connection) = loan.connection() else { return };
        connection.bodies.clear();
        connection.session.closing = true;
        loan.give_back(Turn::Again);
    }

    fn take_out(&mut self, token: usize) -> Option<Loan<Connection>> {
        let mut entry = self.slots.remove(token)?;
        self.unpark(&mut entry, token);
        if entry.watched.is_some()
            && let Some(connection) = entry.loan.connection()
            && let Err(error) = self.poll.registry().remove(&*connection)
        {
            tracing::error!(%error, "cannot stop watching a connection");
        }
        Some(entry.loan)
    }
}

/// One step of a connection's bodies; nothing to send is done already.
fn step(connection: &mut Connection) -> Step {
    let Connection { bodies, link, session, .. } = connection;
    let Some(body) = bodies.front() else { return destinations::step(connection) };
    let step = body.step(link, session.is_out_of_order());
    if step == Step::Again && body.is_between_frames() {
        bodies.rotate();
    }
    step
}

/// What stands before the next frame. Where replies may overtake bodies, none begins while most of
/// another waits to be read. The socket is asked (once for each DATA frame): the worker that would
/// be told of input may have no CPU. One that has not `moved` yet gets its frame first.
fn before(c: &mut Connection, moved: bool) -> Before {
    if !c.session.is_out_of_order() || !c.bodies.is_between_frames() {
        return Before::Nothing;
    }
    let ready = c.link.socket.readiness().unwrap_or(Readiness { input: true, room: true });
    let may = !matches!(c.waits_for, WaitsFor::Body | WaitsFor::Limit) && !c.session.closing;
    let waiting = !c.leftover.is_empty() && c.leftover.len() >= c.wanted;
    if moved && may && (waiting || !c.drained || ready.input) {
        Before::Turn
    } else if ready.room || c.bodies.front().is_none() {
        Before::Nothing
    } else {
        Before::Room
    }
}
