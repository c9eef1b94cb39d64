//! How a key is set: whether, and until when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use objmapper_proto::kv::{Condition, Expiry, Given, Set};

/// How a key is set. In any case and for ever, if nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "it says how something is set, and sets nothing"]
pub struct Put {
    condition: Condition,
    expiry: Expiry,
}

impl Put {
    /// In any case, for ever.
    pub const fn new() -> Self {
        Self { condition: Condition::Always, expiry: Expiry::Never }
    }

    /// Only if the key is not there.
    pub const fn if_absent(self) -> Self {
        Self { condition: Condition::Absent, ..self }
    }

    /// Only if it is.
    pub const fn if_present(self) -> Self {
        Self { condition: Condition::Present, ..self }
    }

    /// It ends by itself at this moment, to the millisecond.
    pub fn expires_at(self, moment: SystemTime) -> Self {
        Self { expiry: Expiry::At(milliseconds(moment)), ..self }
    }

    /// It ends by itself in so much time, by this machine's clock.
    pub fn expires_in(self, time: Duration) -> Self {
        let now = milliseconds(SystemTime::now());
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self { expiry: Expiry::At(now.saturating_add(time)), ..self }
    }

    /// It ends when it did before.
    pub const fn keep_expiry(self) -> Self {
        Self { expiry: Expiry::Kept, ..self }
    }

    pub(super) const fn of<'a>(&self, key: &'a [u8], value: Given<'a>) -> Set<'a> {
        Set { key, value, expiry: self.expiry, condition: self.condition }
    }
}

/// Milliseconds from 1970 to a moment, as expiry is told; 1 for one before that, which has passed as
/// well.
pub fn milliseconds(moment: SystemTime) -> i64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// The moment so many milliseconds after 1970.
pub(super) fn moment(milliseconds: i64) -> SystemTime {
    let after = Duration::from_millis(milliseconds.unsigned_abs());
    let moment = if milliseconds < 0 { None } else { UNIX_EPOCH.checked_add(after) };
    moment.unwrap_or(UNIX_EPOCH)
}
