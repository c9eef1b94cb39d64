//! Figures as a table for people or one JSON object for programs.

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::io::Write;

use crate::assertion::Assertion;
use crate::cli::{FloorOpen, Pin};
use crate::record::{Latency, Round};
use crate::servers::Stats;
use crate::summary::{Summary, round3};
use crate::svg::{self, Curve};
use crate::turns::Outcome;
use crate::wire::Job;

/// What was asked for, so that a figure can be reproduced.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    /// `mixed` if empty.
    pub(crate) mode: Option<Job>,
    pub(crate) conns: u32,
    pub(crate) threads: u32,
    pub(crate) pipeline: u32,
    pub(crate) batch: u32,
    pub(crate) shared: bool,
    pub(crate) files: usize,
    pub(crate) file_size: Option<u64>,
    pub(crate) fdpass_ratio: Option<f64>,
    pub(crate) requests_per_conn: Option<u64>,
    /// Connections that had a burst under way at a time, if not all.
    pub(crate) active: Option<u32>,
    /// Requests per second of an open loop.
    pub(crate) rate: Option<f64>,
    /// Who else was on the server.
    pub(crate) beside: Option<String>,
    pub(crate) rounds: u32,
    pub(crate) pin: Option<Pin>,
    pub(crate) workers: Option<u32>,
    pub(crate) floor_open: Option<FloorOpen>,
}

impl Settings {
    /// What was measured, and under which conditions.
    fn words(&self) -> (String, String) {
        let mode = match self.mode {
            Some(Job::Fdpass) => "fdpass",
            Some(Job::Copy) => "copy",
            Some(Job::Splice) => "splice",
            None => "mixed",
        };
        let s = if self.conns == 1 { "" } else { "s" };
        let mut words = vec![format!("{} connection{s}", self.conns)];
        words.extend(self.rate.map(|rate| format!("{rate} requests/s, by the clock")));
        words.extend(self.active.map(|active| format!("{active} at a time")));
        words.extend((self.pipeline > 1).then(|| format!("pipeline {}", self.pipeline)));
        words.extend((self.batch > 1).then(|| format!("batch {}", self.batch)));
        words.extend(self.shared.then(|| "shared".to_owned()));
        words.extend(self.beside.as_ref().map(|neighbour| format!("beside {neighbour}")));
        let size = self.file_size.map(|bytes| format!("files of {}", ByteSize(bytes)));
        words.extend(size);
        words.extend(self.pin.map(|pin| match (pin.client, pin.server) {
            (client, server) if client == server => "client and server on one CPU".to_owned(),
            (client, server) => format!("client on CPU {client}, server on {server}"),
        }));
        (format!("Latency of {mode}"), words.join(" · "))
    }
}

/// How ours and the floor compare.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) p50: f64,
    pub(crate) server_cpu: f64,
}

/// What a run must have for a figure to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// The floor, beside ours or alone.
    Floor,
    /// Ours and the floor.
    Both,
    /// An open loop.
    Rate,
}

/// A number that an [`Assertion`] may name.
struct Figure {
    name: &'static str,
    needs: Needs,
    of: fn(&Report) -> Option<f64>,
}

const fn figure(name: &'static str, needs: Needs, of: fn(&Report) -> Option<f64>) -> Figure {
    Figure { name, needs, of }
}

const FIGURES: [Figure; 17] = [
    figure("p50_us", Needs::Nothing, |r| Some(r.ours.p50_us)),
    figure("p99_us", Needs::Nothing, |r| Some(r.ours.p99_us)),
    figure("p999_us", Needs::Nothing, |r| Some(r.ours.p999_us)),
    figure("max_us", Needs::Nothing, |r| Some(r.ours.max_us)),
    figure("requests_per_s", Needs::Nothing, |r| Some(r.ours.requests_per_s)),
    figure("bytes_per_s", Needs::Nothing, |r| Some(r.ours.bytes_per_s)),
    figure("server_cpu_us", Needs::Nothing, |r| Some(r.ours.server_cpu_us_per_request)),
    figure("rss_bytes", Needs::Nothing, |r| Some(r.ours.rss_bytes as f64)),
    figure("errors", Needs::Nothing, |r| Some(r.ours.errors as f64)),
    figure("longest_wait_ratio", Needs::Nothing, |r| Some(r.ours.longest_wait_ratio)),
    figure("least_served_share", Needs::Nothing, |r| Some(r.ours.least_served_share)),
    figure("p50_ratio", Needs::Both, |r| r.ratio.as_ref().map(|ratio| ratio.p50)),
    figure("server_cpu_ratio", Needs::Both, |r| r.ratio.as_ref().map(|ratio| ratio.server_cpu)),
    figure("late_p99_us", Needs::Rate, |r| r.ours.open_loop.as_ref().map(|o| o.late_p99_us)),
    figure("late_max_us", Needs::Rate, |r| r.ours.open_loop.as_ref().map(|o| o.late_max_us)),
    figure("unreached", Needs::Rate, |r| r.ours.open_loop.as_ref().map(|o| o.unreached as f64)),
    figure("floor_multiple", Needs::Floor, |r| r.floor_multiple),
];

/// An error for a goal on a figure that a run with these things will not have.
pub(crate) fn check_names(goals: &[Assertion], given: &[Needs]) -> Result<()> {
    let there: Vec<&str> =
        FIGURES.iter().filter(|f| given.contains(&f.needs)).map(|f| f.name).collect();
    let mut names = goals.iter().map(Assertion::name);
    let Some(name) = names.find(|name| !there.contains(name)) else { return Ok(()) };
    match FIGURES.iter().find(|figure| figure.name == name).map(|figure| figure.needs) {
        Some(Needs::Both) => bail!("--assert {name}: add --floor, it compares with that"),
        Some(Needs::Rate) => bail!("--assert {name}: add --rate"),
        Some(Needs::Floor) => bail!("--assert {name}: add --floor or --floor-only"),
        _ => bail!("--assert: there is no figure '{name}' here: use {}", there.join(", ")),
    }
}

/// All that a run says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Who was measured.
    #[serde(skip)]
    names: Vec<&'static str>,
    #[serde(flatten)]
    pub(crate) ours: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
    /// A plain open(2) and close(2) of one of the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_close_us: Option<f64>,
    /// Server CPU of the floor as a multiple of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor_multiple: Option<f64>,
    /// Share of the CPU that went to other processes.
    pub(crate) others: f64,
    pub(crate) settings: Settings,
    /// By how much the daemon's own counters grew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<Stats>,
}

impl Report {
    /// Side 0 of the outcome is ours (or the floor alone), side 1, if there is one, the floor.
    pub(crate) fn new(outcome: &Outcome, names: Vec<&'static str>, settings: Settings) -> Self {
        let of = |side: usize| outcome.sides.get(side).map(|rounds| Summary::of(rounds));
        let floor = of(1);
        let open_close = crate::record::median(outcome.open_close_us.iter().copied());
        Self {
            ours: of(0).unwrap_or_else(|| Summary::of(&[])),
            ratio: floor.is_some().then(|| Ratio {
                p50: round3(outcome.ratio(0, 1, |r| r.percentile_us(0.5))),
                server_cpu: round3(outcome.ratio(0, 1, Round::cpu_us)),
            }),
            open_close_us: (!outcome.open_close_us.is_empty()).then(|| round3(open_close)),
            floor_multiple: outcome
                .multiple_of_open_close(names.len().saturating_sub(1))
                .filter(|_| names.last() == Some(&"floor"))
                .map(round3),
            floor,
            names,
            others: round3(outcome.others),
            settings,
            stats: None,
        }
    }

    /// Whether all goals are met; a line on stderr for each that is not.
    pub(crate) fn check(&self, goals: &[Assertion]) -> Result<bool> {
        let mut met = true;
        for goal in goals {
            let figure = FIGURES.iter().find(|figure| figure.name == goal.name());
            let value = figure.and_then(|figure| (figure.of)(self));
            let value = value.with_context(|| format!("{goal}: the figure was not measured"))?;
            if goal.misses(value) {
                eprintln!("missed: {goal}, measured {value}");
                met = false;
            }
        }
        Ok(met)
    }

    /// One side of it, for a file of many such.
    pub(crate) fn line(&self, server: &'static str, rounds: &[Round]) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Line<'a> {
            server: &'static str,
            #[serde(flatten)]
            summary: Summary,
            others: f64,
            settings: &'a Settings,
        }
        let summary = Summary::of(rounds);
        Line { server, summary, others: self.others, settings: &self.settings }
    }

    /// Latencies of all rounds as a picture.
    pub(crate) fn picture(&self, outcome: &Outcome) -> Result<String> {
        let mut all = Vec::new();
        for rounds in &outcome.sides {
            let mut latency = Latency::new()?;
            rounds.iter().try_for_each(|round| latency.add(&round.tally.latency))?;
            all.push(latency);
        }
        let curves = self.names.iter().zip(&all).map(|(name, latency)| Curve { name, latency });
        let (title, subtitle) = self.settings.words();
        Ok(svg::plot(&title, &subtitle, &curves.collect::<Vec<_>>()))
    }

    /// As a table.
    pub(crate) fn table(&self) -> String {
        let mut header = vec![""];
        header.extend(&self.names);
        header.extend(self.ratio.is_some().then_some("ratio"));
        let mut table = table(&header);
        let floor = self.floor.as_ref().map(rows);
        for (i, (name, ours)) in rows(&self.ours).into_iter().enumerate() {
            let floor = floor.as_ref().and_then(|rows| rows.get(i)).map(|row| row.1.clone());
            let ratio = self.ratio.as_ref().and_then(|ratio| match name {
                "p50 us" => Some(format!("{:.2}", ratio.p50)),
                "server CPU us/object" => Some(format!("{:.2}", ratio.server_cpu)),
                _ => None,
            });
            let mut cells = vec![name.to_owned(), ours];
            cells.extend(floor);
            cells.extend(ratio);
            table.add_row(cells);
        }
        format!("{table}\n{}", self.notes())
    }

    fn notes(&self) -> String {
        let mut notes = Vec::new();
        if let Some(us) = self.open_close_us {
            notes.push(format!("plain open+close of one file: {us:.2} us"));
        }
        if let Some(multiple) = self.floor_multiple {
            notes.push(format!("the floor's server CPU is {multiple:.1} times that"));
        }
        if self.others > 0.03 {
            let share = self.others * 100.0;
            notes.push(format!("other processes took {share:.0} % of the CPU meanwhile"));
        }
        notes.extend(self.ours.first_error.as_ref().map(|error| format!("first error: {error}")));
        for (name, value) in self.stats.iter().flat_map(Stats::iter) {
            notes.push(format!("{name} {value}"));
        }
        notes.join("\n")
    }
}

fn rows(s: &Summary) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("p50 us", format!("{:.2}", s.p50_us)),
        ("p99 us", format!("{:.2}", s.p99_us)),
        ("p999 us", format!("{:.1}", s.p999_us)),
        ("max us", format!("{:.0}", s.max_us)),
        ("objects/s", format!("{:.0}", s.requests_per_s)),
        ("server CPU us/object", format!("{:.3}", s.server_cpu_us_per_request)),
        ("server RSS MiB", format!("{:.1}", s.rss_bytes as f64 / 1_048_576.0)),
        ("objects", s.requests.to_string()),
        ("errors", s.errors.to_string()),
    ];
    if s.bytes_per_s > 0.0 {
        rows.insert(5, ("MiB/s", format!("{:.0}", s.bytes_per_s / 1_048_576.0)));
    }
    if let Some(by_mode) = &s.by_mode {
        rows.push(("fdpass p50 us", format!("{:.2}", by_mode.fdpass.p50_us)));
        rows.push(("fdpass p99 us", format!("{:.2}", by_mode.fdpass.p99_us)));
        rows.push(("copy p50 us", format!("{:.2}", by_mode.copy.p50_us)));
        rows.push(("copy p99 us", format!("{:.2}", by_mode.copy.p99_us)));
    }
    if let Some(open) = &s.open_loop {
        rows.push(("asked requests/s", format!("{:.0}", open.due_per_s)));
        rows.push(("not answered in time", open.unreached.to_string()));
        rows.push(("generator late p99 us", format!("{:.1}", open.late_p99_us)));
        rows.push(("generator late max us", format!("{:.0}", open.late_max_us)));
    }
    if s.least_served_share < 1.0 {
        rows.push(("longest wait us", format!("{:.0}", s.longest_wait_us)));
        rows.push(("longest wait / p50", format!("{:.1}", s.longest_wait_ratio)));
        rows.push(("least served / mean", format!("{:.2}", s.least_served_share)));
    }
    rows
}

/// An empty table: first column to the left, figures to the right.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
    table.set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints to standard output; an error if nobody takes it.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).context("cannot print")
}

/// Prints one JSON object.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}
