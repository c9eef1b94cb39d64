//! One round of load on one server, over RESP or OBJM: a closed loop over all connections.

use anyhow::{Context, Result, bail, ensure};
use objmapper_os::poll::{Events, Interest, Poll, Token};
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{self, Split};
use objmapper_proto::{Hello, Op, limits};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bursts::Bursts;
use super::replies::{Replies, Seen};
use crate::cli::kv::Protocol;
use crate::procfs;
use crate::record::Latency;
use crate::stop::{PATIENCE, Stop};

/// Bytes that one receive takes.
const BUFFER: usize = 256 * 1024;

/// Bytes that a socket takes at once, whatever its settings are.
const FITS: usize = 32 * 1024;

/// One connection.
struct Lane {
    stream: Stream,
    replies: Replies,
    /// The next burst.
    next: usize,
    /// What of the present one has not been sent: where it begins.
    unsent: Option<(usize, usize)>,
    /// Replies when it is answered.
    due: u64,
    sent: Instant,
}

/// All connections to one server.
pub(crate) struct Client {
    poll: Poll,
    lanes: Vec<Lane>,
    buffer: Vec<u8>,
}

/// What one round found.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) latency: Latency,
    pub(crate) seen: Seen,
    pub(crate) said: Option<String>,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu_ns: u64,
}

impl Client {
    /// So many connections, each beginning elsewhere among the bursts.
    pub(crate) fn connect(
        (protocol, socket): (Protocol, &Path),
        conns: usize,
        bursts: &Bursts,
        size: u64,
    ) -> Result<Self> {
        let poll = Poll::new()?;
        // Room to write is told of for every reply that the server reads: not where all fits.
        let fits = bursts.longest() <= FITS;
        let interest = if fits { Interest::READABLE } else { Interest::BOTH };
        let mut lanes = Vec::with_capacity(conns);
        for number in 0..conns {
            let stream = Stream::connect(socket, Some(PATIENCE))
                .with_context(|| format!("cannot connect to {}", socket.display()))?;
            if protocol == Protocol::Objm {
                greet(&stream)?;
            }
            stream.set_nonblocking(true)?;
            poll.registry().add(&stream, Token(number), interest)?;
            let replies = Replies::expecting(protocol, size);
            let next = number * bursts.len() / conns;
            lanes.push(Lane { stream, replies, next, unsent: None, due: 0, sent: Instant::now() });
        }
        Ok(Self { poll, lanes, buffer: vec![0; BUFFER] })
    }

    /// One round of this length on the server of process `pid`.
    pub(crate) fn round(
        &mut self,
        bursts: &Bursts,
        pid: i32,
        time: Duration,
        stop: &Stop,
    ) -> Result<Round> {
        let end = Instant::now() + time;
        self.round_until(bursts, pid, |now| now >= end || stop.now(now))
    }

    fn round_until(
        &mut self,
        bursts: &Bursts,
        pid: i32,
        is_over: impl Fn(Instant) -> bool,
    ) -> Result<Round> {
        let mut latency = Latency::new()?;
        for lane in &mut self.lanes {
            lane.replies.seen = Seen::default();
            lane.due = 0;
        }
        let (cpu, start) = (procfs::cpu_ns(pid)?, Instant::now());
        for lane in &mut self.lanes {
            lane.begin(bursts)?;
        }
        let (mut events, mut busy) = (Events::with_capacity(256), self.lanes.len());
        let mut quiet_since = start;
        while busy > 0 {
            self.poll.wait(&mut events, Some(Duration::from_millis(100)))?;
            let now = Instant::now();
            if !events.is_empty() {
                quiet_since = now;
            }
            ensure!(now - quiet_since < PATIENCE, "no answer within {PATIENCE:?}");
            let over = is_over(now);
            for event in events.iter() {
                let Some(lane) = self.lanes.get_mut(event.token.0) else { continue };
                if lane.turn(bursts, &mut self.buffer)? {
                    let length = u64::from(bursts.length);
                    latency.record(lane.sent.elapsed(), length);
                    if over {
                        busy -= 1;
                    } else {
                        lane.begin(bursts)?;
                    }
                }
            }
        }
        let elapsed = start.elapsed();
        let server_cpu_ns = procfs::cpu_ns(pid)?.saturating_sub(cpu);
        let mut seen = Seen::default();
        for Lane { replies: Replies { seen: one, .. }, .. } in &self.lanes {
            seen.replies += one.replies;
            seen.errors += one.errors;
            seen.nulls += one.nulls;
            seen.odd += one.odd;
        }
        let said = self.lanes.iter().find_map(|lane| lane.replies.said.clone());
        Ok(Round { latency, seen, said, elapsed, server_cpu_ns })
    }
}

impl Lane {
    fn begin(&mut self, bursts: &Bursts) -> Result<()> {
        self.unsent = Some((self.next, 0));
        self.next += 1;
        self.due = self.replies.seen.replies + u64::from(bursts.length);
        self.sent = Instant::now();
        self.send(bursts)
    }

    fn send(&mut self, bursts: &Bursts) -> Result<()> {
        while let Some((burst, from)) = self.unsent {
            let rest = bursts.get(burst).get(from..).unwrap_or_default();
            if rest.is_empty() {
                self.unsent = None;
                break;
            }
            match self.stream.send(rest, &[], false) {
                Ok(n) => self.unsent = Some((burst, from + n)),
                Err(error) if error.is_would_block() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends and reads what can be; whether the burst is answered now.
    fn turn(&mut self, bursts: &Bursts, buffer: &mut [u8]) -> Result<bool> {
        if self.replies.seen.replies >= self.due {
            return Ok(false);
        }
        self.send(bursts)?;
        loop {
            match self.stream.recv_bytes(buffer) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(n) => {
                    self.replies.feed(buffer.get(..n).unwrap_or_default())?;
                    if self.replies.seen.replies >= self.due {
                        return Ok(true);
                    }
                    if n < buffer.len() {
                        return Ok(false);
                    }
                }
                Err(error) if error.is_would_block() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Says HELLO and waits for the answer.
fn greet(stream: &Stream) -> Result<()> {
    let mut bytes = Vec::new();
    Hello::default().encode(1, &mut bytes);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.send(&bytes, &[], false)?;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Split::Whole(frame, _) = frame::split(&bytes, limits::REPLY_PAYLOAD)? {
            ensure!(frame.header.op == Op::HelloAck as u8, "the daemon does not answer HELLO");
            return Ok(());
        }
        let n = stream.recv_bytes(&mut piece)?;
        ensure!(n > 0, "the daemon has closed the connection");
        bytes.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
}

/// One round that ends when `over` is set.
pub(crate) fn until(
    client: &mut Client,
    bursts: &Bursts,
    pid: i32,
    over: &AtomicBool,
    stop: &Stop,
) -> Result<Round> {
    let over = || over.load(Ordering::Acquire);
    client.round_until(bursts, pid, |now| over() || stop.now(now))
}

/// Sets all keys, and sees that each was.
pub(crate) fn fill(socket: &Path, bursts: impl Iterator<Item = (u32, Vec<u8>)>) -> Result<()> {
    let stream = Stream::connect(socket, Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; BUFFER];
    let mut replies = Replies::default();
    let mut due = 0;
    for (count, bytes) in bursts {
        due += u64::from(count);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let sent = stream.send(rest, &[], false)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        while replies.seen.replies < due {
            let n = stream.recv_bytes(&mut buffer)?;
            ensure!(n > 0, "the server has closed the connection");
            replies.feed(buffer.get(..n).unwrap_or_default())?;
        }
        if let Some(said) = &replies.said {
            bail!("a key cannot be set: {said}");
        }
    }
    Ok(())
}
