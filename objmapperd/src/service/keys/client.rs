//! CLIENT: a connection about itself, and about others.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use objmapper::kv::Keyspace;

use super::call::{Answer, Call, Oops};
use super::connection::{USER, set_name};
use super::table;
use crate::clients::Client;
use crate::session::keys::Mute;

pub(super) fn id(call: &mut Call<'_, '_>) -> Answer {
    call.out.integer(i64::try_from(call.talk.member.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn setname(call: &mut Call<'_, '_>) -> Answer {
    set_name(call, call.args.at(2))?;
    call.out.ok();
    Ok(())
}

pub(super) fn getname(call: &mut Call<'_, '_>) -> Answer {
    let name = call.talk.member.names.lock().own.clone();
    if name.is_empty() {
        call.out.null();
    } else {
        call.out.bulk(&name);
    }
    Ok(())
}

pub(super) fn setinfo(call: &mut Call<'_, '_>) -> Answer {
    let (option, value) = (call.args.at(2), call.args.at(3));
    let shown = String::from_utf8_lossy(option);
    let fits = value.len() <= 128 && value.iter().all(u8::is_ascii_graphic);
    let told = |what: &str| Oops::Told(format!("ERR {what}"));
    let mut names = call.talk.member.names.lock();
    let place = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => &mut names.library,
        b"lib-ver" => &mut names.version,
        _ => return Err(told(&format!("Unrecognized option '{shown}'"))),
    };
    if !fits {
        let what = "cannot contain spaces, newlines or special characters.";
        return Err(told(&format!("{} {what}", shown.to_ascii_lowercase())));
    }
    *place = value.into();
    drop(names);
    call.out.ok();
    Ok(())
}

/// On or off, said as the third word.
fn switch(call: &Call<'_, '_>) -> Result<bool, Oops> {
    match call.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(Oops::Syntax),
    }
}

/// No connection is ever closed to make room, so there is nothing to do.
pub(super) fn no_evict(call: &mut Call<'_, '_>) -> Answer {
    switch(call)?;
    call.out.ok();
    Ok(())
}

pub(super) fn no_touch(call: &mut Call<'_, '_>) -> Answer {
    call.talk.touches_nothing = switch(call)?;
    call.out.ok();
    Ok(())
}

pub(super) fn reply(call: &mut Call<'_, '_>) -> Answer {
    match call.args.at(2).to_ascii_lowercase().as_slice() {
        b"on" => {
            call.talk.mute = Mute::Never;
            call.out.ok();
        }
        b"off" => call.talk.mute = Mute::Always,
        b"skip" if call.talk.mute == Mute::Always => {}
        b"skip" => call.talk.mute = Mute::Next,
        _ => return Err(Oops::Syntax),
    }
    Ok(())
}

pub(super) fn info(call: &mut Call<'_, '_>) -> Answer {
    call.talk.show();
    let mut text = String::new();
    line(&mut text, &call.talk.member);
    call.out.verbatim(&text);
    Ok(())
}

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    call.talk.show();
    let mut ids = None;
    match (call.args.at(2).to_ascii_lowercase().as_slice(), call.args.len()) {
        (b"type", 4) if !is_normal(call.args.at(3))? => ids = Some(Vec::new()),
        (b"type", 4) | (_, 2) => {}
        (b"id", 4..) => {
            let id = |arg| number(arg).ok_or(Oops::Text("ERR Invalid client ID"));
            ids = Some(call.args.from(3).iter().map(id).collect::<Result<_, _>>()?);
        }
        _ => return Err(Oops::Syntax),
    }
    let mut text = String::new();
    for client in call.key_service.clients.all() {
        if ids.as_ref().is_none_or(|ids| ids.contains(&client.id)) {
            line(&mut text, &client);
        }
    }
    call.out.verbatim(&text);
    Ok(())
}

/// Whether these are the connections that there are; of the other kinds there are none.
fn is_normal(kind: &[u8]) -> Result<bool, Oops> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => {
            let kind = String::from_utf8_lossy(kind);
            Err(Oops::Told(format!("ERR Unknown client type '{kind}'")))
        }
    }
}

fn number(arg: &[u8]) -> Option<u64> {
    objmapper::kv::integer(arg).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0)
}

/// What a connection must be to be ended.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    peer: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
    nobody: bool,
    also_me: bool,
}

impl<'a> Filter<'a> {
    fn read(call: &Call<'a, '_>) -> Result<Self, Oops> {
        let mut filter = Self::default();
        let words: Vec<&[u8]> = call.args.from(2).iter().collect();
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(Oops::Syntax) };
            match name.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = number(value);
                    filter.id = id.or(Some(0));
                    if id.is_none() {
                        return Err(Oops::Text("ERR client-id should be greater than 0"));
                    }
                }
                b"type" => filter.nobody |= !is_normal(value)?,
                b"addr" => filter.peer = Some(value),
                b"laddr" => filter.local = Some(value),
                b"user" if *value == USER.as_bytes() => {}
                b"user" => {
                    let user = String::from_utf8_lossy(value);
                    return Err(Oops::Told(format!("ERR No such user '{user}'")));
                }
                b"skipme" => match value.to_ascii_lowercase().as_slice() {
                    b"yes" => filter.also_me = false,
                    b"no" => filter.also_me = true,
                    _ => return Err(Oops::Syntax),
                },
                _ => return Err(Oops::Syntax),
            }
        }
        Ok(filter)
    }

    fn fits(&self, client: &Client) -> bool {
        let is = |wanted: Option<&[u8]>, shown: &str| {
            wanted.is_none_or(|wanted| wanted == shown.as_bytes())
        };
        !self.nobody
            && self.id.is_none_or(|id| id == client.id)
            && is(self.peer, &client.origin.peer)
            && is(self.local, &client.origin.local)
    }
}

pub(super) fn kill(call: &mut Call<'_, '_>) -> Answer {
    // With one word: where it comes from.
    let old = call.args.len() == 3;
    let filter = if old {
        Filter { peer: Some(call.args.at(2)), also_me: true, ..Filter::default() }
    } else {
        Filter::read(call)?
    };
    let me = call.talk.member.id;
    let fits = |client: &Arc<Client>| filter.fits(client) && (filter.also_me || client.id != me);
    let mut ended = 0;
    for client in call.key_service.clients.all().into_iter().filter(fits) {
        if client.id == me {
            // When this has been answered.
            call.talk.over = true;
            ended += 1;
        } else if client.end() {
            ended += 1;
        }
        if old {
            break;
        }
    }
    match (old, ended) {
        (true, 0) => return Err(Oops::Text("ERR No such client")),
        (true, _) => call.out.ok(),
        (false, ended) => call.out.integer(ended),
    }
    Ok(())
}

/// One connection, in the words of Redis; what there is not is left out.
fn line(text: &mut String, client: &Client) {
    let Client { id, origin, fd, since, doing, names, .. } = client;
    let seconds = |since: i64| (Keyspace::now() - since).max(0) / 1000;
    let names = names.lock().clone();
    let shown = String::from_utf8_lossy;
    let queued = doing.queued.load(Relaxed);
    let watched = doing.watched.load(Relaxed);
    let mut flags = String::new();
    flags.extend((queued > 0).then_some('x'));
    flags.extend(origin.uid.is_some().then_some('U'));
    if flags.is_empty() {
        flags.push('N');
    }
    // Into a String: cannot fail.
    let _ = write!(
        text,
        "id={id} addr={} laddr={} fd={fd} name={} age={} idle={} flags={flags} db={} sub=0 psub=0 \
         ssub=0 multi={} watch={watched} qbuf={} obl={} cmd={} user={USER} redir=-1 resp={} \
         lib-name={} lib-ver={}",
        origin.peer,
        origin.local,
        shown(&names.own),
        seconds(*since),
        seconds(doing.seen.load(Relaxed)),
        doing.db.load(Relaxed),
        queued.cast_signed() - 1,
        doing.input.load(Relaxed),
        doing.output.load(Relaxed),
        table::name_at(doing.command.load(Relaxed)),
        doing.version.load(Relaxed),
        shown(&names.library),
        shown(&names.version),
    );
    if let Some(uid) = origin.uid {
        let _ = write!(text, " uid={uid}");
    }
    if let Some(pid) = origin.pid {
        let _ = write!(text, " pid={pid}");
    }
    text.push('\n');
}
