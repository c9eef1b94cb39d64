//! What the limits come to: numbers for those that the settings leave open, and whether
//! RLIMIT_NOFILE is enough for all of them at once.

use objmapper_os::fds::MAX_PER_MESSAGE;

use crate::budget::{Budget, Share, Words};
use crate::config::{Limits, Settings};
use crate::ledger;
use crate::service::Budgets;

/// Descriptors that are not for connections: roots, epoll instances, logs. Counted
/// generously.
const OWN_DESCRIPTORS: usize = 64;

/// One user may have so many times the connections, or bodies, that are left: alone two
/// thirds of all. Many services have all their clients under one user.
const TIMES: usize = 3;

/// What may be used up, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Descriptors in flight.
    pub in_flight: ledger::Limits,
    /// Bodies under way.
    pub bodies: usize,
    /// Open file descriptions that are kept to be shared.
    pub shared: usize,
}

/// A line of the sum: what, its setting or none, and how many descriptors that can take.
type Term = (&'static str, &'static str, usize);

impl Allowance {
    /// Adds up who may hold descriptors at the same time, and compares the sum with what
    /// the kernel allows.
    pub fn new(settings: &Settings, nofile: u64) -> anyhow::Result<Self> {
        room_for_mounts(settings.mounts.len(), nofile)?;
        let nofile = usize::try_from(nofile).unwrap_or(usize::MAX);
        let l = &settings.limits;
        let total = if l.descriptors_in_flight == 0 { nofile / 2 } else { l.descriptors_in_flight };
        let bodies = if l.bodies == 0 { (nofile / 4).min(l.connections).max(1) } else { l.bodies };
        // They can be had again at the cost of an open, and are the first to do without.
        let shared = l.shared_descriptors.min(nofile / 4);
        let is_used = settings.mounts.iter().any(|mount| mount.shared);
        if is_used && shared < l.shared_descriptors {
            tracing::info!(
                "{shared} files are kept to be shared, a quarter of RLIMIT_NOFILE {nofile}, and not \
                 the {} of limits.shared_descriptors",
                l.shared_descriptors
            );
        }
        let terms = [
            ("our own", "", OWN_DESCRIPTORS + settings.mounts.len()),
            ("connections", "limits.connections", l.connections),
            ("files of bodies under way", "limits.bodies", bodies),
            ("waiting to be sent", "limits.descriptors_in_flight", total),
            ("kept to be shared", "limits.shared_descriptors", if is_used { shared } else { 0 }),
        ];
        let sum: usize = terms.iter().map(|(.., n)| n).sum();
        for line in table(&terms, sum, nofile).lines() {
            tracing::debug!("{line}");
        }
        if sum > nofile {
            tracing::info!(
                "RLIMIT_NOFILE {nofile} is below the {sum} descriptors that the limits could use; \
                 clients are told BUSY first (raise it, or lower limits.connections; a table of \
                 them is logged at level debug)"
            );
        }
        anyhow::ensure!(
            total < nofile,
            "limits.descriptors_in_flight is {total}, RLIMIT_NOFILE {nofile}: the kernel would refuse to \
             send first; lower the one or raise the other"
        );
        let per_user = match Share::of_setting(l.descriptors_per_uid, 1) {
            Share::AtMost(n) => Share::AtMost(n.max(MAX_PER_MESSAGE)),
            left @ Share::Left(_) => left,
        };
        // A message must fit, or its connection would wait for ever.
        let in_flight = ledger::Limits {
            total: total.max(MAX_PER_MESSAGE),
            per_user,
            per_connection: l.descriptors_per_connection.max(MAX_PER_MESSAGE),
        };
        Ok(Self { in_flight, bodies, shared })
    }

    /// The budgets, nothing of them used.
    pub fn budgets(&self, limits: &Limits) -> Budgets {
        let connections = Words {
            what: "connections open",
            limit: "limits.connections",
            share: "limits.connections_per_uid",
        };
        let bodies =
            Words { what: "bodies under way", limit: "limits.bodies", share: "limits.bodies" };
        let queued = Words {
            what: "bytes queued",
            limit: "limits.queued_bytes",
            share: "limits.queued_bytes",
        };
        let of_a_user = Share::of_setting(limits.connections_per_uid, TIMES);
        Budgets {
            connections: Budget::new(connections, limits.connections, of_a_user),
            bodies: Budget::new(bodies, self.bodies, Share::Left(TIMES)),
            queued: Budget::new(queued, limits.queued_bytes, Share::Left(1)),
        }
    }
}

/// There must be descriptors left for a message beside so many mounts.
pub fn room_for_mounts(mounts: usize, nofile: u64) -> anyhow::Result<()> {
    let least = OWN_DESCRIPTORS + mounts + MAX_PER_MESSAGE;
    anyhow::ensure!(
        nofile > least as u64,
        "RLIMIT_NOFILE is {nofile}, more than {least} are needed: raise it (LimitNOFILE=, ulimit -n)"
    );
    Ok(())
}

/// The sum, a line for each term.
fn table(terms: &[Term], sum: usize, nofile: usize) -> String {
    let line = |(what, setting, n): Term| format!("{n:>10}  {what:<26} {setting}\n");
    let head = "descriptors that the limits could use at once:\n".to_owned();
    let rest = [("in all", "", sum), ("allowed", "RLIMIT_NOFILE", nofile)];
    terms.iter().chain(&rest).fold(head, |text, term| text + line(*term).trim_end() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_a_table() {
        let terms = [("our own", "", 65), ("connections", "limits.connections", 16384)];
        assert_eq!(
            table(&terms, 16449, 1024),
            "descriptors that the limits could use at once:\n\
             \x20       65  our own\n\
             \x20    16384  connections                limits.connections\n\
             \x20    16449  in all\n\
             \x20     1024  allowed                    RLIMIT_NOFILE\n"
        );
    }
}
