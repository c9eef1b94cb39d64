//! `stats`: the daemon's counters, by area, in an order that does not change.
//!
//! Names stay whole on each line, so that what is seen can be searched for, here and in the
//! operators' manual.

use crate::args::Stats;
use crate::fault::colours;
use anyhow::Result;
use objmapper_client::Client;
use serde_json::{Map, Value};
use std::io::{self, Write};

/// From who is there, over what they ask and get, to how it is done.
const AREAS: [&str; 8] =
    ["connections", "requests", "replies", "transfer", "descriptors", "index", "pool", "sched"];

/// Names and values, as the daemon gives them.
type Counters = Vec<(String, String)>;

pub(crate) fn stats(client: &mut Client, stats: &Stats) -> Result<()> {
    let counters = ordered(client.stats()?);
    let mut out = io::stdout().lock();
    if stats.json {
        let counters: Map<_, _> = counters.into_iter().map(|(name, v)| (name, number(v))).collect();
        writeln!(out, "{}", Value::Object(counters))?;
    } else {
        let dim = colours(&out);
        table(&counters, dim, &mut out)?;
    }
    Ok(())
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
fn table(counters: &Counters, dim: bool, out: &mut dyn Write) -> io::Result<()> {
    let width =
        |texts: &mut dyn Iterator<Item = &String>| texts.map(String::len).max().unwrap_or(0);
    let names = width(&mut counters.iter().map(|(name, _)| name));
    let values = width(&mut counters.iter().map(|(_, value)| value));
    let mut before = None;
    for (name, value) in counters {
        if before.is_some_and(|before| before != area(name)) {
            writeln!(out)?;
        }
        before = Some(area(name));
        let (faint, plain) = if dim && value == "0" { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        writeln!(out, "{faint}{name:<names$}  {value:>values$}{plain}")?;
    }
    Ok(())
}

/// A number if it is one.
fn number(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(Value::Number(number)) => Value::Number(number),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn counters(names: &[&str]) -> Counters {
        names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), i.to_string())).collect()
    }

    #[test]
    fn areas_are_together_and_what_is_new_comes_last() {
        let given = ["pool.b", "new.z", "requests.b", "connections.x", "pool.a", "mew.y", "new.a"];
        let names: Vec<_> = ordered(counters(&given)).into_iter().map(|(name, _)| name).collect();
        let expected =
            ["connections.x", "requests.b", "pool.b", "pool.a", "mew.y", "new.z", "new.a"];
        assert_eq!(names, expected);
    }

    #[test]
    fn values_end_at_the_right() {
        let mut given = counters(&["a.b", "a.long", "b.c"]);
        given[1].1 = "1000".into();
        let shown = |dim| {
            let mut bytes = Vec::new();
            table(&given, dim, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(shown(false), "a.b        0\na.long  1000\n\nb.c        2\n");
        assert!(shown(true).starts_with("\x1b[2ma.b        0\x1b[0m\na.long  1000\n"));
    }

    #[test]
    fn counters_are_numbers_where_they_can_be() {
        assert_eq!(number("12".into()), json!(12));
        assert_eq!(number("1.5".into()), json!(1.5));
        assert_eq!(number("true".into()), json!("true"));
        assert_eq!(number("1.2.3".into()), json!("1.2.3"));
    }
}
