//! Bodies that go into destinations: here they wait for room, and nothing else is done with them.
//!
//! A connection whose forwards wait is parked: epoll watches the destinations, the connection (for
//! its next request, or its end), and the clock. As soon as one can go on, a helper has it.

use std::time::{Duration, Instant};

use objmapper_os as os;
use objmapper_proto::Status;
use os::poll::{Interest, Token};

use super::{Entry, Streamer};
use crate::admission;
use crate::connection::{Connection, WaitsFor};
use crate::link::Flushed;
use crate::metrics::AnswerCounters;
use crate::seldom;
use crate::sync::Registry;
use crate::transfer::Step;

/// Nothing but forwards is left, or not even those: what they said may have to leave.
pub(super) fn step(connection: &mut Connection) -> Step {
    match connection.link.flush() {
        Flushed::All => {
            connection.has_sent();
            if connection.bodies.is_empty() {
                Step::Done(Status::Ok)
            } else if connection.link.socket.has_hung_up().unwrap_or(true) {
                Step::Gone
            } else {
                Step::Parked
            }
        }
        Flushed::Blocked => Step::Blocked,
        Flushed::Full => Step::Full,
        Flushed::Gone => Step::Gone,
    }
}

/// ENDs of those that have ended go out between two frames.
pub(super) fn tell_ends(connection: &mut Connection, counters: &AnswerCounters) {
    let Connection { bodies, link, waits_for, leftover, .. } = connection;
    let mut stalled = false;
    bodies.tell_ends(&mut link.outbox, |status, length| {
        // What waited for one to end goes on.
        if *waits_for == WaitsFor::Body {
            *waits_for = WaitsFor::Nothing;
        }
        counters.body_bytes.add(length);
        if status != Status::Ok {
            counters.refusal(status);
        }
        stalled |= status == Status::DestinationStalled;
    });
    // A client that has not sent more by now is told before it does.
    if stalled && leftover.is_empty() && !link.socket.has_input().unwrap_or(false) {
        bodies.start_afresh();
    }
}

impl Streamer {
    /// Gives a connection to a helper if that can go on with one of its forwards; whether it did.
    pub(super) fn forward(&mut self, token: usize) -> bool {
        let Some(connection) = self.slots.at_mut(token).and_then(|entry| entry.loan.connection())
        else {
            return false;
        };
        if !connection.bodies.look_at_forwards() {
            return false;
        }
        connection.errand = admission::Resource::Destination;
        if let Some(loan) = self.take_out(token) {
            self.helpers.send(loan);
        }
        true
    }

    /// Nothing waits to be sent: waits for the connection's next request or its end, and for its
    /// destinations.
    pub(super) fn park(&mut self, token: usize) {
        self.watch(token, Interest::READABLE);
    }

    /// Watches a connection for this and nothing else; its destinations for room, and for the time
    /// by which there has to be some. Edge-triggered: what holds by then is reported at once.
    pub(super) fn watch(&mut self, token: usize, interest: Interest) {
        let Some(entry) = self.slots.at_mut(token) else { return };
        if let Err(error) = watch_all(entry, self.poll.registry(), Token(token), interest) {
            seldom!(WARN, %error, "cannot watch a connection; it is closed");
            // By way of this: what is watched must not be closed.
            drop(self.take_out(token));
            return;
        }
        let due = entry.loan.connection().and_then(|connection| {
            let limit = connection.waits_for == WaitsFor::Limit;
            let retry = || Instant::now() + Duration::from_millis(connection.waited_ms);
            connection.bodies.due().into_iter().chain(limit.then(retry)).min()
        });
        self.alarms.change(token, entry.alarm, due);
        entry.alarm = due;
    }

    /// Lets go of what is watched beside the connection itself.
    pub(super) fn unpark(&mut self, entry: &mut Entry, token: usize) {
        self.alarms.change(token, entry.alarm.take(), None);
        if !entry.destinations {
            return;
        }
        let Some(connection) = entry.loan.connection() else { return };
        // All of them: those that have room by now as well.
        for destination in connection.bodies.destinations() {
            if let Err(error) = self.poll.registry().remove(destination) {
                tracing::debug!(%error, "a destination was not watched");
            }
        }
    }

    /// Those whose time is up get a step.
    pub(super) fn ring(&mut self) {
        while let Some(token) = self.alarms.next_due(Instant::now()) {
            if let Some(entry) = self.slots.at_mut(token) {
                entry.alarm = None;
                if let Some(connection) = entry.loan.connection()
                    && connection.waits_for == WaitsFor::Limit
                {
                    connection.waits_for = WaitsFor::Nothing;
                }
            }
            self.queue(token);
        }
    }
}

fn watch_all(
    entry: &mut Entry,
    registry: &Registry,
    token: Token,
    interest: Interest,
) -> os::Result<()> {
    let Some(connection) = entry.loan.connection() else { return Ok(()) };
    match entry.watched.replace(interest) {
        None => registry.add(&*connection, token, interest)?,
        Some(before) if before != interest => registry.modify(&*connection, token, interest)?,
        Some(_) => {}
    }
    if !std::mem::replace(&mut entry.destinations, true) {
        let mut destinations = connection.bodies.destinations();
        destinations.try_for_each(|to| registry.add(to, token, Interest::WRITABLE))?;
    }
    Ok(())
}
