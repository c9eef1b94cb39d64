//! SLOWLOG: commands that took long, the newest first, as Redis has them.
//!
//! Noted are those that helpers did, an EXEC as one: what a worker does in its turn was told to be short
//! before it began, and two looks at the clock would be a good part of it. Waiting for the keys' locks
//! counts; waiting for a helper, and for the journal's disk, does not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use objmapper::kv::Keyspace;
use objmapper_proto::resp::Args;
use parking_lot::Mutex;

use super::call::{Answer, Call, Oops, integer};
use super::table::{self, Flags};
use crate::session::keys::Talk;

/// Entries that may be kept at most, each of some 4 KiB. Not tuned.
pub(super) const MOST: usize = 1024;

/// Arguments that are kept of a command, as Redis does.
const ARGUMENTS: usize = 32;

/// Bytes that are kept of an argument, as Redis does.
const BYTES: usize = 128;

/// Entries that are given to who does not say how many.
const USUAL: i64 = 10;

/// See above.
#[derive(Debug)]
pub struct SlowLog {
    /// Microseconds from which on a command is noted; negative: none is.
    slower_than: AtomicI64,
    /// Entries that are kept.
    longest: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: i64,
    /// The newest in front.
    ring: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    /// Seconds since 1970.
    at: i64,
    micros: i64,
    args: Vec<Vec<u8>>,
    peer: String,
    name: Vec<u8>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self { slower_than: 10_000.into(), longest: 128.into(), entries: Mutex::default() }
    }
}

impl SlowLog {
    /// Microseconds from which on a command is noted.
    pub(super) fn slower_than(&self) -> i64 {
        self.slower_than.load(Ordering::Relaxed)
    }

    /// Another number from now on.
    pub(super) fn set_slower_than(&self, micros: i64) {
        self.slower_than.store(micros, Ordering::Relaxed);
    }

    /// Entries that are kept.
    pub(super) fn longest(&self) -> usize {
        self.longest.load(Ordering::Relaxed)
    }

    /// Another number from now on.
    pub(super) fn set_longest(&self, entries: usize) {
        self.longest.store(entries, Ordering::Relaxed);
        self.entries.lock().ring.truncate(entries);
    }

    /// Notes a command, if it took long; not one that may say a password.
    pub(super) fn note(&self, talk: &Talk, args: Args<'_>, took: Duration) {
        let micros = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let secret = table::of(args).is_none_or(|command| command.flags.has(Flags::NO_AUTH));
        if !(0..=micros).contains(&self.slower_than()) || secret {
            return;
        }
        let (at, args) = (Keyspace::now() / 1000, kept(args));
        let peer = talk.member.origin.peer.clone();
        let name = talk.member.names.lock().own.clone();
        let mut entries = self.entries.lock();
        let id = entries.next;
        entries.next += 1;
        entries.ring.push_front(Entry { id, at, micros, args, peer, name });
        entries.ring.truncate(self.longest());
    }
}

/// The arguments, cut where there are many, and where they are long.
fn kept(args: Args<'_>) -> Vec<Vec<u8>> {
    let all = args.len();
    let shown = if all > ARGUMENTS { ARGUMENTS - 1 } else { all };
    let mut kept: Vec<Vec<u8>> = args
        .iter()
        .take(shown)
        .map(|arg| match arg.split_at_checked(BYTES) {
            Some((begin, rest)) if !rest.is_empty() => {
                [begin, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
            }
            _ => arg.to_vec(),
        })
        .collect();
    if shown < all {
        kept.push(format!("... ({} more arguments)", all - shown).into_bytes());
    }
    kept
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let count = match call.args.len() {
        2 => USUAL,
        3 => integer(call.args.at(2))?,
        _ => return Err(Oops::Syntax),
    };
    if count < -1 {
        return Err(Oops::Text("ERR count should be greater than or equal to -1"));
    }
    let entries = call.key_service.slow.entries.lock();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(entries.ring.len());
    call.out.array(count);
    for entry in entries.ring.iter().take(count) {
        call.out.array(6);
        for number in [entry.id, entry.at, entry.micros] {
            call.out.integer(number);
        }
        call.out.array(entry.args.len());
        for arg in &entry.args {
            call.out.bulk(arg);
        }
        call.out.bulk(entry.peer.as_bytes());
        call.out.bulk(&entry.name);
    }
    Ok(())
}

pub(super) fn len(call: &mut Call<'_, '_>) -> Answer {
    let count = call.key_service.slow.entries.lock().ring.len();
    call.count(count);
    Ok(())
}

pub(super) fn reset(call: &mut Call<'_, '_>) -> Answer {
    call.key_service.slow.entries.lock().ring.clear();
    call.out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_command_the_beginning_is_kept() {
        let word = [b'a'; 2 * BYTES];
        let ranges = |length: usize, count: usize| vec![0..length; count];
        for (length, count) in [(BYTES, 1), (BYTES, ARGUMENTS)] {
            assert_eq!(
                kept(Args::new(&word, &ranges(length, count))),
                vec![vec![b'a'; length]; count]
            );
        }
        let all = kept(Args::new(&word, &ranges(BYTES + 1, ARGUMENTS + 1)));
        assert_eq!(all.len(), ARGUMENTS);
        let shown: Vec<_> = all.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        assert!(shown[0].ends_with("aaa... (1 more bytes)"), "{}", shown[0]);
        assert_eq!(shown[ARGUMENTS - 1], "... (2 more arguments)");
    }
}
