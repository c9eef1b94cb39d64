//! How commands get at values: read out, or made ready to be kept, with the locks no longer held
//! than they must be.
//!
//! What takes long (copying a long value into sealed memory, or out of it) is done without them,
//! except in a transaction, where they stay.

use std::sync::Arc;

use objmapper::kv::{Content, Sealed, Taken, Value};

use super::call::{Answer, Call, Oops, copying};

/// The value of a key that is asked for.
#[derive(Debug)]
pub(super) enum Found {
    /// There is none, and that was answered.
    Nothing,
    /// It was answered.
    Told,
    /// It is still to be told: see [`Call::tell`].
    Untold(Arc<Sealed>),
}

impl<'a> Call<'a, '_> {
    /// Lets the locks go. What was done so far is done.
    pub(super) fn let_go(&mut self) {
        if !self.in_exec {
            let none = self.key_service.keyspace.hold_keys(&[], self.hold.now());
            let held = std::mem::replace(self.hold, none);
            self.talk.position = self.talk.position.max(held.finish());
        }
    }

    /// Makes an argument ready to be kept. Before anything is done: the locks may go for a moment.
    #[inline]
    pub(super) fn content(&mut self, at: usize) -> Result<Content<'a>, Oops> {
        let keyspace = &self.key_service.keyspace;
        let bytes = self.args.at(at);
        if bytes.len() <= keyspace.options().inline || self.in_exec {
            return Ok(keyspace.content(bytes)?);
        }
        self.let_go();
        let content = keyspace.content(bytes)?;
        *self.hold = keyspace.try_hold_keys(&self.keys, self.talk.wait(), self.hold.now())?;
        if self.talk.touches_nothing {
            self.hold.touch_nothing();
        }
        Ok(content)
    }

    /// Answers with the value of a key. One in sealed memory is only taken: to be told when no lock
    /// is needed any more.
    #[inline]
    pub(super) fn find_value(&mut self, key: usize) -> Result<Found, Oops> {
        let Some(key) = self.keys.get(key) else { return Ok(Found::Nothing) };
        let room = (self.talk.room as u64).saturating_sub(self.out.out().len() as u64);
        let (in_exec, talk) = (self.in_exec, &*self.talk);
        let lacks = |bytes| talk.lacks(copying(bytes)).filter(|_| !in_exec);
        let sealed = match self.hold.get(key) {
            None => {
                self.out.null();
                return Ok(Found::Nothing);
            }
            Some(Value::Bytes(bytes)) if bytes.len() as u64 <= room => {
                // It is copied under its lock: if that takes long, not here.
                if let Some(need) = lacks(bytes.len() as u64) {
                    return Err(Oops::Elsewhere(need));
                }
                self.out.bulk(bytes);
                return Ok(Found::Told);
            }
            Some(Value::Bytes(_)) => return Err(self.too_long()),
            Some(Value::Sealed(sealed)) => sealed.clone(),
        };
        self.fits(sealed.size())?;
        self.may_copy(sealed.size())?;
        Ok(Found::Untold(sealed))
    }

    /// Tells what was found, if that is still to be done. The last thing that is done: the locks go.
    #[inline]
    pub(super) fn tell(&mut self, found: Found) -> Answer {
        let Found::Untold(sealed) = found else { return Ok(()) };
        self.let_go();
        self.part_of(Value::Sealed(&sealed), 0, sealed.size())
    }

    /// Answers with the values of all keys. From the first one in sealed memory on they are taken,
    /// and told without the locks.
    pub(super) fn answer_values(&mut self) -> Answer {
        let begin = self.out.out().len();
        let (mut later, mut bytes): (Vec<Option<Taken>>, u64) = (Vec::new(), 0);
        for key in 0..self.keys.len() {
            if later.is_empty() {
                let told = self.out.out().len() - begin;
                self.may_copy(told as u64)?;
                if let Found::Untold(sealed) = self.find_value(key)? {
                    bytes += sealed.size();
                    later.push(Some(Taken::Sealed(sealed)));
                }
                continue;
            }
            let name = self.keys.get(key).copied();
            let length = name.and_then(|key| self.hold.peek(&key)).map_or(0, |value| value.len());
            bytes += length;
            self.fits(bytes)?;
            self.may_copy(bytes)?;
            let value = name.and_then(|key| self.hold.get(&key));
            later.push(value.map(|value| value.taken()));
        }
        if !later.is_empty() {
            self.let_go();
        }
        for taken in later {
            match taken {
                Some(taken) => self.part_of(taken.value(), 0, taken.value().len())?,
                None => self.out.null(),
            }
        }
        Ok(())
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
