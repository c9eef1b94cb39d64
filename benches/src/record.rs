//! What one round found, and how rounds are put together.
//!
//! Latencies go into HDR histograms of nanoseconds with three digits, from 1 ns to a minute.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::time::Duration;

use crate::progress::Counts;

/// The longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// What one connection got.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Served {
    pub(crate) requests: u64,
    /// Longest wait for an answer, in nanoseconds; one that was still waiting at the end counts.
    pub(crate) longest_ns: u64,
}

/// Latencies of a mixed load, by what was asked for.
#[derive(Debug)]
pub(crate) struct ByMode {
    pub(crate) fdpass: Latency,
    pub(crate) copy: Latency,
}

/// What an open loop has to say beside latencies.
#[derive(Debug)]
pub(crate) struct Pacing {
    /// How late requests left although a connection was free: the generator's own part.
    pub(crate) late: Latency,
    /// Requests that were due.
    pub(crate) due: u64,
    /// Of these, those that were not answered by the end. Their wait up to then is among the
    /// latencies.
    pub(crate) unreached: u64,
}

/// Durations in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3).context("histogram")?))
    }

    #[inline]
    pub(crate) fn record(&mut self, time: Duration, times: u64) {
        self.0.saturating_record_n(nanoseconds(time).max(1), times);
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.0.add(&other.0).context("histogram")
    }

    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of them stays below, in microseconds; 0 of none.
    pub(crate) fn percentile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// What one thread, or all of a round, saw.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) latency: Latency,
    pub(crate) counts: Counts,
    pub(crate) served: Vec<Served>,
    /// Only of a mixed load.
    pub(crate) by_mode: Option<ByMode>,
    /// Only of an open loop.
    pub(crate) pacing: Option<Pacing>,
}

impl Tally {
    pub(crate) fn new() -> Result<Self> {
        let (latency, counts) = (Latency::new()?, Counts::default());
        Ok(Self { latency, counts, served: Vec::new(), by_mode: None, pacing: None })
    }

    /// Tells the two of a mixed load apart from now on.
    pub(crate) fn with_modes(mut self) -> Result<Self> {
        self.by_mode = Some(ByMode { fdpass: Latency::new()?, copy: Latency::new()? });
        Ok(self)
    }

    /// Keeps what an open loop has to say from now on.
    pub(crate) fn with_pacing(mut self) -> Result<Self> {
        self.pacing = Some(Pacing { late: Latency::new()?, due: 0, unreached: 0 });
        Ok(self)
    }

    /// So many requests were answered after this time.
    #[inline]
    pub(crate) fn answered(&mut self, latency: Duration, requests: usize) {
        self.latency.record(latency, requests as u64);
    }

    /// Forgets everything but errors.
    pub(crate) fn forget(&mut self) {
        self.latency.reset();
        (self.counts.objects, self.counts.bytes) = (0, 0);
        self.served.clear();
        if let Some(by_mode) = &mut self.by_mode {
            by_mode.fdpass.reset();
            by_mode.copy.reset();
        }
        if let Some(pacing) = &mut self.pacing {
            pacing.late.reset();
            (pacing.due, pacing.unreached) = (0, 0);
        }
    }

    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        self.latency.add(&other.latency)?;
        self.counts.add(other.counts);
        self.served.extend(other.served);
        match (&mut self.by_mode, other.by_mode) {
            (Some(by_mode), Some(more)) => {
                by_mode.fdpass.add(&more.fdpass)?;
                by_mode.copy.add(&more.copy)?;
            }
            (by_mode, more) => *by_mode = by_mode.take().or(more),
        }
        match (&mut self.pacing, other.pacing) {
            (Some(pacing), Some(more)) => {
                pacing.late.add(&more.late)?;
                pacing.due += more.due;
                pacing.unreached += more.unreached;
            }
            (pacing, more) => *pacing = pacing.take().or(more),
        }
        Ok(())
    }
}

/// One round of one side.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    /// CPU of the server in that time.
    pub(crate) server_cpu_ns: u64,
    /// Memory of the server at its end.
    pub(crate) rss_bytes: u64,
    /// Bytes per second that a neighbour received meanwhile, if there was one.
    pub(crate) neighbour: Option<f64>,
}

impl Round {
    /// CPU of the server as a share of one processor's time.
    pub(crate) fn server_share(&self) -> f64 {
        self.server_cpu_ns as f64 / (self.elapsed.as_nanos() as f64).max(1.0)
    }

    /// The latency that this share of the requests stays below, in microseconds.
    pub(crate) fn percentile_us(&self, quantile: f64) -> f64 {
        self.tally.latency.percentile_us(quantile)
    }

    /// Microseconds of server CPU for each object.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.server_cpu_ns as f64 / 1e3 / self.objects().max(1.0)
    }

    /// Objects per second.
    pub(crate) fn rate(&self) -> f64 {
        self.objects() / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Bytes of bodies per second.
    pub(crate) fn bytes_rate(&self) -> f64 {
        self.tally.counts.bytes as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Longest wait of any connection, as a multiple of the median round trip.
    pub(crate) fn longest_wait_ratio(&self) -> f64 {
        self.longest_wait_us() / self.percentile_us(0.5).max(1e-3)
    }

    /// Longest wait of any connection, in microseconds.
    pub(crate) fn longest_wait_us(&self) -> f64 {
        self.tally.served.iter().map(|s| s.longest_ns).max().unwrap_or(0) as f64 / 1e3
    }

    /// What the least served connection got, as a share of the mean.
    pub(crate) fn least_served_share(&self) -> f64 {
        let served = &self.tally.served;
        let least = served.iter().map(|s| s.requests).min().unwrap_or(0) as f64;
        let all: u64 = served.iter().map(|s| s.requests).sum();
        least * served.len() as f64 / (all as f64).max(1.0)
    }

    fn objects(&self) -> f64 {
        self.tally.counts.objects as f64
    }
}

/// The middle one; the mean of the two middle ones of an even number. 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or(0.0);
    if values.len() % 2 == 1 || values.is_empty() {
        at(middle)
    } else {
        f64::midpoint(at(middle - 1), at(middle))
    }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }

    #[test]
    fn the_least_served_is_held_against_the_mean() {
        let mut tally = Tally::new().unwrap();
        tally.answered(Duration::from_micros(10), 3);
        for requests in [10, 20, 30] {
            tally.served.push(Served { requests, longest_ns: requests * 1000 });
        }
        let elapsed = Duration::from_secs(1);
        let round = Round { tally, elapsed, server_cpu_ns: 0, rss_bytes: 0, neighbour: None };
        assert!((round.least_served_share() - 0.5).abs() < 1e-9);
        assert!((round.longest_wait_ratio() - 3.0).abs() < 0.01);
    }
}
