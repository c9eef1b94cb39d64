//! `flush`: the daemon lets go of files that it keeps open.

use crate::args::Flush;
use crate::format;
use anyhow::Result;
use objmapper_client::Client;
use serde_json::json;
use std::io::{self, Write};

pub(crate) fn flush(client: &mut Client, flush: &Flush) -> Result<()> {
    let closed = client.flush(&flush.prefix)?;
    let mut out = io::stdout().lock();
    if flush.json {
        writeln!(out, "{}", json!({ "prefix": flush.prefix, "closed": closed }))?;
    } else {
        writeln!(out, "{} closed", format::count(closed.into(), "shared file", "shared files"))?;
    }
    Ok(())
}
