//! `status`: how the keyspace is, for people.

use anyhow::Result;
use comfy_table::Table;
use objmapper_client::{Client, milliseconds};
use objmapper_proto::limits::DATABASES;
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use super::args::Status;
use crate::fault::{Outcome, colours};
use crate::format::{self, count};
use crate::watch::{Watch, now_ns};

/// Above which of the daemon's levels memory is, as a number and for people.
const LEVELS: [&str; 4] = ["low", "medium", "high", "critical"];

pub(super) fn status(client: &mut Client, status: &Status) -> Result<Outcome> {
    let coloured = colours(&io::stdout());
    let mut round = |time_ns: Option<i64>| -> Result<String> {
        let told = client.keyspace_status()?;
        if status.json {
            return Ok(format::json_line(told, time_ns));
        }
        let page = Told(told.into_iter().collect()).page(milliseconds(SystemTime::now()), coloured);
        Ok(match time_ns {
            Some(ns) => format!("{} UTC\n\n{page}", format::time(ns)),
            None => page,
        })
    };
    let Some(every) = status.watch else {
        write!(io::stdout(), "{}", round(None)?)?;
        return Ok(Outcome::default());
    };
    let mut watch = Watch::new(every, status.count);
    while watch.next() {
        let text = round(Some(now_ns()))?;
        let apart = !watch.redraws() && !watch.is_first() && !status.json;
        watch.show(&if apart { format!("\n{text}") } else { text })?;
    }
    Ok(Outcome::default())
}

/// Names and values, as the daemon gave them.
struct Told(HashMap<String, String>);

impl Told {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A daemon that does not know the name has none of it.
    fn count(&self, name: &str) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// All of it, at this moment in milliseconds since 1970.
    fn page(&self, now: i64, coloured: bool) -> String {
        let paint = |text: &str, colour: &str| {
            if coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let mut rows = Vec::new();
        let state = match self.text("journal.failure") {
            Some(why) => paint(&format!("changes are refused: {why}"), "1;31"),
            None if self.count("journal.snapshot_failed") > 0 => {
                paint("the last snapshot failed: the journal grows (see the daemon's log)", "33")
            }
            None => paint("ok", "32"),
        };
        rows.push(("state", state));
        self.durability(now, &mut rows);
        rows.push(("", String::new()));
        rows.push(("memory", self.memory(|text| paint(text, "33"))));
        let eviction = self.text("kv.eviction").unwrap_or("unknown");
        let evicted = self.count("kv.evicted");
        rows.push(("eviction", format!("{eviction}, {evicted} evicted")));
        let (keys, ends) = (self.count("kv.keys"), self.count("kv.keys_with_expiry"));
        let expired = self.count("kv.expired");
        rows.push(("keys", format!("{keys}, {ends} with an expiry, {expired} expired")));
        rows.push(("reads", self.reads()));
        let mut text = String::new();
        for (name, value) in rows {
            // What is painted has a length that a table would not know.
            text.push_str(format!("{name:<15}{value}").trim_end());
            text.push('\n');
        }
        let databases = self.databases();
        if databases.row_count() > 1 {
            text.push('\n');
            text.push_str(&format::lines(&databases));
        }
        text
    }

    fn durability(&self, now: i64, rows: &mut Vec<(&str, String)>) {
        let Some(sync) = self.text("journal.sync") else {
            let none = "none: keys are in memory only (start objmapperd with --kv-dir DIR)";
            return rows.push(("durability", none.to_owned()));
        };
        let means = match sync {
            "always" => "a change is on the disk before it is answered".to_owned(),
            "interval" => {
                let ms = self.count("journal.sync_interval_ms");
                format!("a change is on the disk {} later at most", span(Duration::from_millis(ms)))
            }
            _ => "a change is on the disk when the kernel gets to it".to_owned(),
        };
        rows.push(("durability", format!("{sync}: {means}")));
        rows.push(("directory", self.text("journal.dir").unwrap_or_default().to_owned()));
        let [appended, written, durable, syncs] = ["appended", "written", "durable", "syncs"]
            .map(|n| self.count(&format!("journal.{n}")));
        let records = format!("{appended} appended, {written} written, {durable} on the disk");
        let syncs = count(syncs, "sync", "syncs");
        rows.push(("records", format!("{records}; {syncs}")));
        let since = format::size(self.count("journal.bytes"));
        let running = self.count("journal.snapshotting") > 0;
        let at = i64::try_from(self.count("journal.snapshot_at_ms")).unwrap_or(i64::MAX);
        let last = if at > 0 {
            let ago = Duration::from_millis(u64::try_from(now.saturating_sub(at)).unwrap_or(0));
            let size = format::size(self.count("journal.snapshot_bytes"));
            let time = format::time(at.saturating_mul(1_000_000));
            format!("{size}, of {time} UTC, {} ago", span(ago))
        } else {
            "none yet".to_owned()
        };
        let being = if running { "; one is being written" } else { "" };
        rows.push(("snapshot", format!("{last}{being}")));
        rows.push(("since then", format!("{since} of records")));
        let [bytes, records] =
            ["skipped_bytes", "skipped_records"].map(|n| self.count(&format!("journal.{n}")));
        if bytes > 0 || records > 0 {
            let (bytes, records) = (format::size(bytes), count(records, "record", "records"));
            let skipped = format!("{bytes} and {records} at the start");
            rows.push(("damage skipped", skipped));
        }
    }

    fn memory(&self, warn: impl Fn(&str) -> String) -> String {
        let [used, limit, peak] =
            ["bytes", "limit", "peak"].map(|n| self.count(&format!("kv.{n}")));
        let peak = format::size(peak);
        let Some(percent) = used.saturating_mul(100).checked_div(limit) else {
            return format!("{} (no limit), {peak} at most so far", format::size(used));
        };
        let level = usize::try_from(self.count("kv.pressure")).unwrap_or(usize::MAX);
        let name = LEVELS.get(level).unwrap_or(&"unknown");
        let pressure = format!("pressure {name}");
        let pressure = if level > 1 { warn(&pressure) } else { pressure };
        let [used, limit] = [used, limit].map(format::size);
        format!("{used} of {limit} ({percent} %), {pressure}, {peak} at most so far")
    }

    fn reads(&self) -> String {
        let (hits, misses) = (self.count("kv.hits"), self.count("kv.misses"));
        let share = hits.saturating_mul(100).checked_div(hits.saturating_add(misses));
        let share = share.map(|share| format!(" ({share} % hits)")).unwrap_or_default();
        let [hits, misses] = [count(hits, "hit", "hits"), count(misses, "miss", "misses")];
        format!("{hits}, {misses}{share}")
    }

    /// Those that have keys, under a line of what they are.
    fn databases(&self) -> Table {
        let mut table = format::table();
        table.add_row(["database", "keys", "with expiry"].map(format::right));
        for db in 0..DATABASES {
            let keys = self.count(&format!("kv.db{db}.keys"));
            if keys > 0 {
                let ends = self.count(&format!("kv.db{db}.keys_with_expiry"));
                table.add_row([u64::from(db), keys, ends].map(format::right));
            }
        }
        table
    }
}

/// `850 ms`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 1 h`.
fn span(time: Duration) -> String {
    let (ms, s) = (time.as_millis(), time.as_secs());
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &str) -> Told {
        let lines = lines.lines().map(|line| line.split_once(' ').unwrap());
        Told(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn a_page_says_how_it_is() {
        let told = told(
            "kv.keys 1205\nkv.keys_with_expiry 3\nkv.expired 2\nkv.evicted 0\nkv.hits 30\n\
             kv.misses 10\nkv.bytes 1572864\nkv.peak 2097152\nkv.limit 2097152\n\
             kv.pressure 1\nkv.eviction allkeys-lru\nkv.db0.keys 1200\nkv.db0.keys_with_expiry 3\n\
             kv.db5.keys 5\njournal.sync interval\njournal.sync_interval_ms 100\n\
             journal.dir /kv\njournal.appended 12\njournal.written 11\njournal.durable 10\n\
             journal.syncs 4\njournal.bytes 2048\njournal.snapshot_bytes 1048576\n\
             journal.snapshot_at_ms 1763721785000",
        );
        let page = "\
state          ok
durability     interval: a change is on the disk 100 ms later at most
directory      /kv
records        12 appended, 11 written, 10 on the disk; 4 syncs
snapshot       1.0 MiB, of 2025-11-21 10:43:05 UTC, 1 h 1 min ago
since then     2.0 KiB of records

memory         1.5 MiB of 2.0 MiB (75 %), pressure medium, 2.0 MiB at most so far
eviction       allkeys-lru, 0 evicted
keys           1205, 3 with an expiry, 2 expired
reads          30 hits, 10 misses (75 % hits)

database  keys  with expiry
       0  1200            3
       5     5            0
";
        assert_eq!(told.page(1_763_721_785_000 + 3_661_000, false), page);
    }

    #[test]
    fn what_is_wrong_is_said_and_seen() {
        let failed = "journal.sync always\njournal.failure write: ENOSPC\nkv.limit 10\n\
                      kv.bytes 10\nkv.pressure 3";
        let page = told(failed).page(0, true);
        let first = "state          \x1b[1;31mchanges are refused: write: ENOSPC\x1b[0m\n";
        assert!(page.starts_with(first), "{page}");
        assert!(page.contains("\x1b[33mpressure critical\x1b[0m"), "{page}");
        assert!(page.contains("snapshot       none yet\n"), "{page}");
        let page = told("kv.keys 0").page(0, false);
        assert!(page.contains("none: keys are in memory only"), "{page}");
        assert!(page.ends_with("reads          0 hits, 0 misses\n"), "{page}");
        let page = told("kv.hits 1\nkv.misses 1").page(0, false);
        assert!(page.ends_with("reads          1 hit, 1 miss (50 % hits)\n"), "{page}");
    }
}
