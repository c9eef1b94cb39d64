//! Results as JSON lines, appended to a file: one for each, so that runs of many days can be put
//! beside each other.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file that grows.
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    kernel: String,
}

/// What every line begins with.
#[derive(Serialize)]
struct Line<'a, T> {
    /// RFC 3339, in UTC.
    at: String,
    version: &'static str,
    kernel: &'a str,
    /// What the rest is: `run` or `bar`.
    kind: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

impl Lines {
    /// Opened at once, so that a mistake in its name does not cost a measurement.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write to {}", path.display()))?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self { path: path.to_owned(), file, kernel: kernel.trim().to_owned() })
    }

    /// One more line.
    pub(crate) fn add(&mut self, kind: &'static str, body: &impl Serialize) -> Result<()> {
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let version = env!("CARGO_PKG_VERSION");
        let mut line = serde_json::to_vec(&Line { at, version, kernel: &self.kernel, kind, body })?;
        line.push(b'\n');
        // In one piece: others may append to the same file.
        self.file
            .write_all(&line)
            .with_context(|| format!("cannot write to {}", self.path.display()))
    }
}
