//! A value under another key: moved or copied, as cheaply as where it lies allows.

use super::Hold;
use crate::kv::keyspace::Key;
use crate::kv::record::Record;
use crate::kv::value::{Large, Value};
use crate::kv::{Content, Expiry, Fault};

impl Hold<'_> {
    /// Moves value and expiry from one key to another, in place of what was there; whether there
    /// was anything to move. What is in memory of its own stays where it is.
    pub fn rename(&mut self, from: &Key<'_>, to: &Key<'_>) -> Result<bool, Fault> {
        if from.is(to) {
            return Ok(self.has(from));
        }
        if self.part(to.part).is_none() {
            return Ok(false);
        }
        self.keyspace.may_write()?;
        let Some((content, expiry)) = self.content_of(from, true) else { return Ok(false) };
        self.keep(to, content, expiry)?;
        self.remove(from);
        Ok(true)
    }

    /// Keeps the value of one key, and its expiry, under another key too, in place of what was
    /// there; whether there was anything to copy. Sealed memory is shared.
    pub fn copy(&mut self, from: &Key<'_>, to: &Key<'_>) -> Result<bool, Fault> {
        if from.is(to) {
            return Ok(self.has(from));
        }
        if self.part(to.part).is_none() {
            return Ok(false);
        }
        let Some((content, expiry)) = self.content_of(from, false) else { return Ok(false) };
        self.set(to, content, expiry)?;
        Ok(true)
    }

    /// What a key holds, to be kept elsewhere. With `take`, bytes in memory of their own are taken
    /// from it: they can be kept, and it can be removed, without fail.
    fn content_of(&mut self, key: &Key<'_>, take: bool) -> Option<(Content<'static>, Expiry)> {
        let (part, at) = self.find(key)?;
        let part = self.parts.get_mut(part)?;
        let expiry = part.shard.record(at).and_then(Record::expiry);
        let expiry = expiry.map_or(Expiry::Never, Expiry::At);
        let content = match part.shard.value(at) {
            Some(Value::Sealed(sealed)) => Content::Sealed(sealed.clone()),
            Some(Value::Bytes(_)) if take && part.shard.is_large(at) => {
                let mut taken = Vec::new();
                part.shard.change_large(at, |large| {
                    if let Large::Heap(bytes) = large {
                        taken = std::mem::take(bytes);
                    }
                });
                Content::Owned(taken)
            }
            Some(Value::Bytes(bytes)) => Content::Owned(bytes.to_vec()),
            None => return None,
        };
        Some((content, expiry))
    }
}
