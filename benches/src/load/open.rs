//! The open loop: requests leave when they are due, whether earlier ones are answered or not.
//!
//! ```text
//!  due    |    |    |    |    |    |      at equal distances, by the clock
//!  sent   |    |       |||    |    |      late ones as soon as a connection is free
//!  answer   |    |        |||   |         latency counts from due, not from sent
//! ```
//!
//! A closed loop asks less of a server that is slow for a moment, and so hides the moment
//! (coordinated omission). Here whoever comes late waits, and the wait counts. Two things keep a
//! request from leaving in time, and they are told apart: all connections wait for answers, which
//! is the server's doing; or the generator itself comes late, which is [`Pacing::late`]. What was
//! due and is not answered at the end is counted, and its wait so far is a latency like others.
//!
//! Up to a millisecond before the next request is due the thread sleeps; then it looks for answers
//! again and again, and leaves the CPU to others in between. No timer of the kernel's that sockets
//! can be waited for together with is fine enough.
//!
//! [`Pacing::late`]: crate::record::Pacing::late

use anyhow::{Result, bail};
use objmapper_os::poll::{Events, Poll};
use std::time::{Duration, Instant};

use super::{Client, Until};
use crate::record::{Pacing, Tally};
use crate::stop::PATIENCE;

/// Answers that are looked at before the clock is looked at again.
const EVENTS: usize = 16;

/// Closer than this, there is no sleep: epoll counts in milliseconds.
const NEAR: Duration = Duration::from_millis(2);

/// When bursts are due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    /// Seconds between two bursts.
    step: f64,
    /// As a share of a step, so that threads do not send at the same moment.
    offset: f64,
    /// The burst that comes next.
    next: u64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64((number as f64 + self.offset) * self.step)
    }

    fn next_due(&self) -> Instant {
        self.due(self.next)
    }
}

impl Client<'_> {
    pub(super) fn scheduled(&mut self, poll: &mut Poll, rate: f64, until: Until) -> Result<()> {
        let threads = self.load.threads.min(self.load.conns);
        let per_burst = self.lanes.first().map_or(1, |lane| lane.connection.requests_per_burst());
        let mut schedule = Schedule {
            start: Instant::now(),
            step: per_burst as f64 * threads as f64 / rate,
            offset: self.number as f64 / threads as f64,
            next: 0,
        };
        let mut events = Events::with_capacity(EVENTS);
        let mut quiet_since = schedule.start;
        loop {
            let over = self.is_over(until, Instant::now());
            if !over {
                self.send_due(poll, &mut schedule, until)?;
            }
            let now = Instant::now();
            if self.all_free() {
                quiet_since = now;
            }
            let next = if over { until.deadline.max(now + NEAR) } else { schedule.next_due() };
            poll.wait(&mut events, Some(self.patience(next.min(until.deadline), now)))?;
            if events.is_empty() {
                if now - quiet_since > PATIENCE {
                    bail!("no connection got an answer within {PATIENCE:?}");
                }
                std::thread::yield_now();
            } else {
                quiet_since = now;
            }
            for event in events.iter() {
                self.turn(event.token.0)?;
            }
            let now = Instant::now();
            let cut = self.stop.now(now) || (!until.drain && now >= until.deadline);
            if cut || (self.is_over(until, now) && self.all_free()) {
                self.reckon(schedule, per_burst, until, now);
                return Ok(());
            }
        }
    }

    /// Sends all that is due, as far as connections are free.
    fn send_due(&mut self, poll: &Poll, schedule: &mut Schedule, until: Until) -> Result<()> {
        loop {
            let (now, due) = (Instant::now(), schedule.next_due());
            if due > now || due >= until.deadline {
                return Ok(());
            }
            let Some(number) = self.free.pop_front() else { return Ok(()) };
            let free_since = self.lanes.get(number).map_or(due, |lane| lane.free_since);
            if let Some(Pacing { late, .. }) = &mut self.tally.pacing {
                late.record(now.saturating_duration_since(due.max(free_since)), 1);
            }
            self.begin(number, Some(poll), Some(due))?;
            schedule.next += 1;
        }
    }

    /// How long to wait for answers until the next is due.
    fn patience(&self, next: Instant, now: Instant) -> Duration {
        let left = next.saturating_duration_since(now);
        if self.free.is_empty() {
            return Duration::from_millis(100);
        }
        if left < NEAR {
            return Duration::ZERO;
        }
        let whole = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis((whole - 1).min(100))
    }

    /// What was due by the end, and what of it was not answered.
    fn reckon(&mut self, schedule: Schedule, per_burst: u64, until: Until, now: Instant) {
        let Tally { latency, pacing, .. } = &mut self.tally;
        let Some(pacing) = pacing else { return };
        let end = now.min(until.deadline);
        let mut due = schedule.next;
        // Not more are due if it ended since all that were to be asked have been.
        while self.asked < until.requests && schedule.due(due) < end {
            latency.record(now - schedule.due(due), per_burst);
            pacing.unreached += per_burst;
            due += 1;
        }
        for lane in self.lanes.iter().filter(|lane| lane.waiting) {
            let rest = lane.connection.unanswered() as u64;
            latency.record(now.saturating_duration_since(lane.sent), rest);
            pacing.unreached += rest;
        }
        pacing.due += due * per_burst;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_due_at_equal_distances_and_threads_at_different_moments() {
        let start = Instant::now();
        let schedule = |offset| Schedule { start, step: 0.002, offset, next: 3 };
        assert_eq!(schedule(0.0).next_due() - start, Duration::from_millis(6));
        assert_eq!(schedule(0.5).due(0) - start, Duration::from_millis(1));
    }
}
