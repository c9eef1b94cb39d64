//! All commands: name, number of arguments, what holds for it, where its keys are, and who does it.

use std::ptr;
use std::sync::LazyLock;

use objmapper::kv::Keyspace;
use objmapper_proto::resp::Args;

use super::Names;
use super::call::{Answer, Call, Oops};
use super::{
    catalog, client, connection, durability, expiry, general, info, lcs, numbers, object,
    parameters, ranges, server, slowlog, strings, survey, transaction,
};

/// What holds for a command, as clients know it from COMMAND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

#[allow(missing_docs)]
impl Flags {
    pub(super) const NONE: Self = Self(0);
    /// Changes nothing.
    pub(super) const READS: Self = Self(1);
    /// Changes keys.
    pub(super) const WRITES: Self = Self(2);
    /// May need room.
    pub(super) const GROWS: Self = Self(4);
    /// Takes the same time whatever there is.
    pub(super) const FAST: Self = Self(8);
    /// For those who have not said who they are, too.
    pub(super) const NO_AUTH: Self = Self(16);
    /// Done at once, also after MULTI.
    pub(super) const NOT_QUEUED: Self = Self(32);
    /// For who runs it, rather than for programs.
    pub(super) const ADMIN: Self = Self(64);
    /// Takes all locks of its database, in a transaction.
    pub(super) const WHOLE: Self = Self(128);
    /// Takes all locks of all databases, in a transaction.
    pub(super) const EVERYTHING: Self = Self(256);
    /// Not to be said after MULTI.
    pub(super) const NO_MULTI: Self = Self(512);
    /// Its second word is looked up as well, among [`SUBCOMMANDS`].
    pub(super) const CONTAINER: Self = Self(1024);
    /// Its second key may belong to another database, which its arguments say.
    pub(super) const ELSEWHERE: Self = Self(2048);
    /// May take long, or takes all locks one after the other.
    pub(super) const MAY_TAKE_LONG: Self = Self(4096);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One row.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Arguments, the name included; negative: at least so many.
    pub(super) arity: i8,
    pub(super) flags: Flags,
    /// First key, last key (negative: from the end), and how far apart they are; zeros: no keys.
    pub(super) place: (i8, i8, i8),
    pub(super) run: for<'a, 'k, 'c> fn(&'c mut Call<'a, 'k>) -> Answer,
}

impl Command {
    /// Whether it takes so many arguments.
    #[inline]
    pub(super) fn takes(&self, count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// Its second words.
    pub(super) fn subcommands(&self) -> impl Iterator<Item = &'static Self> + use<> {
        let name = self.name;
        let own = move |row: &&Self| {
            let (first, _) = row.name.split_once('|').unwrap_or_default();
            first == name
        };
        SUBCOMMANDS.iter().filter(own)
    }

    /// Whether this is its second word, in any case.
    fn is_called(&self, word: &[u8]) -> bool {
        let (_, second) = self.name.split_once('|').unwrap_or_default();
        second.as_bytes().eq_ignore_ascii_case(word)
    }

    /// Whether what is under one of its keys may be under the other then.
    pub(super) fn gives_another_key(&self) -> bool {
        self.flags.has(Flags::WRITES) && (self.flags.has(Flags::ELSEWHERE) || self.place == TWO)
    }

    /// How many keys it has among the arguments, at most.
    pub(super) fn count_keys(&self, args: Args<'_>) -> usize {
        match self.place {
            (0, ..) => 0,
            _ if self.flags.has(Flags::ELSEWHERE) => 2,
            (first, last, _) if last >= first => usize::from((last - first).unsigned_abs()) + 1,
            _ => args.len(),
        }
    }

    /// Its keys among the arguments.
    #[inline]
    pub(super) fn keys<'a>(&self, keyspace: &Keyspace, db: u8, args: Args<'a>) -> Names<'a> {
        let mut names = Names::new();
        if self.flags.has(Flags::ELSEWHERE) {
            let other = general::elsewhere(args, db);
            let to = if self.place == ONE { args.at(1) } else { args.at(2) };
            names.extend([keyspace.key(db, args.at(1)), keyspace.key(other, to)]);
            return names;
        }
        match self.place {
            (0, ..) => {}
            (1, 1, _) => names.push(keyspace.key(db, args.at(1))),
            (first, last, step) => {
                let first = usize::from(first.unsigned_abs());
                let back = usize::from(last.unsigned_abs());
                let end = if last < 0 { (args.len() + 1).saturating_sub(back) } else { back + 1 };
                let step = usize::from(step.unsigned_abs()).max(1);
                let at = (first..end.min(args.len())).step_by(step);
                names.extend(at.map(|at| keyspace.key(db, args.at(at))));
            }
        }
        names
    }
}

/// Where no keys are.
const NOWHERE: (i8, i8, i8) = (0, 0, 0);
/// Where one key is.
pub(super) const ONE: (i8, i8, i8) = (1, 1, 1);
/// Where one is, behind a second word.
const SECOND: (i8, i8, i8) = (2, 2, 1);
/// Where two are.
const TWO: (i8, i8, i8) = (1, 2, 1);
/// Where each is followed by its value.
const PAIRS: (i8, i8, i8) = (1, -1, 2);
/// Where all arguments are keys.
const ALL: (i8, i8, i8) = (1, -1, 1);

const READS: Flags = Flags::READS;
const READS_FAST: Flags = Flags::READS.and(Flags::FAST);
const WRITES: Flags = Flags::WRITES;
const WRITES_FAST: Flags = Flags::WRITES.and(Flags::FAST);
const GROWS: Flags = Flags::WRITES.and(Flags::GROWS);
const ADMIN: Flags = Flags::ADMIN;
const CONTAINER: Flags = Flags::CONTAINER;
/// See [`Flags::MAY_TAKE_LONG`].
const LONG: Flags = Flags::MAY_TAKE_LONG;
/// Done at once, also after MULTI.
const AT_ONCE: Flags = Flags::FAST.and(Flags::NOT_QUEUED);
const GROWS_FAST: Flags = GROWS.and(Flags::FAST);

macro_rules! commands {
    ($($name:literal $arity:literal $flags:expr, $place:expr, $run:path;)*) => {
        &[$(Command { name: $name, arity: $arity, flags: $flags, place: $place, run: $run }),*]
    };
}

/// In the order of their names.
pub(super) static COMMANDS: &[Command] = commands! {
    "acl" -2 CONTAINER, NOWHERE, catalog::bare;
    "append" 3 GROWS_FAST, ONE, ranges::append;
    "auth" -2 Flags::FAST.and(Flags::NO_AUTH), NOWHERE, connection::auth;
    "bgrewriteaof" 1 ADMIN, NOWHERE, durability::bgrewriteaof;
    "bgsave" -1 ADMIN, NOWHERE, durability::bgsave;
    "client" -2 CONTAINER, NOWHERE, catalog::bare;
    "command" -1 CONTAINER, NOWHERE, catalog::all;
    "config" -2 CONTAINER, NOWHERE, catalog::bare;
    "copy" -3 GROWS.and(Flags::ELSEWHERE), TWO, general::copy;
    "dbsize" 1 READS_FAST.and(Flags::WHOLE).and(LONG), NOWHERE, survey::dbsize;
    "debug" -2 ADMIN, NOWHERE, server::debug;
    "decr" 2 GROWS_FAST, ONE, numbers::decr;
    "decrby" 3 GROWS_FAST, ONE, numbers::decrby;
    "del" -2 WRITES, ALL, general::del;
    "discard" 1 AT_ONCE, NOWHERE, transaction::discard;
    "echo" 2 Flags::FAST, NOWHERE, connection::echo;
    "exec" 1 Flags::NOT_QUEUED.and(LONG), NOWHERE, transaction::exec;
    "exists" -2 READS_FAST, ALL, general::exists;
    "expire" -3 WRITES_FAST, ONE, expiry::expire;
    "expireat" -3 WRITES_FAST, ONE, expiry::expireat;
    "expiretime" 2 READS_FAST, ONE, expiry::expiretime;
    "flushall" -1 WRITES.and(Flags::EVERYTHING).and(LONG), NOWHERE, survey::flushall;
    "flushdb" -1 WRITES.and(Flags::WHOLE).and(LONG), NOWHERE, survey::flushdb;
    "get" 2 READS_FAST, ONE, strings::get;
    "getdel" 2 WRITES_FAST, ONE, strings::getdel;
    "getex" -2 WRITES_FAST, ONE, strings::getex;
    "getrange" 4 READS, ONE, ranges::getrange;
    "getset" 3 GROWS_FAST, ONE, strings::getset;
    "hello" -1 Flags::FAST.and(Flags::NO_AUTH), NOWHERE, connection::hello;
    "incr" 2 GROWS_FAST, ONE, numbers::incr;
    "incrby" 3 GROWS_FAST, ONE, numbers::incrby;
    "incrbyfloat" 3 GROWS_FAST, ONE, numbers::incrbyfloat;
    "info" -1 Flags::EVERYTHING.and(LONG), NOWHERE, info::info;
    "keys" 2 READS.and(Flags::WHOLE).and(LONG), NOWHERE, survey::keys;
    "lastsave" 1 Flags::FAST, NOWHERE, durability::lastsave;
    "latency" -2 CONTAINER, NOWHERE, catalog::bare;
    "lcs" -3 READS.and(LONG), TWO, lcs::lcs;
    "memory" -2 CONTAINER, NOWHERE, catalog::bare;
    "mget" -2 READS_FAST, ALL, strings::mget;
    "module" -2 CONTAINER, NOWHERE, catalog::bare;
    "move" 3 WRITES_FAST.and(Flags::ELSEWHERE), ONE, general::relocate;
    "mset" -3 GROWS, PAIRS, strings::mset;
    "msetnx" -3 GROWS, PAIRS, strings::msetnx;
    "multi" 1 AT_ONCE, NOWHERE, transaction::multi;
    "object" -2 CONTAINER, NOWHERE, catalog::bare;
    "persist" 2 WRITES_FAST, ONE, expiry::persist;
    "pexpire" -3 WRITES_FAST, ONE, expiry::pexpire;
    "pexpireat" -3 WRITES_FAST, ONE, expiry::pexpireat;
    "pexpiretime" 2 READS_FAST, ONE, expiry::pexpiretime;
    "ping" -1 Flags::FAST, NOWHERE, connection::ping;
    "psetex" 4 GROWS, ONE, strings::psetex;
    "pttl" 2 READS_FAST, ONE, expiry::pttl;
    "quit" -1 AT_ONCE.and(Flags::NO_AUTH), NOWHERE, connection::quit;
    "randomkey" 1 READS.and(Flags::WHOLE).and(LONG), NOWHERE, survey::randomkey;
    "rename" 3 WRITES, TWO, general::rename;
    "renamenx" 3 WRITES_FAST, TWO, general::renamenx;
    "reset" 1 AT_ONCE.and(Flags::NO_AUTH), NOWHERE, connection::reset;
    "role" 1 Flags::FAST, NOWHERE, server::role;
    "save" 1 ADMIN.and(Flags::NO_MULTI), NOWHERE, durability::save;
    "scan" -2 READS.and(Flags::WHOLE), NOWHERE, survey::scan;
    "select" 2 Flags::FAST, NOWHERE, connection::select;
    "set" -3 GROWS, ONE, strings::set;
    "setex" 4 GROWS, ONE, strings::setex;
    "setnx" 3 GROWS_FAST, ONE, strings::setnx;
    "setrange" 4 GROWS, ONE, ranges::setrange;
    "shutdown" -1 ADMIN.and(Flags::NO_MULTI), NOWHERE, server::shutdown;
    "slowlog" -2 CONTAINER, NOWHERE, catalog::bare;
    "strlen" 2 READS_FAST, ONE, ranges::strlen;
    "substr" 4 READS, ONE, ranges::getrange;
    "time" 1 Flags::FAST, NOWHERE, server::time;
    "touch" -2 READS_FAST, ALL, general::touch;
    "ttl" 2 READS_FAST, ONE, expiry::ttl;
    "type" 2 READS_FAST, ONE, general::kind;
    "unlink" -2 WRITES_FAST, ALL, general::del;
    "unwatch" 1 Flags::FAST, NOWHERE, transaction::unwatch;
    "waitaof" 4 Flags::NONE, NOWHERE, durability::waitaof;
    "watch" -2 AT_ONCE, ALL, transaction::watch;
};

/// The second words, in the order of their names.
pub(super) static SUBCOMMANDS: &[Command] = commands! {
    "acl|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "acl|users" 2 ADMIN, NOWHERE, server::users;
    "acl|whoami" 2 Flags::NONE, NOWHERE, server::whoami;
    "client|getname" 2 Flags::NONE, NOWHERE, client::getname;
    "client|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "client|id" 2 Flags::NONE, NOWHERE, client::id;
    "client|info" 2 Flags::NONE, NOWHERE, client::info;
    "client|kill" -3 ADMIN, NOWHERE, client::kill;
    "client|list" -2 ADMIN, NOWHERE, client::list;
    "client|no-evict" 3 ADMIN, NOWHERE, client::no_evict;
    "client|no-touch" 3 Flags::NONE, NOWHERE, client::no_touch;
    "client|reply" 3 Flags::NONE, NOWHERE, client::reply;
    "client|setinfo" 4 Flags::NONE, NOWHERE, client::setinfo;
    "client|setname" 3 Flags::NONE, NOWHERE, client::setname;
    "command|count" 2 Flags::NONE, NOWHERE, catalog::count;
    "command|docs" -2 Flags::NONE, NOWHERE, catalog::docs;
    "command|getkeys" -4 Flags::NONE, NOWHERE, catalog::getkeys;
    "command|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "command|info" -2 Flags::NONE, NOWHERE, catalog::info;
    "command|list" -2 Flags::NONE, NOWHERE, catalog::list;
    "config|get" -3 ADMIN, NOWHERE, parameters::get;
    "config|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "config|resetstat" 2 ADMIN.and(Flags::EVERYTHING).and(LONG), NOWHERE, parameters::resetstat;
    "config|rewrite" 2 ADMIN, NOWHERE, parameters::rewrite;
    "config|set" -4 ADMIN, NOWHERE, parameters::set;
    "latency|doctor" 2 ADMIN, NOWHERE, server::latency_doctor;
    "latency|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "latency|history" 3 ADMIN, NOWHERE, server::none;
    "latency|latest" 2 ADMIN, NOWHERE, server::none;
    "latency|reset" -2 ADMIN, NOWHERE, server::zero;
    "memory|doctor" 2 Flags::NONE, NOWHERE, server::memory_doctor;
    "memory|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "memory|purge" 2 Flags::NONE, NOWHERE, server::memory_purge;
    "memory|stats" 2 Flags::EVERYTHING.and(LONG), NOWHERE, server::memory_stats;
    "memory|usage" -3 READS, SECOND, object::usage;
    "module|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "module|list" 2 ADMIN, NOWHERE, server::none;
    "object|encoding" 3 READS, SECOND, object::encoding;
    "object|freq" 3 READS, SECOND, object::freq;
    "object|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "object|idletime" 3 READS, SECOND, object::idletime;
    "object|refcount" 3 READS, SECOND, object::refcount;
    "slowlog|get" -2 ADMIN, NOWHERE, slowlog::get;
    "slowlog|help" 2 Flags::NONE, NOWHERE, catalog::help;
    "slowlog|len" 2 ADMIN, NOWHERE, slowlog::len;
    "slowlog|reset" 2 ADMIN, NOWHERE, slowlog::reset;
};

/// The row of what is said, its second word included where that has a row of its own.
#[inline]
pub(super) fn of(args: Args<'_>) -> Option<&'static Command> {
    let command = find(args.at(0))?;
    if command.flags.has(Flags::CONTAINER) && args.len() > 1 {
        return command.subcommands().find(|sub| sub.is_called(args.at(1)));
    }
    Some(command)
}

/// What is said of what has no row, in the words of Redis.
#[cold]
pub(super) fn unknown(args: Args<'_>) -> Oops {
    match find(args.at(0)) {
        Some(container) if container.flags.has(Flags::CONTAINER) => {
            let (name, word) = (container.name.to_ascii_uppercase(), args.at(1));
            let word = String::from_utf8_lossy(word.get(..128).unwrap_or(word));
            Oops::Told(format!("ERR unknown subcommand '{word}'. Try {name} HELP."))
        }
        _ => Oops::unknown(args),
    }
}

/// Where a row is: what a connection remembers of its last command.
#[inline]
pub(super) fn address(command: &'static Command) -> usize {
    ptr::from_ref(command).addr()
}

/// The name of the row at this address.
pub(super) fn name_at(address: usize) -> &'static str {
    let mut all = COMMANDS.iter().chain(SUBCOMMANDS);
    all.find(|row| ptr::from_ref(*row).addr() == address).map_or("NULL", |row| row.name)
}

/// The longest name.
const LONGEST: usize = 24;

/// The row of a name, in any case.
#[inline]
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    // Where the names begin that begin with a letter.
    static STARTS: LazyLock<[u8; 27]> = LazyLock::new(|| {
        let mut starts = [0; 27];
        for (letter, start) in starts.iter_mut().enumerate() {
            let before =
                |c: &&Command| c.name.bytes().next().is_some_and(|b| usize::from(b) < 97 + letter);
            *start = u8::try_from(COMMANDS.iter().filter(before).count()).unwrap_or(u8::MAX);
        }
        starts
    });
    if name.len() > LONGEST {
        return None;
    }
    let letter = usize::from(name.first()?.to_ascii_lowercase().checked_sub(b'a')?);
    let (from, to) = (*STARTS.get(letter)?, *STARTS.get(letter + 1)?);
    COMMANDS
        .get(usize::from(from)..usize::from(to))?
        .iter()
        .find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        assert!(COMMANDS.len() < 256);
        for command in COMMANDS {
            assert!(command.name.len() <= LONGEST);
            let upper = command.name.to_ascii_uppercase();
            for name in [command.name, &upper] {
                assert_eq!(find(name.as_bytes()).map(|found| found.name), Some(command.name));
            }
        }
        assert!(find(b"").is_none() && find(b"nothing").is_none() && find(b"\xff").is_none());
    }
}
