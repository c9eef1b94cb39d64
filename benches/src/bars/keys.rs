//! Keys beside redis-server: the same client, the same requests, in turns.
//!
//! The servers share one CPU, so that CPU for each request compares, and the client has another.

use anyhow::{Context, Result, ensure};
use objmapper_os::socket::Stream;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

use super::{Bar, Bench, Goal, Measurement};
use crate::cli::kv::{KvArgs, Protocol, Rival, Verb};
use crate::keys::bursts::Bursts;
use crate::keys::compare::{self, Asked};
use crate::keys::load::{Round, fill};
use crate::keys::server::Server;
use crate::placement::Placement;
use crate::procfs;
use crate::record::median;
use crate::stop::PATIENCE;

pub(super) const ALL: &[(&str, Measurement)] = &[
    ("keys, pipeline 1", |bench| pipeline(bench, 1, 0.9, None)),
    ("keys, pipeline 16", |bench| pipeline(bench, 16, 0.5, Some(1.8))),
    ("keys, pipeline 50", |bench| pipeline(bench, 50, 0.4, Some(1.8))),
    ("keys that last, interval", |bench| durable(bench, &INTERVAL)),
    ("keys that last, always", |bench| durable(bench, &ALWAYS)),
    ("a million keys", million),
    ("large values", super::values::large),
    ("twenty that map a value", super::values::mapped),
    ("descriptors beside keys", super::values::beside),
];

/// Connections.
pub(super) const CONNS: u32 = 50;

/// Where the servers and the client run, or why nothing is measured.
pub(super) fn place(bench: &Bench<'_>, name: &str) -> Result<Placement, Vec<Bar>> {
    let missing = |why: &str| {
        let bar = Bar::new(name, Goal::Nothing, None);
        Err(vec![bar.note(format!("not measured: {why}"))])
    };
    let Some(place) = bench.apart else { return missing("the client needs a CPU of its own") };
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| dir.join(Rival::Redis.program()).exists())
    });
    if found { Ok(place) } else { missing("redis-server is not installed") }
}

/// Ours with these arguments, and theirs.
pub(super) fn servers(
    bench: &Bench<'_>,
    (ours, theirs): (&[&str], &[&str]),
    place: Placement,
) -> Result<[Server; 2]> {
    bench.stop.check()?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let arguments = [words(ours), bench.args.daemon_arg.clone()].concat();
    let kv = KvArgs { redis_arg: words(theirs), ..KvArgs::usual(Verb::Get) };
    Ok([Server::ours(&bench.program, &arguments, place)?, Server::rival(Rival::Redis, &kv, place)?])
}

fn take(
    bench: &Bench<'_>,
    servers: &[Server],
    kv: &KvArgs,
    pipeline: u32,
) -> Result<[Vec<Round>; 2]> {
    let (rounds, time) = (bench.args.rounds, bench.args.round);
    let asked = Asked { kv, conns: CONNS, pipeline, rounds, warmup: time, time };
    let rounds = compare::take(servers, asked, &bench.stop)?;
    for (server, rounds) in servers.iter().zip(&rounds) {
        let wrong: u64 = rounds.iter().map(Round::wrong).sum();
        let said = rounds.iter().find_map(|round| round.said.clone()).unwrap_or_default();
        ensure!(wrong == 0, "{wrong} replies of {} were wrong: {said}", server.name);
    }
    rounds.try_into().map_err(|_| anyhow::anyhow!("two servers are expected"))
}

fn middle(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(figure))
}

fn pipeline(bench: &Bench<'_>, length: u32, cpu: f64, rate: Option<f64>) -> Result<Vec<Bar>> {
    let name = format!("pipeline {length}");
    let place = match place(bench, &name) {
        Ok(place) => place,
        Err(bars) => return Ok(bars),
    };
    place.become_client()?;
    let servers = servers(bench, (&[], &[]), place)?;
    let mut bars = Vec::new();
    let asked = [
        (Verb::Get, Protocol::Resp, "GET"),
        (Verb::Set, Protocol::Resp, "SET"),
        (Verb::Get, Protocol::Objm, "KV_GET"),
        (Verb::Set, Protocol::Objm, "KV_SET"),
    ];
    for (verb, protocol, what) in asked {
        let kv = KvArgs { protocol, ..KvArgs::usual(verb) };
        let [ours, theirs] = take(bench, &servers, &kv, length)?;
        // Goals are for Redis' own protocol.
        let resp = protocol == Protocol::Resp;
        let ratio = compare::ratio(&ours, &theirs, Round::cpu_us);
        let note = format!(
            "{:.2} us against {:.2}",
            middle(&ours, Round::cpu_us),
            middle(&theirs, Round::cpu_us)
        );
        bars.push(
            Bar::new(
                &format!("{what}, {name}: server CPU / Redis"),
                if resp { Goal::AtMost(cpu) } else { Goal::Nothing },
                Some(ratio),
            )
            .note(note),
        );
        let goal = rate.filter(|_| resp).map_or(Goal::Nothing, Goal::AtLeast);
        bars.push(rates(&format!("{what}, {name}: requests/s / Redis"), goal, &ours, &theirs));
    }
    Ok(bars)
}

fn rates(name: &str, goal: Goal, ours: &[Round], theirs: &[Round]) -> Bar {
    let note = format!(
        "{:.0} k against {:.0} k; p99 {:.0} against {:.0} us",
        middle(ours, Round::rate) / 1e3,
        middle(theirs, Round::rate) / 1e3,
        middle(ours, p99),
        middle(theirs, p99),
    );
    Bar::new(name, goal, Some(compare::ratio(ours, theirs, Round::rate))).note(note)
}

fn p99(round: &Round) -> f64 {
    round.latency.percentile_us(0.99)
}

/// A promise about what survives, theirs and ours.
struct Promise {
    name: &'static str,
    ours: &'static str,
    theirs: &'static str,
    pipeline: u32,
    goal: Goal,
}

const INTERVAL: Promise = Promise {
    name: "interval / everysec",
    ours: "interval",
    theirs: "everysec",
    pipeline: 16,
    goal: Goal::AtLeast(1.5),
};

const ALWAYS: Promise = Promise {
    name: "always / always",
    ours: "always",
    theirs: "always",
    pipeline: 1,
    goal: Goal::AtLeast(1.2),
};

fn durable(bench: &Bench<'_>, promise: &Promise) -> Result<Vec<Bar>> {
    let name = format!("SET, pipeline {}, {}: requests/s", promise.pipeline, promise.name);
    let place = match place(bench, &name) {
        Ok(place) => place,
        Err(bars) => return Ok(bars),
    };
    place.become_client()?;
    let directory = directory()?;
    let (dir, sync) = (text(directory.path())?, promise.ours);
    let ours = ["--kv-dir", &dir, "--kv-sync", sync];
    let theirs = ["--appendonly", "yes", "--appendfsync", promise.theirs];
    let servers = servers(bench, (&ours, &theirs), place)?;
    let [ours, theirs] = take(bench, &servers, &KvArgs::usual(Verb::Set), promise.pipeline)?;
    Ok(vec![rates(&name, promise.goal, &ours, &theirs)])
}

fn directory() -> Result<TempDir> {
    TempDir::with_prefix("objmapper-bench-").context("cannot make a directory")
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the temporary directory's name is no text")?.to_owned())
}

/// Memory, and how long it takes to come back after SIGKILL.
fn million(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    let name = "a million keys of 32 and 64 bytes: memory / Redis";
    let place = match place(bench, name) {
        Ok(place) => place,
        Err(bars) => return Ok(bars),
    };
    place.become_client()?;
    let kv = KvArgs { keys: 1_000_000, key_size: 32, ..KvArgs::usual(Verb::Get) };
    let directory = directory()?;
    let dir = text(directory.path())?;
    let kept = ["--kv-dir", &dir];
    let [ours, theirs] = servers(bench, (&kept, &[]), place)?;
    for server in [&ours, &theirs] {
        fill(&server.socket, Bursts::fill(&kv))?;
    }
    let [our, their] =
        [procfs::rss_bytes(ours.pid)? as f64 / 1e6, procfs::rss_bytes(theirs.pid)? as f64 / 1e6];
    let memory = Bar::new(name, Goal::AtMost(1.0), Some(our / their))
        .note(format!("{our:.0} MB against {their:.0}"));
    drop((ours, theirs)); // by SIGKILL
    let begin = Instant::now();
    let again = Server::ours(&bench.program, &kept.map(str::to_owned), place)?;
    let keys = size(&again.socket)?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(keys == u64::from(kv.keys), "{keys} keys came back");
    let name = "a million keys: seconds from start after SIGKILL to the first reply";
    Ok(vec![memory, Bar::new(name, Goal::Below(2.0), Some(seconds))])
}

/// What DBSIZE says.
fn size(socket: &Path) -> Result<u64> {
    let stream = Stream::connect(socket, Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.send(b"DBSIZE\r\n", &[], false)?;
    let mut reply = [0; 64];
    let n = stream.recv_bytes(&mut reply)?;
    let text = String::from_utf8_lossy(reply.get(..n).unwrap_or_default()).into_owned();
    text.trim().trim_start_matches(':').parse().with_context(|| format!("DBSIZE says {text:?}"))
}
