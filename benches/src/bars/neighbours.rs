//! One client that behaves, before and while somebody else does not.
//!
//! The client and the server share one CPU, and the neighbour runs on another: what shows is what
//! it costs the server. An endless pipeline of misses is work without end, and fills the server's
//! CPU: a client on the same CPU then waits for the scheduler, whatever the server does. So it is
//! judged with the client on the other CPU (beside the neighbour, which leaves it room), and the
//! figure on one CPU is only told.

use anyhow::Result;
use std::fmt::Write;

use super::shared::{EACH, GIB, KIB, of_side, p50, p99, plans, shape, single};
use super::{Bar, Bench, Goal, Measurement, room_for, summaries};
use crate::neighbour::Neighbour;
use crate::placement::Placement;
use crate::plan::Dialect;
use crate::record::Round;
use crate::tree::Tree;
use crate::turns::Side;
use crate::wire::Job;

pub(super) const ALL: &[(&str, Measurement)] = &[
    ("a stalled splice of 1 GiB", stalled_splice),
    ("a client that never reads", no_reader),
    ("an endless pipeline of misses", misses),
    ("an endless pipeline of misses, one CPU", misses_on_one_cpu),
    ("500 readers at 10 KiB/s", slow_readers),
];

const GOAL: Goal = Goal::Below(2.0);

fn stalled_splice(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "a stalled splice of 1 GiB", Neighbour::StalledSplice, bench.pinned, GOAL)
}

fn no_reader(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "a client that never reads", Neighbour::NoReader, bench.pinned, GOAL)
}

fn misses(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    let name = "an endless pipeline of misses";
    let Some(apart) = bench.apart else {
        let missing = "not measured: there is one CPU, which the neighbour fills";
        return Ok(vec![Bar::new(&format!("{name}: p99 / alone"), GOAL, None).note(missing)]);
    };
    beside(bench, &format!("{name}, client on another CPU"), Neighbour::Misses, apart, GOAL)
}

fn misses_on_one_cpu(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    let name = "an endless pipeline of misses, one CPU for all";
    beside(bench, name, Neighbour::Misses, bench.pinned, Goal::Nothing)
}

fn slow_readers(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside(bench, "500 readers at 10 KiB/s", Neighbour::SlowReaders(500), bench.pinned, GOAL)
}

fn beside(
    bench: &Bench<'_>,
    name: &str,
    neighbour: Neighbour,
    place: Placement,
    goal: Goal,
) -> Result<Vec<Bar>> {
    let name = format!("{name}: p99 / alone");
    if let Some(missing) = room_for(neighbour.connections()) {
        return Ok(vec![Bar::new(&name, goal, None).note(missing)]);
    }
    place.become_client()?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?.with_spare(GIB)?;
    let ours = bench.daemon(&tree, None, place)?;
    let floor = bench.floor(&tree, place)?;
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
    let outcome = bench.take(&sides, place)?;
    summaries(&outcome)?;
    let figure = |side, figure: fn(&Round) -> f64| of_side(&outcome, side, figure);
    let mut note = format!(
        "{:.1} -> {:.1} us; p50 {:.1} -> {:.1}; server CPU {:.0} -> {:.0} %",
        figure(0, p99),
        figure(1, p99),
        figure(0, p50),
        figure(1, p50),
        figure(0, Round::server_share) * 100.0,
        figure(1, Round::server_share) * 100.0,
    );
    let received = figure(1, |round| round.neighbour.unwrap_or(0.0)) / 1_048_576.0;
    if received > 0.0 {
        let _ = write!(note, "; it received {received:.1} MiB/s");
    }
    let bar = Bar::new(&name, goal, Some(outcome.ratio(1, 0, p99)));
    let bar = if neighbour.suits_floor() { bar.floor(outcome.ratio(3, 2, p99)) } else { bar };
    Ok(vec![bar.note(note)])
}
