//! What the limits come to: numbers for those that the settings leave open, and whether
//! RLIMIT_NOFILE is enough for all of them at once.

mod sum;

use objmapper_os::fds::MAX_PER_MESSAGE;

use crate::budget::{Budget, Share, Words};
use crate::config::{Limits, Settings};
use crate::ledger;
use crate::service::Budgets;
pub use sum::Sums;

/// Descriptors that are not for connections: roots, epoll instances, logs. Counted
/// generously.
const OWN_DESCRIPTORS: usize = 64;

/// One user may have so many times the connections, or bodies, that are left: alone two
/// thirds of all. Many services have all their clients under one user.
const TIMES: usize = 3;

/// Bytes that are queued, where nothing else is said: some hundred requests of the largest size.
const QUEUED: usize = 64 << 20;

/// The same where values can be set: one user alone has room for a value of the largest size,
/// 512 MiB, and something beside it.
const QUEUED_WITH_KEYS: usize = 2 << 30;

/// What may be used up, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Descriptors in flight.
    pub in_flight: ledger::Limits,
    /// Bodies under way.
    pub bodies: usize,
    /// Open file descriptions that are kept to be shared.
    pub shared: usize,
    /// Bytes of unfinished requests and unsent replies.
    pub queued: usize,
    /// Values of keys that lie in sealed memory.
    pub sealed: usize,
}

impl Allowance {
    /// Numbers for what the settings leave open, where the kernel allows so many descriptors; `keys`:
    /// clients may set values.
    pub fn new(settings: &Settings, nofile: u64, keys: bool) -> anyhow::Result<Self> {
        room_for_mounts(settings.mounts.len(), nofile)?;
        let nofile = usize::try_from(nofile).unwrap_or(usize::MAX);
        let l = &settings.limits;
        let total = if l.descriptors_in_flight == 0 { nofile / 2 } else { l.descriptors_in_flight };
        let bodies = if l.bodies == 0 { (nofile / 4).min(l.connections).max(1) } else { l.bodies };
        // They can be had again at the cost of an open, and are the first to do without.
        let shared = l.shared_descriptors.min(nofile / 4);
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
        let queued = match l.queued_bytes {
            0 if keys => QUEUED_WITH_KEYS,
            0 => QUEUED,
            bytes => bytes,
        };
        let sealed = if keys { objmapper::kv::Options::default().sealed } else { 0 };
        Ok(Self { in_flight, bodies, shared, queued, sealed })
    }

    /// What all limits come to together.
    pub fn sums(&self, settings: &Settings, nofile: u64) -> Sums {
        Sums::new(settings, self, nofile)
    }

    /// Says where the kernel allows less than the limits could use. The sums: at level debug.
    pub fn tell(&self, settings: &Settings, nofile: u64) {
        let sums = self.sums(settings, nofile);
        for line in sums.to_string().lines() {
            tracing::debug!("{line}");
        }
        let wanted = settings.limits.shared_descriptors;
        if settings.mounts.iter().any(|mount| mount.shared) && self.shared < wanted {
            tracing::info!(
                "{} files are kept open to be shared, a quarter of RLIMIT_NOFILE {nofile}, instead of the \
                 {wanted} of limits.shared_descriptors",
                self.shared
            );
        }
        let sum = sums.descriptors();
        if sum > nofile {
            tracing::info!(
                "RLIMIT_NOFILE {nofile} is below the {sum} descriptors that the limits could use; \
                 when it is used up, clients are told BUSY (raise it, or lower limits.connections; \
                 `objmapperd --check-config` shows the sum)"
            );
        }
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
            queued: Budget::new(queued, self.queued, Share::Left(1)),
        }
    }
}

/// The sums as remarks of a configuration file, with the RLIMIT_NOFILE of this process; or what is wrong
/// with that.
pub fn remarks(settings: &Settings) -> String {
    let said =
        objmapper_os::limits::nofile().map_err(anyhow::Error::from).and_then(|(_, nofile)| {
            let allowance = Allowance::new(settings, nofile, settings.kv.is_served())?;
            Ok(allowance.sums(settings, nofile).to_string())
        });
    let said = said.unwrap_or_else(|error| format!("Here it would not start: {error}\n"));
    said.lines().fold("\n".to_owned(), |text, line| text + "# " + line + "\n")
}

/// There must be descriptors left for a message beside so many mounts.
pub fn room_for_mounts(mounts: usize, nofile: u64) -> anyhow::Result<()> {
    let least = OWN_DESCRIPTORS + mounts + MAX_PER_MESSAGE;
    anyhow::ensure!(
        nofile > least as u64,
        "RLIMIT_NOFILE is {nofile} and must be more than {least}: raise it (LimitNOFILE=, ulimit -n)"
    );
    Ok(())
}
