//! How far a long copy has come, on standard error.
//!
//! Only where somebody looks (standard error is a terminal, and the bytes do not go to one), and
//! only when it takes long enough to wonder.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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
        self.bar.get_or_insert_with(|| draw(total)).set_position(done);
    }

    /// So many keys are done, in so many bytes, of nobody knows how many.
    pub(crate) fn counted(&mut self, keys: u64, bytes: u64) {
        if !self.wanted || (self.bar.is_none() && self.begun.elapsed() < PATIENCE) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            spin("{spinner} {msg} keys, {binary_bytes}, {binary_bytes_per_sec}")
        });
        bar.set_message(keys.to_string());
        bar.set_position(bytes);
    }

    /// Somebody else is at work, and does not say how far: until this is dropped.
    pub(crate) fn waiting(what: &'static str) -> Self {
        let wanted = io::stderr().is_terminal();
        let bar = wanted.then(|| {
            let bar = spin("{spinner} {msg} ({elapsed})");
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

fn draw(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let form =
        "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn spin(form: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style.tick_chars("|/-\\ "));
    }
    bar
}
