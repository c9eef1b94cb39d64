//! The ticker: a thread that removes expired keys and evicts ahead of need.
//!
//! It sleeps without a timer while no key has an expiry and memory is below the limit, so an
//! unused keyspace costs no CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use objmapper::kv::Keyspace;

/// How long it sleeps while there may be something to do: keys that nobody asks for are gone about
/// so long after their time. Not tuned.
const TICK: Duration = Duration::from_millis(100);

/// The least that it sleeps between two ticks that had enough to do; at most half of the time is
/// spent with it.
const LEAST: Duration = Duration::from_millis(1);

/// Whoever ticks.
#[derive(Debug)]
pub struct Ticker {
    keyspace: Arc<Keyspace>,
    held: AtomicBool,
    stopping: AtomicBool,
}

impl Ticker {
    /// For this keyspace; nothing happens until [`Self::start`].
    pub fn new(keyspace: Arc<Keyspace>) -> Arc<Self> {
        let (held, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { keyspace, held, stopping })
    }

    /// Starts the thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let own = self.clone();
        thread::Builder::new().name("ticker".to_owned()).spawn(move || own.run())
    }

    /// Lets nothing go by itself, or lets it again: for tests of what happens otherwise.
    pub fn hold(&self, on: bool) {
        self.held.store(on, Ordering::SeqCst);
        self.keyspace.rouse();
    }

    /// Lets the thread end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.keyspace.rouse();
    }

    fn run(&self) {
        self.keyspace.will_tick(true);
        while !self.stopping.load(Ordering::SeqCst) {
            if self.held.load(Ordering::SeqCst) {
                self.keyspace.pause(None);
            } else if self.keyspace.has_to_tick() {
                let began = Instant::now();
                let more = self.keyspace.tick(Keyspace::now());
                let pause = if more { began.elapsed().clamp(LEAST, TICK) } else { TICK };
                self.keyspace.pause(Some(pause));
            } else {
                self.keyspace.wait_to_tick();
            }
        }
        self.keyspace.will_tick(false);
    }
}
