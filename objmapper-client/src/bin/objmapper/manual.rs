//! What is made of the command line itself: manual pages, and completions for shells.

use crate::args::{self, Completions, Man};
use anyhow::{Context, Result};
use clap::Command;
use clap::builder::Resettable;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

pub(crate) fn completions(completions: &Completions) -> Result<()> {
    let mut script = Vec::new();
    let mut line = args::command();
    clap_complete::generate(completions.shell, &mut line, "objmapper", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

pub(crate) fn man(man: &Man) -> Result<()> {
    let mut line = args::command().disable_help_subcommand(true);
    line.build();
    match &man.directory {
        Some(directory) => write_all(&line, directory)
            .with_context(|| format!("cannot write to {}", directory.display())),
        None => Ok(io::stdout().write_all(&page(&line)?)?),
    }
}

/// A page for a command, and one for each below it.
fn write_all(command: &Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(directory.join(format!("{name}.1")), page(command)?)?;
    command.get_subcommands().try_for_each(|below| write_all(below, directory))
}

/// What stands behind the options in the help has sections of its own, and its examples keep their
/// lines.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().after_help(Resettable::Reset))
        .source(concat!("objmapper ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    let paragraphs = more.split("\n\n").filter(|paragraph| !paragraph.is_empty());
    for (at, paragraph) in paragraphs.enumerate() {
        let text = paragraph.replace('\\', "\\e").replace('-', "\\-");
        let (first, lines) = text.split_once('\n').unwrap_or((&text, ""));
        match first.strip_suffix(':') {
            Some(heading) => {
                write!(page, ".SH {}\n.nf\n{lines}\n.fi\n", heading.to_uppercase())?;
            }
            _ if at == 0 => write!(page, ".SH NOTES\n{text}\n")?,
            _ => write!(page, ".PP\n{text}\n")?,
        }
    }
    Ok(page)
}
