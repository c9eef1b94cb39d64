//! Commands on values.

use objmapper::kv::Expiry;

use super::call::{Answer, Call, Oops};

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    match call.hold.get(key) {
        None => call.out.null(),
        Some(objmapper::kv::Value::Bytes(bytes)) => call.out.bulk(bytes),
        Some(value) => {
            call.out.bulk_head(value.len());
            value.read_into(call.out.out(), 0, value.len()).map_err(|e| Oops::Fault(e.into()))?;
            call.out.end();
        }
    }
    Ok(())
}

pub(super) fn set(call: &mut Call<'_, '_>) -> Answer {
    if call.args.len() > 3 {
        return Err(Oops::Syntax);
    }
    let Some(key) = call.keys.first() else { return Ok(()) };
    let content = call.desk.keyspace.content(call.args.at(2))?;
    call.hold.set(key, content, Expiry::Never)?;
    call.out.ok();
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_, '_>) -> Answer {
    let Some(key) = call.keys.first() else { return Ok(()) };
    let sum = call.hold.add(key, 1)?;
    call.out.integer(sum);
    Ok(())
}
