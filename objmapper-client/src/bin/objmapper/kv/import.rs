//! `import`: keys set from lines of JSON, many by one request.
//!
//! What must stay true: who is told of a mistake knows its line, and which lines are in.

use anyhow::{Context, Result};
use objmapper_client::{Applied, Batch, Error, Put};
use objmapper_proto::limits::KEY;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use super::args::Import;
use super::line::Line;
use super::{Scene, durable};
use crate::fault::{self, Outcome};
use crate::format;
use crate::progress::Progress;

/// Keys that are set by one request, and bytes of them: both fit, the frame of each counted.
const TOGETHER: (usize, usize) = (1024, 192 * 1024);

/// Bytes of a change beside its key and its value.
const FIXED: usize = 24;

pub(super) fn import(scene: &mut Scene<'_>, import: &Import) -> Result<Outcome> {
    let (name, input, total) = open(&import.file)?;
    let mut progress = Progress::new(&io::stdin());
    let mut importer = Importer::new(scene, import, name);
    let done = importer.run(input, |bytes, set| match total {
        Some(total) => progress.at(bytes, total),
        None => progress.counted(set, bytes),
    });
    drop(progress);
    let Importer { set, missed, outcome, .. } = importer;
    let mut out = io::stdout().lock();
    if import.json {
        let key = if import.dry_run { "would_set" } else { "set" };
        writeln!(out, "{}", json!({ key: set, "lines_refused": missed }))?;
    } else {
        let word = if import.dry_run { "would be set" } else { "set" };
        write!(out, "{} {word}", durable::keys(set))?;
        match missed {
            0 => writeln!(out)?,
            missed => writeln!(out, ", {} refused", format::count(missed, "line", "lines"))?,
        }
    }
    done.map(|()| outcome)
}

/// What is read: its name, itself, and how long it is, if that is known.
fn open(path: &Path) -> Result<(String, Box<dyn BufRead>, Option<u64>)> {
    if path == Path::new("-") {
        fault::tell_of_terminal("lines of JSON");
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock()), None));
    }
    let name = path.display().to_string();
    let told = || format!("cannot read {name}");
    let file = File::open(path).with_context(told)?;
    let metadata = file.metadata().with_context(told)?;
    let total = metadata.is_file().then_some(metadata.len());
    Ok((name, Box::new(BufReader::with_capacity(256 * 1024, file)), total))
}

struct Importer<'a, 'c> {
    scene: &'a mut Scene<'c>,
    import: &'a Import,
    name: String,
    batch: Batch,
    /// Keys and bytes of the batch.
    waiting: (usize, usize),
    /// The first line of the batch.
    first: u64,
    /// Keys that were set.
    set: u64,
    /// Lines that were not.
    missed: u64,
    outcome: Outcome,
    /// A mistake was one too many.
    stopped: bool,
}

impl<'a, 'c> Importer<'a, 'c> {
    fn new(scene: &'a mut Scene<'c>, import: &'a Import, name: String) -> Self {
        Self {
            scene,
            import,
            name,
            batch: Batch::new(),
            waiting: (0, 0),
            first: 0,
            set: 0,
            missed: 0,
            outcome: Outcome::default(),
            stopped: false,
        }
    }

    fn run(&mut self, mut input: Box<dyn BufRead>, mut tell: impl FnMut(u64, u64)) -> Result<()> {
        let (mut text, mut number, mut bytes) = (Vec::new(), 0, 0);
        while !self.stopped {
            text.clear();
            let count = input.read_until(b'\n', &mut text);
            let count = count.with_context(|| format!("cannot read {}", self.name))?;
            if count == 0 {
                break;
            }
            (number, bytes) = (number + 1, bytes + count as u64);
            let line = text.trim_ascii();
            if !line.is_empty() {
                match Line::parse(line) {
                    Ok(line) => self.add(number, &line)?,
                    Err(mistake) => {
                        // What stands before it is done first: then it is known which lines are in.
                        self.flush(number)?;
                        if self.stopped {
                            break;
                        }
                        self.miss(anyhow::anyhow!(mistake), (number, number))?;
                    }
                }
            }
            tell(bytes, self.set);
        }
        self.flush(number + 1)
    }

    /// One more, in line `number`.
    fn add(&mut self, number: u64, line: &Line) -> Result<()> {
        let put = line.expiry.map_or(Put::new(), |moment| Put::new().expires_at(moment));
        let length = line.key.len() + line.value.len() + FIXED;
        // Told of this line, not of all that would go with it.
        if line.key.len() > KEY {
            self.flush(number)?;
            let long = anyhow::anyhow!("the key has {} bytes, the limit is {KEY}", line.key.len());
            return if self.stopped { Ok(()) } else { self.miss(long, (number, number)) };
        }
        if self.waiting.0 == TOGETHER.0 || self.waiting.1 + length > TOGETHER.1 {
            self.flush(number)?;
        }
        if self.stopped {
            return Ok(());
        }
        if length <= TOGETHER.1 {
            if self.waiting.0 == 0 {
                self.first = number;
            }
            self.batch.set_with(&line.key, &line.value, &put);
            self.waiting = (self.waiting.0 + 1, self.waiting.1 + length);
            return Ok(());
        }
        if !self.import.dry_run
            && let Err(error) = self.scene.keys().set_with(&line.key, &line.value, &put)
        {
            return self.miss(error.into(), (number, number));
        }
        self.set += 1;
        Ok(())
    }

    /// Sends what waits; all of it stands before line `next`.
    fn flush(&mut self, next: u64) -> Result<()> {
        let (batch, (count, _)) =
            (std::mem::take(&mut self.batch), std::mem::take(&mut self.waiting));
        if count == 0 {
            return Ok(());
        }
        let applied = if self.import.dry_run {
            Ok(Applied::Made(0))
        } else {
            self.scene.keys().apply(&batch)
        };
        match applied {
            Ok(_) => {
                self.set += count as u64;
                Ok(())
            }
            Err(error) => {
                self.missed += count as u64 - 1;
                self.miss(error.into(), (self.first, next - 1))
            }
        }
    }

    /// These lines are not imported, or (if the connection is lost) nobody knows.
    fn miss(&mut self, error: anyhow::Error, (first, last): (u64, u64)) -> Result<()> {
        self.missed += 1;
        let gone = error.downcast_ref().is_some_and(Error::ends_connection);
        let at = match (first == last, gone) {
            (true, _) => format!("{}, line {first}", self.name),
            (false, false) => format!("{}, lines {first} to {last}", self.name),
            (false, true) => {
                format!("{}, lines {first} to {last}, which may be in or not", self.name)
            }
        };
        let error = error.context(at);
        if gone {
            return Err(error);
        }
        self.outcome.note_mistake(&error);
        if !self.import.keep_going {
            let before = if self.import.dry_run { "" } else { "the lines before are in; " };
            fault::advise(&format!("{before}--keep-going goes on with the others"));
            self.stopped = true;
        }
        Ok(())
    }
}
