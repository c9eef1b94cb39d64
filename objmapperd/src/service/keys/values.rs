//! How commands get at values: read out, or made ready to be kept, with the locks no longer held
//! than they must be.
//!
//! What takes long (copying a long value into sealed memory, or out of it) is done without them,
//! except in a transaction, where they stay.

use objmapper::kv::{Content, Value};

use super::call::{Answer, Call, Oops};

impl<'a> Call<'a, '_> {
    /// Lets the locks go. What was done so far is done.
    pub(super) fn let_go(&mut self) {
        if !self.in_exec {
            let none = self.desk.keyspace.hold_keys(&[], self.hold.now());
            let held = std::mem::replace(self.hold, none);
            self.talk.position = self.talk.position.max(held.finish());
        }
    }

    /// Makes an argument ready to be kept. Before anything is done: the locks may go for a moment.
    #[inline]
    pub(super) fn content(&mut self, at: usize) -> Result<Content<'a>, Oops> {
        let keyspace = &self.desk.keyspace;
        let bytes = self.args.at(at);
        if bytes.len() <= keyspace.options().inline || self.in_exec {
            return Ok(keyspace.content(bytes)?);
        }
        self.let_go();
        let content = keyspace.content(bytes)?;
        *self.hold = keyspace.hold_keys(&self.keys, self.hold.now());
        if self.talk.touches_nothing {
            self.hold.touch_nothing();
        }
        Ok(content)
    }

    /// Answers with the value of a key; whether there is one. The locks may go if `last`.
    #[inline]
    pub(super) fn answer_value(&mut self, key: usize, last: bool) -> Result<bool, Oops> {
        let Some(key) = self.keys.get(key) else { return Ok(false) };
        let room = (self.talk.room as u64).saturating_sub(self.out.out().len() as u64);
        let sealed = match self.hold.get(key) {
            None => {
                self.out.null();
                return Ok(false);
            }
            Some(Value::Bytes(bytes)) if bytes.len() as u64 <= room => {
                self.out.bulk(bytes);
                return Ok(true);
            }
            Some(Value::Bytes(_)) => return Err(self.too_long()),
            Some(Value::Sealed(sealed)) => sealed.clone(),
        };
        self.fits(sealed.size())?;
        if last {
            self.let_go();
        }
        self.part_of(Value::Sealed(&sealed), 0, sealed.size())?;
        Ok(true)
    }

    /// Answers with some bytes of a value, which are all there.
    pub(super) fn part_of(&mut self, value: Value<'_>, from: u64, length: u64) -> Answer {
        self.fits(length)?;
        self.out.bulk_head(length);
        // What ends it as well, or that alone would double the room of a long one.
        self.out.out().reserve(usize::try_from(length).unwrap_or(0).saturating_add(2));
        value.read_into(self.out.out(), from, length).map_err(|error| Oops::Fault(error.into()))?;
        self.out.end();
        Ok(())
    }

    /// Answers with how many there are.
    pub(super) fn count(&mut self, count: usize) {
        self.out.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
