//! Deadlines: what a connection's peer has to do, and until when.
//!
//! ```text
//!  owner of the connection                     the sweeper, a thread
//!    expect(Request) ──▶ word: what, when ◀── looks at all words now and then
//!    clear()         ──▶ word: nothing         late: marks it, and shuts the socket down
//!    is_late()       ◀── mark                        │
//!         ▲────────────── the owner is told by epoll ┘
//! ```
//!
//! Nobody sets a timer: a deadline is one word in memory that its connection's owner writes
//! when a turn ends with something outstanding, which an ordinary turn does not. A connection
//! that has sent whole requests and read its replies has none (unless `timeouts.idle` is set),
//! and while no connection has one the sweeper sleeps.
//!
//! Shutting down is what the sweeper may do with a connection that is somebody else's: whoever
//! has it is woken by the kernel, at a worker or on the transfer path, and finds the mark. Only
//! reading is shut, so that the peer can be told; all of it for one that does not read anyway.
//!
//! What must stay true: the mark is set by a compare-and-swap on the very word that was late. So
//! an owner that was quicker has won, and nothing that was in time is ended.

pub mod watch;

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use objmapper_os::clock;
use objmapper_os::socket::Stream;
use slab::Slab;
use watch::Watch;

use crate::config::Timeouts;
use crate::seldom;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The sweeper looks so often in the shortest timeout, within these bounds. A sweep of ten
/// thousand connections takes some 100 us. Not tuned.
const LOOKS: u32 = 8;
const LOOK: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);

/// What is expected of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Expected {
    /// Nothing.
    Nothing = 0,
    /// HELLO.
    Hello = 1,
    /// The rest of a request that has begun.
    Request = 2,
    /// Anything at all.
    Sign = 3,
    /// Reading what was sent.
    Reading = 4,
}

/// The owner of the word has lost: it was late. Beside what was expected, in the low byte.
const LATE: u64 = 0x80;
const WHAT: u64 = 0x7f;

impl Expected {
    const fn of(word: u64) -> Self {
        match word & WHAT {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Sign,
            4 => Self::Reading,
            _ => Self::Nothing,
        }
    }

    /// The time that the settings give, and its name. Zero is for ever.
    const fn allowed(self, timeouts: &Timeouts) -> (Duration, &'static str) {
        match self {
            Self::Nothing => (Duration::ZERO, ""),
            Self::Hello => (timeouts.hello, "timeouts.hello"),
            Self::Request => (timeouts.request, "timeouts.request"),
            Self::Sign => (timeouts.idle, "timeouts.idle"),
            Self::Reading => (timeouts.send, "timeouts.send"),
        }
    }
}

/// Everybody's deadlines.
#[derive(Debug)]
pub struct Deadlines {
    timeouts: Timeouts,
    entries: Mutex<Slab<Arc<Entry>>>,
    watch: Watch,
    missed: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    uid: u32,
    socket: Arc<Stream>,
    /// Milliseconds of the monotonic clock, and below them what is expected until then.
    word: AtomicU64,
    /// What the peer had not read when that was last looked at, in the kernel's count.
    unread: AtomicUsize,
}

/// One connection's deadline, in the hands of its owner.
#[derive(Debug)]
pub struct Deadline {
    all: Arc<Deadlines>,
    entry: Arc<Entry>,
    key: usize,
    expected: Expected,
}

/// It was late: what was expected, and the time that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// What did not come.
    pub expected: Expected,
    allowed: Duration,
    setting: &'static str,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, allowed, setting } = self;
        let what = match expected {
            Expected::Hello => "no HELLO came",
            Expected::Request => "a request was begun and not completed",
            Expected::Sign => "no request came",
            Expected::Reading | Expected::Nothing => "the client read nothing of what was sent",
        };
        write!(
            f,
            "{what} within {} ({setting}): connect again",
            humantime::format_duration(*allowed)
        )
    }
}

impl Deadlines {
    /// None yet; nobody looks until [`Deadlines::start`].
    pub fn new(timeouts: Timeouts) -> Arc<Self> {
        Arc::new(Self {
            timeouts,
            entries: Mutex::default(),
            watch: Watch::default(),
            missed: AtomicU64::new(0),
        })
    }

    /// Starts the sweeper.
    pub fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let all = self.clone();
        thread::Builder::new().name("sweeper".to_owned()).spawn(move || all.run())
    }

    /// Lets the sweeper end.
    pub fn stop(&self) {
        self.watch.stop();
    }

    /// A new connection of this user: HELLO is expected.
    pub fn of(self: &Arc<Self>, uid: u32, socket: Arc<Stream>) -> Deadline {
        let (word, unread) = (AtomicU64::new(0), AtomicUsize::new(0));
        let entry = Arc::new(Entry { uid, socket, word, unread });
        let key = self.entries.lock().insert(entry.clone());
        let all = self.clone();
        let mut deadline = Deadline { all, entry, key, expected: Expected::Nothing };
        deadline.expect(Expected::Hello);
        deadline
    }

    /// How long somebody who was sent something may read nothing; zero is for ever.
    pub const fn of_reading(&self) -> Duration {
        self.timeouts.send
    }

    /// How many connections have a deadline ahead of them.
    pub fn ahead(&self) -> usize {
        self.watch.ahead()
    }

    /// How often somebody was late.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn run(&self) {
        let timeouts = [self.timeouts.hello, self.timeouts.request, self.timeouts.idle];
        let shortest = timeouts.into_iter().chain([self.timeouts.send]).filter(|t| !t.is_zero());
        let Some(shortest) = shortest.min() else { return };
        let look = (shortest / LOOKS).clamp(*LOOK.start(), *LOOK.end());
        while self.watch.wait(look) {
            self.sweep(now_ms());
        }
    }

    /// Looks at all words; `now_ms` is the monotonic clock's.
    pub fn sweep(&self, now_ms: u64) {
        let is_late = |entry: &Entry| {
            let word = entry.word.load(Ordering::Relaxed);
            Expected::of(word) != Expected::Nothing && word & LATE == 0 && word >> 8 <= now_ms
        };
        let entries = self.entries.lock();
        let late: Vec<_> = entries.iter().map(|(_, e)| e).filter(|e| is_late(e)).cloned().collect();
        drop(entries);
        for entry in &late {
            self.judge(entry, now_ms);
        }
    }

    fn judge(&self, entry: &Entry, now_ms: u64) {
        let word = entry.word.load(Ordering::Relaxed);
        let expected = Expected::of(word);
        if expected == Expected::Nothing || word & LATE != 0 || word >> 8 > now_ms {
            return;
        }
        if expected == Expected::Reading && entry.has_read() {
            // Slow, and not still: from now on again.
            let (allowed, _) = expected.allowed(&self.timeouts);
            entry.swap(word, word_of(expected, now_ms, allowed));
            return;
        }
        if !entry.swap(word, word | LATE) {
            return;
        }
        self.watch.one_less();
        self.missed.fetch_add(1, Ordering::Relaxed);
        let shut = if expected == Expected::Reading {
            seldom!(INFO, uid = entry.uid, "closing a connection: {}", self.late(expected));
            entry.socket.shutdown()
        } else {
            entry.socket.shutdown_read()
        };
        if let Err(error) = shut {
            // The peer has gone, and the owner knows.
            tracing::debug!(%error, "a connection that is late has ended already");
        }
    }

    const fn late(&self, expected: Expected) -> Late {
        let (allowed, setting) = expected.allowed(&self.timeouts);
        Late { expected, allowed, setting }
    }
}

impl Entry {
    fn swap(&self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Whether the peer has read something since the last look, or there is nothing to read.
    fn has_read(&self) -> bool {
        let Ok(unread) = self.socket.unread() else { return false };
        let before = self.unread.swap(unread, Ordering::Relaxed);
        unread == 0 || unread < before
    }
}

impl Deadline {
    /// From now on this is expected. If it is already, its time goes on.
    #[inline]
    pub fn expect(&mut self, expected: Expected) {
        if self.expected != expected {
            self.change(expected);
        }
    }

    /// From now on this is expected, and its time begins anew.
    pub fn expect_anew(&mut self, expected: Expected) {
        self.change(expected);
    }

    /// Nothing is expected: what was has come.
    #[inline]
    pub fn clear(&mut self) {
        self.expect(Expected::Nothing);
    }

    /// What is expected.
    #[inline]
    pub const fn expected(&self) -> Expected {
        self.expected
    }

    /// Whether the settings give a time to those who ask for nothing.
    #[inline]
    pub fn minds_idleness(&self) -> bool {
        !self.all.timeouts.idle.is_zero()
    }

    /// Whether it was late, by the sweeper's verdict.
    pub fn is_late(&self) -> Option<Late> {
        let word = self.entry.word.load(Ordering::Relaxed);
        (word & LATE != 0).then(|| self.all.late(Expected::of(word)))
    }

    #[cold]
    fn change(&mut self, expected: Expected) {
        let (allowed, _) = expected.allowed(&self.all.timeouts);
        let word = if allowed.is_zero() { 0 } else { word_of(expected, now_ms(), allowed) };
        if expected == Expected::Reading {
            let unread = self.entry.socket.unread().unwrap_or(0);
            self.entry.unread.store(unread, Ordering::Relaxed);
        }
        self.expected = expected;
        let mut old = self.entry.word.load(Ordering::Relaxed);
        // The sweeper may have put the time off, once; or have decided, for good.
        while old & LATE == 0 {
            match self.entry.word.compare_exchange(old, word, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) if old == 0 && word != 0 => return self.all.watch.one_more(),
                Ok(_) if old != 0 && word == 0 => return self.all.watch.one_less(),
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.change(Expected::Nothing);
        let gone = self.all.entries.lock().try_remove(self.key);
        drop(gone);
    }
}

fn now_ms() -> u64 {
    clock::monotonic_ns() / 1_000_000
}

fn word_of(expected: Expected, now_ms: u64, allowed: Duration) -> u64 {
    let allowed = u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX >> 16);
    now_ms.saturating_add(allowed) << 8 | expected as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        hello: Duration::from_secs(10),
        request: Duration::from_secs(30),
        idle: Duration::ZERO,
        send: Duration::from_mins(1),
    };

    fn late(deadlines: &Deadlines, deadline: &Deadline, after: Duration) -> Option<Expected> {
        deadlines.sweep(now_ms() + u64::try_from(after.as_millis()).unwrap());
        deadline.is_late().map(|late| late.expected)
    }

    fn connection() -> (Arc<Deadlines>, Deadline, Arc<Stream>, Stream) {
        let deadlines = Deadlines::new(TIMEOUTS);
        let (ours, theirs) = Stream::pair().unwrap();
        let ours = Arc::new(ours);
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let deadline = deadlines.of(1, ours.clone());
        (deadlines, deadline, ours, theirs)
    }

    #[test]
    fn what_does_not_come_in_time_is_late_and_can_still_be_told() {
        let (all, deadline, ours, theirs) = connection();
        assert_eq!(late(&all, &deadline, Duration::from_secs(9)), None);
        assert_eq!(late(&all, &deadline, Duration::from_secs(11)), Some(Expected::Hello));
        assert_eq!(ours.recv_bytes(&mut [0; 1]).unwrap(), 0, "its owner is told");
        ours.send(b"late", &[], false).unwrap();
        assert_eq!(theirs.recv_bytes(&mut [0; 8]).unwrap(), 4);
        let text = deadline.is_late().unwrap().to_string();
        assert_eq!(text, "no HELLO came within 10s (timeouts.hello): connect again");
        drop(deadline);
        assert_eq!((all.missed(), all.ahead()), (1, 0));
        assert!(all.entries.lock().is_empty());
    }

    #[test]
    fn what_has_come_is_not_late_and_what_is_never_expected_neither() {
        let (all, mut deadline, ..) = connection();
        deadline.clear();
        assert_eq!(late(&all, &deadline, Duration::from_hours(1)), None);
        deadline.expect(Expected::Sign);
        assert_eq!(late(&all, &deadline, Duration::from_hours(1)), None, "0 is for ever");
        assert_eq!(all.ahead(), 0);
        deadline.expect(Expected::Request);
        assert_eq!(all.ahead(), 1);
        assert_eq!(late(&all, &deadline, Duration::from_secs(29)), None);
        assert_eq!(late(&all, &deadline, Duration::from_secs(31)), Some(Expected::Request));
        deadline.clear();
        assert_eq!(deadline.is_late().unwrap().expected, Expected::Request, "a verdict stands");
    }

    #[test]
    fn one_that_is_expected_already_gets_no_more_time() {
        let (all, mut deadline, ..) = connection();
        // As if it had begun a while ago.
        let before = deadline.entry.word.load(Ordering::Relaxed) - (1 << 8);
        deadline.entry.word.store(before, Ordering::Relaxed);
        deadline.expect(Expected::Hello);
        assert_eq!(deadline.entry.word.load(Ordering::Relaxed), before);
        drop(deadline);
        assert_eq!(all.ahead(), 0);
    }

    #[test]
    fn who_reads_slowly_is_not_late() {
        let (all, mut deadline, ours, theirs) = connection();
        while ours.send(&[0; 4096], &[], false).is_ok() {}
        deadline.expect(Expected::Reading);
        theirs.recv_bytes(&mut [0; 4096]).unwrap();
        // A minute later something was read, another minute later nothing more.
        assert_eq!(late(&all, &deadline, Duration::from_secs(61)), None);
        assert_eq!(late(&all, &deadline, Duration::from_secs(119)), None);
        assert_eq!(late(&all, &deadline, Duration::from_secs(125)), Some(Expected::Reading));
        assert!(theirs.has_hung_up().unwrap());
    }

    #[test]
    fn who_has_read_everything_is_not_late() {
        let (all, mut deadline, ..) = connection();
        deadline.expect(Expected::Reading);
        assert_eq!(late(&all, &deadline, Duration::from_secs(61)), None);
        assert_eq!(late(&all, &deadline, Duration::from_secs(200)), None);
    }
}
