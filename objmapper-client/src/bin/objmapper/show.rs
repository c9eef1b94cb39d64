//! `stat`: what objects are.

use crate::args::Stat;
use crate::fault::Outcome;
use crate::format;
use anyhow::Result;
use objmapper_client::{Client, Metadata};
use serde_json::{Value, json};
use std::io::{self, Write};

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
    // A value has no time of its own.
    if metadata.mtime_ns() != 0 {
        table.add_row(["modified", &format!("{} UTC", format::time(metadata.mtime_ns()))]);
    }
    table.add_row(["content", content]);
    table.add_row(["version", &metadata.version().to_string()]);
    format::lines(&table)
}
