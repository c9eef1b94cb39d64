//! `compact`: a shorter journal.

use anyhow::Result;
use objmapper_client::{Client, Compacted};
use serde_json::json;
use std::io::{self, Write};

use super::args::Compact;
use crate::fault::Outcome;
use crate::format;
use crate::progress::Progress;

pub(super) fn compact(client: &mut Client, compact: &Compact) -> Result<Outcome> {
    let waiting = Progress::waiting("the daemon writes a snapshot");
    let told = client.compact()?;
    drop(waiting);
    let text = if compact.json {
        let Compacted { before, after } = told;
        json!({ "bytes_before": before, "bytes_after": after }).to_string()
    } else {
        summary(told)
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(Outcome::default())
}

/// `compacted the journal: from 1.5 MiB to 1.0 MiB, 512.0 KiB saved`.
fn summary(Compacted { before, after }: Compacted) -> String {
    let saved = match before.checked_sub(after) {
        Some(0) | None => "it was as short as it can be".to_owned(),
        Some(saved) => format!("{} saved", format::size(saved)),
    };
    let [before, after] = [before, after].map(format::size);
    format!("compacted the journal: from {before} to {after}, {saved}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_saved() {
        let told = summary(Compacted { before: 3 << 19, after: 1 << 20 });
        assert_eq!(told, "compacted the journal: from 1.5 MiB to 1.0 MiB, 512.0 KiB saved");
        let told = summary(Compacted { before: 100, after: 120 });
        assert_eq!(
            told,
            "compacted the journal: from 100 B to 120 B, it was as short as it can be"
        );
    }
}
