//! A turn: read what a connection sent, answer it, send the replies.
//!
//! ```text
//!  recv ─▶ split ─▶ admit ─▶ answer ─▶ outbox ─▶ one send
//!    ▲                 └────────────────▶ next frame
//!    └── only when the outbox is empty
//! ```
//!
//! What must stay true:
//! - nothing is read while replies wait to be sent: that bounds what a connection can
//!   make us keep to one read and its replies;
//! - everything that one read brought is answered before anything is sent, so that a
//!   pipeline costs one recv and one send, and its descriptors share one message;
//! - a turn ends when its quantum is used up.
//!
//! Buffers belong to the attendant. What a turn leaves over moves into the connection.

mod collect;
mod descriptors;
mod endings;
mod keys;
mod settle;
mod verbs;

use std::mem;

use objmapper::Patience;
use objmapper_proto::frame::Split;
use objmapper_proto::{Frame, Op, Status, Violation};

use crate::admission::Resource;
use crate::committer::Committer;
use crate::connection::{Connection, WaitsFor};
use crate::helpers::Helpers;
use crate::input::{Input, Read};
use crate::link::{ENOUGH, Flushed};
use crate::outbox::Outbox;
use crate::pool::{Loan, Serve, Turn};
use crate::quantum::Quantum;
use crate::service::keys::batch::Room;
use crate::service::{Answer, Service};
use crate::session::{Asked, SHORT_DATA};
use crate::transfer::Step;
use crate::transfer_path::TransferPath;
use crate::unsettled::Unsettled;

use endings::{beside_bodies, crowded, flush, parting, stuck};

/// Reads in one turn: requests that open nothing come by the thousand. Not tuned.
const READS: usize = 4;

/// Where connections go that leave.
#[derive(Clone)]
pub struct Handoffs {
    /// For bodies.
    pub transfer: TransferPath,
    /// For what has to wait for a disk.
    pub helpers: Helpers,
    /// For what has to wait for the journal.
    pub committer: Committer,
}

/// Serves turns, with buffers of its own.
pub struct Attendant {
    service: Service,
    handoffs: Handoffs,
    /// Bytes of a body that is sent here and not by the transfer path.
    in_place: u64,
    input: Input,
    outbox: Outbox,
    unsettled: Unsettled,
    room: Room,
}

/// Why serving what was read stopped.
enum Served {
    /// All whole frames are answered.
    Hungry,
    /// The turn's quantum is used up.
    Tired,
    /// The next one has to wait for a disk.
    Cold,
    /// A body is to be sent first, or part of one.
    Body,
    /// The replies may not leave before the journal is durable.
    Unsettled,
    /// The replies have to leave first and cannot.
    Stuck(Flushed),
    /// This connection ends when its replies are sent.
    Over,
}

impl Attendant {
    /// Buffers included.
    pub fn new(service: Service, handoffs: Handoffs) -> Self {
        let in_place = service.daemon.in_place;
        Self {
            service,
            handoffs,
            in_place,
            input: Input::default(),
            outbox: Outbox::default(),
            unsettled: Unsettled::default(),
            room: Room::default(),
        }
    }

    fn drive(&mut self, c: &mut Connection, hung_up: bool, quantum: &mut Quantum<'_>) -> Turn {
        if !self.settle(c) {
            return Turn::Leave;
        }
        if let Some(turn) = flush(c) {
            return turn;
        }
        if c.session.closing {
            return parting(c);
        }
        let mut reads = 0;
        c.drained = false;
        loop {
            let served = self.serve(c, quantum);
            // The head leaves together with the body's first frame.
            if !self.settle(c) || matches!(served, Served::Body | Served::Unsettled) {
                return Turn::Leave;
            }
            if let Some(turn) = flush(c) {
                return turn;
            }
            if !matches!(served, Served::Stuck(_)) {
                c.waited_ms = 0;
            }
            match served {
                Served::Hungry if c.drained => return self.rest(c),
                Served::Hungry if reads == READS => return Turn::Again,
                Served::Hungry => {
                    if let Some(turn) = self.make_room(c) {
                        return turn;
                    }
                    reads += 1;
                }
                // The bodies have their turn too, and need no more descriptors.
                Served::Tired if !c.bodies.is_empty() => return Turn::Leave,
                Served::Stuck(Flushed::Full) if !c.bodies.is_empty() => return beside_bodies(c),
                Served::Tired => return Turn::Again,
                Served::Cold => return Turn::Leave,
                Served::Stuck(flushed) => return stuck(c, flushed).unwrap_or(Turn::Again),
                Served::Body | Served::Unsettled | Served::Over => return parting(c),
            }
            if let Some(turn) = self.read(c, hung_up) {
                return turn;
            }
        }
    }

    /// Nothing, if more may be kept of a request that has begun; else how the turn ends.
    fn make_room(&self, c: &mut Connection) -> Option<Turn> {
        let begun = self.input.bytes().len();
        c.queued.set(begun + c.kept());
        (begun > 0 && !c.queued.may_grow()).then(|| crowded(c))
    }

    /// Reads what has come; how the turn ends, if there is nothing to serve.
    fn read(&mut self, c: &mut Connection, hung_up: bool) -> Option<Turn> {
        let read = self.input.read(c);
        if let Some(turn) = self.take_in(c, read) {
            return Some(turn);
        }
        match read {
            // A peer that only shut its sending side down has had its replies.
            Read::End => {
                c.session.closing = true;
                return Some(parting(c));
            }
            Read::Gone => return Some(Turn::Close),
            Read::Empty => {
                c.drained = true;
                return Some(self.rest(c));
            }
            Read::Last => c.drained = !hung_up,
            Read::Some | Read::Descriptors | Read::Lost => {}
        }
        None
    }

    /// Nothing left to do for this connection but to send what is under way.
    fn rest(&self, c: &mut Connection) -> Turn {
        if !c.bodies.is_empty() {
            return Turn::Leave;
        }
        if !self.service.daemon.is_draining() {
            c.expect_more(!(self.input.bytes().is_empty() && c.leftover.is_empty()));
            return Turn::Wait;
        }
        c.tell(Status::Stopping, &"the daemon is stopping: connect again");
        c.link.flush();
        Turn::Close
    }

    /// Answers the frames that were read.
    fn serve(&mut self, c: &mut Connection, quantum: &mut Quantum<'_>) -> Served {
        self.service.begin();
        // Known again only if an unfinished frame is what this ends at.
        c.wanted = 0;
        c.waits_for = WaitsFor::Nothing;
        if c.keys.is_some() {
            return self.serve_keys(c, quantum);
        }
        loop {
            let (frame, used) = match c.session.split(self.input.bytes()) {
                Ok(Split::Whole(frame, used)) => (frame, used),
                Ok(Split::Partial(wanted)) => {
                    if self.input.bytes().is_empty()
                        && let Err(violation) = c.arrivals.expect_none()
                    {
                        return self.violated(c, &violation);
                    }
                    c.wanted = wanted;
                    return Served::Hungry;
                }
                Err(violation) => return self.violated(c, &violation),
            };
            if quantum.is_over() {
                return Served::Tired;
            }
            let together = match self.answer_if_verbs(c, frame.header, quantum) {
                Ok(used) => used,
                Err(served) => return served,
            };
            if together > 0 {
                self.input.consume(together);
            } else {
                let fds = frame.header.fds;
                let answer = match self.answer(c, frame, quantum) {
                    Ok(answer) => answer,
                    Err(served) => return served,
                };
                if matches!(answer, Answer::Done | Answer::Body) {
                    self.input.consume(used);
                    if fds > 0 {
                        c.arrivals.answered();
                    }
                }
                if let Some(served) = self.follow(c, answer, quantum) {
                    return served;
                }
            }
            if c.link.outbox.len() >= ENOUGH {
                quantum.spend_bytes(c.link.outbox.len() as u64);
                if !self.settle(c) {
                    return Served::Unsettled;
                }
                match c.link.flush() {
                    Flushed::All => {}
                    flushed => return Served::Stuck(flushed),
                }
            }
        }
    }

    /// Answers one frame, or says why serving stops at it.
    #[inline]
    fn answer(
        &self,
        c: &mut Connection,
        frame: Frame<'_>,
        quantum: &mut Quantum<'_>,
    ) -> Result<Answer, Served> {
        let (id, fds) = (frame.header.id, frame.header.fds);
        c.has_come();
        // A GET_MANY counts its items itself.
        if frame.header.op != Op::GetMany as u8 {
            quantum.spend();
        }
        let asked = c.session.admit(frame).and_then(|asked| {
            c.arrivals.belong(fds)?;
            Ok(asked)
        });
        match asked {
            Ok(Asked::Request(_, agreed, order)) if c.must_wait(id, agreed, order) => {
                c.waits_for = WaitsFor::Body;
                Err(Served::Body)
            }
            Ok(Asked::Request(request, agreed, order)) => {
                Ok(self.service.answer(c, id, request, (agreed, order), quantum))
            }
            Ok(Asked::Hello(ack)) => {
                self.greet(c, id, &ack);
                Ok(Answer::Done)
            }
            Ok(Asked::Bad(bad)) => {
                self.service.counters.refused.add(1);
                c.link.outbox.refuse(id, bad.status(), 0, &bad);
                Ok(Answer::Done)
            }
            Err(violation) => Err(self.violated(c, &violation)),
        }
    }

    /// Why serving stops after this answer; `None` if the next frame may be served.
    #[inline]
    fn follow(
        &mut self,
        c: &mut Connection,
        answer: Answer,
        quantum: &mut Quantum<'_>,
    ) -> Option<Served> {
        match answer {
            // Asked again when what it tells is durable: then it is answered at once.
            Answer::Unsettled if self.settle(c) => None,
            Answer::Unsettled => Some(Served::Unsettled),
            Answer::Body if self.send_in_place(c, quantum) => None,
            Answer::Part if !c.bodies.is_empty() && self.send_in_place(c, quantum) => None,
            Answer::Body if c.session.is_out_of_order() && c.bodies.is_between_frames() => None,
            Answer::Body => Some(Served::Body),
            Answer::Part if !c.bodies.is_empty() => Some(Served::Body),
            Answer::Part => Some(Served::Tired),
            Answer::Cold => Some(Served::Cold),
            Answer::Stuck(flushed) => Some(Served::Stuck(flushed)),
            Answer::Done => c.session.closing.then_some(Served::Over),
        }
    }

    /// Sends a body here and now, if it is short, in memory and its peer takes it: two
    /// changes of thread cost as much as moving 256 KiB. Where others may overtake, one frame
    /// at most. Whether it is out.
    fn send_in_place(&self, c: &mut Connection, quantum: &mut Quantum<'_>) -> bool {
        if !c.unsettled.is_empty() {
            return false;
        }
        let Connection { bodies, link, session, .. } = c;
        let one_frame = session.is_out_of_order();
        let most = if one_frame { self.in_place.min(SHORT_DATA as u64) } else { self.in_place };
        let alone = bodies.len() == 1;
        let Some(body) = bodies.front().filter(|body| alone && body.length() <= most) else {
            return false;
        };
        let Step::Done(status) = body.step(link, false) else { return false };
        self.service.counters.body_bytes.add(body.length());
        self.service.counters.in_place.add(1);
        if status != Status::Ok {
            self.service.counters.refusal(status);
        }
        quantum.spend_bytes(body.length());
        bodies.finish();
        true
    }

    fn violated(&self, c: &mut Connection, violation: &Violation) -> Served {
        tracing::debug!(uid = c.caller.uid(), %violation, "a peer broke the protocol");
        self.service.counters.violations.add(1);
        c.tell(violation.status(), violation);
        c.session.closing = true;
        c.bodies.clear();
        Served::Over
    }
}

impl Serve for Attendant {
    type Connection = Connection;

    fn turn(
        &mut self,
        c: &mut Connection,
        hung_up: bool,
        others: &mut dyn FnMut() -> bool,
    ) -> Turn {
        c.wake_up();
        if self.service.patience != Patience::Never {
            self.service.patience = c.errand.patience();
            if c.fetch() {
                return Turn::Leave;
            }
        }
        if c.link.outbox.is_empty() {
            if !c.leftover.is_empty()
                && let Some(turn) = self.collect(c, hung_up)
            {
                return if turn == Turn::Close { self.linger(c) } else { turn };
            }
            c.link.outbox = mem::take(&mut self.outbox);
        }
        self.input.take_up(&mut c.leftover);
        self.lend_unsettled(c);
        let turn = match self.drive(c, hung_up, &mut Quantum::new(c.used_up, others)) {
            Turn::Close => self.linger(c),
            turn => turn,
        };
        c.used_up = turn == Turn::Again;
        // The drain rouses it once: who leaves has to come back for a turn to part.
        c.drained &= turn != Turn::Leave || !self.service.daemon.is_draining();
        self.input.leave(&mut c.leftover);
        self.take_back_unsettled(c);
        if c.link.outbox.is_empty() {
            // The larger of the two buffers stays here; the connection keeps none.
            let used = mem::take(&mut c.link.outbox);
            if used.capacity() > self.outbox.capacity() {
                self.outbox = used;
            }
            self.outbox.shrink();
        }
        c.queued.set(c.leftover.len() + c.link.outbox.len() + c.kept());
        turn
    }

    #[inline]
    fn pause(&mut self, busy: bool) {
        self.handoffs.committer.pause(busy);
    }

    fn leave(&mut self, mut loan: Loan<Connection>) {
        let Some(connection) = loan.connection() else { return };
        if connection.waits_for == WaitsFor::Helper {
            connection.errand.count(&self.service.counters);
            self.handoffs.helpers.send(loan);
        } else if connection.waits_for == WaitsFor::Commit {
            self.handoffs.committer.send(loan);
        } else if self.service.patience == Patience::Never && connection.bodies.has_ready_forward()
        {
            // From a worker at once; between two turns of it come those of all others.
            connection.errand = Resource::Destination;
            self.handoffs.helpers.send(loan);
        } else if !connection.bodies.is_empty() {
            self.handoffs.transfer.send(loan);
        } else {
            loan.give_back(Turn::Again);
        }
    }
}
