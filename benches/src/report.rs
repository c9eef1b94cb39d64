//! Figures as a table for people or one JSON object for programs.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::io::Write;

use crate::assertion::Assertion;
use crate::cli::{FloorOpen, Pin};
use crate::servers::Stats;
use crate::summary::{Summary, round3};
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
    pub(crate) files: usize,
    pub(crate) file_size: Option<u64>,
    pub(crate) fdpass_ratio: Option<f64>,
    pub(crate) requests_per_conn: Option<u64>,
    pub(crate) rounds: u32,
    pub(crate) pin: Option<Pin>,
    pub(crate) workers: Option<u32>,
    pub(crate) floor_open: Option<FloorOpen>,
}

/// How ours and the floor compare.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) p50: f64,
    pub(crate) server_cpu: f64,
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
                server_cpu: round3(outcome.ratio(0, 1, crate::record::Round::cpu_us)),
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

    /// The names that [`Assertion`]s may use.
    pub(crate) fn figures(&self) -> Vec<(&'static str, f64)> {
        let ours = &self.ours;
        let mut figures = vec![
            ("p50_us", ours.p50_us),
            ("p99_us", ours.p99_us),
            ("p999_us", ours.p999_us),
            ("max_us", ours.max_us),
            ("requests_per_s", ours.requests_per_s),
            ("bytes_per_s", ours.bytes_per_s),
            ("server_cpu_us", ours.server_cpu_us_per_request),
            ("rss_bytes", ours.rss_bytes as f64),
            ("errors", ours.errors as f64),
            ("longest_wait_ratio", ours.longest_wait_ratio),
            ("least_served_share", ours.least_served_share),
        ];
        if let Some(ratio) = &self.ratio {
            figures.push(("p50_ratio", ratio.p50));
            figures.push(("server_cpu_ratio", ratio.server_cpu));
        }
        figures.extend(self.floor_multiple.map(|multiple| ("floor_multiple", multiple)));
        figures
    }

    /// Whether all demands are met; a line on stderr for each that is not.
    pub(crate) fn check(&self, demands: &[Assertion]) -> Result<bool> {
        let figures = self.figures();
        let mut met = true;
        for demand in demands {
            let miss = demand.miss(&figures).map_err(anyhow::Error::msg)?;
            if let Some(value) = miss {
                eprintln!("missed: {demand}, measured {value}");
                met = false;
            }
        }
        Ok(met)
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
