//! Commands on keys, whatever their values are.

use super::call::{Answer, Call};

pub(super) fn del(call: &mut Call<'_, '_>) -> Answer {
    let gone = call.keys.iter().filter(|key| call.hold.remove(key)).count();
    call.out.integer(i64::try_from(gone).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_, '_>) -> Answer {
    let there = call.keys.iter().filter(|key| call.hold.has(key)).count();
    call.out.integer(i64::try_from(there).unwrap_or(i64::MAX));
    Ok(())
}
