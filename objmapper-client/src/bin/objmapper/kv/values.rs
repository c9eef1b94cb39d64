//! `get`, `set`, `del`, `incr` and `expire`.

use anyhow::{Context, Result};
use objmapper::kv::LONGEST;
use objmapper_client::{Error, Object, Put, Status, milliseconds};
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use super::args::{Del, Expire, Get, Incr, Set};
use super::bytes::shown;
use super::line;
use super::{Scene, durable};
use crate::args::ByteRange;
use crate::fault::{self, Outcome};
use crate::format;
use crate::get::copy;
use crate::output::Output;

/// Keys that are removed by one request, and bytes of them: both fit.
const TOGETHER: (usize, usize) = (4096, 200 * 1024);

pub(super) fn get(scene: &mut Scene<'_>, get: &Get) -> Result<Outcome> {
    let key = scene.key(&get.key)?;
    if get.json {
        let value = scene.keys().get(&key)?.ok_or_else(|| no_such(&key))?;
        // It may have gone since; it was there.
        let expiry = scene.keys().expiry(&key)?.flatten();
        writeln!(io::stdout(), "{}", line::to_json(&key, Some(&value), None, expiry))?;
        return Ok(Outcome::default());
    }
    let object = scene.keys().fetch(&key, get.mode)?.ok_or_else(|| no_such(&key))?;
    let mut output = Output::open(get.output.as_deref())?;
    match object {
        Object::Descriptor(opened) => copy(opened, &shown(&key), ByteRange::ALL, output.file())?,
        Object::Bytes(bytes, _) => {
            output.file().write_all(&bytes).map_err(Error::Output)?;
            if output.file().is_terminal() && !bytes.ends_with(b"\n") {
                // For the eye; nothing is added to what somebody reads by program.
                output.file().write_all(b"\n").map_err(Error::Output)?;
            }
        }
    }
    output.finish()?;
    Ok(Outcome::default())
}

fn no_such(key: &[u8]) -> Error {
    let (text, uri) = ("no such key".into(), Some(shown(key).into()));
    Error::Refused { status: Status::NotFound, text, retry_after: None, uri }
}

pub(super) fn set(scene: &mut Scene<'_>, set: &Set) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let key = scene.key(&set.key)?;
    let value = match (&set.value, &set.file) {
        (Some(value), _) => value.as_bytes().to_vec(),
        (None, Some(path)) if path != Path::new("-") => {
            let told = || format!("cannot read {}", path.display());
            read(File::open(path).with_context(told)?).with_context(told)?
        }
        (None, _) => {
            fault::tell_of_terminal("the value");
            read(io::stdin().lock()).context("cannot read standard input")?
        }
    };
    let put = match set.ttl {
        _ if set.keep_ttl => Put::new().keep_expiry(),
        Some(ttl) => Put::new().expires_in(ttl),
        None => Put::new(),
    };
    let (put, otherwise) = match (set.if_absent, set.if_present) {
        (true, _) => (put.if_absent(), "it exists"),
        (_, true) => (put.if_present(), "it does not exist"),
        _ => (put, ""),
    };
    if !scene.keys().set_with(&key, &value, &put)? {
        outcome.note_nothing_done(&format!("not set: {}: {otherwise}", shown(&key)));
    }
    Ok(outcome)
}

/// All of it, if a value may be so long.
fn read(from: impl Read) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut value)?;
    let length = value.len() as u64;
    anyhow::ensure!(length <= LONGEST, "a value has at most {LONGEST} bytes, this has more");
    Ok(value)
}

pub(super) fn del(scene: &mut Scene<'_>, del: &Del) -> Result<Outcome> {
    let keys = del.keys.iter().map(|key| scene.key(key)).collect::<Result<Vec<_>>>()?;
    let (mut removed, mut from) = (0, 0);
    while let Some(rest) = keys.get(from..).filter(|rest| !rest.is_empty()) {
        let mut bytes = 0;
        let fits = |key: &&Vec<u8>| {
            bytes += key.len() + 4;
            bytes <= TOGETHER.1
        };
        // One that is too long for any request is refused with its reason.
        let count = rest.iter().take(TOGETHER.0).take_while(fits).count().max(1);
        removed += scene.keys().delete(rest.iter().take(count))?;
        from += count;
    }
    let mut out = io::stdout().lock();
    if del.json {
        writeln!(out, "{}", json!({ "removed": removed }))?;
    } else {
        writeln!(out, "{} removed", durable::keys(removed))?;
    }
    Ok(Outcome::default())
}

pub(super) fn incr(scene: &mut Scene<'_>, incr: &Incr) -> Result<Outcome> {
    let key = scene.key(&incr.key)?;
    let sum = scene.keys().add(&key, incr.by)?;
    let said = if incr.json { json!({ "sum": sum }).to_string() } else { sum.to_string() };
    writeln!(io::stdout(), "{said}")?;
    Ok(Outcome::default())
}

pub(super) fn expire(scene: &mut Scene<'_>, asked: &Expire) -> Result<Outcome> {
    let key = scene.key(&asked.key)?;
    let change = match asked.ttl {
        Some(ttl) => Some(Some(SystemTime::now().checked_add(ttl).context("that is too long")?)),
        None if asked.never => Some(None),
        None => None,
    };
    if let Some(moment) = change
        && !scene.keys().set_expiry(&key, moment)?
    {
        return Err(no_such(&key).into());
    }
    let expiry = scene.keys().expiry(&key)?.ok_or_else(|| no_such(&key))?;
    let said = if asked.json {
        json!({ "expires_ms": expiry.map(milliseconds) }).to_string()
    } else {
        end(expiry)
    };
    writeln!(io::stdout(), "{said}")?;
    Ok(Outcome::default())
}

/// When a key ends, for people.
pub(super) fn end(expiry: Option<SystemTime>) -> String {
    expiry.map_or_else(
        || "never".to_owned(),
        |moment| format!("{} UTC", format::time(milliseconds(moment).saturating_mul(1_000_000))),
    )
}
