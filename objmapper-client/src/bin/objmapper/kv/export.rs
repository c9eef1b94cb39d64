//! `export`: keys and values as lines of JSON.

use anyhow::Result;
use objmapper_client::Error;
use std::io::{BufWriter, Write};

use super::Scene;
use super::args::Export;
use super::line;
use super::scan::each;
use crate::fault::Outcome;
use crate::output::Output;
use crate::progress::Progress;

/// Bytes that are written at a time. Not tuned.
const BUFFER: usize = 256 * 1024;

pub(super) fn export(scene: &mut Scene<'_>, export: &Export) -> Result<Outcome> {
    let mut output = Output::open(export.output.as_deref())?;
    let mut progress = Progress::new(output.file());
    let mut out = BufWriter::with_capacity(BUFFER, output.file());
    let (mut keys, mut bytes) = (0, 0);
    each(scene, &export.which, true, |found| {
        let text =
            line::to_json(&found.key, found.value.as_deref(), None, found.expiry).to_string();
        writeln!(out, "{text}").map_err(Error::Output)?;
        keys += 1;
        bytes += text.len() as u64 + 1;
        progress.counted(keys, bytes);
        Ok(())
    })?;
    out.flush().map_err(Error::Output)?;
    drop(out);
    output.finish()?;
    Ok(Outcome::default())
}
