//! Against the floor: what one request costs, and whether many connections are served alike.

use anyhow::Result;

use super::shared::{
    EACH, GIB, HELD, KIB, MIB, both, cpu_bar, middle, p50, plans, shape, single, two,
};
use super::{Bar, Bench, Goal, Measurement};
use crate::placement::Placement;
use crate::plan::{Dialect, Form, Plan};
use crate::record::Round;
use crate::servers::{Server, Stats};
use crate::tree::{Shape, Tree};
use crate::turns::Outcome;
use crate::wire::Job;

/// All of them, in the order of the table.
pub(super) const ALL: &[(&str, Measurement)] = &[
    ("ping-pong", ping_pong),
    ("pipeline 16", pipeline),
    ("batch 64", batch),
    ("fdpass O(1)", constant),
    ("copy 4 KiB", copy_small),
    ("copy and splice 1 MiB", bodies_large),
    ("100 connections on one CPU", hundred_on_one_cpu),
    ("100 connections on all CPUs", hundred_on_all_cpus),
];

/// One connection, one request at a time, all on one CPU.
fn ping_pong(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let before = ours.stats()?;
    let outcome = fdpass(bench, &tree, (&ours, &floor), single(Job::Fdpass))?;
    let stats = ours.stats()?.since(&before);
    let [a, b] = two(&outcome)?;
    let multiple = outcome.multiple_of_open_close(1).unwrap_or(f64::NAN);
    Ok(vec![
        Bar::new("ping-pong: p50 / floor", Goal::AtMost(1.25), Some(outcome.ratio(0, 1, p50))),
        Bar::new(
            "ping-pong: server CPU / floor",
            Goal::AtMost(1.35),
            Some(outcome.ratio(0, 1, Round::cpu_us)),
        )
        .note(format!(
            "{:.2} us against {:.2}; the floor is {multiple:.1} x a plain open+close",
            a.server_cpu_us_per_request, b.server_cpu_us_per_request
        )),
        Bar::new("ping-pong: p50 us", Goal::Below(10.0), Some(a.p50_us)).floor(b.p50_us),
        Bar::new("ping-pong: p99 us", Goal::Below(15.0), Some(a.p99_us)).floor(b.p99_us),
        Bar::new("ping-pong: requests/s on one core", Goal::Above(1e5), Some(a.requests_per_s))
            .floor(b.requests_per_s)
            .note("the client runs on the same core"),
        work_share(&stats),
        ready_to_service(&stats),
    ])
}

fn pipeline(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    many(bench, "pipeline 16: server CPU / floor", Form { pipeline: 16, ..single(Job::Fdpass) })
}

fn batch(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    many(bench, "batch 64: server CPU / floor", Form { batch: 64, ..single(Job::Fdpass) })
}

/// Against a floor that answers what one receive brought in one send.
fn many(bench: &Bench<'_>, name: &str, form: Form) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(256, 4 * KIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let outcome = fdpass(bench, &tree, (&ours, &floor), form)?;
    Ok(vec![cpu_bar(name, 1.5, &outcome, 0, 1)?])
}

/// The size of a file must not matter.
fn constant(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    let sparse = |size| Shape { sparse: true, ..shape(1, size) };
    let tree = Tree::of_shapes(&[sparse(KIB), sparse(GIB)])?;
    let ours = bench.daemon(&tree, None, bench.pinned)?;
    let parts = [tree.part(0..1), tree.part(1..2)];
    let plan = |tree| Plan::new(Dialect::Objm, single(Job::Fdpass), tree);
    let [small, large] = &parts;
    let (small, large) = (plan(small)?, plan(large)?);
    let sides = [bench.side("1 GiB", &ours, &large), bench.side("1 KiB", &ours, &small)];
    let outcome = bench.take(&sides, bench.pinned)?;
    let [large, small] = two(&outcome)?;
    Ok(vec![
        Bar::new(
            "fdpass O(1): p50 of 1 GiB / 1 KiB",
            Goal::Within(0.1),
            Some(outcome.ratio(0, 1, p50)),
        )
        .note(format!("{:.2} us against {:.2}", large.p50_us, small.p50_us)),
    ])
}

fn copy_small(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let form = single(Job::Copy);
    let [plan, each, held] = plans([(Dialect::Objm, form), (EACH, form), (HELD, form)], &tree)?;
    let sides = [
        bench.side("copy 4 KiB", &ours, &plan),
        bench.side("floor, opening each", &floor, &each),
        bench.side("floor, file held open", &floor, &held),
    ];
    let outcome = bench.take(&sides, bench.pinned)?;
    Ok(vec![
        cpu_bar("copy 4 KiB: server CPU / open+pread+send", 1.5, &outcome, 0, 1)?,
        cpu_bar("copy 4 KiB: server CPU / pread+send", 1.5, &outcome, 0, 2)?
            .note_more("a floor that never opens"),
    ])
}

fn bodies_large(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    let tree = Tree::temporary(shape(8, MIB))?;
    let (ours, floor) = both(bench, &tree)?;
    let (copy, splice) = (single(Job::Copy), single(Job::Splice));
    let asked = [(Dialect::Objm, copy), (Dialect::Objm, splice), (EACH, splice), (HELD, splice)];
    let [copy, splice, each, held] = plans(asked, &tree)?;
    let sides = [
        bench.side("copy 1 MiB", &ours, &copy),
        bench.side("splice 1 MiB", &ours, &splice),
        bench.side("floor, opening each", &floor, &each),
        bench.side("floor, file held open", &floor, &held),
    ];
    let outcome = bench.take(&sides, bench.pinned)?;
    Ok(vec![
        cpu_bar("copy 1 MiB: server CPU / open+sendfile", 1.25, &outcome, 0, 2)?,
        cpu_bar("copy 1 MiB: server CPU / sendfile", 1.25, &outcome, 0, 3)?
            .note_more("a floor that never opens"),
        cpu_bar("splice 1 MiB: server CPU / open+sendfile", 1.25, &outcome, 1, 2)?,
        cpu_bar("splice 1 MiB: server CPU / sendfile", 1.25, &outcome, 1, 3)?
            .note_more("a floor that never opens"),
    ])
}

/// More connections than workers, all busy. On one CPU the pool alone decides who is served.
fn hundred_on_one_cpu(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    hundred(bench, "100 connections, 2 workers, one CPU", bench.pinned)
}

/// The same where clients and workers compete for all CPUs, and the kernel has a say as well.
fn hundred_on_all_cpus(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    hundred(bench, "100 connections, 2 workers, all CPUs", Placement::anywhere())
}

fn hundred(bench: &Bench<'_>, name: &str, place: Placement) -> Result<Vec<Bar>> {
    let tree = Tree::temporary(shape(64, 4 * KIB))?;
    let ours = bench.daemon(&tree, Some(2), place)?;
    let floor = bench.floor(&tree, place)?;
    let form = single(Job::Fdpass);
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], &tree)?;
    let sides = [
        bench.side_of(100, "100 connections", &ours, &plan),
        bench.side_of(100, "100 connections, floor", &floor, &floor_plan),
    ];
    let outcome = bench.take(&sides, place)?;
    let [a, b] = two(&outcome)?;
    Ok(vec![
        Bar::new(
            &format!("{name}: longest wait / p50"),
            Goal::AtMost(20.0),
            Some(a.longest_wait_ratio),
        )
        .floor(b.longest_wait_ratio)
        .note(format!(
            "{:.0} us; median round {:.1}",
            a.longest_wait_us,
            middle(&outcome, Round::longest_wait_ratio)
        )),
        Bar::new(
            &format!("{name}: least served / mean"),
            Goal::AtLeast(0.5),
            Some(a.least_served_share),
        )
        .floor(b.least_served_share)
        .note(format!(
            "median round {:.2}; {:.0} requests/s in all",
            middle(&outcome, Round::least_served_share),
            a.requests_per_s
        )),
    ])
}

fn fdpass(
    bench: &Bench<'_>,
    tree: &Tree,
    (ours, floor): (&Server, &Server),
    form: Form,
) -> Result<Outcome> {
    let [plan, floor_plan] = plans([(Dialect::Objm, form), (EACH, form)], tree)?;
    let sides = [bench.side("objmapperd", ours, &plan), bench.side("floor", floor, &floor_plan)];
    bench.take(&sides, bench.pinned)
}

/// Time in turns, as a share of the time between two waits for events.
fn work_share(stats: &Stats) -> Bar {
    let (part, whole) = ("sched.work_ns", "sched.total_ns");
    let share = quotient(stats, part, whole).map(|share| share * 100.0);
    told(Bar::new("ping-pong: work / total %", Goal::Above(85.0), share), part, whole)
}

/// From the moment that the daemon knows of readiness to that of the turn.
fn ready_to_service(stats: &Stats) -> Bar {
    let (sum, count) = ("sched.wait_ns_sum", "sched.wait_count");
    let mean = quotient(stats, sum, count).map(|ns| ns / 1e3);
    told(Bar::new("ping-pong: ready to service us", Goal::Below(5.0), mean), sum, count)
}

fn quotient(stats: &Stats, above: &str, below: &str) -> Option<f64> {
    let (above, below) = (stats.get(above)?, stats.get(below)?);
    (below > 0.0).then(|| above / below)
}

fn told(bar: Bar, above: &str, below: &str) -> Bar {
    if bar.measured.is_some() {
        return bar.note(format!("{above} / {below} of STATS"));
    }
    bar.note(format!("the daemon does not tell {above} and {below}, or they stand still"))
}
