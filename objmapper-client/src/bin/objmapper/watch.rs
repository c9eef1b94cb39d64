//! The same again every few seconds: when, how often, and how it is shown.
//!
//! On a terminal a round takes the place of the one before. Anywhere else (a file, a pipe) rounds
//! follow each other, and everything is written before the next pause.

use anyhow::Result;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime};

pub(crate) struct Watch {
    every: Duration,
    left: Option<u32>,
    began: Instant,
    rounds: u32,
    redraws: bool,
}

impl Watch {
    /// Rounds without end if no `count` is given.
    pub(crate) fn new(every: Duration, count: Option<u32>) -> Self {
        let redraws = io::stdout().is_terminal();
        Self { every, left: count, began: Instant::now(), rounds: 0, redraws }
    }

    /// Waits for the time of the next round; `false` when there is none. The first is now, and one
    /// that took too long makes the following ones late, not fewer.
    pub(crate) fn next(&mut self) -> bool {
        if let Some(left) = &mut self.left {
            let Some(fewer) = left.checked_sub(1) else { return false };
            *left = fewer;
        }
        if self.rounds > 0 {
            let passed = self.began.elapsed();
            std::thread::sleep(self.every.saturating_sub(passed));
        }
        self.began = Instant::now();
        self.rounds = self.rounds.saturating_add(1);
        true
    }

    pub(crate) fn is_first(&self) -> bool {
        self.rounds == 1
    }

    /// Whether rounds replace each other.
    pub(crate) fn redraws(&self) -> bool {
        self.redraws
    }

    /// Shows a round.
    pub(crate) fn show(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(
            if self.redraws { screen(text, self.is_first()) } else { text.to_owned() }.as_bytes(),
        )?;
        out.flush()?;
        Ok(())
    }
}

/// From the upper left corner, each line up to its end; what was below goes.
fn screen(text: &str, first: bool) -> String {
    let clear = if first { "\x1b[2J" } else { "" };
    format!("{clear}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_and_apart() {
        let mut watch = Watch::new(Duration::from_millis(10), Some(3));
        let began = Instant::now();
        let rounds = std::iter::from_fn(|| watch.next().then_some(())).count();
        assert!(rounds == 3 && began.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_screen_leaves_nothing_of_the_one_before() {
        assert_eq!(screen("a\nb\n", true), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(screen("a\n", false), "\x1b[Ha\x1b[K\n\x1b[J");
    }
}
