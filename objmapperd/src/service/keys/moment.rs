//! When a key is to end, as clients say it: in so many seconds or milliseconds, or at a moment.

use objmapper::kv::Expiry;

use super::call::{Call, Oops, integer};

/// How a number means a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    milliseconds: i64,
    from_now: bool,
}

/// In seconds from now.
pub(super) const EX: Unit = Unit { milliseconds: 1000, from_now: true };
/// In milliseconds from now.
pub(super) const PX: Unit = Unit { milliseconds: 1, from_now: true };
/// In seconds since 1970.
pub(super) const EXAT: Unit = Unit { milliseconds: 1000, from_now: false };
/// In milliseconds since 1970.
pub(super) const PXAT: Unit = Unit { milliseconds: 1, from_now: false };

impl Unit {
    fn of(word: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 4] =
            [(b"ex", EX), (b"px", PX), (b"exat", EXAT), (b"pxat", PXAT)];
        known.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| *unit)
    }

    /// The moment in milliseconds since 1970; `None` if there is none.
    fn moment(self, number: i64, now: i64) -> Option<i64> {
        number.checked_mul(self.milliseconds)?.checked_add(if self.from_now { now } else { 0 })
    }
}

/// What is said about the end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Unsaid,
    /// It stays as it is.
    Kept,
    /// It has none any more.
    None,
    /// It is what the argument with that number says.
    Said(Unit, usize),
}

impl End {
    /// Takes the word at `at`, and the one behind it, if they say when a key ends; gives how many
    /// were taken. Two that contradict each other are not taken.
    pub(super) fn take(&mut self, call: &Call<'_, '_>, at: usize) -> usize {
        let Some(unit) = Unit::of(call.args.at(at)) else { return 0 };
        let free = match *self {
            Self::Unsaid => true,
            Self::Said(other, _) => other == unit,
            _ => false,
        };
        if !free || call.args.get(at + 1).is_none() {
            return 0;
        }
        *self = Self::Said(unit, at + 1);
        2
    }

    /// What it means for a value that is set.
    pub(super) fn expiry(self, call: &Call<'_, '_>) -> Result<Expiry, Oops> {
        match self {
            Self::Unsaid | Self::None => Ok(Expiry::Never),
            Self::Kept => Ok(Expiry::Kept),
            Self::Said(unit, at) => Ok(Expiry::At(call.end(unit, at)?)),
        }
    }
}

impl Call<'_, '_> {
    /// The moment that an argument says, which must lie ahead of 1970, or of now.
    pub(super) fn end(&self, unit: Unit, at: usize) -> Result<i64, Oops> {
        let number = integer(self.args.at(at))?;
        let moment = unit.moment(number, self.hold.now()).filter(|_| number > 0);
        moment.ok_or_else(|| self.bad_end())
    }

    /// The moment that an argument says, which may have passed long ago.
    pub(super) fn any_end(&self, unit: Unit, at: usize) -> Result<i64, Oops> {
        let number = integer(self.args.at(at))?;
        unit.moment(number, self.hold.now()).ok_or_else(|| self.bad_end())
    }

    fn bad_end(&self) -> Oops {
        let name = String::from_utf8_lossy(self.args.at(0)).to_ascii_lowercase();
        Oops::Told(format!("ERR invalid expire time in '{name}' command"))
    }
}
