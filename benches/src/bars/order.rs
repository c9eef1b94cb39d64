//! A question on a connection that is busy with a body: how long until it is answered.
//!
//! The body is 1 GiB that nothing has to be read from a disk for, and the next PING leaves when the
//! one before is answered. Out of order a PING waits for what is in the socket already and for the
//! DATA frame that has begun, so it is held against the idle connection's PING and the time of one
//! such frame, all measured in the same round. In order it waits for the rest of the body, which is
//! told and not judged.

use anyhow::{Context, Result, bail, ensure};
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{self, Split};
use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{
    Get, Header, Hello, HelloAck, Mode, Op, Range, Reply, Request, Status, limits,
};
use std::path::Path;
use std::time::{Duration, Instant};

use super::shared::{GIB, KIB, shape};
use super::{Bar, Bench, Goal, Measurement};
use crate::placement::Placement;
use crate::record::{Latency, median};
use crate::servers::Server;
use crate::stop::PATIENCE;
use crate::tree::Tree;
use crate::turns::{Noise, progress};

pub(super) const ALL: &[(&str, Measurement)] = &[
    ("a PING beside a body, one CPU", on_one_cpu),
    ("a PING beside a body, two CPUs", on_two_cpus),
];

const GOAL: Goal = Goal::AtMost(1.0);

fn on_one_cpu(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside_a_body(bench, "one CPU", bench.pinned)
}

fn on_two_cpus(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    match bench.apart {
        Some(apart) => beside_a_body(bench, "two CPUs", apart),
        None => Ok(vec![
            Bar::new(&name("two CPUs", "p99"), GOAL, None).note("not measured: there is one"),
        ]),
    }
}

fn name(place: &str, what: &str) -> String {
    format!("PING beside a body of 1 GiB, {place}: {what} / (2 x idle + a DATA frame)")
}

/// What one round says, in microseconds.
struct Round {
    idle: Latency,
    beside: Latency,
    frame_us: f64,
    /// A PING right behind the body, in order.
    in_order_us: f64,
}

impl Round {
    /// A percentile of the waits, of what it may be.
    fn share(&self, quantile: f64) -> f64 {
        self.beside.percentile_us(quantile)
            / (2.0 * self.idle.percentile_us(quantile) + self.frame_us)
    }
}

fn beside_a_body(bench: &Bench<'_>, place: &str, placement: Placement) -> Result<Vec<Bar>> {
    placement.become_client()?;
    let tree = Tree::temporary(shape(1, 4 * KIB))?.with_spare(GIB)?;
    let server = bench.daemon(&tree, None, placement)?;
    let uri = tree.large().context("there is no object to ask for")?.uri.as_slice();
    in_order_us(&server, uri)?; // from now on all of it is in memory
    let noise = Noise::begin(placement, &[server.pid])?;
    let mut rounds = Vec::new();
    for number in 0..bench.args.rounds {
        progress(&format!("round {} of {}: PING", number + 1, bench.args.rounds));
        rounds.push(round(bench, &server, uri)?);
        bench.stop.check()?;
    }
    progress("");
    bench.others.lock().push(noise.end(&[server.pid])?);
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let share = |quantile| median(rounds.iter().map(|round| round.share(quantile)));
    let beside = Bar::new(&name(place, "p99"), GOAL, Some(share(0.99))).note(format!(
        "{:.1} us, p50 {:.1}; idle {:.1}, p50 {:.1}; a DATA frame {:.1}",
        middle(|round| round.beside.percentile_us(0.99)),
        middle(|round| round.beside.percentile_us(0.5)),
        middle(|round| round.idle.percentile_us(0.99)),
        middle(|round| round.idle.percentile_us(0.5)),
        middle(|round| round.frame_us),
    ));
    let typical = Bar::new(&name(place, "p50"), Goal::Nothing, Some(share(0.5)));
    let name = format!("PING behind a body of 1 GiB, {place}, in order: ms");
    let in_order = Bar::new(&name, Goal::Nothing, Some(middle(|round| round.in_order_us) / 1e3));
    Ok(vec![beside, typical, in_order.note("it waits for all of it")])
}

fn round(bench: &Bench<'_>, server: &Server, uri: &[u8]) -> Result<Round> {
    let time = bench.args.round;
    let mut idle = Line::open(&server.socket, uri, OUT_OF_ORDER)?;
    let idle = pings(&mut idle, time)?;
    let mut line = Line::open(&server.socket, uri, OUT_OF_ORDER)?;
    line.get()?;
    let frame_us = frame_us(&mut line, time)?;
    let beside = pings(&mut line, time)?;
    drop(line);
    Ok(Round { idle, beside, frame_us, in_order_us: in_order_us(server, uri)? })
}

/// One PING after the other; bodies that end are asked for again.
fn pings(line: &mut Line<'_>, time: Duration) -> Result<Latency> {
    let mut latency = Latency::new()?;
    let end = Instant::now() + time;
    while latency.count() < 100 || Instant::now() < end {
        let sent = Instant::now();
        line.ping()?;
        loop {
            match line.next()? {
                Came::Pong => break,
                Came::Body => line.get()?,
                Came::Frame => {}
            }
        }
        latency.record(sent.elapsed(), 1);
    }
    Ok(latency)
}

/// The time of a DATA frame while nothing else is asked for.
fn frame_us(line: &mut Line<'_>, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut frames = 0_u32;
    while frames < 100 || start.elapsed() < time {
        match line.next()? {
            Came::Frame => frames += 1,
            Came::Body => line.get()?,
            Came::Pong => bail!("a PONG came that nobody asked for"),
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(frames))
}

/// How long a PING takes that is sent right behind a GET, where nothing overtakes.
fn in_order_us(server: &Server, uri: &[u8]) -> Result<f64> {
    let mut line = Line::open(&server.socket, uri, 0)?;
    line.get()?;
    let sent = Instant::now();
    line.ping()?;
    let mut whole = false;
    loop {
        match line.next()? {
            Came::Frame => {}
            Came::Body => whole = true,
            Came::Pong => break,
        }
    }
    ensure!(whole, "a PONG has overtaken a body where that was not agreed on");
    Ok(sent.elapsed().as_secs_f64() * 1e6)
}

/// What a connection brought.
enum Came {
    /// All of a DATA frame.
    Frame,
    /// All of a body.
    Body,
    Pong,
}

/// A connection that copies one object and asks for signs of life.
struct Line<'a> {
    stream: Stream,
    uri: &'a [u8],
    id: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of a DATA frame that have not come.
    left: usize,
}

impl<'a> Line<'a> {
    fn open(socket: &Path, uri: &'a [u8], capabilities: u64) -> Result<Self> {
        let stream = Stream::connect(socket, Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let buffer = vec![0; limits::HEADER + limits::REPLY_PAYLOAD];
        let mut line = Self { stream, uri, id: 1, buffer, start: 0, end: 0, left: 0 };
        let mut hello = Vec::new();
        Hello { capabilities, ..Hello::default() }.encode(1, &mut hello);
        line.stream.send(&hello, &[], false)?;
        line.frame(|frame| {
            ensure!(frame.header.op == Op::HelloAck as u8, "the daemon does not answer HELLO");
            let agreed = HelloAck::decode(frame.payload)?.capabilities;
            ensure!(agreed == capabilities, "the daemon does not answer out of order");
            Ok(())
        })?;
        Ok(line)
    }

    fn get(&mut self) -> Result<()> {
        self.ask(Request::Get(Get::new(Mode::Copy, Range::ALL, self.uri)))
    }

    fn ping(&mut self) -> Result<()> {
        self.ask(Request::Ping(b"x"))
    }

    fn ask(&mut self, request: Request<'_>) -> Result<()> {
        let mut bytes = Vec::with_capacity(128);
        self.id += 1;
        request.encode(self.id, &mut bytes);
        self.stream.send(&bytes, &[], false)?;
        Ok(())
    }

    fn next(&mut self) -> Result<Came> {
        loop {
            if self.left > 0 {
                if self.start == self.end {
                    self.receive()?;
                }
                let step = self.left.min(self.end - self.start);
                self.start += step;
                self.left -= step;
                if self.left == 0 {
                    return Ok(Came::Frame);
                }
                continue;
            }
            let Some(header) = Header::decode(self.arrived()) else {
                self.receive()?;
                continue;
            };
            if header.op == Op::Data as u8 {
                self.start += limits::HEADER;
                self.left = header.length as usize;
                continue;
            }
            let came = self.frame(|frame| match Reply::decode(frame)? {
                Reply::Object(item) if item.head.status == Status::Ok => Ok(None),
                Reply::End(end) if end.status == Status::Ok => Ok(Some(Came::Body)),
                Reply::Pong(_) => Ok(Some(Came::Pong)),
                other => bail!("the daemon answered {other:?}"),
            })?;
            if let Some(came) = came {
                return Ok(came);
            }
        }
    }

    /// Reads one whole frame.
    fn frame<T>(
        &mut self,
        read: impl FnOnce(objmapper_proto::Frame<'_>) -> Result<T>,
    ) -> Result<T> {
        loop {
            if let Split::Whole(frame, used) = frame::split(self.arrived(), limits::REPLY_PAYLOAD)?
            {
                let outcome = read(frame);
                self.start += used;
                return outcome;
            }
            self.receive()?;
        }
    }

    fn arrived(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn receive(&mut self) -> Result<()> {
        // A frame fits whole, behind its beginning.
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let received = self.stream.recv_bytes(room)?;
        ensure!(received > 0, "the daemon has closed the connection");
        self.end += received;
        Ok(())
    }
}
