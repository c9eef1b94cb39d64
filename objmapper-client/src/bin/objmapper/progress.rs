//! How far a long copy has come, on standard error.
//!
//! Only where somebody looks (standard error is a terminal, and the bytes do not go to one), and
//! only when it takes long enough to wonder.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Before this nobody gets impatient.
const PATIENCE: Duration = Duration::from_millis(500);

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
