//! Commands about the connection itself.

use objmapper_proto::resp::Args;

use super::call::{Answer, Call, Oops, integer};
use super::facts::REDIS_VERSION;
use super::transaction;
use crate::seldom;

/// The only user that there is.
pub(super) const USER: &str = "default";

const WRONG: Oops = Oops::Text("WRONGPASS invalid username-password pair or user is disabled.");

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
    call.talk.db = transaction::database(call.args)?;
    call.out.ok();
    Ok(())
}

pub(super) fn reset(call: &mut Call<'_, '_>) -> Answer {
    transaction::may_release(call)?;
    call.talk.reset();
    call.out.simple("RESET");
    Ok(())
}

pub(super) fn auth(call: &mut Call<'_, '_>) -> Answer {
    let (user, password) = match call.args.len() {
        2 if !call.key_service.access.has_password() => return Err(without_password(call)),
        2 => (USER.as_bytes(), call.args.at(1)),
        3 => (call.args.at(1), call.args.at(2)),
        _ => return Err(Oops::Syntax),
    };
    identify(call, user, password)?;
    call.out.ok();
    Ok(())
}

/// AUTH where nobody could know a password.
fn without_password(call: &Call<'_, '_>) -> Oops {
    if call.talk.known {
        return Oops::Text(
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        );
    }
    let uid = call.caller.uid();
    Oops::Told(format!(
        "ERR AUTH <password> called without any password configured for the default user: let uid \
         {uid} in with kv.allow, or set kv.password_file"
    ))
}

/// Lets in who knows the password; and who need not know it and names no other user.
fn identify(call: &mut Call<'_, '_>, user: &[u8], password: &[u8]) -> Answer {
    let access = &call.key_service.access;
    let is_user = user == USER.as_bytes();
    let needs_none = call.talk.trust.known && !access.has_password();
    if is_user && (access.is_password(password) || needs_none) {
        call.talk.known = true;
        return Ok(());
    }
    let peer = &call.talk.member.origin.peer;
    seldom!(WARN, uid = call.caller.uid(), %peer, "a wrong password for the keyspace");
    Err(WRONG)
}

/// What HELLO asks for.
#[derive(Default)]
struct Greeting<'a> {
    three: Option<bool>,
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Greeting<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Oops> {
        let mut wish = Self::default();
        if let Some(version) = args.get(1) {
            let version = integer(version).map_err(|_| {
                Oops::Text("ERR Protocol version is not an integer or out of range")
            })?;
            if !(2..=3).contains(&version) {
                return Err(Oops::Text("NOPROTO unsupported protocol version"));
            }
            wish.three = Some(version == 3);
        }
        let mut at = 2;
        while let Some(option) = args.get(at) {
            let values = (args.get(at + 1), args.get(at + 2));
            match (option.to_ascii_lowercase().as_slice(), values) {
                (b"auth", (Some(user), Some(password))) => {
                    wish.login = Some((user, password));
                    at += 3;
                }
                (b"setname", (Some(name), _)) => {
                    wish.name = Some(name);
                    at += 2;
                }
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(Oops::Told(format!("ERR Syntax error in HELLO option '{option}'")));
                }
            }
        }
        Ok(wish)
    }
}

pub(super) fn hello(call: &mut Call<'_, '_>) -> Answer {
    let wish = Greeting::parse(call.args)?;
    if let Some((user, password)) = wish.login {
        identify(call, user, password)?;
    }
    if !call.talk.known {
        return Err(Oops::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
             <proto> AUTH <user> <pass> option can be used to authenticate the client and select \
             the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = wish.name {
        set_name(call, name)?;
    }
    if let Some(three) = wish.three {
        call.talk.three = three;
    }
    call.out.speak(call.talk.three);
    introduce(call);
    Ok(())
}

/// Answers who is greeted.
fn introduce(call: &mut Call<'_, '_>) {
    let id = i64::try_from(call.talk.member.id).unwrap_or(i64::MAX);
    let out = &mut call.out;
    out.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        out.text(key);
        out.text(value);
    }
    out.text("proto");
    out.integer(if out.is_three() { 3 } else { 2 });
    out.text("id");
    out.integer(id);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        out.text(key);
        out.text(value);
    }
    out.text("modules");
    out.array(0);
}

/// What CLIENT SETNAME and HELLO do.
pub(super) fn set_name(call: &mut Call<'_, '_>, name: &[u8]) -> Answer {
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Oops::Text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    let kept = name.get(..MOST_OF_A_NAME).unwrap_or(name);
    call.talk.member.names.lock().own = kept.into();
    Ok(())
}

/// Bytes that are kept of a name: everybody's are listed. Not tuned.
const MOST_OF_A_NAME: usize = 1024;
