//! `KV_BACKUP`: all keys in a file that nobody else can name.
//!
//! The file is ours, never one that a client names: it lies without a name beside the journal, or in
//! memory where there is none, and is gone when nobody has it open. A helper writes it, on the
//! client's own account, one at a time over all.

use std::os::fd::AsFd;

use objmapper::backing::Found;
use objmapper::kv::journal::Failure;
use objmapper::{Mode, Opened};
use objmapper_os as os;
use os::disk::Directory;
use os::memory::Draft;

use super::{Answer, Asked, Service};
use crate::connection::Connection;
use crate::service::place::{Claim, claim, flush_and_claim};
use crate::session::{Agreed, Order};

/// As it is called while it has a name, where the file system has no files without one.
const NAME: &str = "backup.tmp";

impl Service {
    pub(super) fn backup(
        &self,
        c: &mut Connection,
        asked: &Asked<'_>,
        (agreed, order): (Agreed, Order),
    ) -> Answer {
        if let Some(answer) = self.defer(c, asked, "backups are") {
            return answer;
        }
        // Before it is made: it is not to be made twice.
        let claimed = match claim(c, agreed, Mode::Fdpass) {
            Claim::Flush => flush_and_claim(c, agreed, Mode::Fdpass),
            claim => Ok(claim),
        };
        if let Err(stuck) = claimed {
            return stuck;
        }
        match self.write_backup(asked) {
            Ok(found) => self.hand_over(c, asked, Ok(found), (Mode::Fdpass, true), (agreed, order)),
            Err(failure) => self.failed(c, asked, &failure, "a backup"),
        }
    }

    /// Writes it; gives it open for reading, as nobody else has it.
    fn write_backup(&self, asked: &Asked<'_>) -> Result<Found, Failure> {
        let failed = |what| move |error| Failure::Disk { what, error };
        let dir = self.key_service().facts.settings.kv.dir.as_deref();
        let go_on = || !self.daemon.helpers.is_stopping();
        let (read, told) = if let Some(dir) = dir {
            let file = Directory::open(dir).and_then(|dir| dir.create_unnamed(NAME));
            let file = file.map_err(failed("cannot make a file for the backup"))?;
            let read = os::file::reopen(file.as_fd()).map_err(failed("cannot open the backup"))?;
            (read, asked.keyspace.backup_into(file, &go_on)?)
        } else {
            let failed = failed("cannot make memory for the backup");
            let memory = Draft::new("objmapper-backup").map_err(failed)?;
            let told = asked.keyspace.backup_into(memory.writer().map_err(failed)?, &go_on)?;
            let sealed = memory.seal().map_err(failed)?;
            (os::file::reopen(sealed.as_fd()).map_err(failed)?, told)
        };
        let identity =
            os::file::identity(read.as_fd()).map_err(failed("cannot read the backup"))?;
        tracing::info!(keys = told.keys, bytes = told.bytes, "made a backup");
        Ok(Found { file: Opened::prompt(read), identity, sealed: None })
    }
}
