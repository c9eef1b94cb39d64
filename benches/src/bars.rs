//! All that the project promises about speed, measured in one go.
//!
//! A bar is a goal and what was measured; the floor's figure stands beside it where there is
//! one, so that a slow machine is not taken for a slow daemon: ratios hold everywhere, microseconds
//! only on a machine whose own floor leaves room for them.

mod shared;

mod idle;
mod keys;
mod mixed;
mod neighbours;
mod order;
mod scale;
mod speed;
mod values;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use parking_lot::Mutex;
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::cli::{BarsArgs, BarsGroup};
use crate::lines::Lines;
use crate::load::Load;
use crate::placement::{Placement, last_cpu};
use crate::plan::Plan;
use crate::report;
use crate::run::{daemon_arguments, descriptors_suffice};
use crate::servers::{Server, find_daemon};
use crate::stop::Stop;
use crate::summary::{Summary, round3};
use crate::tree::Tree;
use crate::turns::{self, Outcome, Rules, Side};

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    group: &'static str,
    name: String,
    goal: String,
    /// `None` if it could not be measured.
    measured: Option<f64>,
    /// The same figure of the floor, where that means something.
    floor: Option<f64>,
    met: bool,
    /// What else there is to say.
    note: String,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtMost(f64),
    Below(f64),
    Above(f64),
    AtLeast(f64),
    /// 1, give or take.
    Within(f64),
    /// Nothing: a figure that is only told.
    Nothing,
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
            Self::Above(limit) => value > limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Within(share) => (value - 1.0).abs() <= share,
            Self::Nothing => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::Below(limit) => format!("< {limit}"),
            Self::Above(limit) => format!("> {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::Within(share) => format!("1 +- {share}"),
            Self::Nothing => String::new(),
        }
    }
}

impl Bar {
    fn new(name: &str, goal: Goal, measured: Option<f64>) -> Self {
        Self {
            group: "",
            name: name.to_owned(),
            goal: goal.text(),
            measured: measured.map(round3),
            floor: None,
            met: measured.is_some_and(|value| goal.is_met(value)),
            note: String::new(),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.met {
            _ if self.goal.is_empty() => "",
            true => "ok",
            false => "MISS",
        }
    }

    fn floor(mut self, value: f64) -> Self {
        self.floor = Some(round3(value));
        self
    }

    fn note(mut self, text: impl Into<String>) -> Self {
        self.note = text.into();
        self
    }
}

/// Rounds of many connections are so many times longer, and fewer.
const LONGER: u32 = 3;

/// What all groups share.
struct Bench<'a> {
    args: &'a BarsArgs,
    program: PathBuf,
    /// Client and server on one CPU.
    pinned: Placement,
    /// The server on that CPU and the client on another, if there is one.
    apart: Option<Placement>,
    stop: Stop,
    /// Share of the CPU that others took, of each measurement.
    others: Mutex<Vec<f64>>,
}

#[derive(Serialize)]
struct Answer {
    all_met: bool,
    /// Share of the CPU that other processes took, in the most disturbed measurement.
    others: f64,
    bars: Vec<Bar>,
}

/// One measurement, and the bars that it fills.
type Measurement = fn(&Bench<'_>) -> Result<Vec<Bar>>;

/// A group and its measurements, in the order of the table.
fn measurements(group: BarsGroup) -> &'static [(&'static str, Measurement)] {
    match group {
        BarsGroup::Speed => speed::ALL,
        BarsGroup::Scale => scale::ALL,
        BarsGroup::Neighbours => neighbours::ALL,
        BarsGroup::Mixed => mixed::ALL,
        BarsGroup::Idle => idle::ALL,
        BarsGroup::Order => order::ALL,
        BarsGroup::Keys => keys::ALL,
    }
}

/// What was asked for, group by group. An error that lists the names if that is nothing.
fn chosen(args: &BarsArgs) -> Result<Vec<(BarsGroup, &'static str, Measurement)>> {
    let all = |groups: &[BarsGroup]| -> Vec<(BarsGroup, &'static str, Measurement)> {
        let of = |group: &BarsGroup| {
            let group = *group;
            measurements(group).iter().map(move |(name, measure)| (group, *name, *measure))
        };
        groups.iter().flat_map(of).collect()
    };
    let mut chosen = all(&args.group);
    let Some(only) = &args.only else { return Ok(chosen) };
    chosen.retain(|(_, name, _)| name.contains(only.as_str()));
    if chosen.is_empty() {
        let mut text = format!("--only {only}: no such bar among those of --group");
        for group in BarsGroup::value_variants() {
            let names: Vec<_> = measurements(*group).iter().map(|(name, _)| *name).collect();
            let _ = write!(text, "\n  {:<11} {}", group.name(), names.join(", "));
        }
        bail!("{text}");
    }
    Ok(chosen)
}

/// Measures and prints; whether every bar is met.
pub(crate) fn run(args: &BarsArgs) -> Result<bool> {
    let chosen = chosen(args)?;
    let stop = Stop::install(args.time_limit)?;
    objmapper_os::limits::raise_nofile()?;
    let program = find_daemon(args.daemon.as_deref())?;
    let cpu = args.cpu.map_or_else(last_cpu, Ok)?;
    let (pinned, apart) = (Placement::together(cpu)?, Placement::apart(cpu)?);
    let mut lines = args.report.as_deref().map(Lines::open).transpose()?;
    let bench = Bench { args, program, pinned, apart, stop, others: Mutex::default() };
    let mut bars: Vec<Bar> = Vec::new();
    for (group, name, measure) in chosen {
        turns::progress(name);
        // A thread for each, since a place on a CPU cannot be taken back.
        let found = std::thread::scope(|scope| {
            let thread = scope.spawn(|| measure(&bench));
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("{name}: panicked")))
        });
        for mut bar in found.with_context(|| name.to_owned())? {
            bar.group = group.name();
            if let Some(lines) = &mut lines {
                lines.add("bar", &bar)?;
            }
            bars.push(bar);
        }
    }
    let all_met = bars.iter().all(|bar| bar.met);
    let others = round3(bench.others.lock().iter().copied().fold(0.0, f64::max));
    if args.json {
        report::print_json(&Answer { all_met, others, bars })?;
    } else {
        let share = others * 100.0;
        report::print(&format!(
            "{}\nother processes took {share:.0} % of the CPU in the most disturbed measurement",
            tables(&bars)
        ))?;
    }
    Ok(all_met)
}

impl Bench<'_> {
    fn daemon(&self, tree: &Tree, workers: Option<u32>, place: Placement) -> Result<Server> {
        self.daemon_told(&[], tree, workers, place)
    }

    /// A daemon with arguments of its own.
    fn daemon_told(
        &self,
        more: &[&str],
        tree: &Tree,
        workers: Option<u32>,
        place: Placement,
    ) -> Result<Server> {
        let more: Vec<_> = more.iter().map(|word| (*word).to_owned()).collect();
        let arguments = daemon_arguments(&[more, self.args.daemon_arg.clone()].concat(), workers);
        Server::daemon(&self.program, root(tree)?, false, &arguments, place)
    }

    fn floor(&self, tree: &Tree, place: Placement) -> Result<Server> {
        self.stop.check()?;
        Server::floor(root(tree)?, place)
    }

    /// One connection.
    fn side<'a>(&self, name: &'static str, server: &'a Server, plan: &'a Plan<'a>) -> Side<'a> {
        self.side_of(1, name, server, plan)
    }

    /// Many connections take longer rounds: fairness shows over time.
    fn side_of<'a>(
        &self,
        conns: usize,
        name: &'static str,
        server: &'a Server,
        plan: &'a Plan<'a>,
    ) -> Side<'a> {
        let time = self.args.round * if conns > 1 { LONGER } else { 1 };
        let load = Load {
            conns,
            threads: conns.min(2),
            active: conns,
            rate: None,
            warmup: time / 3,
            time,
            requests: None,
            per_conn: None,
        };
        Side { name, server, plan, load, beside: None }
    }

    /// Many connections take fewer rounds.
    fn take(&self, sides: &[Side<'_>], place: Placement) -> Result<Outcome> {
        let many = sides.iter().any(|side| side.load.conns > 1);
        let rounds = self.args.rounds.div_ceil(if many { LONGER } else { 1 });
        let outcome = turns::take(sides, Rules { rounds, place, stop: &self.stop })?;
        self.others.lock().push(outcome.others);
        Ok(outcome)
    }
}

fn root(tree: &Tree) -> Result<&Path> {
    tree.root().context("the tree has no root")
}

/// What is missing for so many connections, if anything is.
fn room_for(connections: usize) -> Option<String> {
    descriptors_suffice(connections).err().map(|error| format!("not measured: {error}"))
}

/// Fails if an answer was wrong: figures of wrong answers mean nothing.
fn summaries(outcome: &Outcome) -> Result<Vec<Summary>> {
    let all: Vec<_> = outcome.sides.iter().map(|rounds| Summary::of(rounds)).collect();
    if let Some(bad) = all.iter().find(|summary| summary.errors > 0) {
        let first = bad.first_error.as_deref().unwrap_or_default();
        anyhow::bail!("{} answers were wrong, first: {first}", bad.errors);
    }
    Ok(all)
}

/// A table for each group.
fn tables(bars: &[Bar]) -> String {
    let groups = bars.chunk_by(|a, b| a.group == b.group);
    groups.map(table).collect::<Vec<_>>().join("\n\n")
}

fn table(bars: &[Bar]) -> String {
    let mut table = report::table(&["bar", "goal", "measured", "floor", "", "note"]);
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), digits);
    for bar in bars {
        table.add_row([
            bar.name.clone(),
            bar.goal.clone(),
            figure(bar.measured),
            bar.floor.map(digits).unwrap_or_default(),
            bar.verdict().to_owned(),
            bar.note.clone(),
        ]);
    }
    if let Some(column) = table.column_mut(5) {
        column.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    table.to_string()
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_or_missed() {
        for (goal, value, met) in [
            (Goal::AtMost(1.25), 1.25, true),
            (Goal::Below(10.0), 10.0, false),
            (Goal::Above(85.0), 85.1, true),
            (Goal::AtLeast(0.5), 0.49, false),
            (Goal::Within(0.1), 0.91, true),
            (Goal::Within(0.1), 1.11, false),
        ] {
            assert_eq!(Bar::new("", goal, Some(value)).met, met, "{goal:?} {value}");
        }
        assert!(!Bar::new("", Goal::AtMost(1.0), None).met);
    }
}
