//! `scan`: keys in the order of their bytes, each written as it comes: nothing is kept of it.

use anyhow::Result;
use objmapper_client::Found;
use std::io::{self, BufWriter, Write};
use std::ops::Bound;

use super::Scene;
use super::args::{Scan, Which};
use super::bytes::shown;
use super::line;
use super::values::end;
use crate::fault::Outcome;
use crate::format;

pub(super) fn scan(scene: &mut Scene<'_>, scan: &Scan) -> Result<Outcome> {
    let mut out = BufWriter::new(io::stdout().lock());
    each(scene, &scan.which, scan.values, |found| {
        let value = found.value.as_deref();
        if scan.json {
            let Found { key, size, expiry, .. } = &found;
            writeln!(out, "{}", line::to_json(key, value, Some(*size), *expiry))?;
        } else if scan.long {
            let (size, end) = (format::size(found.size), end(found.expiry));
            writeln!(out, "{size:>10}  {end:<23}  {}", shown(&found.key))?;
        } else if let Some(value) = value {
            writeln!(out, "{}\t{}", shown(&found.key), shown(value))?;
        } else {
            writeln!(out, "{}", shown(&found.key))?;
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(Outcome::default())
}

/// Gives the keys that are meant to `to`, one by one.
pub(super) fn each(
    scene: &mut Scene<'_>,
    which: &Which,
    values: bool,
    mut to: impl FnMut(Found) -> Result<()>,
) -> Result<()> {
    let bound = |key: &Option<_>| key.as_deref().map(|key| scene.key(key)).transpose();
    let (from, end) = (bound(&which.from)?, bound(&which.to)?);
    let prefix = which.prefix.as_deref().map(|prefix| scene.key(prefix)).transpose()?;
    let mut keys = scene.keys();
    let mut scan = match prefix {
        Some(prefix) => keys.scan().prefix(prefix),
        None => keys.scan().range((
            from.map_or(Bound::Unbounded, Bound::Included),
            end.map_or(Bound::Unbounded, Bound::Excluded),
        )),
    };
    if values {
        scan = scan.with_values();
    }
    let mut left = which.limit.unwrap_or(u64::MAX);
    if left < 4096 {
        scan = scan.at_a_time(u16::try_from(left).unwrap_or(u16::MAX));
    }
    for found in scan {
        to(found?)?;
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok(())
}
