//! Many changes under one hold, all or none of them.

use super::Hold;
use crate::kv::keyspace::Key;
use crate::kv::{Content, Expiry, Fault};

/// What becomes of a key: its value and when it ends, or nothing any more.
pub type Change<'a> = Option<(Content<'a>, Expiry)>;

impl Hold<'_> {
    /// Makes these changes in their order; gives how many keys were set or removed. Whether they can
    /// be made is asked before the first: they are all made, or none. (What [`Content`] needs of sealed
    /// memory is known since [`crate::kv::Keyspace::content`].)
    pub fn change<'a>(
        &mut self,
        changes: impl Iterator<Item = (Key<'a>, Change<'a>)>,
    ) -> Result<usize, Fault> {
        self.keyspace.may_write()?;
        let mut made = 0;
        for (key, change) in changes {
            made += match change {
                Some((content, expiry)) => {
                    self.keep(&key, content, expiry)?;
                    1
                }
                None => usize::from(self.remove(&key)),
            };
        }
        Ok(made)
    }
}
