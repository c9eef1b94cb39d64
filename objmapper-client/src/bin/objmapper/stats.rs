//! `stats`: the daemon's counters, by area, in an order that does not change.
//!
//! Names stay whole on each line, so that what is seen can be searched for, here and in the
//! operators' manual.

use crate::args::Stats;
use crate::fault::colours;
use crate::format;
use crate::watch::{Watch, now_ns};
use anyhow::Result;
use objmapper_client::Client;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// From who is there, over what they ask and get, to how it is done.
const AREAS: [&str; 14] = [
    "connections",
    "requests",
    "replies",
    "transfer",
    "bodies",
    "queued",
    "descriptors",
    "index",
    "shared",
    "pool",
    "helpers",
    "kv",
    "journal",
    "sched",
];

/// Names and values, as the daemon gives them.
type Counters = Vec<(String, String)>;

pub(crate) fn stats(client: &mut Client, stats: &Stats) -> Result<()> {
    if let Some(every) = stats.watch {
        return watched(client, stats, every);
    }
    let counters = ordered(client.stats()?);
    let mut out = io::stdout().lock();
    let text = if stats.json {
        format::json_line(counters, None)
    } else {
        table(&counters, &HashMap::new(), colours(&out))
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn watched(client: &mut Client, stats: &Stats, every: Duration) -> Result<()> {
    let mut watch = Watch::new(every, stats.count);
    let mut before = Sample::default();
    while watch.next() {
        let sample = Sample { counters: ordered(client.stats()?), taken: Instant::now() };
        let now = now_ns();
        watch.show(&if stats.json {
            format::json_line(sample.counters.clone(), Some(now))
        } else if watch.redraws() {
            let rates = sample.rates(&before);
            let seen = sample.counters.iter().filter(|(_, value)| value != "0").cloned().collect();
            format!("{} UTC\n\n{}", format::time(now), table(&seen, &rates, false))
        } else {
            sample.changes(&before, &format::time(now))
        })?;
        before = sample;
    }
    Ok(())
}

/// The counters at one moment.
struct Sample {
    counters: Counters,
    taken: Instant,
}

impl Default for Sample {
    /// Nothing, now.
    fn default() -> Self {
        Self { counters: Counters::new(), taken: Instant::now() }
    }
}

impl Sample {
    /// What each has grown by since another moment; only what has.
    fn differences<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a str, &'a str, i128)> {
        let old: HashMap<&str, i128> = before
            .counters
            .iter()
            .filter_map(|(n, v)| Some((n.as_str(), v.parse().ok()?)))
            .collect();
        self.counters.iter().filter_map(move |(name, value)| {
            let grown = value.parse::<i128>().ok()? - old.get(name.as_str()).unwrap_or(&0);
            (grown != 0).then_some((name.as_str(), value.as_str(), grown))
        })
    }

    /// Per second, for people.
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    fn rates(&self, before: &Self) -> HashMap<String, String> {
        let seconds = (self.taken - before.taken).as_secs_f64();
        if before.counters.is_empty() || seconds <= 0.0 {
            return HashMap::new(); // since the daemon's start is no rate
        }
        let rate = |(name, _, grown): (&str, &str, i128)| {
            let rate = grown as f64 / seconds;
            let digits = usize::from(rate.abs() < 100.0);
            (name.to_owned(), format!("{rate:+.digits$}/s"))
        };
        self.differences(before).map(rate).collect()
    }

    /// A line for each that has changed, and by how much.
    fn changes(&self, before: &Self, time: &str) -> String {
        let mut text = String::new();
        for (name, value, grown) in self.differences(before) {
            let more = if before.counters.is_empty() { "" } else { &format!(" {grown:+}") };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{time}  {name} {value}{more}");
        }
        text
    }
}

/// What stands before the point.
fn area(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// By area, then in the daemon's order; areas that are not known here at the end, by name.
fn ordered(mut counters: Counters) -> Counters {
    let rank = |name: &str| {
        let area = area(name);
        let known = AREAS.iter().position(|known| *known == area).unwrap_or(AREAS.len());
        (known, if known < AREAS.len() { String::new() } else { area.to_owned() })
    };
    counters.sort_by_cached_key(|(name, _)| rank(name));
    counters
}

/// One counter on a line, areas set apart; what never happened stands back.
fn table(counters: &Counters, rates: &HashMap<String, String>, dim: bool) -> String {
    let names = counters.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let values = counters.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let rate_width = rates.values().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    let mut before = None;
    for (name, value) in counters {
        if before.is_some_and(|before| before != area(name)) {
            text.push('\n');
        }
        before = Some(area(name));
        let (faint, plain) = if dim && value == "0" { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let rate = match rates.get(name) {
            Some(rate) => format!("  {rate:>rate_width$}"),
            None => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{faint}{name:<names$}  {value:>values$}{rate}{plain}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(given: &[(&str, &str)]) -> Counters {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn areas_are_together_and_what_is_new_comes_last() {
        let given = ["pool.b", "new.z", "requests.b", "connections.x", "pool.a", "mew.y", "new.a"];
        let given = counters(&given.map(|name| (name, "0")));
        let names: Vec<_> = ordered(given).into_iter().map(|(name, _)| name).collect();
        let expected =
            ["connections.x", "requests.b", "pool.b", "pool.a", "mew.y", "new.z", "new.a"];
        assert_eq!(names, expected);
    }

    #[test]
    fn values_end_at_the_right() {
        let given = counters(&[("a.b", "0"), ("a.long", "1000"), ("b.c", "2")]);
        let none = HashMap::new();
        assert_eq!(table(&given, &none, false), "a.b        0\na.long  1000\n\nb.c        2\n");
        let dim = table(&given, &none, true);
        assert!(dim.starts_with("\x1b[2ma.b        0\x1b[0m\na.long  1000\n"), "{dim:?}");
    }

    #[test]
    fn what_has_changed_and_by_how_much() {
        let taken = Instant::now();
        let before =
            Sample { counters: counters(&[("a.b", "10"), ("a.c", "5"), ("a.d", "7")]), taken };
        let after = Sample {
            counters: counters(&[("a.b", "310"), ("a.c", "4"), ("a.d", "7"), ("a.e", "x")]),
            taken: taken + Duration::from_secs(2),
        };
        assert_eq!(after.changes(&before, "now"), "now  a.b 310 +300\nnow  a.c 4 -1\n");
        let rates = after.rates(&before);
        assert_eq!((rates["a.b"].as_str(), rates["a.c"].as_str()), ("+150/s", "-0.5/s"));
        let first = Sample::default();
        assert_eq!(before.changes(&first, "now"), "now  a.b 10\nnow  a.c 5\nnow  a.d 7\n");
        assert!(before.rates(&first).is_empty(), "what was before it began is no rate");
        let shown = table(&after.counters, &rates, false);
        assert!(shown.starts_with("a.b  310  +150/s\na.c    4  -0.5/s\na.d    7\n"), "{shown}");
    }
}
