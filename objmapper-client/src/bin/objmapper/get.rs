//! `get` and `cat`: bytes of objects to somewhere else.

use crate::args::{ByteRange, Cat, Get};
use crate::fault::Outcome;
use crate::output::Output;
use crate::progress::Progress;
use anyhow::Result;
use objmapper_client::{Answer, Client, Error, Mode, Object, Opened, Request, Status};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes copied between two looks at the clock.
const STEP: u64 = 8 << 20;

/// Bytes read at a time for what is no file: a few times what a pipe holds. Not tuned.
const BUFFER: usize = 256 * 1024;

/// Objects of one request: as many descriptors are open at a time.
const TOGETHER: usize = 64;

pub(crate) fn get(client: &mut Client, get: &Get) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let range = get.range.unwrap_or(ByteRange::ALL);
    if matches!(get.mode, Mode::Copy | Mode::Splice) {
        let mut output = Output::open(get.output.as_deref())?;
        let mut progress = Progress::new(output.file());
        let mut report = |done, total| progress.at(done, total);
        let transfer = client.transfer(&get.uri).range(range.bounds()).progress(&mut report);
        let moved = match (get.mode, get.unless) {
            (Mode::Splice, None) => transfer.splice_to(output.file()).map(Some),
            (Mode::Splice, Some(version)) => transfer.splice_to_unless(version, output.file()),
            (_, None) => transfer.copy_to(output.file()).map(Some),
            (_, Some(version)) => transfer.copy_to_unless(version, output.file()),
        };
        match moved? {
            Some(_) => output.finish()?,
            None => outcome.note_not_modified(&get.uri),
        }
        return Ok(outcome);
    }
    let asked = Request::get(&get.uri, get.mode).range(range.bounds());
    let answer = client.ask(get.unless.map_or(asked, |version| asked.unless(version)))?;
    let Answer::Object(object) = answer else {
        outcome.note_not_modified(&get.uri);
        return Ok(outcome);
    };
    let mut output = Output::open(get.output.as_deref())?;
    match object {
        Object::Descriptor(opened) => copy(opened, &get.uri, range, output.file())?,
        Object::Bytes(bytes, _) => output.file().write_all(&bytes).map_err(Error::Output)?,
    }
    output.finish()?;
    Ok(outcome)
}

pub(crate) fn cat(client: &mut Client, cat: &Cat) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut output = Output::stdout()?;
    if let (Some(version), [uri]) = (cat.unless, cat.uris.as_slice()) {
        match client.open_unless(uri, version)? {
            Some(opened) => copy(opened, uri, ByteRange::ALL, output.file())?,
            None => outcome.note_not_modified(uri),
        }
        return Ok(outcome);
    }
    for uris in cat.uris.chunks(TOGETHER) {
        for (uri, opened) in uris.iter().zip(client.open_many(uris)) {
            let copied = match opened {
                Ok(opened) => copy(opened, uri, ByteRange::ALL, output.file()),
                Err(error) => Err(error.into()),
            };
            copied.or_else(|error| outcome.note(error))?;
        }
    }
    Ok(outcome)
}

/// Copies a part of an open object.
pub(crate) fn copy(opened: Opened, uri: &str, range: ByteRange, out: &mut File) -> Result<()> {
    let size = opened.size();
    let length = range.length_in(size).ok_or_else(|| Error::Refused {
        status: Status::BadRange,
        text: format!("byte {} is past the end: there are {size}", range.first).into(),
        retry_after: None,
        uri: Some(uri.into()),
    })?;
    let mut progress = Progress::new(out);
    let in_kernel = !opened.metadata().is_shared() && out.metadata()?.is_file();
    let done = if in_kernel {
        clone_bytes(opened, range.first, length, out, &mut progress)?
    } else {
        pump(&opened, range.first, length, out, &mut progress)?
    };
    if done < length {
        return Err(Error::Truncated { size, read: range.first + done }.into());
    }
    Ok(())
}

/// From file to file, by copy_file_range(2): where the file system can, nothing is copied at all.
fn clone_bytes(
    opened: Opened,
    first: u64,
    length: u64,
    out: &mut File,
    progress: &mut Progress,
) -> Result<u64> {
    let mut file = opened.into_file();
    if first > 0 {
        file.seek(SeekFrom::Start(first))?;
    }
    let mut done = 0;
    while done < length {
        match io::copy(&mut (&file).take(STEP.min(length - done)), out).map_err(Error::Output)? {
            0 => break,
            count => done += count,
        }
        progress.at(done, length);
    }
    Ok(done)
}

/// Into a pipe, a terminal or a device.
fn pump(
    opened: &Opened,
    first: u64,
    length: u64,
    out: &mut File,
    progress: &mut Progress,
) -> Result<u64> {
    let room = usize::try_from(length).unwrap_or(usize::MAX).min(BUFFER);
    let mut buffer = vec![0; room];
    let mut done = 0;
    while done < length {
        let count = opened.read_at(&mut buffer, first + done)?;
        let count = count.min(usize::try_from(length - done).unwrap_or(usize::MAX));
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        out.write_all(read).map_err(Error::Output)?;
        done += count as u64;
        progress.at(done, length);
    }
    Ok(done)
}
