//! `stat` and `ping`: what objects are, and how far away the daemon is.

use crate::args::{Ping, Stat};
use crate::fault::Outcome;
use crate::format;
use anyhow::Result;
use objmapper_client::{Client, Metadata};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

pub(crate) fn stat(client: &mut Client, stat: &Stat) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut out = io::stdout().lock();
    for (at, uri) in stat.uris.iter().enumerate() {
        match client.stat(uri) {
            Ok(metadata) if stat.json => writeln!(out, "{}", to_json(uri, &metadata))?,
            Ok(metadata) => {
                let gap = if at > 0 { "\n" } else { "" };
                write!(out, "{gap}{}", to_text(uri, &metadata))?;
            }
            Err(error) => outcome.note(error.into())?,
        }
    }
    Ok(outcome)
}

fn to_json(uri: &str, metadata: &Metadata) -> Value {
    json!({
        "uri": uri,
        "kind": metadata.kind().as_str(),
        "size": metadata.size(),
        "mtime_ns": metadata.mtime_ns(),
        "version": metadata.version().to_string(),
        "immutable": metadata.is_immutable(),
        "seals": metadata.seals(),
    })
}

fn to_text(uri: &str, metadata: &Metadata) -> String {
    let bytes = metadata.size();
    let size = match bytes {
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{bytes} bytes ({})", format::size(bytes)),
    };
    let content = if metadata.is_immutable() { "cannot change" } else { "may change" };
    let mut table = format::table();
    table.add_row(["uri", uri]);
    table.add_row(["kind", metadata.kind().as_str()]);
    table.add_row(["size", &size]);
    table.add_row(["modified", &format!("{} UTC", format::time(metadata.mtime_ns()))]);
    table.add_row(["content", content]);
    table.add_row(["version", &metadata.version().to_string()]);
    format::lines(&table)
}

pub(crate) fn ping(client: &mut Client, ping: &Ping) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..ping.count {
        times.push(client.ping()?);
    }
    times.sort_unstable();
    let at = |percent| format::duration(rank(&times, percent));
    let plural = if times.len() == 1 { "round trip" } else { "round trips" };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} {plural}: least {}, median {}, 99th {}, most {}",
        times.len(),
        at(0),
        at(50),
        at(99),
        at(100)
    )?;
    Ok(())
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
}
