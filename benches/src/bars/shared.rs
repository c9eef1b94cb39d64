//! What the groups share: servers, plans, figures that many bars are made of.

use anyhow::Result;

use super::{Bar, Bench, Goal, summaries};
use crate::plan::{Dialect, Form, Mix, Plan};
use crate::record::{Round, median};
use crate::servers::Server;
use crate::summary::Summary;
use crate::tree::{Shape, Tree};
use crate::turns::Outcome;
use crate::wire::Job;

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;

/// The floor, opening the file for each request.
pub(super) const EACH: Dialect = Dialect::Floor { held: false };
/// The floor, keeping files open for copies.
pub(super) const HELD: Dialect = Dialect::Floor { held: true };

pub(super) fn shape(files: u32, size: u64) -> Shape {
    Shape { files, size, depth: 0, sparse: false }
}

pub(super) fn single(job: Job) -> Form {
    Form { mix: Mix::Only(job), pipeline: 1, batch: 1, shared: false }
}

pub(super) fn p50(round: &Round) -> f64 {
    round.percentile_us(0.5)
}

pub(super) fn p99(round: &Round) -> f64 {
    round.percentile_us(0.99)
}

/// The median over a side's rounds.
pub(super) fn of_side(outcome: &Outcome, side: usize, figure: impl Fn(&Round) -> f64) -> f64 {
    median(outcome.sides.get(side).into_iter().flatten().map(figure))
}

/// What the first side's median round says; the bars themselves judge the worst.
pub(super) fn middle(outcome: &Outcome, figure: fn(&Round) -> f64) -> f64 {
    median(outcome.sides.first().into_iter().flatten().map(figure))
}

/// A daemon and a floor for the tree, on the one CPU.
pub(super) fn both(bench: &Bench<'_>, tree: &Tree) -> Result<(Server, Server)> {
    Ok((bench.daemon(tree, None, bench.pinned)?, bench.floor(tree, bench.pinned)?))
}

pub(super) fn plans<const N: usize>(
    asked: [(Dialect, Form); N],
    tree: &Tree,
) -> Result<[Plan<'_>; N]> {
    let plans = asked.map(|(dialect, form)| Plan::new(dialect, form, tree));
    let plans = plans.into_iter().collect::<Result<Vec<_>>>()?;
    plans.try_into().map_err(|_| anyhow::anyhow!("a plan is missing"))
}

pub(super) fn two(outcome: &Outcome) -> Result<[Summary; 2]> {
    summaries(outcome)?.try_into().map_err(|_| anyhow::anyhow!("two sides are expected"))
}

pub(super) fn cpu_bar(name: &str, most: f64, outcome: &Outcome, a: usize, b: usize) -> Result<Bar> {
    let all = summaries(outcome)?;
    let us = |side: usize| all.get(side).map_or(f64::NAN, |s| s.server_cpu_us_per_request);
    let ratio = outcome.ratio(a, b, Round::cpu_us);
    let bar = Bar::new(name, Goal::AtMost(most), Some(ratio));
    Ok(bar.note(format!("{:.2} us against {:.2}", us(a), us(b))))
}

impl Bar {
    pub(super) fn note_more(mut self, text: &str) -> Self {
        self.note = format!("{}; {text}", self.note);
        self
    }
}
