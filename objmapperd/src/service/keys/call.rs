//! One command being answered, and why one is not.

use std::fmt;

use objmapper::Caller;
use objmapper::kv::{self, Fault, Hold};
use objmapper_proto::resp::{Args, Encoder};

use super::table::{Command, Flags};
use super::{KeyService, Names};
use crate::admission::Resource;
use crate::service::effort::{MUCH, VAST};
use crate::session::keys::Talk;

/// What a command has to work with. Its keys' locks are held.
pub(super) struct Call<'a, 'k> {
    /// What was said, the command's name included.
    pub(super) args: Args<'a>,
    /// Its keys, in the order of the arguments.
    pub(super) keys: Names<'a>,
    /// Where the reply goes.
    pub(super) out: Encoder<'a>,
    /// Whose connection.
    pub(super) talk: &'a mut Talk,
    /// Who it is.
    pub(super) caller: &'a Caller,
    /// Who answers.
    pub(super) key_service: &'k KeyService,
    /// The locks.
    pub(super) hold: &'a mut Hold<'k>,
    /// It is one of a transaction: all locks are held, and no other may be taken.
    pub(super) in_exec: bool,
}

impl Call<'_, '_> {
    /// Does it: its reply, or why there is none, is appended. Whether that is no error.
    #[inline]
    pub(super) fn run(&mut self, command: &Command) -> bool {
        let at = self.out.out().len();
        let mut answer = (command.run)(self);
        // Commands that write checked the reply's size before; EXEC checks each of its commands.
        let asks = [Flags::WRITES, Flags::NOT_QUEUED].iter().any(|flag| command.flags.has(*flag));
        if answer.is_ok() && !asks {
            answer = self.fits(0);
        }
        match answer {
            Ok(()) => true,
            Err(Oops::Elsewhere(need)) => {
                self.out.out().truncate(at);
                self.talk.wants(need)
            }
            Err(oops) => {
                self.out.out().truncate(at);
                self.out.error(oops);
                false
            }
        }
    }

    /// Whether so many bytes more may be answered: who does not read them keeps them here, and any
    /// value can be asked for any number of times.
    #[inline]
    pub(super) fn fits(&mut self, more: u64) -> Answer {
        let all = (self.out.out().len() as u64).saturating_add(more);
        if all <= self.talk.room as u64 { Ok(()) } else { Err(self.too_long()) }
    }

    /// Whether so much may be done here and now: so many keys looked at, or pairs of bytes
    /// compared. To be asked before anything is done; in a transaction EXEC has.
    #[inline]
    pub(super) fn may_take(&self, (effort, limit): (u64, u64)) -> Answer {
        if effort <= limit || self.in_exec || self.talk.has(Resource::Time) {
            return Ok(());
        }
        Err(Oops::Elsewhere(Resource::Time))
    }

    /// Whether so many bytes may be copied here and now; the same.
    #[inline]
    pub(super) fn may_copy(&self, bytes: u64) -> Answer {
        match self.talk.lacks(copying(bytes)) {
            Some(need) if !self.in_exec => Err(Oops::Elsewhere(need)),
            _ => Ok(()),
        }
    }

    #[cold]
    pub(super) fn too_long(&self) -> Oops {
        let room = self.talk.room;
        Oops::Told(match self.talk.crowded {
            Some(over) => format!("ERR no long replies are given before others are read: {over}"),
            None => format!(
                "ERR the reply has more than the {room} bytes that one user may have queued: ask for \
                 less at once, or raise limits.queued_bytes"
            ),
        })
    }
}

/// What became of it.
pub(super) type Answer = Result<(), Oops>;

/// Why a command is not done, in the words that clients know.
#[derive(Debug)]
pub(super) enum Oops {
    /// There is no such command.
    Unknown(String),
    /// It takes another number of arguments.
    Arity(&'static str),
    /// Who are you?
    NoAuth,
    /// Arguments that do not fit together.
    Syntax,
    /// Nothing was done, since it needs what it does not have here: it is asked again.
    Elsewhere(Resource),
    /// The keyspace says no.
    Fault(Fault),
    /// Anything else, its class in front.
    Text(&'static str),
    /// The same with something in it.
    Told(String),
}

impl Oops {
    /// For a name that is not in the table.
    #[cold]
    pub(super) fn unknown(args: Args<'_>) -> Self {
        let shown =
            |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..128).unwrap_or(bytes)).into_owned();
        let mut text =
            format!("ERR unknown command '{}', with args beginning with: ", shown(args.at(0)));
        for arg in args.from(1).iter() {
            if text.len() > 128 {
                break;
            }
            text.push('\'');
            text.push_str(&shown(arg));
            text.push_str("' ");
        }
        Self::Unknown(text)
    }
}

impl From<Fault> for Oops {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Locked => Self::Elsewhere(Resource::Locks),
            fault => Self::Fault(fault),
        }
    }
}

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Unknown(text) | Self::Told(text) => text,
            Self::Arity(name) => {
                return write!(f, "ERR wrong number of arguments for '{name}' command");
            }
            Self::NoAuth => "NOAUTH Authentication required.",
            // Not told to anybody.
            Self::Elsewhere(_) => "ERR try again",
            Self::Syntax => "ERR syntax error",
            Self::Text(text) => text,
            Self::Fault(fault) => return say(fault, f),
        };
        f.write_str(text)
    }
}

fn say(fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match fault {
        Fault::NotInteger => "ERR value is not an integer or out of range",
        Fault::Overflow => "ERR increment or decrement would overflow",
        Fault::NotNumber => "ERR value is not a valid float",
        Fault::NotFinite => "ERR increment would produce NaN or Infinity",
        Fault::TooLong { .. } => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        Fault::Locked => "ERR somebody holds these keys for long: try again",
        Fault::NoKey => "ERR no such key",
        Fault::Full { .. } => "OOM command not allowed when used memory > 'maxmemory'.",
        Fault::BadExpiry => "ERR invalid expire time",
        Fault::Journal { .. } => return write!(f, "MISCONF {fault}"),
        Fault::Io(error) => return write!(f, "ERR {error}"),
    })
}

/// What copying so many bytes needs.
#[inline]
pub(super) const fn copying(bytes: u64) -> Option<Resource> {
    if bytes <= MUCH {
        None
    } else if bytes <= VAST {
        Some(Resource::Copies)
    } else {
        Some(Resource::Time)
    }
}

/// An integer argument.
pub(super) fn integer(arg: &[u8]) -> Result<i64, Oops> {
    kv::integer(arg).ok_or(Oops::Fault(Fault::NotInteger))
}
