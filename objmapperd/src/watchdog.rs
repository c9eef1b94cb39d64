//! The watchdog: whether the serving threads make progress.
//!
//! A service manager is told that the daemon is alive only while that is true of the
//! threads that serve; a timer beside them would say nothing about one that is stuck.
//! At each check every thread must have passed its loop since the last, or be asleep.
//!
//! ```text
//!  last look     this look
//!  awake at 7 ─▶ awake at 8     passed its loop
//!  awake at 7 ─▶ asleep at 7    came to its end
//!  asleep at 7 ▶ awake at 7     was woken just now: next time it must have moved
//!  awake at 7 ─▶ awake at 7     stuck
//! ```
//!
//! Helpers are not looked at: they are there to wait for disks. Not here: who sends it,
//! and where it is read off.

use std::time::{Duration, Instant};

/// The shortest time between two looks: epoll counts in milliseconds.
const LEAST: Duration = Duration::from_millis(1);

/// What a thread shows of itself: how often it has passed its loop, and whether it
/// sleeps with nothing to do.
pub type Progress = (u64, bool);

/// Looks twice in the time that the service manager gives.
#[derive(Debug)]
pub struct Watchdog {
    interval: Duration,
    due: Instant,
    seen: Vec<Progress>,
}

impl Watchdog {
    /// For a service manager that gives up after so many microseconds.
    pub fn new(usec: u64, now: Instant) -> Self {
        let interval = Duration::from_micros(usec / 2).max(LEAST);
        Self { interval, due: now + interval, seen: Vec::new() }
    }

    /// How long until the next look.
    pub fn wait(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// If it is time to look: the numbers of the threads that are stuck, best none.
    pub fn look(
        &mut self,
        threads: impl Iterator<Item = Progress>,
        now: Instant,
    ) -> Option<Vec<usize>> {
        if now < self.due {
            return None;
        }
        self.due = now + self.interval;
        let before = std::mem::replace(&mut self.seen, threads.collect());
        let pairs = before.iter().zip(&self.seen).enumerate();
        Some(pairs.filter(|(_, (before, now))| is_stuck(**before, **now)).map(|(n, _)| n).collect())
    }
}

/// Awake at both looks, and not a loop further.
const fn is_stuck(before: Progress, now: Progress) -> bool {
    before.0 == now.0 && !before.1 && !now.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAKE: bool = false;
    const ASLEEP: bool = true;

    /// What each look at these threads says, one after another.
    fn looks(threads: &[&[Progress]]) -> Vec<Vec<usize>> {
        let mut now = Instant::now();
        let mut watchdog = Watchdog::new(2_000_000, now);
        let mut look = |threads: &&[Progress]| {
            now += Duration::from_secs(1);
            watchdog.look(threads.iter().copied(), now).unwrap()
        };
        threads.iter().map(&mut look).collect()
    }

    #[test]
    fn threads_that_get_on_or_sleep_are_well() {
        assert_eq!(looks(&[&[(7, AWAKE)], &[(8, AWAKE)], &[(9, AWAKE)]]).concat(), []);
        assert_eq!(looks(&[&[(7, ASLEEP)], &[(7, ASLEEP)], &[(7, ASLEEP)]]).concat(), []);
        assert_eq!(looks(&[&[(7, AWAKE)], &[(7, ASLEEP)], &[(8, AWAKE)]]).concat(), []);
        assert_eq!(looks(&[&[(0, AWAKE)]]).concat(), [], "nothing to compare with yet");
    }

    #[test]
    fn one_that_was_woken_has_until_the_next_look() {
        let looks = looks(&[&[(7, ASLEEP)], &[(7, AWAKE)], &[(7, AWAKE)], &[(7, AWAKE)]]);
        assert_eq!(looks, [vec![], vec![], vec![0], vec![0]]);
    }

    #[test]
    fn one_that_is_stuck_is_found_among_others_and_may_recover() {
        let looks = looks(&[
            &[(1, AWAKE), (7, AWAKE), (5, ASLEEP)],
            &[(2, AWAKE), (7, AWAKE), (5, ASLEEP)],
            &[(3, AWAKE), (8, AWAKE), (5, ASLEEP)],
        ]);
        assert_eq!(looks, [vec![], vec![1], vec![]]);
    }

    #[test]
    fn it_looks_twice_in_the_time_that_is_given() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(10_000_000, start);
        let second = Duration::from_secs(1);
        assert_eq!(watchdog.wait(start), 5 * second);
        assert_eq!(watchdog.look([(1, AWAKE)].into_iter(), start + 4 * second), None);
        assert_eq!(watchdog.wait(start + 4 * second), second);
        assert_eq!(watchdog.look([(1, AWAKE)].into_iter(), start + 6 * second), Some(vec![]));
        assert_eq!(watchdog.wait(start + 6 * second), 5 * second, "late is no reason to hurry");
        assert_eq!(Watchdog::new(1, start).wait(start), LEAST);
    }
}
