//! What is made of the command line itself: manual pages, and completions for shells.

use crate::args::{CommandLine, Completions, MORE, Man};
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::builder::Resettable;
use std::fs;
use std::io::{self, Write};

pub(crate) fn completions(completions: &Completions) -> Result<()> {
    let mut script = Vec::new();
    let mut line = CommandLine::command();
    clap_complete::generate(completions.shell, &mut line, "objmapper", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

pub(crate) fn man(man: &Man) -> Result<()> {
    let page = main_page()?;
    let Some(directory) = &man.directory else {
        return Ok(io::stdout().write_all(&page)?);
    };
    clap_mangen::generate_to(CommandLine::command(), directory)
        .and_then(|()| fs::write(directory.join("objmapper.1"), page))
        .with_context(|| format!("cannot write to {}", directory.display()))
}

/// The page of the whole, whose last part has sections of its own instead of an "extra" one.
fn main_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let line = CommandLine::command().after_help(Resettable::Reset);
    clap_mangen::Man::new(line).render(&mut page)?;
    for paragraph in MORE.split("\n\n") {
        let text = paragraph.replace('\\', "\\e").replace('-', "\\-");
        match text.split_once(":\n") {
            Some((heading, lines)) => {
                write!(page, ".SH {}\n.nf\n{lines}\n.fi\n", heading.to_uppercase())?;
            }
            None => write!(page, ".PP\n{text}\n")?,
        }
    }
    Ok(page)
}
