//! One round of load on one server.
//!
//! ```text
//!  threads   open, prime (checked), warm up | wait | measure | wait | close
//!  main                                     | read CPU       | read CPU, memory
//! ```
//!
//! A closed loop: every connection always has one burst under way, so a server that forgets a
//! connection shows as a wait that lasts to the end; or so many at a time, and all in turn. A
//! thread with one connection blocks in its receive; a thread with many sleeps in epoll. An open
//! loop (`open.rs`) sends by the clock instead. The same code asks ours and the floor.

mod open;

use anyhow::{Result, anyhow, bail};
use objmapper_os::poll::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::connection::{BUFFER, Connection, Received};
use crate::plan::{Mix, Plan};
use crate::procfs;
use crate::record::{Round, Served, Tally, nanoseconds};
use crate::servers::Server;
use crate::stop::{PATIENCE, Stop};
use crate::wire::Job;

/// Objects that the first connection of a round checks against the files, at least.
const CHECKED: usize = 256;

/// How much load, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) conns: usize,
    pub(crate) threads: usize,
    /// Connections that have a burst under way at a time.
    pub(crate) active: usize,
    /// Requests per second of all threads together; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) warmup: Duration,
    /// The length of a round, at most.
    pub(crate) time: Duration,
    /// Requests of a round, at most.
    pub(crate) requests: Option<u64>,
    /// Requests after which a connection is replaced.
    pub(crate) per_conn: Option<u64>,
}

/// Runs one round.
pub(crate) fn round(server: &Server, plan: &Plan<'_>, load: Load, stop: &Stop) -> Result<Round> {
    stop.check()?;
    let threads = load.threads.min(load.conns);
    let gate = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let gate = &gate;
        let clients: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || thread(number, server, plan, load, stop, gate)))
            .collect();
        gate.wait(); // all are warm
        let before = procfs::cpu_ns(server.pid);
        let start = Instant::now();
        gate.wait(); // go
        gate.wait(); // all are done
        let elapsed = start.elapsed();
        let after = procfs::cpu_ns(server.pid);
        let rss_bytes = procfs::rss_bytes(server.pid);
        gate.wait(); // connections may be closed
        let mut tally = Tally::new()?;
        for client in clients {
            tally.add(client.join().map_err(|_| anyhow!("a client thread panicked"))??)?;
        }
        let server_cpu_ns = after?.saturating_sub(before?);
        Ok(Round { tally, elapsed, server_cpu_ns, rss_bytes: rss_bytes?, neighbour: None })
    })
}

/// Passes every gate, whatever fails in between.
fn thread(
    number: usize,
    server: &Server,
    plan: &Plan<'_>,
    load: Load,
    stop: &Stop,
    gate: &Barrier,
) -> Result<Tally> {
    let client = Client::prepare(number, server, plan, load, stop);
    gate.wait();
    gate.wait();
    let mut client = client;
    let outcome = client.as_mut().map(Client::measure);
    gate.wait();
    gate.wait();
    match outcome {
        Ok(tally) => tally,
        Err(_) => client.and_then(|_| bail!("no client")),
    }
}

/// When a phase is over.
#[derive(Clone, Copy)]
struct Until {
    deadline: Instant,
    requests: u64,
    /// Whether answers under way are waited for.
    drain: bool,
}

/// One connection and what is known of it.
struct Lane<'p> {
    connection: Connection<'p>,
    /// When its burst was sent; in an open loop, when it was due.
    sent: Instant,
    /// When its last burst was answered.
    free_since: Instant,
    /// Whether one is under way.
    waiting: bool,
    /// Requests since it was connected.
    age: u64,
    served: Served,
}

/// The connections of one thread.
struct Client<'p> {
    server: &'p Server,
    stop: &'p Stop,
    load: Load,
    /// Which of the threads this is.
    number: usize,
    lanes: Vec<Lane<'p>>,
    /// Lanes without a burst under way, the one that waits longest first.
    free: VecDeque<usize>,
    /// Not for a closed loop on one connection.
    poll: Option<Poll>,
    buffer: Vec<u8>,
    tally: Tally,
    /// Requests sent in this phase.
    asked: u64,
}

impl<'p> Client<'p> {
    fn prepare(
        number: usize,
        server: &'p Server,
        plan: &'p Plan<'p>,
        load: Load,
        stop: &'p Stop,
    ) -> Result<Self> {
        let threads = load.threads.min(load.conns);
        let numbers = (number..load.conns).step_by(threads);
        let lanes = numbers
            .map(|n| {
                let first = n * plan.len() / load.conns;
                let connection = Connection::open(&server.socket, plan, first)?;
                Ok(Lane::new(connection))
            })
            .collect::<Result<Vec<_>>>()?;
        let polls = lanes.len() > 1 || load.rate.is_some();
        let poll = if polls { Some(Poll::new()?) } else { None };
        let free = (0..lanes.len()).collect();
        let buffer = vec![0; BUFFER];
        let mut tally = Tally::new()?;
        if matches!(plan.form.mix, Mix::Fdpass(_)) {
            tally = tally.with_modes()?;
        }
        if load.rate.is_some() {
            tally = tally.with_pacing()?;
        }
        let mut client =
            Self { server, stop, load, number, lanes, free, poll, buffer, tally, asked: 0 };
        client.prime(plan)?;
        client.warm_up()?;
        Ok(client)
    }

    /// One burst on every connection, more on the first, each answer held against the files.
    fn prime(&mut self, plan: &Plan<'_>) -> Result<()> {
        let per_burst = plan.form.pipeline as usize * plan.form.batch as usize;
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let bursts = if number == 0 { CHECKED.div_ceil(per_burst).min(plan.len()) } else { 1 };
            lane.connection.progress.set_check(true);
            for _ in 0..bursts {
                lane.connection.send()?;
                while !matches!(
                    received(&mut lane.connection, &mut self.buffer)?,
                    Received::Burst(_)
                ) {}
                lane.connection.finish()?;
                if self.stop.now(Instant::now()) {
                    break;
                }
            }
            lane.connection.progress.set_check(false);
            if let Some(poll) = &self.poll {
                watch(poll, &lane.connection, number)?;
            }
        }
        Ok(())
    }

    fn warm_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.load.warmup;
        self.phase(Until { deadline, requests: u64::MAX, drain: true })?;
        // What went wrong so far counts; what went well does not.
        self.collect().forget();
        for lane in &mut self.lanes {
            lane.served = Served::default();
        }
        Ok(())
    }

    fn measure(&mut self) -> Result<Tally> {
        let deadline = Instant::now() + self.load.time;
        let threads = self.load.threads.min(self.load.conns) as u64;
        let requests = self.load.requests.map_or(u64::MAX, |all| all.div_ceil(threads));
        self.phase(Until { deadline, requests, drain: false })?;
        let end = Instant::now();
        for lane in self.lanes.iter_mut().filter(|lane| lane.waiting) {
            lane.served.wait(end.saturating_duration_since(lane.sent));
        }
        self.collect();
        let mut tally = std::mem::replace(&mut self.tally, Tally::new()?);
        tally.served = self.lanes.iter().map(|lane| lane.served).collect();
        Ok(tally)
    }

    /// Moves the counts of the connections into the tally.
    fn collect(&mut self) -> &mut Tally {
        for lane in &mut self.lanes {
            self.tally.counts.add(std::mem::take(&mut lane.connection.progress.counts));
        }
        &mut self.tally
    }

    fn phase(&mut self, until: Until) -> Result<()> {
        self.asked = 0;
        if self.load.time.is_zero() || Instant::now() >= until.deadline {
            return Ok(());
        }
        match self.poll.take() {
            None => self.blocking(until),
            Some(mut poll) => {
                let outcome = match self.load.rate {
                    None => self.polled(&mut poll, until),
                    Some(rate) => self.scheduled(&mut poll, rate, until),
                };
                self.poll = Some(poll);
                outcome
            }
        }
    }

    fn blocking(&mut self, until: Until) -> Result<()> {
        while self.begin(0, None, None)? {
            loop {
                let Some(lane) = self.lanes.first_mut() else { return Ok(()) };
                let received = received(&mut lane.connection, &mut self.buffer)?;
                if lane.note(received, &mut self.tally) {
                    break;
                }
            }
            let Some(lane) = self.lanes.first_mut() else { return Ok(()) };
            lane.connection.finish()?;
            if self.is_over(until, Instant::now()) {
                break;
            }
        }
        Ok(())
    }

    fn polled(&mut self, poll: &mut Poll, until: Until) -> Result<()> {
        let mut events = Events::with_capacity(256);
        let threads = self.load.threads.min(self.load.conns);
        let active = (self.number..self.load.active).step_by(threads).count().max(1);
        for _ in 0..active {
            self.begin_next(poll)?;
        }
        let mut quiet_since = Instant::now();
        loop {
            poll.wait(&mut events, Some(Duration::from_millis(100)))?;
            let now = Instant::now();
            if !events.is_empty() {
                quiet_since = now;
            } else if now - quiet_since > PATIENCE {
                bail!("no connection got an answer within {PATIENCE:?}");
            }
            for event in events.iter() {
                if self.turn(event.token.0)? && !self.is_over(until, Instant::now()) {
                    self.begin_next(poll)?;
                }
            }
            let over = self.is_over(until, now);
            let cut = self.stop.now(now) || (!until.drain && now >= until.deadline);
            if cut || (over && self.all_free()) {
                return Ok(());
            }
        }
    }

    fn all_free(&self) -> bool {
        self.free.len() == self.lanes.len()
    }

    /// Reads what there is on one connection; whether its burst is answered.
    fn turn(&mut self, number: usize) -> Result<bool> {
        let Some(lane) = self.lanes.get_mut(number).filter(|lane| lane.waiting) else {
            return Ok(false);
        };
        loop {
            let received = lane.connection.receive(&mut self.buffer)?;
            if received == Received::Nothing {
                return Ok(false);
            }
            if lane.note(received, &mut self.tally) {
                lane.connection.finish()?;
                self.free.push_back(number);
                return Ok(true);
            }
        }
    }

    /// A burst on the connection that has had none for the longest time.
    fn begin_next(&mut self, poll: &Poll) -> Result<bool> {
        let Some(number) = self.free.pop_front() else { return Ok(false) };
        self.begin(number, Some(poll), None)
    }

    /// Sends the next burst of a connection, on a new socket if the old one is old enough. Its
    /// answers' latency counts from `due`, or from now.
    fn begin(&mut self, number: usize, poll: Option<&Poll>, due: Option<Instant>) -> Result<bool> {
        let Some(lane) = self.lanes.get_mut(number) else { return Ok(false) };
        lane.sent = due.unwrap_or_else(Instant::now);
        if self.load.per_conn.is_some_and(|limit| lane.age >= limit) {
            lane.connection.reopen(&self.server.socket)?;
            lane.age = 0;
            if let Some(poll) = poll {
                watch(poll, &lane.connection, number)?;
            }
        }
        lane.connection.send()?;
        lane.waiting = true;
        self.asked += lane.connection.requests_per_burst();
        Ok(true)
    }

    fn is_over(&self, until: Until, now: Instant) -> bool {
        now >= until.deadline || self.asked >= until.requests || self.stop.now(now)
    }
}

impl<'p> Lane<'p> {
    fn new(connection: Connection<'p>) -> Self {
        let (now, served) = (Instant::now(), Served::default());
        Self { connection, sent: now, free_since: now, waiting: false, age: 0, served }
    }

    /// Notes what came; whether the burst is answered.
    #[inline]
    fn note(&mut self, received: Received, tally: &mut Tally) -> bool {
        let (answered, done) = match received {
            Received::Nothing => return false,
            Received::Part(answered) => (answered, false),
            Received::Burst(answered) => (answered, true),
        };
        if answered > 0 {
            let now = Instant::now();
            let latency = now.saturating_duration_since(self.sent);
            tally.answered(latency, answered);
            if let Some(by_mode) = &mut tally.by_mode {
                for unit in self.connection.last_answered(answered) {
                    let way = if unit.job == Job::Fdpass {
                        &mut by_mode.fdpass
                    } else {
                        &mut by_mode.copy
                    };
                    way.record(latency, 1);
                }
            }
            self.free_since = now;
            self.served.wait(latency);
            self.served.requests += answered as u64;
            self.age += answered as u64;
        }
        self.waiting = !done;
        done
    }
}

impl Served {
    fn wait(&mut self, time: Duration) {
        self.longest_ns = self.longest_ns.max(nanoseconds(time));
    }
}

/// One receive of a socket that blocks.
fn received(connection: &mut Connection<'_>, buffer: &mut [u8]) -> Result<Received> {
    match connection.receive(buffer)? {
        Received::Nothing => bail!("no answer within {PATIENCE:?}"),
        received => Ok(received),
    }
}

fn watch(poll: &Poll, connection: &Connection<'_>, number: usize) -> Result<()> {
    connection.stream.set_nonblocking(true)?;
    Ok(poll.registry().add(&connection.stream, Token(number), Interest::READABLE)?)
}
