//! Commands on when keys end.

use super::call::{Answer, Call, Oops};
use super::moment::{EX, EXAT, PX, PXAT, Unit};

pub(super) fn expire(call: &mut Call<'_, '_>) -> Answer {
    set(call, EX)
}

pub(super) fn pexpire(call: &mut Call<'_, '_>) -> Answer {
    set(call, PX)
}

pub(super) fn expireat(call: &mut Call<'_, '_>) -> Answer {
    set(call, EXAT)
}

pub(super) fn pexpireat(call: &mut Call<'_, '_>) -> Answer {
    set(call, PXAT)
}

/// On which conditions an end is set.
#[allow(clippy::struct_excessive_bools)] // as they are said, each by itself
#[derive(Debug, Default)]
struct Terms {
    new: bool,
    there: bool,
    later: bool,
    sooner: bool,
}

impl Terms {
    fn of(call: &Call<'_, '_>) -> Result<Self, Oops> {
        let mut terms = Self::default();
        for word in call.args.from(3).iter() {
            let known: [(&[u8], &mut bool); 4] = [
                (b"nx", &mut terms.new),
                (b"xx", &mut terms.there),
                (b"gt", &mut terms.later),
                (b"lt", &mut terms.sooner),
            ];
            let found = known.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
            let Some((_, flag)) = found else {
                let word = String::from_utf8_lossy(word);
                return Err(Oops::Told(format!("ERR Unsupported option {word}")));
            };
            *flag = true;
        }
        if terms.new && (terms.there || terms.later || terms.sooner) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Oops::Text(text));
        }
        if terms.later && terms.sooner {
            return Err(Oops::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(terms)
    }

    /// No end is later than any other.
    fn allow(&self, old: Option<i64>, new: i64) -> bool {
        !(self.new && old.is_some()
            || self.there && old.is_none()
            || self.later && old.is_none_or(|old| new <= old)
            || self.sooner && old.is_some_and(|old| new >= old))
    }
}

fn set(call: &mut Call<'_, '_>, unit: Unit) -> Answer {
    let terms = Terms::of(call)?;
    let end = call.any_end(unit, 2)?;
    let Some(key) = call.keys.first() else { return Ok(()) };
    let old = call.hold.expiry(key);
    let done = old.is_some_and(|old| terms.allow(old, end)) && call.hold.set_expiry(key, Some(end));
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_, '_>) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let ends = call.hold.expiry(key).flatten().is_some();
    let done = ends && call.hold.set_expiry(key, None);
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_, '_>) -> Answer {
    let now = call.hold.now();
    tell(call, |end| seconds((end - now).max(0)))
}

pub(super) fn pttl(call: &mut Call<'_, '_>) -> Answer {
    let now = call.hold.now();
    tell(call, |end| (end - now).max(0))
}

pub(super) fn expiretime(call: &mut Call<'_, '_>) -> Answer {
    tell(call, seconds)
}

pub(super) fn pexpiretime(call: &mut Call<'_, '_>) -> Answer {
    tell(call, |end| end)
}

/// To the nearest.
fn seconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_add(500) / 1000
}

/// Tells when the key ends: -1 if it does not, -2 if there is none.
fn tell(call: &mut Call<'_, '_>, form: impl Fn(i64) -> i64) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let number = match call.hold.expiry(key) {
        None => -2,
        Some(None) => -1,
        Some(Some(end)) => form(end),
    };
    call.out.integer(number);
    Ok(())
}
