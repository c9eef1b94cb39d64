//! `--mode kv`: the keyspace, over RESP or OBJM, beside Redis if asked for.
//!
//! The same client asks both, in turn; what is compared is the servers' CPU for each request, and
//! how many they answer where the client is not the limit. All requests are encoded before the
//! clock starts, and every reply is counted: a null, an error or a value of another length is told.

pub(crate) mod bursts;
pub(crate) mod compare;
pub(crate) mod load;
pub(crate) mod mapper;
mod replies;
pub(crate) mod server;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::Write;

use crate::cli::RunArgs;
use crate::cli::kv::{Spread, Verb};
use crate::placement::Placement;
use crate::procfs;
use crate::record::median;
use crate::report;
use crate::run::daemon_arguments;
use crate::servers::find_daemon;
use crate::stop::Stop;
use crate::summary::round3;
use compare::Asked;
use load::Round;
use server::Server;

/// What one server did.
#[derive(Debug, Serialize)]
struct Side {
    server: &'static str,
    requests_per_s: f64,
    server_cpu_us_per_request: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    rss_bytes: u64,
    requests: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
}

/// Ours as a multiple of the rival's; medians over rounds.
#[derive(Debug, Serialize)]
struct Ratio {
    server_cpu: f64,
    requests_per_s: f64,
    p50: f64,
    rss: f64,
}

#[derive(Serialize)]
struct Answer {
    verb: Verb,
    conns: u32,
    pipeline: u32,
    keys: u32,
    value_size: u64,
    spread: Spread,
    rounds: u32,
    sides: Vec<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
}

/// Measures and prints; whether there was no error.
pub(crate) fn run(args: &RunArgs) -> Result<bool> {
    let stop = Stop::install(args.time_limit)?;
    objmapper_os::limits::raise_nofile()?;
    let place = Placement::of(args.target.pin)?;
    place.become_client()?;
    let kv = &args.kv;
    let mut servers = Vec::new();
    let program = find_daemon(args.target.daemon.as_deref())?;
    let arguments = daemon_arguments(&args.target.daemon_arg, args.target.workers);
    servers.push(Server::ours(&program, &arguments, place)?);
    if let Some(rival) = kv.against {
        servers.push(Server::rival(rival, kv, place)?);
    }
    let (rounds, time) = (args.rounds, args.load.duration / args.rounds);
    let (conns, pipeline, warmup) = (args.load.conns, args.load.pipeline, args.load.warmup);
    let asked = Asked { kv, conns, pipeline, rounds, warmup, time };
    let rounds = compare::take(&servers, asked, &stop)?;
    let answer = answer(args, &servers, &rounds)?;
    if args.json {
        report::print_json(&answer)?;
    } else {
        report::print(&answer.table())?;
    }
    Ok(answer.sides.iter().all(|side| side.errors == 0))
}

fn answer(args: &RunArgs, servers: &[Server], rounds: &[Vec<Round>]) -> Result<Answer> {
    let mut sides = Vec::new();
    for (server, rounds) in servers.iter().zip(rounds) {
        let middle = |figure: &dyn Fn(&Round) -> f64| round3(median(rounds.iter().map(figure)));
        sides.push(Side {
            server: server.name,
            requests_per_s: middle(&Round::rate).round(),
            server_cpu_us_per_request: middle(&Round::cpu_us),
            p50_us: middle(&|round| round.latency.percentile_us(0.5)),
            p99_us: middle(&|round| round.latency.percentile_us(0.99)),
            p999_us: middle(&|round| round.latency.percentile_us(0.999)),
            rss_bytes: procfs::rss_bytes(server.pid)?,
            requests: rounds.iter().map(|round| round.seen.replies).sum(),
            errors: rounds.iter().map(Round::wrong).sum(),
            first_error: rounds.iter().find_map(|round| round.said.clone()),
        });
    }
    let ratio = match (rounds, &*sides) {
        ([ours, theirs], [our, their]) => {
            let each =
                |figure: &dyn Fn(&Round) -> f64| round3(compare::ratio(ours, theirs, figure));
            Some(Ratio {
                server_cpu: each(&Round::cpu_us),
                requests_per_s: each(&Round::rate),
                p50: each(&|round| round.latency.percentile_us(0.5)),
                rss: round3(our.rss_bytes as f64 / their.rss_bytes.max(1) as f64),
            })
        }
        _ => None,
    };
    Ok(Answer {
        verb: args.kv.verb,
        conns: args.load.conns,
        pipeline: args.load.pipeline,
        keys: args.kv.keys,
        value_size: args.kv.value_size.as_u64(),
        spread: args.kv.spread,
        rounds: args.rounds,
        sides,
        ratio,
    })
}

impl Answer {
    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
        let names = self.sides.iter().map(|side| side.server.to_owned());
        let ratio = self.ratio.as_ref().map(|_| "ratio".to_owned());
        table.set_header([String::new()].into_iter().chain(names).chain(ratio));
        let mut row = |name: &str, of: &dyn Fn(&Side) -> String, ratio: Option<f64>| {
            let cells = self.sides.iter().map(of);
            let ratio = ratio.map(|ratio| format!("{ratio:.2}"));
            let blank = self.ratio.as_ref().map(|_| ratio.unwrap_or_default());
            table.add_row([name.to_owned()].into_iter().chain(cells).chain(blank));
        };
        let ratio = self.ratio.as_ref();
        row(
            "server CPU, us",
            &|s| format!("{:.3}", s.server_cpu_us_per_request),
            ratio.map(|r| r.server_cpu),
        );
        row("requests/s", &|s| format!("{:.0}", s.requests_per_s), ratio.map(|r| r.requests_per_s));
        row("p50, us", &|s| format!("{:.1}", s.p50_us), ratio.map(|r| r.p50));
        row("p99, us", &|s| format!("{:.1}", s.p99_us), None);
        row("p99.9, us", &|s| format!("{:.1}", s.p999_us), None);
        row("RSS, MB", &|s| format!("{:.1}", s.rss_bytes as f64 / 1e6), ratio.map(|r| r.rss));
        row("requests", &|s| s.requests.to_string(), None);
        row("errors", &|s| s.errors.to_string(), None);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let verb = match self.verb {
            Verb::Get => "GET",
            Verb::Set => "SET",
            Verb::Mixed => "GET and SET",
        };
        let mut text = format!(
            "{verb} · {} connections · pipeline {} · {} keys · values of {} B\n{table}",
            self.conns, self.pipeline, self.keys, self.value_size
        );
        for side in &self.sides {
            if let Some(said) = &side.first_error {
                let _ = write!(text, "\n{} said: {said}", side.server);
            }
        }
        text
    }
}
