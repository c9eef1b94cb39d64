//! Connections that say nothing must cost nothing but memory.

use anyhow::Result;

use super::shared::{EACH, KIB, both, of_side, p50, plans, shape, single};
use super::{Bar, Bench, Goal, Measurement, room_for, summaries};
use crate::neighbour::Neighbour;
use crate::plan::Dialect;
use crate::record::Round;
use crate::tree::Tree;
use crate::turns::Side;
use crate::wire::Job;

pub(super) const ALL: &[(&str, Measurement)] =
    &[("1000 idle connections", thousand), ("10000 idle connections", ten_thousand)];

fn thousand(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside_idle(bench, 1000)
}

fn ten_thousand(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    beside_idle(bench, 10_000)
}

/// One busy connection, alone and beside so many that are silent.
fn beside_idle(bench: &Bench<'_>, count: usize) -> Result<Vec<Bar>> {
    let (latency, cpu) =
        (format!("{count} idle: p50 / alone"), format!("{count} idle: server CPU / alone"));
    // Not much room: nothing in the daemon needs to look at a connection that is silent.
    let goal = Goal::AtMost(1.1);
    if let Some(missing) = room_for(count) {
        return Ok([latency, cpu].map(|name| Bar::new(&name, goal, None).note(&missing)).into());
    }
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let form = single(Job::Fdpass);
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], &tree)?;
    let beside = Some(Neighbour::Idle(count));
    let sides = [
        bench.side("alone", &ours, &plan),
        Side { beside, ..bench.side("beside idle connections", &ours, &plan) },
        bench.side("floor, alone", &floor, &floor_plan),
        Side { beside, ..bench.side("floor, beside idle connections", &floor, &floor_plan) },
    ];
    let outcome = bench.take(&sides, bench.pinned)?;
    summaries(&outcome)?;
    let bar = |name: &str, figure: fn(&Round) -> f64| {
        let (alone, beside) = (of_side(&outcome, 0, figure), of_side(&outcome, 1, figure));
        Bar::new(name, goal, Some(outcome.ratio(1, 0, figure)))
            .floor(outcome.ratio(3, 2, figure))
            .note(format!("{alone:.2} -> {beside:.2} us"))
    };
    Ok(vec![bar(&latency, p50), bar(&cpu, Round::cpu_us)])
}
