//! Admission: whose errand a helper runs next, as plain data.
//!
//! Errands wait in accounts, one for each user on each mount. What must stay true:
//! - a mount has at most so many errands running: if it hangs, these hang, and the others of
//!   its errands wait; everybody else's go on;
//! - one user has at most so many of them: the rest is for others on the same mount;
//! - what takes long with keys has few threads, and one user one fewer: it needs a CPU rather than
//!   a disk, and workers need CPUs too; those who copy a long value have as many again, so that none
//!   waits behind a pass over all keys;
//! - destinations that users passed have threads of each user's own: nobody waits for another's;
//! - accounts take turns, so that a user with many errands delays another by one.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use objmapper::{MountId, Patience};

use crate::metrics::AnswerCounters;

/// Errands to destinations that run at the same time: as many again are left for mounts. Not tuned.
const DESTINATIONS: usize = 128;

/// Those who wait for the journal's disk at the same time: their threads only sleep. One user may be half
/// of them. Not tuned.
const SYNCS: usize = 128;

/// What an errand may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A disk, or whoever answers for a file system.
    Mount(MountId),
    /// Descriptors that the user passed: nobody else has to do with what they do.
    Destination,
    /// The journal's disk: for those who asked to wait for it.
    Journal,
    /// Time: what takes long with keys, however long.
    Time,
    /// Time as well, and little of it: long values that are copied.
    Copies,
    /// Keys that somebody else holds for long.
    Locks,
    /// The locks of all shards, one after the other.
    Shards,
}

impl Resource {
    /// For what a helper may wait that has such an errand: for that mount, and for no other.
    pub fn patience(self) -> Patience {
        Patience::For(match self {
            Self::Mount(mount) => mount,
            Self::Destination
            | Self::Journal
            | Self::Time
            | Self::Copies
            | Self::Locks
            | Self::Shards => MountId::default(),
        })
    }

    /// Counts a request that goes to a helper.
    pub fn count(self, counters: &AnswerCounters) {
        counters.errands.add(1);
        match self {
            Self::Time | Self::Copies => counters.long.add(1),
            Self::Locks => counters.locked.add(1),
            Self::Mount(_) | Self::Destination | Self::Journal | Self::Shards => {}
        }
    }
}

impl Default for Resource {
    /// No mount at all.
    fn default() -> Self {
        Self::Mount(MountId::default())
    }
}

/// Whose errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account {
    /// Where it waits.
    pub resource: Resource,
    /// For whom.
    pub uid: u32,
}

/// An errand that runs; give it back to [`Admission::done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    account: Account,
    since: Instant,
}

/// Errands that wait, and a count of those that run.
#[derive(Debug)]
pub struct Admission<T> {
    per_mount: usize,
    /// For what takes long with keys; and for copies of long values.
    long: usize,
    waiting: HashMap<Account, VecDeque<T>>,
    /// Accounts with something waiting, in turn.
    turns: VecDeque<Account>,
    running: Vec<Ticket>,
}

impl<T> Admission<T> {
    /// With at most so many running for one mount, and so many that take long with keys; one user
    /// has one less, if there is one less.
    pub fn new(per_mount: usize, long: usize) -> Self {
        let (waiting, turns, running) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { per_mount: per_mount.max(1), long: long.max(1), waiting, turns, running }
    }

    /// One more that waits.
    pub fn push(&mut self, account: Account, errand: T) {
        let queue = self.waiting.entry(account).or_default();
        if queue.is_empty() {
            self.turns.push_back(account);
        }
        queue.push_back(errand);
    }

    /// Whether [`Self::next`] would give one.
    pub fn is_ready(&self) -> bool {
        self.turns.iter().any(|&account| self.may_run(account))
    }

    /// The next that may run.
    pub fn next(&mut self, now: Instant) -> Option<(Ticket, T)> {
        let at = self.turns.iter().position(|&account| self.may_run(account))?;
        let account = self.turns.remove(at)?;
        let queue = self.waiting.get_mut(&account)?;
        let errand = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&account);
        } else {
            self.turns.push_back(account);
        }
        let ticket = Ticket { account, since: now };
        self.running.push(ticket);
        Some((ticket, errand))
    }

    /// One has run.
    pub fn done(&mut self, ticket: Ticket) {
        if let Some(at) = self.running.iter().position(|&known| known == ticket) {
            self.running.swap_remove(at);
        }
    }

    /// Forgets what waits, and gives it back.
    pub fn clear(&mut self) -> impl Iterator<Item = T> {
        self.turns.clear();
        std::mem::take(&mut self.waiting).into_values().flatten()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Since when the one runs that has run longest.
    pub fn oldest(&self) -> Option<Instant> {
        self.running.iter().map(|ticket| ticket.since).min()
    }

    fn may_run(&self, account: Account) -> bool {
        let there = self.running.iter().filter(|t| t.account.resource == account.resource);
        let (mut all, mut own) = (0, 0);
        for ticket in there {
            all += 1;
            own += usize::from(ticket.account.uid == account.uid);
        }
        let (most, own_most) = match account.resource {
            Resource::Mount(_) | Resource::Locks | Resource::Shards => {
                (self.per_mount, self.per_mount)
            }
            Resource::Journal => (SYNCS, SYNCS / 2 + 1),
            Resource::Destination => (DESTINATIONS, self.per_mount),
            Resource::Time | Resource::Copies => (self.long, self.long),
        };
        all < most && own < own_most.saturating_sub(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper::{Links, Mount, Rules, Tree};
    use std::path::Path;
    use std::sync::Arc;

    fn account(prefix: &str, uid: u32) -> Account {
        let tree = Arc::new(Tree::open(Path::new("/"), Links::Refuse).unwrap());
        let mount = Mount::new(prefix.parse().unwrap(), tree, Rules::owner_only()).id();
        Account { resource: Resource::Mount(mount), uid }
    }

    fn all<T>(admission: &mut Admission<T>) -> Vec<T> {
        std::iter::from_fn(|| admission.next(Instant::now())).map(|(_, errand)| errand).collect()
    }

    #[test]
    fn a_mount_that_hangs_stops_its_own_errands_only() {
        let mut admission = Admission::new(4, 2);
        for n in 0..10 {
            admission.push(account("/hung", n), "hung");
        }
        assert_eq!(all(&mut admission), ["hung"; 4]);
        assert!(!admission.is_ready());
        admission.push(account("/other", 0), "other");
        assert!(admission.is_ready());
        assert_eq!(all(&mut admission), ["other"]);
        assert_eq!((admission.waiting(), admission.running()), (6, 5));
    }

    #[test]
    fn one_user_leaves_one_of_a_mount_to_others() {
        let mut admission = Admission::new(4, 2);
        for _ in 0..10 {
            admission.push(account("/", 1), 1);
        }
        assert_eq!(all(&mut admission), [1; 3]);
        admission.push(account("/", 2), 2);
        assert_eq!(all(&mut admission), [2]);
    }

    #[test]
    fn a_users_destinations_are_nobody_elses_business() {
        let mut admission = Admission::new(4, 2);
        let to = |uid| Account { resource: Resource::Destination, uid };
        for _ in 0..10 {
            (1..=5).for_each(|uid| admission.push(to(uid), uid));
        }
        let mut running = all(&mut admission);
        running.sort_unstable();
        assert_eq!(running, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]);
        (10..200).for_each(|uid| admission.push(to(uid), uid));
        all(&mut admission);
        assert_eq!(admission.running(), DESTINATIONS);
        admission.push(account("/", 1), 1);
        assert_eq!(all(&mut admission), [1], "the rest of the threads is for mounts");
    }

    #[test]
    fn what_takes_long_has_threads_of_its_own_and_one_user_not_all_of_them() {
        let mut admission = Admission::new(4, 2);
        let of = |resource, uid| Account { resource, uid };
        for uid in [1, 1, 2, 3] {
            admission.push(of(Resource::Time, uid), "long");
        }
        assert_eq!(all(&mut admission), ["long"; 2], "one of user 1, one of user 2");
        for uid in [1, 1, 2, 3] {
            admission.push(of(Resource::Copies, uid), "copy");
        }
        assert_eq!(all(&mut admission), ["copy"; 2], "they do not wait for those");
        for _ in 0..10 {
            admission.push(of(Resource::Locks, 1), "short");
        }
        assert_eq!(all(&mut admission), ["short"; 3], "they wait for others' keys only");
        assert_eq!(admission.waiting(), 11);
    }

    #[test]
    fn a_single_helper_serves_a_single_user() {
        let mut admission = Admission::new(1, 2);
        admission.push(account("/", 1), 1);
        assert_eq!(all(&mut admission), [1]);
    }

    #[test]
    fn accounts_take_turns() {
        let mut admission = Admission::new(1, 2);
        for n in [10, 11, 12] {
            admission.push(account("/", 1), n);
        }
        admission.push(account("/", 2), 20);
        let mut order = Vec::new();
        while let Some((ticket, errand)) = admission.next(Instant::now()) {
            order.push(errand);
            admission.done(ticket);
        }
        assert_eq!(order, [10, 20, 11, 12]);
        assert_eq!((admission.waiting(), admission.running(), admission.oldest()), (0, 0, None));
    }

    #[test]
    fn the_one_that_runs_longest_is_known() {
        let mut admission = Admission::new(4, 2);
        admission.push(account("/", 1), ());
        admission.push(account("/", 2), ());
        let start = Instant::now();
        let (first, ()) = admission.next(start).unwrap();
        admission.next(start + std::time::Duration::from_secs(1)).unwrap();
        assert_eq!(admission.oldest(), Some(start));
        admission.done(first);
        assert_eq!(admission.oldest(), Some(start + std::time::Duration::from_secs(1)));
    }
}
