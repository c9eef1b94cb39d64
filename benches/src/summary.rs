//! One side's rounds as figures to print.

use serde::Serialize;

use crate::record::{ByMode, Latency, Round, median};

/// What a run found about one server.
///
/// Percentiles, rates and CPU are medians over the rounds; `max_us` and the fairness figures are
/// those of the worst round, `errors` of all.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Objects per second.
    pub(crate) requests_per_s: f64,
    /// Bytes of bodies per second.
    pub(crate) bytes_per_s: f64,
    /// For each object.
    pub(crate) server_cpu_us_per_request: f64,
    pub(crate) rss_bytes: u64,
    /// Objects in all rounds.
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// Longest wait of any connection in any round.
    pub(crate) longest_wait_us: f64,
    /// Longest wait of any connection as a multiple of the median round trip.
    pub(crate) longest_wait_ratio: f64,
    /// What the least served connection got, as a share of the mean.
    pub(crate) least_served_share: f64,
    /// Of a mixed load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by_mode: Option<WaysSummary>,
    /// Of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_loop: Option<OpenLoop>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_error: Option<String>,
}

/// Latencies of a mixed load, by what was asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WaysSummary {
    pub(crate) fdpass: WaySummary,
    pub(crate) copy: WaySummary,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct WaySummary {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// What an open loop asked for, and how well it could.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OpenLoop {
    /// Requests that were due, per second.
    pub(crate) due_per_s: f64,
    /// Requests of all rounds that were due and not answered at the end.
    pub(crate) unreached: u64,
    /// How late the generator was by itself, of all rounds the worst.
    pub(crate) late_p99_us: f64,
    pub(crate) late_max_us: f64,
}

impl Summary {
    pub(crate) fn of(rounds: &[Round]) -> Self {
        let middle = |figure: fn(&Round) -> f64| round3(median(rounds.iter().map(figure)));
        let most =
            |figure: fn(&Round) -> f64| round3(rounds.iter().map(figure).fold(0.0, f64::max));
        let counts = rounds.iter().map(|round| &round.tally.counts);
        Self {
            p50_us: middle(|r| r.percentile_us(0.5)),
            p99_us: middle(|r| r.percentile_us(0.99)),
            p999_us: middle(|r| r.percentile_us(0.999)),
            max_us: most(|r| r.percentile_us(1.0)),
            requests_per_s: middle(Round::rate).round(),
            bytes_per_s: middle(Round::bytes_rate).round(),
            server_cpu_us_per_request: middle(Round::cpu_us),
            rss_bytes: rounds.iter().map(|round| round.rss_bytes).max().unwrap_or(0),
            requests: counts.clone().map(|counts| counts.objects).sum(),
            errors: counts.clone().map(|counts| counts.errors).sum(),
            longest_wait_us: most(Round::longest_wait_us),
            longest_wait_ratio: most(Round::longest_wait_ratio),
            least_served_share: round3(
                rounds.iter().map(Round::least_served_share).fold(1.0, f64::min),
            ),
            by_mode: by_mode(rounds),
            open_loop: open_loop(rounds),
            first_error: counts.clone().find_map(|counts| counts.first_error.clone()),
        }
    }
}

fn by_mode(rounds: &[Round]) -> Option<WaysSummary> {
    let all: Vec<_> = rounds.iter().filter_map(|round| round.tally.by_mode.as_ref()).collect();
    let way = |of: fn(&ByMode) -> &Latency| {
        let us = |q| round3(median(all.iter().map(|by_mode| of(by_mode).percentile_us(q))));
        WaySummary { p50_us: us(0.5), p99_us: us(0.99) }
    };
    let summary = || WaysSummary { fdpass: way(|w| &w.fdpass), copy: way(|w| &w.copy) };
    (!all.is_empty()).then(summary)
}

fn open_loop(rounds: &[Round]) -> Option<OpenLoop> {
    let all: Vec<_> = rounds
        .iter()
        .filter_map(|round| Some((round.tally.pacing.as_ref()?, round.elapsed.as_secs_f64())))
        .collect();
    let late =
        |q| round3(all.iter().map(|(pacing, _)| pacing.late.percentile_us(q)).fold(0.0, f64::max));
    let summary = || OpenLoop {
        due_per_s: round3(median(all.iter().map(|(p, s)| p.due as f64 / s.max(1e-9)))),
        unreached: all.iter().map(|(pacing, _)| pacing.unreached).sum(),
        late_p99_us: late(0.99),
        late_max_us: late(1.0),
    };
    (!all.is_empty()).then(summary)
}

/// Three digits behind the point: more are noise.
pub(crate) fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
