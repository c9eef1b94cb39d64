//! Others on the same server: what they do must not be felt by whoever behaves.
//!
//! A neighbour joins, is known to be there (its connections are served, its socket is full), stays
//! while something is measured, and leaves. It runs on a CPU of its own where there is one: what
//! is to be seen is what it costs the *server*.

mod actor;

use anyhow::{Context, Result, anyhow, bail};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::connection::{BUFFER, Connection, Received};
use crate::neighbour::Neighbour;
use crate::placement::Placement;
use crate::plan::{Dialect, Plan};
use crate::servers::Server;
use crate::stop::PATIENCE;
use actor::{Actor, LOOK};

/// A neighbour that is there. Leaves when dropped.
pub(crate) struct Company<'p> {
    /// Silent connections, held open.
    #[allow(dead_code)]
    idle: Vec<Connection<'p>>,
    actor: Option<JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
    since: Instant,
}

/// What an actor and its owner share.
#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    received: AtomicU64,
}

impl<'p> Company<'p> {
    /// Gives it when the neighbour is there.
    pub(crate) fn join(
        neighbour: Neighbour,
        server: &Server,
        plan: &'p Plan<'p>,
        place: Placement,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        if plan.dialect != Dialect::Objm && !neighbour.suits_floor() {
            bail!("the floor cannot bear it");
        }
        let mut company =
            Self { idle: Vec::new(), actor: None, shared: shared.clone(), since: Instant::now() };
        if let Neighbour::Idle(count) = neighbour {
            company.idle = silent(count, server, plan)?;
            return Ok(company);
        }
        let mut actor = Actor::new(neighbour, server, plan, shared)?;
        let (ready, told) = mpsc::channel();
        let body = move || {
            place.become_neighbour()?;
            actor.run(&ready)
        };
        let thread = std::thread::Builder::new().name("neighbour".into());
        company.actor = Some(thread.spawn(body).context("cannot start a thread")?);
        if told.recv_timeout(PATIENCE).is_err() {
            company.leave()?;
            bail!("it got no answer within {PATIENCE:?}");
        }
        company.shared.received.store(0, Ordering::Relaxed);
        company.since = Instant::now();
        Ok(company)
    }

    /// Nobody: a thread in the neighbour's place that sleeps, and wakes now and then. Where
    /// sessions are scheduled as groups (autogroup), a group that has something on another CPU
    /// competes otherwise for this one; so whoever is compared with a neighbour's presence has
    /// this instead, or as well.
    pub(crate) fn nobody(place: Placement) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let sleeper = shared.clone();
        let body = move || {
            place.become_neighbour()?;
            while !sleeper.is_over() {
                std::thread::sleep(LOOK);
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("nobody".into());
        let actor = Some(thread.spawn(body).context("cannot start a thread")?);
        Ok(Self { idle: Vec::new(), actor, shared, since: Instant::now() })
    }

    /// Ends it; gives the bytes per second that it received. An error if it ended by itself.
    pub(crate) fn leave(mut self) -> Result<f64> {
        let time = self.since.elapsed().as_secs_f64();
        let received = self.shared.received.load(Ordering::Relaxed);
        self.end()?;
        Ok(received as f64 / time.max(1e-9))
    }

    fn end(&mut self) -> Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        let Some(actor) = self.actor.take() else { return Ok(()) };
        actor.join().map_err(|_| anyhow!("it panicked"))?
    }
}

impl Drop for Company<'_> {
    fn drop(&mut self) {
        // Whoever wants to know has asked `leave`.
        let _ = self.end();
    }
}

/// Connections that have asked once.
fn silent<'p>(count: usize, server: &Server, plan: &'p Plan<'p>) -> Result<Vec<Connection<'p>>> {
    let mut buffer = vec![0; BUFFER];
    let one = |number| {
        let mut connection = Connection::open(&server.socket, plan, number)?;
        connection.send()?;
        loop {
            match connection.receive(&mut buffer)? {
                Received::Nothing => bail!("no answer within {PATIENCE:?}"),
                Received::Part(_) => {}
                Received::Burst(_) => break,
            }
        }
        connection.finish()?;
        Ok(connection)
    };
    (0..count).map(one).collect()
}
