//! What the limits come to if all of them are used up at once: descriptors, and memory. A line for each
//! term: how much that can be, of what, and which setting bounds it.
//!
//! Bounds, not expectations. A send buffer takes what its client has not read, the index what
//! was asked for, and a connection that waits has neither.

use std::fmt::{self, Display};

use bytesize::ByteSize;
use objmapper_os::socket::Stream;

use super::{Allowance, OWN_DESCRIPTORS};
use crate::config::Settings;
use crate::connection::Connection;
use crate::input::LITTLE;

/// Both sums. Displays as two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    descriptors: Vec<Term>,
    memory: Vec<Term>,
    nofile: u64,
}

/// A line of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    what: &'static str,
    /// The setting that bounds it, if one does.
    limit: &'static str,
    most: u64,
}

const fn term(what: &'static str, limit: &'static str, most: usize) -> Term {
    Term { what, limit, most: most as u64 }
}

impl Sums {
    /// Of these settings, which come to this allowance.
    pub(super) fn new(settings: &Settings, allowance: &Allowance, nofile: u64) -> Self {
        let l = &settings.limits;
        let is_shared = settings.mounts.iter().any(|mount| mount.shared);
        let shared = if is_shared { allowance.shared } else { 0 };
        let in_flight = allowance.in_flight.total;
        let each = |bytes: usize| l.connections.saturating_mul(bytes);
        let mut sums = Self {
            descriptors: vec![
                term("our own", "", OWN_DESCRIPTORS + settings.mounts.len()),
                term("connections", "limits.connections", l.connections),
                term("files of bodies under way", "limits.bodies", allowance.bodies),
                term("their destinations", "limits.bodies", allowance.bodies),
                term("waiting to be sent", "limits.descriptors_in_flight", in_flight),
                term("kept to be shared", "limits.shared_descriptors", shared),
            ],
            memory: vec![
                term(
                    "replies in send buffers",
                    "limits.connections x limits.send_buffer",
                    each(send_buffer(l.send_buffer)),
                ),
                term("replies and requests kept", "limits.queued_bytes", allowance.queued),
                term("requests that have begun", "limits.connections", each(LITTLE)),
                term("state of connections", "limits.connections", each(size_of::<Connection>())),
                term("names", "limits.index_bytes", index(settings)),
                // Bodies go from files to sockets directly.
                term("pages in pipes", "", 0),
            ],
            nofile,
        };
        if allowance.sealed > 0 {
            sums.descriptors.push(term("large values of keys", "", allowance.sealed));
            let bytes = usize::try_from(settings.kv.max_memory).unwrap_or(usize::MAX);
            sums.memory.extend((bytes > 0).then(|| term("keys", "kv.max_memory", bytes)));
        }
        sums
    }

    /// Descriptors that can be open at once.
    pub fn descriptors(&self) -> u64 {
        sum(&self.descriptors)
    }
}

fn index(settings: &Settings) -> usize {
    if settings.limits.index_entries == 0 { 0 } else { settings.limits.index_bytes }
}

fn sum(terms: &[Term]) -> u64 {
    terms.iter().fold(0, |sum, term| sum.saturating_add(term.most))
}

/// Bytes that the kernel lets wait for a client that does not read, its own overhead counted: asked
/// of a socket, since it cuts what is asked for. 0 where there is no socket to be had.
fn send_buffer(wanted: usize) -> usize {
    let asked = Stream::pair().and_then(|(socket, _)| socket.grow_send_buffer(wanted.max(1)));
    asked.unwrap_or(0)
}

impl Display for Sums {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = |most, limit| {
            [
                Term { what: "in all", limit: "", most },
                Term { what: "allowed", limit, most: self.nofile },
            ]
        };
        let [all, allowed] = rest(self.descriptors(), "RLIMIT_NOFILE");
        writeln!(out, "descriptors that the limits could use at once:")?;
        lines(out, &self.descriptors, |n| n.to_string())?;
        lines(out, &[all, allowed], |n| n.to_string())?;
        let [all, _] = rest(sum(&self.memory), "");
        let bytes = |n: u64| ByteSize::b(n).display().iec().to_string();
        writeln!(out, "memory that the limits could use at once:")?;
        lines(out, &self.memory, bytes)?;
        lines(out, &[all], bytes)
    }
}

fn lines(
    out: &mut fmt::Formatter<'_>,
    terms: &[Term],
    shown: impl Fn(u64) -> String,
) -> fmt::Result {
    for Term { what, limit, most } in terms {
        let line = format!("{:>10}  {what:<26} {limit}", shown(*most));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_tables() {
        let sums = Sums {
            descriptors: vec![
                term("our own", "", 65),
                term("connections", "limits.connections", 16384),
            ],
            memory: vec![
                term("names", "limits.index_bytes", 64 << 20),
                term("pages in pipes", "", 0),
            ],
            nofile: 1024,
        };
        assert_eq!(
            sums.to_string(),
            "descriptors that the limits could use at once:\n\
             \x20       65  our own\n\
             \x20    16384  connections                limits.connections\n\
             \x20    16449  in all\n\
             \x20     1024  allowed                    RLIMIT_NOFILE\n\
             memory that the limits could use at once:\n\
             \x20 64.0 MiB  names                      limits.index_bytes\n\
             \x20      0 B  pages in pipes\n\
             \x20 64.0 MiB  in all\n"
        );
    }

    /// What is printed bounds what the kernel takes.
    #[test]
    fn a_send_buffer_takes_no_more_than_is_said() {
        let said = send_buffer(1 << 20);
        let (one, _other) = Stream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        one.grow_send_buffer(1 << 20).unwrap();
        let mut message = 0;
        while let Ok(sent) = one.send(&[0; 4096], &[], false) {
            message = sent;
        }
        let waits = one.unread().unwrap();
        assert!(waits > 0 && waits <= said + 2 * message, "{waits} of {said}");
    }
}
