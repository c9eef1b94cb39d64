//! Commands about the connection itself.

use objmapper::kv::DATABASES;

use super::call::{Answer, Call, Oops, integer};

pub(super) fn ping(call: &mut Call<'_, '_>) -> Answer {
    match call.args.len() {
        1 => call.out.simple("PONG"),
        2 => call.out.bulk(call.args.at(1)),
        _ => return Err(Oops::Arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(call: &mut Call<'_, '_>) -> Answer {
    call.out.bulk(call.args.at(1));
    Ok(())
}

pub(super) fn quit(call: &mut Call<'_, '_>) -> Answer {
    call.talk.over = true;
    call.out.ok();
    Ok(())
}

pub(super) fn select(call: &mut Call<'_, '_>) -> Answer {
    let db = integer(call.args.at(1))?;
    match u8::try_from(db) {
        Ok(db) if db < DATABASES => call.talk.db = db,
        _ => return Err(Oops::Text("ERR DB index is out of range")),
    }
    call.out.ok();
    Ok(())
}
