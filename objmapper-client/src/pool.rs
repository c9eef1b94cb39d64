//! Connections for threads: a bounded number of them, each lent to one thread at a time.
//!
//! A connection is made when one is asked for and none is idle, outside the lock. The one that was
//! given back last is lent first, so that a burst leaves the others idle for the daemon to close.
//! What is not fit for the next thread is closed instead of kept: a broken connection, one with
//! answers still on their way, one of the process that this one was forked from.

use crate::client::{Builder, Client};
use crate::error::{Error, Result};
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A bounded number of connections to one daemon, shared by threads.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
/// # fn main() { with_daemon(|| {
/// use objmapper_client::{Client, Pool};
/// let pool = Pool::new(Client::builder(), 4);
/// std::thread::scope(|scope| {
///     for shard in 0..16 {
///         let pool = &pool;
///         scope.spawn(move || {
///             let bytes = pool.checkout()?.read(&format!("/shards/{shard}"))?;
///             Ok::<_, objmapper_client::Error>(bytes.len())
///         });
///     }
/// });
/// # assert!(pool.idle() >= 1);
/// # Ok(()) }) }
/// ```
///
/// Threads that wait are served in no particular order. A thread that holds one connection and
/// waits for another can wait for itself. After a fork make a new pool: what was lent in the
/// parent counts as lent for ever in the child.
#[derive(Debug)]
pub struct Pool {
    builder: Builder,
    limit: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Client>,
    lent: usize,
}

impl Pool {
    /// At most `limit` connections (at least one), made as `builder` says when they are needed.
    pub fn new(builder: Builder, limit: usize) -> Self {
        let (state, returned) = (Mutex::default(), Condvar::new());
        Self { builder, limit: limit.max(1), state, returned }
    }

    /// Lends a connection until the guard is dropped. If all are lent it waits, for as long as the
    /// builder's timeout allows: then [`Error::Exhausted`].
    pub fn checkout(&self) -> Result<Lent<'_>> {
        let asked = Instant::now();
        let mut state = self.lock();
        loop {
            while let Some(client) = state.idle.pop() {
                if client.connection.is_fit() {
                    state.lent += 1;
                    return Ok(Lent { pool: self, client });
                }
            }
            if state.lent < self.limit {
                state.lent += 1;
                drop(state);
                return match self.builder.connect() {
                    Ok(client) => Ok(Lent { pool: self, client }),
                    Err(error) => {
                        self.take_back(None);
                        Err(error)
                    }
                };
            }
            state = match self.builder.patience() {
                None => self.returned.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let left = time.saturating_sub(asked.elapsed());
                    if left.is_zero() {
                        return Err(Error::Exhausted { limit: self.limit });
                    }
                    let waited = self.returned.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// How many connections wait to be lent.
    pub fn idle(&self) -> usize {
        self.lock().idle.len()
    }

    fn take_back(&self, client: Option<Client>) {
        let mut state = self.lock();
        state.lent -= 1;
        state.idle.extend(client);
        drop(state);
        self.returned.notify_one();
    }

    /// No code of others runs under the lock, so a panic leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Client`] on loan; dropping it gives it back.
#[derive(Debug)]
#[must_use = "it goes back when it is dropped"]
pub struct Lent<'a> {
    pool: &'a Pool,
    client: Client,
}

impl Deref for Lent<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let client = Client { connection: self.client.connection.take() };
        let fit = client.connection.is_fit();
        self.pool.take_back(fit.then_some(client));
    }
}
