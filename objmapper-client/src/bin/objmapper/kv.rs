//! `kv`: keys and values, and the files that keep them.
//!
//! One subcommand, one function. `restore` and `verify` ask no daemon: they read and write files
//! that no daemon has open, and the core library sees that none has.

pub(crate) mod args;

mod bytes;
mod line;

mod compact;
mod durable;
mod export;
mod import;
mod scan;
mod status;
mod values;

use anyhow::Result;
use args::{Kv, KvCommand};
use objmapper_client::Client;

use crate::fault::{Outcome, Usage};

/// What a subcommand works on.
pub(crate) struct Scene<'a> {
    client: &'a mut Client,
    kv: &'a Kv,
}

impl Scene<'_> {
    /// The keys of the database that is meant.
    fn keys(&mut self) -> objmapper_client::Keys<'_> {
        self.client.keys(self.kv.database())
    }

    /// A key as it was written on the command line.
    fn key(&self, given: &std::ffi::OsStr) -> Result<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        if !self.kv.base64 {
            return Ok(given.as_bytes().to_vec());
        }
        let key = given.to_str().and_then(bytes::from_base64);
        let wrong = || Usage(format!("the key '{}' is not base64", given.display()));
        Ok(key.ok_or_else(wrong)?)
    }
}

/// Does what needs no daemon; `None`: it needs one.
pub(crate) fn offline(kv: &Kv) -> Option<Result<u8>> {
    match &kv.command {
        KvCommand::Restore(restore) => Some(durable::restore(restore).map(|()| 0)),
        KvCommand::Verify(verify) => Some(durable::verify(verify).map(|()| 0)),
        _ => None,
    }
}

/// Does what needs one.
pub(crate) fn run(client: &mut Client, kv: &Kv) -> Result<u8> {
    let mut scene = Scene { client, kv };
    let scene = &mut scene;
    let outcome = match &kv.command {
        KvCommand::Get(get) => values::get(scene, get)?,
        KvCommand::Set(set) => values::set(scene, set)?,
        KvCommand::Del(del) => values::del(scene, del)?,
        KvCommand::Incr(incr) => values::incr(scene, incr)?,
        KvCommand::Expire(expire) => values::expire(scene, expire)?,
        KvCommand::Scan(scan) => scan::scan(scene, scan)?,
        KvCommand::Export(export) => export::export(scene, export)?,
        KvCommand::Import(import) => import::import(scene, import)?,
        KvCommand::Backup(backup) => durable::backup(scene.client, backup)?,
        KvCommand::Compact(compact) => compact::compact(scene.client, compact)?,
        KvCommand::Status(status) => status::status(scene.client, status)?,
        KvCommand::Restore(_) | KvCommand::Verify(_) => Outcome::default(),
    };
    Ok(outcome.code())
}
