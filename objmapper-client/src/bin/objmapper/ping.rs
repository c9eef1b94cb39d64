//! `ping`: how far away the daemon is.

use crate::args::Ping;
use crate::format;
use crate::watch::{Watch, now_ns};
use anyhow::Result;
use objmapper_client::Client;
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

/// Round trips if nothing is said.
const COUNT: u32 = 10;

/// As many of the latest round trips are kept when there is no end: some days of one a second.
const KEPT: usize = 1 << 18;

pub(crate) fn ping(client: &mut Client, ping: &Ping) -> Result<()> {
    let mut times = Vec::new();
    let Some(every) = ping.watch else {
        for _ in 0..ping.count.unwrap_or(COUNT) {
            times.push(client.ping()?);
        }
        return summary(&times, ping.json);
    };
    let mut watch = Watch::new(every, ping.count);
    while watch.next() {
        let time = client.ping()?;
        if times.len() == KEPT {
            times.drain(..KEPT / 2);
        }
        times.push(time);
        let (now_ns, ns) = (now_ns(), nanoseconds(time));
        let (now, time) = (format::time(now_ns), format::duration(time));
        watch.show(&if ping.json {
            format!("{}\n", json!({ "time_ns": now_ns, "round_trip_ns": ns }))
        } else if watch.redraws() {
            format!("{now} UTC  {time}\n{}\n", text(&times))
        } else {
            format!("{now}  {time}\n")
        })?;
    }
    if watch.redraws() || ping.json { Ok(()) } else { summary(&times, false) }
}

fn summary(times: &[Duration], as_json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let [min, median, p99, max] = ranks(times).map(nanoseconds);
        let count = times.len();
        let all = json!({ "count": count, "min_ns": min, "median_ns": median, "p99_ns": p99, "max_ns": max });
        writeln!(out, "{all}")?;
    } else {
        writeln!(out, "{}", text(times))?;
    }
    Ok(())
}

fn text(times: &[Duration]) -> String {
    let count = format::count(times.len() as u64, "round trip", "round trips");
    let [min, median, p99, max] = ranks(times).map(format::duration);
    format!("{count}: min {min}, median {median}, p99 {p99}, max {max}")
}

/// The shortest, the median, the one that 1 in 100 exceed, and the longest.
fn ranks(times: &[Duration]) -> [Duration; 4] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    [0, 50, 99, 100].map(|percent| rank(&sorted, percent))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The value below or at which so many percent of the sorted values lie.
fn rank(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let times: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        let at = |percent| rank(&times, percent).as_micros();
        assert_eq!([at(0), at(50), at(99), at(100)], [1, 100, 198, 200]);
        assert_eq!(rank(&times[..1], 99).as_micros(), 1);
    }

    #[test]
    fn a_summary_counts() {
        let times = [3, 1, 2].map(Duration::from_micros);
        let expected = "3 round trips: min 1.0 us, median 2.0 us, p99 3.0 us, max 3.0 us";
        assert_eq!(text(&times), expected);
        assert!(text(&times[..1]).starts_with("1 round trip: "));
    }
}
