//! The running pool and its surroundings, small enough to explore.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use objmapper_os::socket::Stream;
use objmapperd::pool::{Loan, Pool, Serve, Turn};
use objmapperd::sync::kernel;

/// A connection: notes what it has seen of what its peer sent.
pub struct Connection {
    pub name: &'static str,
    stream: Stream,
    sent: Arc<AtomicUsize>,
    /// loom reports two threads at it at once, and one that may not see what the one before
    /// it wrote.
    seen: Cell<usize>,
    /// Where it is on a way that a model describes.
    pub stage: Cell<usize>,
}

impl Connection {
    /// Goes on to the next stage, and says which it was at.
    pub fn step(&self) -> usize {
        self.stage.set(self.stage.get() + 1);
        self.stage.get() - 1
    }

    /// Reads what there is; how much has come in all.
    pub fn read(&self) -> usize {
        // Relaxed: what tells of it must also have made it visible.
        self.seen.set(self.sent.load(Ordering::Relaxed));
        self.seen.get()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The other end.
pub struct Peer {
    stream: Stream,
    sent: Arc<AtomicUsize>,
}

impl Peer {
    pub fn send(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        kernel::call(|| self.stream.send(b"x", &[], false)).unwrap();
    }

    pub fn hang_up(&self) {
        kernel::call(|| self.stream.shutdown()).unwrap();
    }
}

/// A connection and its peer.
pub fn pair(name: &'static str) -> (Box<Connection>, Peer) {
    let (ours, theirs) = Stream::pair().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let peer = Peer { stream: theirs, sent: sent.clone() };
    let (seen, stage) = (Cell::new(0), Cell::new(0));
    (Box::new(Connection { name, stream: ours, sent, seen, stage }), peer)
}

/// A value that can be waited for.
pub struct Gate<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Gate<T> {
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self { value: Mutex::new(value), changed: Condvar::new() })
    }

    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
        changed
    }

    /// Waits until there is something; where that never comes, loom reports a deadlock.
    pub fn wait<R>(&self, mut ready: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut value = self.value.lock().unwrap();
        loop {
            if let Some(ready) = ready(&mut value) {
                return ready;
            }
            value = self.changed.wait(value).unwrap();
        }
    }
}

type OnTurn = dyn Fn(&Connection, bool) -> Turn + Send + Sync;
type OnLeave = dyn Fn(Loan<Connection>) + Send + Sync;

/// Serves as it is told to.
struct Attendant {
    on_turn: Arc<OnTurn>,
    on_leave: Arc<OnLeave>,
}

impl Serve for Attendant {
    type Connection = Connection;

    fn turn(
        &mut self,
        connection: &mut Connection,
        hung_up: bool,
        _: &mut dyn FnMut() -> bool,
    ) -> Turn {
        (self.on_turn)(connection, hung_up)
    }

    fn leave(&mut self, loan: Loan<Connection>) {
        (self.on_leave)(loan);
    }
}

/// Workers that serve like this.
pub fn pool(
    workers: usize,
    on_turn: impl Fn(&Connection, bool) -> Turn + Send + Sync + 'static,
    on_leave: impl Fn(Loan<Connection>) + Send + Sync + 'static,
) -> Pool<Connection> {
    let (on_turn, on_leave): (Arc<OnTurn>, Arc<OnLeave>) = (Arc::new(on_turn), Arc::new(on_leave));
    let start = |_| {
        let attendant = Attendant { on_turn: on_turn.clone(), on_leave: on_leave.clone() };
        (attendant, Arc::default())
    };
    Pool::start(workers, Duration::ZERO, start).unwrap()
}

/// Nobody leaves.
pub fn stays(_: Loan<Connection>) {
    unreachable!("no turn ended with Leave");
}

/// Explores a model with so many changes of thread at places where no thread had to wait.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 10_000;
    builder.check(model);
}
