//! Alarms: by when somebody must have moved on, earliest first; one for each token at most.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What is set.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<(Instant, usize)>);

impl Alarms {
    /// Changes the alarm of a token, from what it was set to.
    pub(super) fn change(&mut self, token: usize, from: Option<Instant>, to: Option<Instant>) {
        if from != to {
            from.map(|at| self.0.remove(&(at, token)));
            to.map(|at| self.0.insert((at, token)));
        }
    }

    /// How long until the first, rounded up to what epoll counts in.
    pub(super) fn until_first(&self) -> Option<Duration> {
        let (first, _) = self.0.first()?;
        Some(first.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Takes the first one that is due.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<usize> {
        let &(at, token) = self.0.first()?;
        (at <= now).then(|| self.0.pop_first()).map(|_| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_each_once() {
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        let mut alarms = Alarms::default();
        assert_eq!(alarms.until_first(), None);
        alarms.change(1, None, at(3));
        alarms.change(2, None, at(1));
        alarms.change(2, at(1), at(4));
        alarms.change(3, None, at(2));
        alarms.change(3, at(2), None);
        assert!(alarms.until_first() > Some(Duration::from_secs(1)));
        assert_eq!(alarms.next_due(start), None);
        let late = start + Duration::from_secs(9);
        let all: Vec<_> = std::iter::from_fn(|| alarms.next_due(late)).collect();
        assert_eq!(all, [1, 2]);
    }
}
