//! Numbers, times and tables as people read them; what a daemon tells as programs do.

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Map, Value};
use std::time::Duration;

/// `17 B`, `1.5 KiB`, `8.0 GiB`: powers of 1024.
#[allow(clippy::cast_precision_loss)] // two digits are shown
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).unwrap_or(&""))
}

/// `2026-11-21 10:43:05`, in UTC.
pub(crate) fn time(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The same; `-` if the object has none, as values of keys have none.
pub(crate) fn modified(ns: i64) -> String {
    if ns == 0 { "-".to_owned() } else { time(ns) }
}

/// Year, month and day of a number of days since 1970 in the Gregorian calendar: years are counted
/// from March, so that the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // from 1970-01-01 to 0000-03-01
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// `850 ns`, `12.3 us`, `4.5 ms`, `1.20 s`.
#[allow(clippy::cast_precision_loss)] // three digits are shown
pub(crate) fn duration(time: Duration) -> String {
    let ns = time.as_nanos() as f64;
    match ns {
        ..1e3 => format!("{ns} ns"),
        ..1e6 => format!("{:.1} us", ns / 1e3),
        ..1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// A number if it is one.
fn number(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(Value::Number(number)) => Value::Number(number),
        _ => Value::String(text),
    }
}

/// `1 key`, `2 keys`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What a daemon tells as a line of JSON, perhaps with when.
pub(crate) fn json_line(told: Vec<(String, String)>, time_ns: Option<i64>) -> String {
    let mut all: Map<_, _> = told.into_iter().map(|(name, value)| (name, number(value))).collect();
    if let Some(ns) = time_ns {
        all.insert("time_ns".to_owned(), ns.into());
    }
    format!("{}\n", Value::Object(all))
}

/// An empty table without lines.
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// A cell whose text ends at the right.
pub(crate) fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The table's text, without blanks at the ends of lines.
pub(crate) fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end().strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(size(8 << 30), "8.0 GiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn times() {
        assert_eq!(modified(0), "-");
        assert_eq!(modified(1_763_721_785_000_000_000), "2025-11-21 10:43:05");
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(-1), "1969-12-31 23:59:59");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_763_721_785_000_000_000), "2025-11-21 10:43:05");
        assert_eq!(time(4_107_542_400_000_000_000), "2100-03-01 00:00:00");
        assert_eq!(time(i64::MIN), "1677-09-21 00:12:43");
    }

    #[test]
    fn counters_are_numbers_where_they_can_be() {
        assert_eq!(number("12".into()), serde_json::json!(12));
        assert_eq!(number("1.5".into()), serde_json::json!(1.5));
        assert_eq!(number("true".into()), serde_json::json!("true"));
        assert_eq!(number("1.2.3".into()), serde_json::json!("1.2.3"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_nanos(850)), "850 ns");
        assert_eq!(duration(Duration::from_nanos(12_340)), "12.3 us");
        assert_eq!(duration(Duration::from_millis(1200)), "1.20 s");
    }
}
