//! Neighbours that do something: one thread for all connections of one of them.

use anyhow::{Context, Result, bail};
use objmapper_os::socket::Stream;
use objmapper_proto::{Get, Hello, Mode, Range, Request};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::Shared;
use crate::neighbour::{Neighbour, READERS_RATE};
use crate::plan::{Dialect, Plan};
use crate::servers::Server;
use crate::stop::PATIENCE;
use crate::wire::{FloorRequest, Job};

/// How soon a neighbour that waits for nothing notices that it shall leave.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Between two looks of one that reads: what fits into its socket lasts longer than that.
const PAUSE: Duration = Duration::from_micros(500);

/// Requests that are encoded, and sent again and again.
const REQUESTS: usize = 512;

/// Bytes of a body that a stalled reader takes before it stops.
const TASTE: usize = 4096;

/// Bytes that a slow reader takes at a time.
const SIP: usize = 1024;

/// A neighbour at work.
pub(super) struct Actor {
    shared: Arc<Shared>,
    work: Work,
}

enum Work {
    /// Sends without end, and drops what comes or leaves it there.
    Flood { stream: Stream, requests: Vec<u8>, reads: bool },
    /// Reads so many bytes per second from each; 0 stops after the first.
    Readers { streams: Vec<Stream>, rate: u64 },
}

impl Actor {
    /// Connects, and asks for bodies.
    pub(super) fn new(
        neighbour: Neighbour,
        server: &Server,
        plan: &Plan<'_>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let socket = &server.socket;
        let body = |mode| {
            let object = plan.tree.large().context("there is no object to ask for")?;
            let mut asks = hello(plan.dialect);
            get(mode, &object.uri, 1, &mut asks);
            let stream = connect(socket)?;
            stream.send(&asks, &[], false)?;
            Ok(stream)
        };
        let flood = |reads, requests| {
            let stream = connect(socket)?;
            stream.send(&hello(plan.dialect), &[], false)?;
            stream.set_nonblocking(true)?;
            anyhow::Ok(Work::Flood { stream, requests, reads })
        };
        let work = match neighbour {
            Neighbour::Idle(_) => bail!("idle connections do nothing"),
            Neighbour::StalledSplice => {
                Work::Readers { streams: vec![body(Mode::Splice)?], rate: 0 }
            }
            Neighbour::SlowReaders(count) => {
                let streams = (0..count).map(|_| body(Mode::Copy)).collect::<Result<_>>()?;
                Work::Readers { streams, rate: READERS_RATE }
            }
            Neighbour::NoReader => flood(false, descriptors(plan))?,
            Neighbour::Misses => flood(true, misses(plan.dialect))?,
        };
        Ok(Self { shared, work })
    }

    /// Until told to end; tells when it is in full swing.
    pub(super) fn run(&mut self, there: &Sender<()>) -> Result<()> {
        match &self.work {
            Work::Flood { stream, requests, reads } => {
                flood(&self.shared, stream, requests, *reads, there)
            }
            Work::Readers { streams, rate } => readers(&self.shared, streams, *rate, there),
        }
    }
}

impl Shared {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Keeps the server's side of the socket full, and looks at its own only now and then: what a
/// neighbour does for itself shall not take the CPU from whoever is measured.
fn flood(
    shared: &Shared,
    stream: &Stream,
    requests: &[u8],
    reads: bool,
    there: &Sender<()>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut rest = requests;
    let mut told = false;
    while !shared.is_over() {
        while let Some(sent) = unless_blocked(stream.send(rest, &[], false))? {
            rest = rest.get(sent..).filter(|rest| !rest.is_empty()).unwrap_or(requests);
        }
        let mut came = 0;
        while reads && let Some(bytes) = unless_blocked(stream.recv_bytes(&mut buffer))? {
            if bytes == 0 {
                bail!("the server has closed the connection");
            }
            came += bytes;
        }
        shared.received(came);
        // Who reads is there with its first answer; who does not, when nothing more can be sent.
        if !told && (came > 0 || !reads) {
            told = true;
            let _ = there.send(()); // nobody listens if it took too long
        }
        std::thread::sleep(if reads { PAUSE } else { LOOK });
    }
    Ok(())
}

fn readers(shared: &Shared, streams: &[Stream], rate: u64, there: &Sender<()>) -> Result<()> {
    let mut buffer = [0; TASTE];
    for stream in streams {
        let mut came = 0;
        while came < TASTE {
            let bytes = stream.recv_bytes(&mut buffer)?;
            if bytes == 0 {
                bail!("the server has closed the connection");
            }
            came += bytes;
        }
        stream.set_nonblocking(true)?;
    }
    let _ = there.send(()); // nobody listens if it took too long
    if rate == 0 {
        while !shared.is_over() {
            std::thread::sleep(LOOK);
        }
        return Ok(());
    }
    // One after the other, so that they are spread evenly over time.
    let sips_per_s = rate as f64 * streams.len() as f64 / SIP as f64;
    let start = Instant::now();
    for (number, stream) in streams.iter().cycle().enumerate() {
        let due = start + Duration::from_secs_f64(number as f64 / sips_per_s);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early.min(LOOK));
        }
        if shared.is_over() {
            break;
        }
        let sip = buffer.get_mut(..SIP).unwrap_or_default();
        let came = unless_blocked(stream.recv_bytes(sip))?;
        if came == Some(0) {
            bail!("the server has closed the connection");
        }
        shared.received(came.unwrap_or(0));
    }
    Ok(())
}

/// Nothing if it would have to wait.
fn unless_blocked(outcome: objmapper_os::Result<usize>) -> Result<Option<usize>> {
    match outcome {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_would_block() => Ok(None),
        Err(error) => Err(error).context("the server is gone"),
    }
}

fn connect(socket: &Path) -> Result<Stream> {
    let stream = Stream::connect(socket, Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn hello(dialect: Dialect) -> Vec<u8> {
    let mut bytes = Vec::new();
    if dialect == Dialect::Objm {
        Hello::default().encode(1, &mut bytes);
    }
    bytes
}

fn get(mode: Mode, uri: &[u8], id: u64, out: &mut Vec<u8>) {
    Request::Get(Get::new(mode, Range::ALL, uri)).encode(id, out);
}

/// Objects that exist, by descriptor; for the daemon only.
fn descriptors(plan: &Plan<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..REQUESTS {
        get(Mode::Fdpass, &plan.object(number).uri, number as u64 + 1, &mut bytes);
    }
    bytes
}

fn misses(dialect: Dialect) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..REQUESTS {
        let name = format!("missing-{number}").into_bytes();
        match dialect {
            Dialect::Objm => {
                let uri = [b"/", name.as_slice()].concat();
                get(Mode::Fdpass, &uri, number as u64 + 1, &mut bytes);
            }
            Dialect::Floor { .. } => {
                FloorRequest { job: Job::Fdpass, held: false, name: &name }.encode(&mut bytes);
            }
        }
    }
    bytes
}
