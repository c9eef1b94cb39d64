//! One client that behaves, before and while somebody else does not.
//!
//! The client and the server share one CPU, and the neighbour runs on another: what shows is what
//! it costs the server. Where it keeps the server busy all the time, the client gets its share of
//! that CPU and no more, however fair the server is; so the server's share of it is told as well.

use anyhow::Result;

use super::shared::{EACH, GIB, KIB, of_side, p50, p99, plans, shape, single};
use super::{Bar, Bench, Demand, Measurement, room_for, summaries};
use crate::neighbour::Neighbour;
use crate::plan::Dialect;
use crate::record::Round;
use crate::tree::Tree;
use crate::turns::Side;
use crate::wire::Job;

pub(super) const ALL: &[(&str, Measurement)] = &[
    ("a stalled splice of 1 GiB", stalled_splice),
    ("a client that never reads", no_reader),
    ("an endless pipeline of misses", misses),
    ("500 readers at 10 KiB/s", slow_readers),
];

fn stalled_splice(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "a stalled splice of 1 GiB", Neighbour::StalledSplice)
}

fn no_reader(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "a client that never reads", Neighbour::NoReader)
}

fn misses(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "an endless pipeline of misses", Neighbour::Misses)
}

fn slow_readers(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "500 readers at 10 KiB/s", Neighbour::SlowReaders(500))
}

fn beside(bench: &Bench<'_>, name: &str, neighbour: Neighbour) -> Result<Vec<Bar>> {
    let name = format!("{name}: p99 / alone");
    let demand = Demand::Below(2.0);
    if let Some(missing) = room_for(neighbour.connections())? {
        return Ok(vec![Bar::new(&name, demand, None).note(missing)]);
    }
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?.with_spare(GIB)?;
    let ours = bench.daemon(&tree, None, bench.pinned)?;
    let floor = bench.floor(&tree, bench.pinned)?;
    let form = single(Job::Fdpass);
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], &tree)?;
    let there = Some(neighbour);
    let mut sides = vec![
        bench.side("alone", &ours, &plan),
        Side { beside: there, ..bench.side("beside", &ours, &plan) },
    ];
    if neighbour.suits_floor() {
        let side = || bench.side("floor", &floor, &floor_plan);
        sides.extend([side(), Side { beside: there, ..side() }]);
    }
    let outcome = bench.take(&sides, bench.pinned)?;
    summaries(&outcome)?;
    let figure = |side, figure: fn(&Round) -> f64| of_side(&outcome, side, figure);
    let mut note = format!(
        "{:.1} us before, {:.1} during; p50 {:.1}, {:.1}; the server takes {:.0} % of the CPU \
         instead of {:.0}",
        figure(0, p99),
        figure(1, p99),
        figure(0, p50),
        figure(1, p50),
        figure(1, Round::server_share) * 100.0,
        figure(0, Round::server_share) * 100.0,
    );
    let received = figure(1, |round| round.neighbour.unwrap_or(0.0)) / 1_048_576.0;
    if received > 0.0 {
        note.push_str(&format!("; the neighbour received {received:.1} MiB/s"));
    }
    let bar = Bar::new(&name, demand, Some(outcome.ratio(1, 0, p99)));
    let bar = if neighbour.suits_floor() { bar.floor(outcome.ratio(3, 2, p99)) } else { bar };
    Ok(vec![bar.note(note)])
}
