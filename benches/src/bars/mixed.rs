//! Descriptors and bytes at the same time: 80 % fdpass and 20 % copies of 64 KiB.
//!
//! At its defaults the daemon sends 64 KiB in place, so another one is told to hand every copy
//! over to its transfer path: only there are two paths at work. That both are is read from the CPU
//! of the daemon's threads: if workers and transfer path together took more than one CPU's time,
//! they ran at the same moment; if not (one CPU), in the same round at least.

use anyhow::Result;

use super::shared::{EACH, KIB, of_side, p50, p99, plans, shape, single};
use super::{Bar, Bench, Demand, Measurement, room_for, summaries};
use crate::placement::Placement;
use crate::plan::{Dialect, Form, Mix};
use crate::procfs;
use crate::record::{Round, Ways};
use crate::servers::Server;
use crate::tree::Tree;
use crate::turns::Outcome;
use crate::wire::Job;

pub(super) const ALL: &[(&str, Measurement)] =
    &[("mixed on one CPU", on_one_cpu), ("mixed on all CPUs", on_all_cpus)];

const CONNS: usize = 1000;

fn on_one_cpu(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    mixed(bench, "mixed, one CPU", bench.pinned)
}

fn on_all_cpus(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    mixed(bench, "mixed, all CPUs", Placement::anywhere())
}

fn mixed(bench: &Bench<'_>, name: &str, place: Placement) -> Result<Vec<Bar>> {
    if let Some(missing) = room_for(CONNS)? {
        return Ok(vec![Bar::new(name, Demand::Nothing, None).note(missing)]);
    }
    let tree = Tree::temporary(shape(64, 64 * KIB))?;
    let in_place = bench.daemon(&tree, None, place)?;
    let handed = bench.daemon_told(&["--inline-limit", "4KiB"], &tree, None, place)?;
    let floor = bench.floor(&tree, place)?;
    let mix = Form { mix: Mix::Fdpass(0.8), ..single(Job::Fdpass) };
    let asked = [(Dialect::Objm, single(Job::Fdpass)), (Dialect::Objm, mix), (EACH, mix)];
    let [pure, mixture, floor_mixture] = plans(asked, &tree)?;
    let sides = [
        bench.side_of(CONNS, "fdpass alone", &in_place, &pure),
        bench.side_of(CONNS, "mixed, sent in place", &in_place, &mixture),
        bench.side_of(CONNS, "mixed, two paths", &handed, &mixture),
        bench.side_of(CONNS, "mixed, floor", &floor, &floor_mixture),
    ];
    let (stats, threads) = (handed.stats()?, Threads::of(&handed)?);
    let outcome = bench.take(&sides, place)?;
    let (stats, threads) = (handed.stats()?.since(&stats), threads.since_then(&handed)?);
    summaries(&outcome)?;
    let mut bars = vec![
        told(&format!("{name}: p50 us of fdpass alone"), &outcome, 0, p50),
        told(&format!("{name}: p99 us of fdpass alone"), &outcome, 0, p99),
    ];
    for (side, how) in [(1, "sent in place"), (2, "two paths")] {
        let bar = |what, q| {
            let figure = move |round: &Round| fdpass_us(round, q);
            told(&format!("{name}, {how}: {what} us of fdpass"), &outcome, side, figure)
                .floor(of_side(&outcome, 3, figure))
                .note(format!("of copies {:.0}", of_side(&outcome, side, |r| copy_us(r, q))))
        };
        bars.extend([bar("p50", 0.5), bar("p99", 0.99)]);
        let both = told(&format!("{name}, {how}: objects/s"), &outcome, side, Round::rate);
        bars.push(both.floor(of_side(&outcome, 3, Round::rate)).note(format!(
            "{:.0} MiB/s of bodies beside descriptors; fdpass alone {:.0}/s",
            of_side(&outcome, side, Round::bytes_rate) / 1_048_576.0,
            of_side(&outcome, 0, Round::rate),
        )));
    }
    bars.push(evidence(name, &threads, stats.get("transfer.bodies").unwrap_or(0.0)));
    Ok(bars)
}

fn told(name: &str, outcome: &Outcome, side: usize, figure: impl Fn(&Round) -> f64) -> Bar {
    Bar::new(name, Demand::Nothing, Some(of_side(outcome, side, figure)))
}

fn way_us(round: &Round, way: impl Fn(&Ways) -> f64) -> f64 {
    round.tally.ways.as_ref().map_or(f64::NAN, way)
}

fn fdpass_us(round: &Round, quantile: f64) -> f64 {
    way_us(round, |ways| ways.fdpass.percentile_us(quantile))
}

fn copy_us(round: &Round, quantile: f64) -> f64 {
    way_us(round, |ways| ways.copy.percentile_us(quantile))
}

/// CPU seconds of the daemon's two paths.
struct Threads {
    transfer: f64,
    workers: f64,
}

impl Threads {
    fn of(server: &Server) -> Result<Self> {
        let (mut transfer, mut workers) = (0.0, 0.0);
        for (name, ns) in procfs::threads(server.pid)? {
            let path = if name == "transfer" { &mut transfer } else { &mut workers };
            *path += ns as f64 / 1e9;
        }
        Ok(Self { transfer, workers })
    }

    fn since_then(self, server: &Server) -> Result<Self> {
        let now = Self::of(server)?;
        let (transfer, workers) = (now.transfer - self.transfer, now.workers - self.workers);
        Ok(Self { transfer, workers })
    }
}

/// The lesser path's share of what both took: both are at work if it is not nothing.
fn evidence(name: &str, threads: &Threads, bodies: f64) -> Bar {
    let both = threads.transfer + threads.workers;
    let lesser = threads.transfer.min(threads.workers) / both.max(1e-9);
    Bar::new(&format!("{name}: both paths work, lesser share"), Demand::Above(0.05), Some(lesser))
        .note(format!(
            "{:.2} s of CPU in workers, {:.2} in the transfer path, {bodies:.0} bodies there",
            threads.workers, threads.transfer
        ))
}
