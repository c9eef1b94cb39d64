//! Commands on whole values: read, set, set if.

use objmapper::kv::{Content, Expiry};
use smallvec::SmallVec;

use super::call::{Answer, Call, Oops};
use super::moment::{EX, End, PX, Unit};
use super::values::Found;

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let found = call.find_value(0)?;
    call.tell(found)
}

/// Whether a value is set: always, or only if there is none, or only if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum If {
    Any,
    New,
    There,
}

/// What stands behind the value.
struct Terms {
    condition: If,
    /// The old value is asked for.
    get: bool,
    end: End,
}

impl Terms {
    fn of(call: &Call<'_, '_>) -> Result<Self, Oops> {
        let mut terms = Self { condition: If::Any, get: false, end: End::Unsaid };
        let mut at = 3;
        while let Some(word) = call.args.get(at) {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let taken = terms.end.take(call, at);
            if taken > 0 {
                at += taken;
                continue;
            }
            if is(b"nx") && terms.condition != If::There {
                terms.condition = If::New;
            } else if is(b"xx") && terms.condition != If::New {
                terms.condition = If::There;
            } else if is(b"get") {
                terms.get = true;
            } else if is(b"keepttl") && matches!(terms.end, End::Unsaid | End::Kept) {
                terms.end = End::Kept;
            } else {
                return Err(Oops::Syntax);
            }
            at += 1;
        }
        Ok(terms)
    }
}

pub(super) fn set(call: &mut Call<'_, '_>) -> Answer {
    let terms = Terms::of(call)?;
    let expiry = terms.end.expiry(call)?;
    let content = call.content(2)?;
    let found = if terms.get { call.find_value(0)? } else { Found::Told };
    let Some(key) = call.keys.first() else { return Ok(()) };
    let done = match terms.condition {
        If::Any => true,
        If::New => !call.hold.has(key),
        If::There => call.hold.has(key),
    };
    if done {
        call.hold.set(key, content, expiry)?;
    }
    match (terms.get, done) {
        (true, _) => call.tell(found)?,
        (false, true) => call.out.ok(),
        (false, false) => call.out.null(),
    }
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_, '_>) -> Answer {
    let content = call.content(2)?;
    let Some(key) = call.keys.first() else { return Ok(()) };
    let done = !call.hold.has(key);
    if done {
        call.hold.set(key, content, Expiry::Never)?;
    }
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_, '_>) -> Answer {
    set_until(call, EX)
}

pub(super) fn psetex(call: &mut Call<'_, '_>) -> Answer {
    set_until(call, PX)
}

fn set_until(call: &mut Call<'_, '_>, unit: Unit) -> Answer {
    let expiry = Expiry::At(call.end(unit, 2)?);
    let content = call.content(3)?;
    let Some(key) = call.keys.first() else { return Ok(()) };
    call.hold.set(key, content, expiry)?;
    call.out.ok();
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_, '_>) -> Answer {
    let content = call.content(2)?;
    let found = call.find_value(0)?;
    let Some(key) = call.keys.first() else { return Ok(()) };
    call.hold.set(key, content, Expiry::Never)?;
    call.tell(found)
}

pub(super) fn getdel(call: &mut Call<'_, '_>) -> Answer {
    let found = call.find_value(0)?;
    if !matches!(found, Found::Nothing)
        && let Some(key) = call.keys.first()
    {
        call.hold.remove(key);
    }
    call.tell(found)
}

pub(super) fn getex(call: &mut Call<'_, '_>) -> Answer {
    let (mut end, mut at) = (End::Unsaid, 2);
    while let Some(word) = call.args.get(at) {
        let taken = end.take(call, at);
        if taken == 0 {
            if !word.eq_ignore_ascii_case(b"persist") || !matches!(end, End::Unsaid | End::None) {
                return Err(Oops::Syntax);
            }
            end = End::None;
        }
        at += taken.max(1);
    }
    let found = call.find_value(0)?;
    if matches!(found, Found::Nothing) {
        return Ok(());
    }
    let expiry = match end {
        End::Unsaid | End::Kept => return call.tell(found),
        End::None => None,
        End::Said(unit, at) => Some(call.end(unit, at)?),
    };
    if let Some(key) = call.keys.first()
        && (expiry.is_some() || call.hold.expiry(key).flatten().is_some())
    {
        call.hold.set_expiry(key, expiry);
    }
    call.tell(found)
}

pub(super) fn mget(call: &mut Call<'_, '_>) -> Answer {
    call.out.array(call.keys.len());
    call.answer_values()
}

pub(super) fn mset(call: &mut Call<'_, '_>) -> Answer {
    let contents = contents(call, "mset")?;
    set_all(call, contents)?;
    call.out.ok();
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_, '_>) -> Answer {
    let contents = contents(call, "msetnx")?;
    let done = !call.keys.iter().any(|key| call.hold.has(key));
    if done {
        set_all(call, contents)?;
    }
    call.out.integer(i64::from(done));
    Ok(())
}

/// All values, ready to be kept. Before anything is done: the locks may go for a moment.
fn contents<'a>(
    call: &mut Call<'a, '_>,
    name: &'static str,
) -> Result<SmallVec<[Content<'a>; 4]>, Oops> {
    if call.args.len().is_multiple_of(2) {
        return Err(Oops::Arity(name));
    }
    let values = (2..call.args.len()).step_by(2);
    values.map(|at| call.content(at)).collect()
}

fn set_all(call: &mut Call<'_, '_>, contents: SmallVec<[Content<'_>; 4]>) -> Answer {
    for (key, content) in call.keys.iter().zip(contents) {
        call.hold.set(key, content, Expiry::Never)?;
    }
    Ok(())
}
