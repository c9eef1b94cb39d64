//! Commands about the daemon, for who runs it; and those that clients ask at the beginning.

use std::time::SystemTime;

use objmapper_os::signal::{self, Signal};

use super::call::{Answer, Call, Oops};
use super::connection::USER;
use super::durability;

pub(super) fn time(call: &mut Call<'_, '_>) -> Answer {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    call.out.array(2);
    call.out.text(now.as_secs());
    call.out.text(now.subsec_micros());
    Ok(())
}

/// There are no replicas.
pub(super) fn role(call: &mut Call<'_, '_>) -> Answer {
    call.out.array(3);
    call.out.text("master");
    call.out.integer(0);
    call.out.array(0);
    Ok(())
}

/// Stops the daemon as a signal does: what was asked is answered first.
pub(super) fn shutdown(call: &mut Call<'_, '_>) -> Answer {
    let (mut save, mut nosave, mut abort, mut other) = (false, false, false, false);
    for word in call.args.from(1).iter() {
        let place = match word.to_ascii_lowercase().as_slice() {
            b"save" => &mut save,
            b"nosave" => &mut nosave,
            b"abort" => &mut abort,
            b"now" | b"force" => &mut other,
            _ => return Err(Oops::Syntax),
        };
        *place = true;
    }
    if save && nosave || abort && (save || nosave || other) {
        return Err(Oops::Syntax);
    }
    if abort {
        return Err(Oops::Text("ERR No shutdown in progress."));
    }
    if !call.talk.trust.owner {
        return Err(Oops::Text(
            "NOPERM SHUTDOWN stops the whole daemon: it is for its own user and root, over a Unix \
             socket",
        ));
    }
    // If that fails, it goes on.
    if save {
        durability::compact(call)?;
    }
    tracing::info!(uid = call.caller.uid(), "told to stop by SHUTDOWN");
    signal::to_self(Signal::Terminate).map_err(|error| Oops::Told(format!("ERR {error}")))?;
    call.talk.over = true;
    Ok(())
}

/// What DEBUG HELP says.
static DEBUG: [&str; 9] = [
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LOADAOF",
    "    The same as RELOAD.",
    "RELOAD",
    "    Reads the journal anew.",
    "SET-ACTIVE-EXPIRE (0|1)",
    "    Removes keys whose time is up when they are asked for only (0), or also by itself (1).",
    "HELP",
    "    Prints this help.",
];

pub(super) fn debug(call: &mut Call<'_, '_>) -> Answer {
    if !call.talk.trust.owner {
        return Err(Oops::Text(
            "ERR DEBUG command not allowed. It is for the daemon's own user and root, over a Unix \
             socket.",
        ));
    }
    let word = call.args.at(1);
    match (word.to_ascii_lowercase().as_slice(), call.args.len()) {
        (b"set-active-expire", 3) => {
            call.key_service.ticker.hold(call.args.at(2) == b"0");
            call.out.ok();
            Ok(())
        }
        (b"reload" | b"loadaof", 2..) => durability::reload(call),
        (b"help", 2) => {
            call.out.array(DEBUG.len());
            for line in DEBUG {
                call.out.simple(line);
            }
            Ok(())
        }
        _ => {
            let word = String::from_utf8_lossy(word.get(..128).unwrap_or(word)).into_owned();
            Err(Oops::Told(format!(
                "ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP."
            )))
        }
    }
}

/// What the keyspace keeps is given back by whoever removes it.
pub(super) fn memory_purge(call: &mut Call<'_, '_>) -> Answer {
    call.out.ok();
    Ok(())
}

pub(super) fn memory_doctor(call: &mut Call<'_, '_>) -> Answer {
    let memory = call.key_service.keyspace.memory();
    let (used, limit, peak) = (memory.used(), memory.limit(), memory.peak());
    let pressure = format!("{:?}", memory.pressure()).to_lowercase();
    let text = if limit == 0 {
        format!(
            "{used} bytes are in use, {peak} were at most. There is no limit: set kv.max_memory, or \
             say CONFIG SET maxmemory.\n"
        )
    } else {
        let policy = memory.policy().name();
        format!(
            "{used} of {limit} bytes are in use, {peak} were at most: pressure is {pressure}, the \
             policy is {policy}.\n"
        )
    };
    call.out.verbatim(&text);
    Ok(())
}

pub(super) fn memory_stats(call: &mut Call<'_, '_>) -> Answer {
    let inside = call.inside();
    let memory = call.key_service.keyspace.memory();
    let keys = inside.totals.keys;
    let figures = [
        ("peak.allocated", memory.peak()),
        ("total.allocated", memory.used()),
        ("keys.count", keys),
        ("keys.bytes-per-key", memory.used().checked_div(keys).unwrap_or(0)),
        ("keys.sealed", inside.totals.sealed),
    ];
    call.out.map(figures.len());
    for (name, figure) in figures {
        call.out.text(name);
        call.out.integer(i64::try_from(figure).unwrap_or(i64::MAX));
    }
    Ok(())
}

/// Latencies are not recorded, and modules not loaded.
pub(super) fn none(call: &mut Call<'_, '_>) -> Answer {
    call.out.array(0);
    Ok(())
}

/// Of that there is nothing.
pub(super) fn zero(call: &mut Call<'_, '_>) -> Answer {
    call.out.integer(0);
    Ok(())
}

pub(super) fn latency_doctor(call: &mut Call<'_, '_>) -> Answer {
    call.out.verbatim("Latencies are not recorded here; SLOWLOG has commands that took long, `objmapper stats` has sched.*.\n");
    Ok(())
}

pub(super) fn whoami(call: &mut Call<'_, '_>) -> Answer {
    call.out.text(USER);
    Ok(())
}

pub(super) fn users(call: &mut Call<'_, '_>) -> Answer {
    call.out.array(1);
    call.out.text(USER);
    Ok(())
}
