//! Where the bytes go: standard output, a file that appears whole, or something that is there.
//!
//! A regular file is written beside its final name and renamed at the end, so that an object that
//! cannot be copied leaves what was there before. Devices, FIFOs and what a symbolic link leads to
//! are written in place.
//!
//! What must not be lost is on the disk before it gets its name, and for nobody else to read.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(crate) struct Output {
    file: File,
    /// Written here, and its final name.
    pending: Option<(PathBuf, PathBuf)>,
    /// Whether what is written replaces what was there: a file's old end goes when all is written,
    /// so that it stays what it was if nothing is.
    cut: bool,
}

impl Output {
    /// Opens it. `None` and `-` are standard output.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        match path {
            None => Self::stdout(),
            Some(path) if path == Path::new("-") => Self::stdout(),
            Some(path) => {
                Self::named(path).with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }

    pub(crate) fn stdout() -> Result<Self> {
        let fd = io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
        Ok(Self { file: fd.into(), pending: None, cut: false })
    }

    /// A file for its owner's eyes alone, or with the permissions of the one that it replaces.
    pub(crate) fn private(path: &Path) -> Result<Self> {
        let told = || format!("cannot write {}", path.display());
        if let Ok(there) = fs::metadata(path) {
            anyhow::ensure!(there.is_file(), "{}: it is no regular file", told());
        }
        // What a symbolic link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self::beside(&path, 0o600).with_context(told)
    }

    fn named(path: &Path) -> Result<Self> {
        let before = fs::symlink_metadata(path).ok();
        if before.as_ref().is_some_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path)?;
            return Ok(Self { file, pending: None, cut: true });
        }
        let mode = before.map_or(0o666, |there| there.permissions().mode());
        Self::beside(path, mode)
    }

    fn beside(path: &Path, mode: u32) -> Result<Self> {
        let mut name = OsString::from(".");
        name.push(path.file_name().context("it has no file name")?);
        name.push(format!(".objmapper-{}", std::process::id()));
        let beside = path.with_file_name(name);
        let file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
        let output = Self { file, pending: Some((beside, path.to_owned())), cut: false };
        if let Some(there) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) {
            output.file.set_permissions(there.permissions())?;
        }
        Ok(output)
    }

    /// Where it is until it has its name.
    pub(crate) fn path(&self) -> &Path {
        self.pending.as_ref().map_or(Path::new("-"), |(beside, _)| beside)
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// All bytes are written: the file gets its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.cut && self.file.metadata()?.is_file() {
            let end = self.file.stream_position()?;
            self.file.set_len(end)?;
        }
        if let Some((beside, path)) = self.pending.take() {
            let renamed = fs::rename(&beside, &path);
            if renamed.is_err() {
                self.pending = Some((beside, path.clone()));
            }
            renamed.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

impl Output {
    /// The same, when all of it is on the disk; then its name is, too. fsync(2)
    pub(crate) fn finish_durably(self) -> Result<()> {
        let path = self.pending.as_ref().map(|(_, path)| path.clone());
        self.file.sync_all().context("cannot make the file durable")?;
        self.finish()?;
        let Some(path) = path else { return Ok(()) };
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let synced = File::open(above).and_then(|above| above.sync_all());
        synced.with_context(|| format!("cannot make the name {} durable", path.display()))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.pending {
            // Something failed before and is being told; a leftover would only be untidy.
            let _ = fs::remove_file(beside);
        }
    }
}
