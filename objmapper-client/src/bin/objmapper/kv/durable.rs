//! `backup`, `restore` and `verify`: files that keep all keys of all databases.

use anyhow::{Context, Result};
use objmapper::kv::journal::{Damage, Report, Torn};
use objmapper::kv::{self, Backup as Told};
use objmapper_client::Client;
use serde_json::json;
use std::fs;
use std::io::{self, Write};

use super::args::{Backup, Restore, Verify};
use crate::args::ByteRange;
use crate::fault::Outcome;
use crate::format;
use crate::get::copy;
use crate::output::Output;
use crate::progress::Progress;

/// What may be in a directory that counts as empty: what is made by those who look at it, and with a
/// file system.
const NOTHING: [&str; 2] = [LOCK, "lost+found"];

/// What whoever opens a directory of keys locks.
const LOCK: &str = "LOCK";

pub(super) fn backup(client: &mut Client, backup: &Backup) -> Result<Outcome> {
    // Before the daemon writes as much as it has.
    let mut output = Output::private(&backup.file)?;
    let waiting = Progress::waiting("the daemon writes the backup");
    let opened = client.backup()?;
    drop(waiting);
    copy(opened, "the backup", ByteRange::ALL, output.file())?;
    let waiting = Progress::waiting("reading it through");
    let told = kv::verify_backup(output.path())?;
    output.finish_durably()?;
    drop(waiting);
    let path = backup.file.display();
    tell(backup.json, &told, &format!("backed up {} to {path}", summary(&told)))?;
    Ok(Outcome::default())
}

pub(super) fn restore(restore: &Restore) -> Result<()> {
    let (file, directory) = (&restore.file, &restore.directory);
    let told = || format!("cannot read {}", file.display());
    let metadata = fs::metadata(file).with_context(told)?;
    anyhow::ensure!(!metadata.is_dir(), "{}: it is a directory, not a backup", told());
    match fs::read_dir(directory) {
        Ok(names) => {
            let shown = directory.display();
            for name in names {
                let name = name.with_context(|| format!("cannot read {shown}"))?.file_name();
                let there = !NOTHING.iter().any(|nothing| name == *nothing);
                // A keyspace that is there, or locked, is told of by who knows one.
                let ours = name.to_string_lossy();
                let ours = ours.starts_with("journal-") || ours.starts_with("snapshot-");
                anyhow::ensure!(
                    !there || ours,
                    "{shown} is not empty ({} is there): name a new directory, or an empty one",
                    name.display()
                );
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    }
    let waiting = Progress::waiting("restoring");
    let is_new = !directory.exists();
    let told = kv::restore(file, directory).inspect_err(|_| {
        // What was made for it, and could be taken for a keyspace; it stays if anything is in it.
        if is_new {
            let _ = fs::remove_file(directory.join(LOCK));
            let _ = fs::remove_dir(directory);
        }
    })?;
    drop(waiting);
    let shown = directory.display();
    let text = format!("restored {} to {shown}; now: objmapperd --kv-dir {shown}", summary(&told));
    tell(restore.json, &told, &text)
}

pub(super) fn verify(verify: &Verify) -> Result<()> {
    let path = &verify.path;
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_dir() {
        return verify_directory(verify);
    }
    let waiting = Progress::waiting("reading it through");
    let told = kv::verify_backup(path)?;
    drop(waiting);
    tell(verify.json, &told, &format!("{} is whole: {}", path.display(), summary(&told)))
}

fn verify_directory(verify: &Verify) -> Result<()> {
    let path = &verify.path;
    let mut progress = Progress::new(&io::stdin());
    let report = kv::verify(path, Damage::Refuse, |done, total| progress.at(done, total))?;
    drop(progress);
    let Report { files, bytes, records, keys: count, last, snapshot_begun, torn, .. } = &report;
    anyhow::ensure!(*files > 0, "{} has no keyspace in it", path.display());
    let mut out = io::stdout().lock();
    if verify.json {
        let torn = torn.as_ref().map(|Torn { file, offset, bytes, records }| {
            json!({ "file": file, "offset": offset, "bytes": bytes, "records": records })
        });
        let told = json!({
            "keys": count, "bytes": bytes, "begun_ms": snapshot_begun,
            "files": files, "records": records, "last_record": last, "torn": torn,
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let size = format::size(*bytes);
    let files = format::count(*files as u64, "file", "files");
    let records = format::count(*records, "record", "records");
    let (path, keys) = (path.display(), keys(*count));
    writeln!(out, "{path} is whole: {keys}, {size} ({records} in {files})")?;
    if let Some(Torn { file, offset, bytes, .. }) = torn {
        writeln!(
            out,
            "{file} ends in {bytes} bytes of an unfinished record (from byte {offset}), as a crash \
             leaves it: nobody was promised it, and the next start cuts it off"
        )?;
    }
    Ok(())
}

fn tell(as_json: bool, told: &Told, text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let Told { keys, bytes, begun } = told;
        writeln!(out, "{}", json!({ "keys": keys, "bytes": bytes, "begun_ms": begun }))?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// `3 keys, 1.5 KiB, of 2026-11-21 10:43:05 UTC`.
fn summary(told: &Told) -> String {
    let begun = format::time(told.begun.saturating_mul(1_000_000));
    format!("{}, {}, of {begun} UTC", keys(told.keys), format::size(told.bytes))
}

/// So many keys.
pub(super) fn keys(count: u64) -> String {
    format::count(count, "key", "keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts() {
        let told = Told { keys: 1, bytes: 1536, begun: 1_763_721_785_000 };
        assert_eq!(summary(&told), "1 key, 1.5 KiB, of 2025-11-21 10:43:05 UTC");
    }
}
