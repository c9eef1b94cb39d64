//! Changes that are made all or not at all.

use objmapper_proto::kv::{Condition, Given, Set, Write};
use objmapper_proto::limits;

use super::{check_length, put::Put, too_long};
use crate::error::Result;

/// Changes to be made together, in their order: at most 4096, as many as fit into a request of
/// 256 KiB. Conditions are about what was there before the first of them. See
/// [`crate::Keys::apply`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    raw: Vec<u8>,
    longest: usize,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nothing may have been done"]
pub enum Applied {
    /// All changes were made: so many keys were set, or were there and are removed.
    Made(u64),
    /// Nothing was done, since the condition of one change was not met.
    Unmet {
        /// The first such change, from 0.
        change: usize,
    },
}

impl Batch {
    /// Without any.
    pub const fn new() -> Self {
        Self { raw: Vec::new(), longest: 0 }
    }

    /// Sets a key for ever.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.set_with(key, value, &Put::new())
    }

    /// Sets a key. If its condition is not met nothing of the batch is done.
    pub fn set_with(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        put: &Put,
    ) -> &mut Self {
        let (key, value) = (key.as_ref(), value.as_ref());
        let Set { expiry, condition, .. } = put.of(key, Given::Bytes(value));
        self.push(&Write { key, set: Some((value, expiry)), condition })
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(&Write { key: key.as_ref(), set: None, condition: Condition::Always })
    }

    /// Removes a key that has to be there: else nothing of the batch is done.
    pub fn delete_present(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(&Write { key: key.as_ref(), set: None, condition: Condition::Present })
    }

    fn push(&mut self, write: &Write<'_>) -> &mut Self {
        self.longest = self.longest.max(write.key.len());
        write.encode(&mut self.raw);
        self
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether it can be sent.
    pub(super) fn check(&self) -> Result<()> {
        if self.longest > limits::KEY {
            return Err(too_long("a key", self.longest, limits::KEY));
        }
        check_length(&self.raw)
    }
}
