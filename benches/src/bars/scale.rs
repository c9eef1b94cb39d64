//! Ten connections, a thousand, ten thousand: throughput, waits, memory.
//!
//! Two readings of "all active": every connection has a request under way all the time; or ten at
//! a time have, and all take turns, so that only the number of connections differs. The client
//! pays for its own ten thousand sockets on the same CPU, and the floor's figures say how much of
//! a loss that and the kernel are.

use anyhow::Result;
use std::fmt::Write;

use super::shared::{EACH, KIB, both, of_side, plans, shape, single};
use super::{Bar, Bench, Goal, Measurement, room_for, summaries};
use crate::company::Company;
use crate::neighbour::Neighbour;
use crate::plan::{Dialect, Plan};
use crate::procfs;
use crate::record::Round;
use crate::servers::Server;
use crate::summary::Summary;
use crate::tree::Tree;
use crate::turns::{Outcome, Side};
use crate::wire::Job;

pub(super) const ALL: &[(&str, Measurement)] = &[
    ("connections, all at once", at_once),
    ("connections, ten at a time", in_turn),
    ("memory of 1000 idle connections", memory_thousand),
    ("memory of 10000 idle connections", memory_ten_thousand),
];

/// Connections that are compared with the ten, and what share of their throughput there must be.
const COUNTS: [(usize, f64); 2] = [(1000, 0.8), (10_000, 0.6)];

const FEW: usize = 10;

fn at_once(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    growing(bench, "all at once", usize::MAX)
}

fn in_turn(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    growing(bench, "ten at a time", FEW)
}

fn growing(bench: &Bench<'_>, how: &str, active: usize) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let form = single(Job::Fdpass);
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], &tree)?;
    let side = |conns: usize, name, server, plan| {
        let mut side = bench.side_of(conns, name, server, plan);
        (side.load.threads, side.load.active) = (1, active.min(conns));
        side
    };
    let pair = |conns, server: [&'static str; 2]| {
        [side(conns, server[0], &ours, &plan), side(conns, server[1], &floor, &floor_plan)]
    };
    let mut bars = Vec::new();
    let mut sides: Vec<Side<'_>> = pair(FEW, ["10 connections", "floor, 10 connections"]).into();
    for (conns, least) in COUNTS {
        let name = format!("{conns} connections, {how}: throughput / 10");
        match room_for(conns) {
            None => sides.extend(pair(conns, ["many connections", "floor, many connections"])),
            Some(missing) => bars.push(Bar::new(&name, Goal::AtLeast(least), None).note(missing)),
        }
    }
    let before = ours.stats()?;
    let outcome = bench.take(&sides, bench.pinned)?;
    let stats = ours.stats()?.since(&before);
    let all = summaries(&outcome)?;
    for (number, side) in sides.iter().enumerate().step_by(2).skip(1) {
        let name = format!("{} connections, {how}", side.load.conns);
        let least = COUNTS.iter().find(|(count, _)| *count == side.load.conns).map_or(0.0, |c| c.1);
        bars.push(throughput(&name, Goal::AtLeast(least), &outcome, number));
        bars.push(longest_wait(&name, &outcome, &all, number));
    }
    // A limit that was met is the limit's figure and not the connections'.
    if let (Some(waits), Some(bar)) = (stats.get("descriptors.waits"), bars.last_mut())
        && waits > 0.0
    {
        let _ = write!(bar.note, "; {waits:.0} replies waited for the limit on descriptors");
    }
    Ok(bars)
}

/// That of side `number` against the few's; the floor's sides come behind each.
fn throughput(name: &str, goal: Goal, outcome: &Outcome, number: usize) -> Bar {
    let figure = |side, figure: fn(&Round) -> f64| of_side(outcome, side, figure);
    let ratio = outcome.ratio(number, 0, Round::rate);
    Bar::new(&format!("{name}: throughput / 10"), goal, Some(ratio))
        .floor(outcome.ratio(number + 1, 1, Round::rate))
        .note(format!(
            "{:.0} -> {:.0} requests/s; server CPU {:.2} -> {:.2} us, the floor's {:.2} -> {:.2}",
            figure(0, Round::rate),
            figure(number, Round::rate),
            figure(0, Round::cpu_us),
            figure(number, Round::cpu_us),
            figure(1, Round::cpu_us),
            figure(number + 1, Round::cpu_us),
        ))
}

fn longest_wait(name: &str, outcome: &Outcome, all: &[Summary], number: usize) -> Bar {
    let longest = |side: usize| all.get(side).map_or(f64::NAN, |s| s.longest_wait_us / 1e3);
    Bar::new(&format!("{name}: longest wait ms"), Goal::Nothing, Some(longest(number)))
        .floor(longest(number + 1))
        .note(format!(
            "worst round; median round {:.1} x p50, least served / mean {:.2}",
            of_side(outcome, number, Round::longest_wait_ratio),
            of_side(outcome, number, Round::least_served_share),
        ))
}

fn memory_thousand(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    memory(bench, 1000, 40.0)
}

fn memory_ten_thousand(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    memory(bench, 10_000, 120.0)
}

/// What a fresh daemon holds while so many connections that were served once are silent.
fn memory(bench: &Bench<'_>, count: usize, most_mb: f64) -> Result<Vec<Bar>> {
    let name = format!("{count} idle connections: server RSS MB");
    let goal = Goal::Below(most_mb);
    if let Some(missing) = room_for(count) {
        return Ok(vec![Bar::new(&name, goal, None).note(missing)]);
    }
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let form = single(Job::Fdpass);
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], &tree)?;
    let (empty, full) = grown(bench, count, &ours, &plan)?;
    let (_, floor) = grown(bench, count, &floor, &floor_plan)?;
    let each = (full - empty) * 1e6 / count as f64;
    let bar = Bar::new(&name, goal, Some(full)).floor(floor);
    Ok(vec![bar.note(format!("{empty:.1} MB without them: {each:.0} bytes each"))])
}

/// Megabytes of memory before the connections came, and with them.
fn grown(bench: &Bench<'_>, count: usize, server: &Server, plan: &Plan<'_>) -> Result<(f64, f64)> {
    bench.stop.check()?;
    let now = || anyhow::Ok(procfs::rss_bytes(server.pid)? as f64 / 1e6);
    let before = now()?;
    let company = Company::join(Neighbour::Idle(count), server, plan, bench.pinned)?;
    let during = now()?;
    company.leave()?;
    Ok((before, during))
}
