//! The configuration file as it is written, and what environment and flags lay over it.
//!
//! These structs are the list of all keys: one that is not here is an error with its line. Their
//! values are [`Given`], not judged yet. Everything is optional, so that "nothing was said" is
//! the empty [`Raw`].

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::given::Given;
use super::sheet::{Problem, Problems};

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its name, for messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// Everything that was said, a later word in the place of an earlier one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// `drain_deadline`
    pub drain_deadline: Option<Given>,
    /// `[[mount]]`
    #[serde(rename = "mount")]
    pub mounts: Vec<Mount>,
    /// `[listen]`
    pub listen: Listen,
    /// `[pool]`
    pub pool: Pool,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// Mounts that are written as `URI=DIR[,KEY=VALUE]...`, not in the file.
    #[serde(skip)]
    pub mount_words: Vec<Given>,
    /// A directory to be mounted at `/`, not in the file.
    #[serde(skip)]
    pub root: Option<Given>,
}

/// `[listen]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // config.rs says what they mean, under the same names
pub struct Listen {
    pub path: Option<Given>,
    pub mode: Option<Given>,
    pub owner: Option<Given>,
    pub group: Option<Given>,
    pub backlog: Option<Given>,
}

/// `[[mount]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Mount {
    pub uri: Given,
    pub dir: Given,
    pub symlinks: Option<Given>,
    pub read_only_clone: Option<Given>,
    #[serde(default)]
    pub allow: Vec<Given>,
}

/// `[pool]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Pool {
    pub workers: Option<Given>,
    pub helpers: Option<Given>,
}

/// `[delivery]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Delivery {
    pub inline_limit: Option<Given>,
    pub auto_limit: Option<Given>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Limits {
    pub connections: Option<Given>,
    pub descriptors_in_flight: Option<Given>,
    pub descriptors_per_uid: Option<Given>,
    pub descriptors_per_connection: Option<Given>,
    pub index_entries: Option<Given>,
    pub index_bytes: Option<Given>,
    pub index_shards: Option<Given>,
    pub send_buffer: Option<Given>,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Log {
    pub filter: Option<Given>,
    pub format: Option<Given>,
}

impl Raw {
    /// What the file says.
    pub fn parse(document: &Document) -> Result<Self, Problems> {
        toml::from_str(&document.text).map_err(|error| Problems::one(located(document, &error)))
    }
}

impl Document {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problems::one(Problem::new(format!("{}: cannot be read: {error}", path.display())))
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// `file:line` of the byte at `offset`.
    pub(super) fn place(&self, offset: usize) -> String {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|&&byte| byte == b'\n').count();
        format!("{}:{line}", self.path.display())
    }

    /// The line that the byte at `offset` is in.
    fn line(&self, offset: usize) -> &str {
        let (before, after) = self.text.split_at_checked(offset).unwrap_or((&self.text, ""));
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = offset + after.find('\n').unwrap_or(after.len());
        self.text.get(start..end).unwrap_or_default().trim()
    }
}

/// What the parser says, in the words of this program, with the line.
fn located(document: &Document, error: &toml::de::Error) -> Problem {
    let message = error.message().replace("unknown field", "unknown key");
    let message = message.replace("missing field", "missing key");
    let Some(span) = error.span() else {
        return Problem::new(format!("{}: {message}", document.path.display()));
    };
    // An error at the end of the file points behind its last line.
    let offset = span.start.min(document.text.trim_end().len());
    let line = document.line(offset);
    Problem::new(format!("{}: {message}\n    {line}", document.place(offset)))
}
