//! Large values, and both services of one daemon at the same time.

use anyhow::{Context, Result, bail, ensure};
use objmapper_client::{Answer, Client as Objects, Mode, Object, Opened, Pipeline};
use objmapper_os::socket::Stream;
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::keys::{CONNS, place, servers};
use super::shared::{EACH, KIB, MIB, of_side, p50, p99, plans, shape, single};
use super::{Bar, Bench, Goal, summaries};
use crate::cli::kv::{KvArgs, Protocol, Verb};
use crate::keys::bursts::{Bursts, name};
use crate::keys::load::{self, Client, Round, fill};
use crate::keys::mapper::Mapper;
use crate::keys::server::Server;
use crate::placement::Placement;
use crate::plan::{Dialect, Plan};
use crate::procfs;
use crate::record::median;
use crate::servers::Server as Daemon;
use crate::stop::{PATIENCE, Stop};
use crate::tree::Tree;
use crate::turns::Outcome;
use crate::wire::Job;

/// Values that are asked for in turn. With more than fit into the processor's caches it is memory
/// that is measured, the same for both.
const VALUES: u32 = 8;

/// Values that are asked for at once; the next ones are, before these are read: the server works
/// meanwhile, on both sides.
const AT_ONCE: u32 = 8;

/// What one side got in a round.
struct Got {
    rate: f64,
    cpu_us: f64,
}

/// Where values are read from.
trait Source {
    /// Asks for these.
    fn ask(&mut self, keys: Range<u32>) -> Result<()>;

    /// Reads the oldest [`AT_ONCE`] of those that were asked for.
    fn read(&mut self) -> Result<()>;
}

/// Reads whole values, some at a time, until the time is up.
fn round(pid: i32, time: Duration, stop: &Stop, source: &mut dyn Source) -> Result<Got> {
    let (cpu, begin) = (procfs::cpu_ns(pid)?, Instant::now());
    let keys = |count: u32| count % VALUES..count % VALUES + AT_ONCE;
    source.ask(keys(0))?;
    let mut count = AT_ONCE;
    while begin.elapsed() < time {
        stop.check()?;
        source.ask(keys(count))?;
        source.read()?;
        count += AT_ONCE;
    }
    source.read()?;
    let cpu = procfs::cpu_ns(pid)?.saturating_sub(cpu);
    Ok(Got {
        rate: f64::from(count) / begin.elapsed().as_secs_f64(),
        cpu_us: cpu as f64 / 1e3 / f64::from(count.max(1)),
    })
}

/// Ours: descriptors, and pread(2).
struct Descriptors<'a> {
    pipeline: Pipeline<'a>,
    uris: Vec<String>,
    buffer: Vec<u8>,
}

impl Source for Descriptors<'_> {
    fn ask(&mut self, keys: Range<u32>) -> Result<()> {
        for key in keys {
            let uri = self.uris.get(key as usize).context("a name")?;
            self.pipeline.get(uri, Mode::Fdpass)?;
        }
        Ok(self.pipeline.flush()?)
    }

    fn read(&mut self) -> Result<()> {
        for _ in 0..AT_ONCE {
            let (_, answer) = self.pipeline.next().context("an answer")?;
            let Answer::Object(Object::Descriptor(value)) = answer? else {
                bail!("the daemon has sent something else than a descriptor")
            };
            let read = value.read_at(&mut self.buffer, 0)?;
            ensure!(read as u64 == MIB, "{read} bytes");
        }
        Ok(())
    }
}

/// The floor: descriptors that are there already.
struct Held {
    values: Vec<Opened>,
    next: usize,
    buffer: Vec<u8>,
}

impl Source for Held {
    fn ask(&mut self, _: Range<u32>) -> Result<()> {
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        for _ in 0..AT_ONCE {
            let value = self.values.get(self.next).context("a value")?;
            let read = value.read_at(&mut self.buffer, 0)?;
            ensure!(read as u64 == MIB, "{read} bytes");
            self.next = (self.next + 1) % self.values.len();
        }
        Ok(())
    }
}

/// Theirs: GET.
struct Replies {
    stream: Stream,
    names: Vec<String>,
    buffer: Vec<u8>,
    /// Bytes of one reply.
    whole: usize,
    /// Bytes that came of those that are not read yet.
    over: usize,
}

impl Source for Replies {
    fn ask(&mut self, keys: Range<u32>) -> Result<()> {
        let mut asked = String::new();
        for key in keys {
            write!(asked, "GET {}\r\n", self.names.get(key as usize).context("a name")?)?;
        }
        self.stream.send(asked.as_bytes(), &[], false)?;
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let due = self.whole * AT_ONCE as usize;
        while self.over < due {
            let n = self.stream.recv_bytes(&mut self.buffer)?;
            ensure!(n > 0, "the server has closed the connection");
            self.over += n;
        }
        self.over -= due;
        Ok(())
    }
}

/// A value of 1 MiB read into the same buffer: by GET, and by a descriptor and pread(2); the floor is
/// pread(2) alone.
pub(super) fn large(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    let what = "values of 1 MiB, read by descriptor / GET of Redis";
    let place = match place(bench, what) {
        Ok(place) => place,
        Err(bars) => return Ok(bars),
    };
    place.become_client()?;
    let [ours, theirs] = servers(bench, (&[], &[]), place)?;
    let kv =
        KvArgs { keys: VALUES, value_size: bytesize::ByteSize::b(MIB), ..KvArgs::usual(Verb::Get) };
    for server in [&ours, &theirs] {
        fill(&server.socket, Bursts::fill(&kv))?;
    }
    let names = (0..VALUES).map(|key| Ok(String::from_utf8(name(key, kv.key_size))?));
    let names = names.collect::<Result<Vec<_>>>()?;
    let buffer = vec![0; usize::try_from(MIB)? + 64];
    let uris: Vec<_> = names.iter().map(|name| format!("kv:{name}")).collect();
    let mut objects = objects(&ours)?;
    let values = uris.iter().map(|uri| objects.open(uri)).collect::<Result<_, _>>()?;
    let mut held = Held { values, next: 0, buffer: buffer.clone() };
    let mut descriptors =
        Descriptors { pipeline: objects.pipeline()?, uris, buffer: buffer.clone() };
    let stream = Stream::connect(&theirs.socket, Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let whole = format!("${MIB}\r\n").len() + usize::try_from(MIB)? + 2;
    let mut replies = Replies { stream, names, buffer, whole, over: 0 };
    let (mut our, mut least, mut their) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.args.rounds {
        our.push(round(ours.pid, bench.args.round, &bench.stop, &mut descriptors)?);
        least.push(round(ours.pid, bench.args.round, &bench.stop, &mut held)?);
        their.push(round(theirs.pid, bench.args.round, &bench.stop, &mut replies)?);
    }
    let ratio = |side: &[Got], figure: fn(&Got) -> f64| {
        median(side.iter().zip(&their).map(|(our, their)| figure(our) / figure(their).max(1e-9)))
    };
    let middle = |side: &[Got], figure: fn(&Got) -> f64| median(side.iter().map(figure));
    let rate: fn(&Got) -> f64 = |got| got.rate;
    let cpu: fn(&Got) -> f64 = |got| got.cpu_us;
    let rates = Bar::new(&format!("{what}: values/s"), Goal::AtLeast(2.5), Some(ratio(&our, rate)))
        .floor(ratio(&least, rate));
    let cpus = Bar::new(&format!("{what}: server CPU"), Goal::AtMost(0.1), Some(ratio(&our, cpu)));
    Ok(vec![
        rates.note(format!("{:.0} against {:.0}", middle(&our, rate), middle(&their, rate))),
        cpus.note(format!("{:.1} us against {:.1}", middle(&our, cpu), middle(&their, cpu))),
    ])
}

fn objects(server: &Server) -> Result<Objects> {
    let path = server.objects.as_deref().context("only our daemon has objects")?;
    Ok(Objects::builder().path(path).connect()?)
}

/// Twenty processes map a value of 16 MiB.
pub(super) fn mapped(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    const MAPPERS: usize = 20;
    let size = 16 * MIB;
    let ours = Server::ours(&bench.program, &bench.args.daemon_arg, Placement::anywhere())?;
    let kv =
        KvArgs { keys: 1, value_size: bytesize::ByteSize::b(size), ..KvArgs::usual(Verb::Get) };
    fill(&ours.socket, Bursts::fill(&kv))?;
    let uri = format!("kv:{}", String::from_utf8_lossy(&name(0, kv.key_size)));
    let socket = ours.objects.as_deref().context("only our daemon has objects")?;
    let mut mappers =
        (0..MAPPERS).map(|_| Mapper::start(socket, &uri)).collect::<Result<Vec<_>>>()?;
    let (mut rss, mut pss) = (0, 0);
    // All of them at once, so that each share is of the same whole.
    let shown = mappers.iter_mut().map(Mapper::shown).collect::<Result<Vec<_>>>()?;
    for (resident, share) in shown {
        (rss, pss) = (rss + resident, pss + share);
    }
    let of = |bytes: u64| bytes as f64 / size as f64;
    let daemon = procfs::rss_bytes(ours.pid)? as f64 / 1e6;
    Ok(vec![
        Bar::new(
            "20 processes map a value of 16 MiB: copies in memory",
            Goal::AtMost(1.1),
            Some(of(pss)),
        )
        .note(format!(
            "the sum of Pss; each sees {:.2} of it resident; the daemon has {daemon:.1} MB",
            of(rss) / MAPPERS as f64
        )),
    ])
}

/// What was taken of one server of descriptors and one of keys.
struct Taken {
    descriptors_alone: Outcome,
    descriptors_beside: Outcome,
    keys_alone: Round,
    keys_beside: Round,
}

/// Takes each load alone, then both at the same time.
fn alone_and_beside(
    bench: &Bench<'_>,
    place: Placement,
    (server, plan): (&Daemon, &Plan<'_>),
    (keys, pid): (&Path, i32),
) -> Result<Taken> {
    let kv = KvArgs::usual(Verb::Mixed);
    let bursts = Bursts::new(&kv, 1, Protocol::Resp);
    fill(keys, Bursts::fill(&kv))?;
    let value_size = kv.value_size.as_u64();
    let mut client = Client::connect((Protocol::Resp, keys), CONNS as usize, &bursts, value_size)?;
    let take = || bench.take(&[bench.side("fdpass", server, plan)], place);
    let descriptors_alone = take()?;
    let keys_alone = client.round(&bursts, pid, bench.args.round, &bench.stop)?;
    let over = AtomicBool::new(false);
    let (descriptors_beside, keys_beside) = std::thread::scope(|scope| {
        let keys = scope.spawn(|| load::until(&mut client, &bursts, pid, &over, &bench.stop));
        let descriptors = take();
        over.store(true, Ordering::Release);
        (descriptors, keys.join())
    });
    let keys_beside = keys_beside.map_err(|_| anyhow::anyhow!("the other client panicked"))??;
    let descriptors_beside = descriptors_beside?;
    summaries(&descriptors_alone)?;
    summaries(&descriptors_beside)?;
    Ok(Taken { descriptors_alone, descriptors_beside, keys_alone, keys_beside })
}

/// Descriptors while another client asks for keys, and the other way round: one daemon, one CPU.
pub(super) fn beside(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    let what = "fdpass beside 50 clients that ask for keys";
    let place = match place(bench, what) {
        Ok(place) => place,
        Err(bars) => return Ok(bars),
    };
    place.become_client()?;
    let directory = tempfile::TempDir::with_prefix("objmapper-bench-")?;
    let socket = directory.path().join("keys");
    let path = socket.to_str().context("the temporary directory's name is no text")?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let ours = bench.daemon_told(&["--kv-socket", path], &tree, None, place)?;
    let floor = bench.floor(&tree, place)?;
    let [_, theirs] = servers(bench, (&[], &[]), place)?;
    let form = single(Job::Fdpass);
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], &tree)?;
    let our = alone_and_beside(bench, place, (&ours, &plan), (&socket, ours.pid))?;
    let other = (&*theirs.socket, theirs.pid);
    let their = alone_and_beside(bench, place, (&floor, &floor_plan), other)?;
    Ok(vec![
        descriptors_bar("p50", p50, &our, &their),
        descriptors_bar("p99", p99, &our, &their),
        keys_bar(&our, &their),
    ])
}

fn descriptors_bar(
    what: &str,
    of: fn(&crate::record::Round) -> f64,
    our: &Taken,
    their: &Taken,
) -> Bar {
    let of = |outcome: &Outcome| of_side(outcome, 0, of);
    let (ours, floor) = (of(&our.descriptors_beside), of(&their.descriptors_beside));
    Bar::new(
        &format!("fdpass beside 50 clients of keys: {what} / floor beside redis-server"),
        Goal::AtMost(1.25),
        Some(ours / floor.max(1e-9)),
    )
    .note(format!(
        "{ours:.1} us, alone {:.1}; the floor {floor:.1}, alone {:.1}",
        of(&our.descriptors_alone),
        of(&their.descriptors_alone)
    ))
}

fn keys_bar(our: &Taken, their: &Taken) -> Bar {
    let us = |round: &Round| round.latency.percentile_us(0.99);
    Bar::new(
        "50 clients of keys beside one of fdpass: p99 / redis-server beside the floor",
        Goal::AtMost(1.25),
        Some(us(&our.keys_beside) / us(&their.keys_beside)),
    )
    .note(format!(
        "{:.0} us, alone {:.0}; {:.0} k requests/s, alone {:.0} k; redis-server {:.0} us, {:.0} k",
        us(&our.keys_beside),
        us(&our.keys_alone),
        our.keys_beside.rate() / 1e3,
        our.keys_alone.rate() / 1e3,
        us(&their.keys_beside),
        their.keys_beside.rate() / 1e3,
    ))
}
