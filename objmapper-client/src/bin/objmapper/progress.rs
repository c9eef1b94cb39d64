//! How far a long copy has come, on standard error.
//!
//! Only where somebody looks (standard error is a terminal, and the bytes do not go to one), and
//! only when it takes long enough to wonder.

use indicatif::{
    HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Before this nobody gets impatient.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two turns of what shows that something goes on.
const TICK: Duration = Duration::from_millis(125);

pub(crate) struct Progress {
    wanted: bool,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(out: &impl IsTerminal) -> Self {
        let wanted = io::stderr().is_terminal() && !out.is_terminal();
        Self { wanted, begun: Instant::now(), bar: None }
    }

    /// So many bytes are done, of so many.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        if !self.wanted || (self.bar.is_none() && self.begun.elapsed() < PATIENCE) {
            return;
        }
        let begun = self.begun;
        self.bar.get_or_insert_with(|| draw(total, begun)).set_position(done);
    }

    /// So many keys are done, in so many bytes, of nobody knows how many.
    pub(crate) fn counted(&mut self, keys: u64, bytes: u64) {
        if !self.wanted || (self.bar.is_none() && self.begun.elapsed() < PATIENCE) {
            return;
        }
        let begun = self.begun;
        let bar = self
            .bar
            .get_or_insert_with(|| spin("{spinner} {msg} keys, {binary_bytes}, {rate}/s", begun));
        bar.set_message(keys.to_string());
        bar.set_position(bytes);
    }

    /// Somebody else is at work, and does not say how far: until this is dropped.
    pub(crate) fn waiting(what: &'static str) -> Self {
        let wanted = io::stderr().is_terminal();
        let bar = wanted.then(|| {
            let bar = spin("{spinner} {msg} ({elapsed})", Instant::now());
            bar.set_message(what);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { wanted, begun: Instant::now(), bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn draw(total: u64, begun: Instant) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let form = "{wide_bar} {binary_bytes} of {binary_total_bytes}, {rate}/s, {left} left";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(since(begun, style).progress_chars("=> "));
    }
    bar
}

fn spin(form: &'static str, begun: Instant) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(since(begun, style).tick_chars("|/-\\ "));
    }
    bar
}

/// Rates since the work began: the bar, made later, would take what was done by then for the work of
/// an instant.
fn since(begun: Instant, style: ProgressStyle) -> ProgressStyle {
    let rate = move |state: &ProgressState, out: &mut dyn Write| {
        // What cannot be drawn is not told.
        let _ = write!(out, "{}", HumanBytes(per_second(state.pos(), begun.elapsed())));
    };
    let left = move |state: &ProgressState, out: &mut dyn Write| {
        let missing = state.len().unwrap_or(0).saturating_sub(state.pos());
        let rate = per_second(state.pos(), begun.elapsed()).max(1);
        let _ = write!(out, "{:#}", HumanDuration(Duration::from_secs(missing.div_ceil(rate))));
    };
    style.with_key("rate", rate).with_key("left", left)
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_whole_time() {
        assert_eq!(per_second(176 << 20, Duration::from_millis(500)), 352 << 20);
        assert_eq!(per_second(0, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
