//! Descriptors in flight: sent, and not yet taken by their receivers.
//!
//! The kernel counts them against the *sender's user*, all connections together, and
//! refuses to send any more above RLIMIT_NOFILE (ETOOMANYREFS, unix(7)). Without a
//! ledger one client that never reads would stop descriptors for everybody.
//!
//! A charge is made before a descriptor is opened, since those that wait in an outbox
//! would else use up our own table, and stays until the kernel says that the peer has
//! read everything (SIOCOUTQ == 0). That is asked only near a limit, so the figures here
//! are upper bounds. Three limits: in all, per user, per connection. One user may by default
//! have as many as are left over, so that no number of users can have them all.
//!
//! What must stay true: nothing is refunded that may still be in flight. A tab that
//! is closed while it owes lives on as a debt, holding its socket, until that has
//! been read or the peer is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use objmapper_os::clock;
use objmapper_os::socket::Stream;
use parking_lot::Mutex;
use slab::Slab;

use crate::budget::Share;

/// Least time between two sweeps, in nanoseconds: a sweep of ten thousand connections
/// takes about as long. Not tuned.
const SWEEP_NS: u64 = 1_000_000;

/// The three limits, in descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all connections together.
    pub total: usize,
    /// Of all connections of one user.
    pub per_user: Share,
    /// Of one connection; at least one message's worth.
    pub per_connection: usize,
}

/// All that is in flight.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    total: AtomicUsize,
    users: Mutex<HashMap<u32, Arc<User>>>,
    entries: Mutex<Slab<Arc<Entry>>>,
    refusals: AtomicU64,
    /// When everybody was asked last.
    swept_ns: AtomicU64,
    /// Connections that are closed and still owe.
    debts: AtomicUsize,
}

#[derive(Debug, Default)]
struct User {
    in_flight: AtomicUsize,
}

/// What one connection owes.
#[derive(Debug)]
struct Entry {
    socket: Arc<Stream>,
    user: Arc<User>,
    owed: Owed,
    closed: AtomicBool,
}

/// A connection's account.
#[derive(Debug)]
pub struct Tab {
    ledger: Arc<Ledger>,
    entry: Arc<Entry>,
    key: usize,
    /// Charged and not sent.
    held: usize,
}

/// Above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Number in flight, whether a send is under way, and how often it was charged: one
/// word, so that a refund can tell that nothing has happened since it asked.
///
/// ```text
///  | charges (32) | in flight (31) | sending (1) |
/// ```
#[derive(Debug, Default)]
struct Owed(AtomicU64);

impl Owed {
    const CHARGE: u64 = 1 << 32;

    /// The lower half: what is in flight, and whether a send is under way.
    const LOWER: u64 = Self::CHARGE - 1;

    fn count(word: u64) -> usize {
        usize::try_from((word & Self::LOWER) >> 1).unwrap_or(usize::MAX)
    }

    fn charge(&self, n: usize) {
        self.0.fetch_add(Self::CHARGE | (n as u64) << 1 | 1, Ordering::AcqRel);
    }

    fn sent(&self) {
        self.0.fetch_and(!1, Ordering::AcqRel);
    }

    fn undo(&self, n: usize) {
        self.0.fetch_sub((n as u64) << 1 | 1, Ordering::AcqRel);
    }

    /// Forgets everything if `read` says, between two looks at the same word, that
    /// the peer has read all. Returns how many were in flight.
    fn settle(&self, read: impl FnOnce() -> bool) -> usize {
        let word = self.0.load(Ordering::Acquire);
        let nothing = word & Self::LOWER == 0;
        if nothing || word & 1 == 1 || !read() {
            return 0;
        }
        let cleared = word & !Self::LOWER;
        let swapped = self.0.compare_exchange(word, cleared, Ordering::AcqRel, Ordering::Relaxed);
        swapped.map_or(0, Self::count)
    }
}

impl Ledger {
    /// Nothing in flight yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            total: AtomicUsize::new(0),
            users: Mutex::new(HashMap::new()),
            entries: Mutex::new(Slab::new()),
            refusals: AtomicU64::new(0),
            swept_ns: AtomicU64::new(0),
            debts: AtomicUsize::new(0),
        })
    }

    /// An account for a connection of this user.
    pub fn open(self: &Arc<Self>, uid: u32, socket: Arc<Stream>) -> Tab {
        let user = self.users.lock().entry(uid).or_default().clone();
        let entry =
            Arc::new(Entry { socket, user, owed: Owed::default(), closed: AtomicBool::new(false) });
        let key = self.entries.lock().insert(entry.clone());
        Tab { ledger: self.clone(), entry, key, held: 0 }
    }

    /// Asks for every connection that owes whether its peer has read everything.
    /// Costs a system call each: for when a limit is near.
    pub fn sweep(&self) {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| {
            self.settle(entry);
            let paid = entry.closed.load(Ordering::Acquire) && entry.count() == 0;
            if paid {
                self.debts.fetch_sub(1, Ordering::Relaxed);
            }
            !paid
        });
    }

    /// Sweeps, unless that was done a moment ago or is being done: many connections may
    /// wait at the same limit.
    fn sweep_now_and_then(&self) {
        let now = clock::monotonic_ns();
        let last = self.swept_ns.load(Ordering::Relaxed);
        let swap =
            |last| self.swept_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if now.saturating_sub(last) >= SWEEP_NS && swap(last).is_ok() {
            self.sweep();
        }
    }

    /// Number in flight at most, the limit, how often a limit was met, and how many
    /// connections are closed and still owe.
    pub fn figures(&self) -> (usize, usize, u64, usize) {
        let debts = self.debts.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        (total, self.limits.total, self.refusals.load(Ordering::Relaxed), debts)
    }

    fn settle(&self, entry: &Entry) {
        let paid = entry.owed.settle(|| entry.socket.unread().is_ok_and(|bytes| bytes == 0));
        self.refund(entry, paid);
    }

    fn refund(&self, entry: &Entry, n: usize) {
        if n > 0 {
            entry.user.in_flight.fetch_sub(n, Ordering::Relaxed);
            self.total.fetch_sub(n, Ordering::Relaxed);
        }
    }
}

impl Entry {
    fn count(&self) -> usize {
        Owed::count(self.owed.0.load(Ordering::Acquire))
    }
}

impl Tab {
    /// Charges one descriptor that is about to be opened. It is held until it is sent
    /// or given back.
    #[inline]
    pub fn hold(&mut self) -> Result<(), Full> {
        if self.try_hold() || self.hold_after_asking() {
            return Ok(());
        }
        self.ledger.refusals.fetch_add(1, Ordering::Relaxed);
        Err(Full)
    }

    /// Descriptors that are charged and not sent.
    #[inline]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Gives back what is held.
    #[inline]
    pub fn give_back(&mut self) {
        self.ledger.refund(&self.entry, std::mem::take(&mut self.held));
    }

    #[cold]
    fn hold_after_asking(&mut self) -> bool {
        self.ledger.settle(&self.entry);
        if self.try_hold() {
            return true;
        }
        if self.entry.count() + self.held >= self.ledger.limits.per_connection {
            return false;
        }
        // Others' charges are in the way; they may be long paid.
        self.ledger.sweep_now_and_then();
        self.try_hold()
    }

    #[inline]
    fn try_hold(&mut self) -> bool {
        let (ledger, entry) = (&*self.ledger, &*self.entry);
        if entry.count() + self.held >= ledger.limits.per_connection {
            return false;
        }
        let user = entry.user.in_flight.fetch_add(1, Ordering::Relaxed);
        let total = ledger.total.fetch_add(1, Ordering::Relaxed);
        if !ledger.limits.per_user.allows(user, total, ledger.limits.total) {
            ledger.refund(entry, 1);
            return false;
        }
        self.held += 1;
        true
    }

    /// Whether the peer has not taken everything yet; asks the kernel if anything was sent.
    pub fn owes(&self) -> bool {
        self.ledger.settle(&self.entry);
        self.entry.count() > 0
    }

    /// So many of those that are held are about to leave. After the send comes
    /// [`Tab::sent`], or [`Tab::undo`] if nothing left.
    pub fn sending(&self, n: usize) {
        self.entry.owed.charge(n);
    }

    /// They have left.
    pub fn sent(&mut self, n: usize) {
        self.entry.owed.sent();
        self.held = self.held.saturating_sub(n);
    }

    /// They have not left, and are still held.
    pub fn undo(&self, n: usize) {
        self.entry.owed.undo(n);
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.give_back();
        self.ledger.settle(&self.entry);
        if self.entry.count() == 0 {
            self.ledger.entries.lock().try_remove(self.key);
        } else {
            // The socket stays, to be asked; for the peer this is the end all the same.
            let _ = self.entry.socket.shutdown();
            self.ledger.debts.fetch_add(1, Ordering::Relaxed);
            self.entry.closed.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_os::fds::FdQueue;
    use std::os::fd::AsFd;

    const LIMITS: Limits = Limits { total: 6, per_user: Share::AtMost(4), per_connection: 3 };

    fn connection(ledger: &Arc<Ledger>, uid: u32) -> (Tab, Arc<Stream>, Stream) {
        let (ours, theirs) = Stream::pair().unwrap();
        let ours = Arc::new(ours);
        (ledger.open(uid, ours.clone()), ours, theirs)
    }

    fn send(tab: &mut Tab, socket: &Stream) -> Result<(), Full> {
        tab.hold()?;
        let null = std::fs::File::open("/dev/null").unwrap();
        tab.sending(1);
        socket.send(b"x", &[null.as_fd()], false).unwrap();
        tab.sent(1);
        Ok(())
    }

    fn read(theirs: &Stream) {
        let mut fds = FdQueue::with_capacity(8);
        assert_eq!(theirs.recv(&mut [0; 1], &mut fds).unwrap().fds, 1);
    }

    #[test]
    fn a_connection_may_owe_so_much_until_it_reads() {
        let ledger = Ledger::new(LIMITS);
        let (mut tab, ours, theirs) = connection(&ledger, 1);
        for _ in 0..3 {
            send(&mut tab, &ours).unwrap();
        }
        assert_eq!(send(&mut tab, &ours), Err(Full));
        (0..3).for_each(|_| read(&theirs));
        assert_eq!(send(&mut tab, &ours), Ok(()));
    }

    #[test]
    fn a_user_is_limited_over_all_connections_and_others_are_not_stopped() {
        let ledger = Ledger::new(LIMITS);
        let (mut a, ours_a, _theirs_a) = connection(&ledger, 1);
        let (mut b, ours_b, _theirs_b) = connection(&ledger, 1);
        for _ in 0..2 {
            send(&mut a, &ours_a).unwrap();
            send(&mut b, &ours_b).unwrap();
        }
        assert_eq!(send(&mut a, &ours_a), Err(Full));
        let (mut c, ours_c, _theirs_c) = connection(&ledger, 2);
        assert_eq!(send(&mut c, &ours_c), Ok(()));
    }

    #[test]
    fn no_number_of_users_has_them_all() {
        let ledger =
            Ledger::new(Limits { total: 60, per_user: Share::Left(1), per_connection: 60 });
        let mut lazy: Vec<_> = (0..10).map(|uid| connection(&ledger, uid)).collect();
        for (tab, ours, _theirs) in &mut lazy {
            assert_eq!(send(tab, ours), Ok(()));
            while send(tab, ours).is_ok() {}
        }
        let (mut other, ours, _theirs) = connection(&ledger, 99);
        assert_eq!(send(&mut other, &ours), Ok(()));
        // The first one alone, before the others came, had about a half.
        assert_eq!(lazy[0].0.entry.count(), 27);
    }

    #[test]
    fn a_closed_connection_owes_until_its_peer_has_read_or_gone() {
        let ledger = Ledger::new(LIMITS);
        let (mut tab, ours, theirs) = connection(&ledger, 1);
        send(&mut tab, &ours).unwrap();
        drop((tab, ours));
        ledger.sweep();
        assert_eq!(ledger.figures(), (1, 6, 0, 1));
        drop(theirs);
        ledger.sweep();
        assert_eq!(ledger.figures(), (0, 6, 0, 0));
        assert_eq!(ledger.entries.lock().len(), 0);
    }

    #[test]
    fn what_is_held_counts_until_it_has_left_or_is_given_back() {
        let ledger = Ledger::new(LIMITS);
        let (mut tab, _ours, _theirs) = connection(&ledger, 1);
        (0..3).for_each(|_| tab.hold().unwrap());
        assert_eq!((tab.hold(), tab.held()), (Err(Full), 3));
        tab.sending(3);
        tab.undo(3);
        assert_eq!((ledger.figures().0, tab.held()), (3, 3));
        tab.give_back();
        assert_eq!(ledger.figures().0, 0);
        tab.hold().unwrap();
        drop(tab);
        assert_eq!(ledger.figures().0, 0);
    }

    #[test]
    fn a_charge_between_two_looks_is_not_forgotten() {
        let owed = Owed::default();
        owed.charge(1);
        owed.sent();
        let settled = owed.settle(|| {
            // Meanwhile: paid, and one more sent. The count is the same again.
            owed.0.fetch_sub(2, Ordering::AcqRel);
            owed.charge(1);
            owed.sent();
            true
        });
        assert_eq!((settled, Owed::count(owed.0.load(Ordering::Acquire))), (0, 1));
    }
}
