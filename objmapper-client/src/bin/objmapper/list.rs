//! `ls`: names below a prefix.
//!
//! With `-r` a prefix is listed whole before what lies below it. A prefix that is refused is told
//! and the others go on. Names are written as they come: only prefixes still to be listed are kept.

use crate::args::Ls;
use crate::fault::{Outcome, colours};
use crate::format;
use anyhow::Result;
use objmapper_client::{Client, Entry};
use serde_json::json;
use std::io::{self, BufWriter, StdoutLock, Write};

pub(crate) fn ls(client: &mut Client, ls: &Ls) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut printer = Printer::new(ls);
    let mut prefixes = vec![ls.prefix.clone()];
    while let Some(prefix) = prefixes.pop() {
        let mut below = Vec::new();
        let listed = one_prefix(client, &prefix, &mut printer, &mut below);
        if let Err(error) = listed {
            outcome.note(error)?;
        }
        if ls.recursive {
            prefixes.extend(below.into_iter().rev());
        }
    }
    printer.finish()?;
    Ok(outcome)
}

fn one_prefix(
    client: &mut Client,
    prefix: &str,
    printer: &mut Printer<'_>,
    below: &mut Vec<String>,
) -> Result<()> {
    for entry in client.list(prefix)? {
        let entry = entry?;
        printer.print(&entry)?;
        if entry.is_prefix() {
            below.push(entry.uri().to_owned());
        }
    }
    Ok(())
}

struct Printer<'a> {
    ls: &'a Ls,
    out: BufWriter<StdoutLock<'static>>,
    coloured: bool,
}

impl<'a> Printer<'a> {
    fn new(ls: &'a Ls) -> Self {
        let out = io::stdout().lock();
        Self { ls, coloured: colours(&out), out: BufWriter::new(out) }
    }

    fn print(&mut self, entry: &Entry) -> Result<()> {
        if self.ls.json {
            writeln!(self.out, "{}", to_json(entry))?;
        } else if self.ls.long {
            let size = if entry.is_prefix() { "-".into() } else { format::size(entry.size()) };
            let kind = if entry.is_prefix() { "dir" } else { entry.kind().as_str() };
            let (time, name) = (format::modified(entry.mtime_ns()), self.name(entry));
            writeln!(self.out, "{kind:<6}  {size:>10}  {time:<19}  {name}")?;
        } else {
            let name = self.name(entry);
            writeln!(self.out, "{name}")?;
        }
        Ok(())
    }

    /// The name below the prefix that was asked for.
    fn name(&self, entry: &Entry) -> String {
        let below =
            entry.uri().strip_prefix(&self.ls.prefix).map(|rest| rest.trim_start_matches('/'));
        let name = if self.ls.recursive { below.unwrap_or(entry.uri()) } else { entry.name() };
        if self.coloured && entry.is_prefix() {
            format!("\x1b[1;34m{name}\x1b[0m")
        } else {
            name.to_owned()
        }
    }

    fn finish(mut self) -> Result<()> {
        self.out.flush()?;
        Ok(())
    }
}

fn to_json(entry: &Entry) -> serde_json::Value {
    json!({
        "uri": entry.uri(),
        "name": entry.name(),
        "kind": entry.kind().as_str(),
        "size": entry.size(),
        "mtime_ns": entry.mtime_ns(),
    })
}
