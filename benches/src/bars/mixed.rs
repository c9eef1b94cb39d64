//! Descriptors and bytes at the same time: 80 % fdpass and 20 % copies of 64 KiB.
//!
//! At its defaults the daemon sends 64 KiB in place, so another one is told to hand every copy
//! over to its transfer path: only there are two paths at work. That they are at the same time is
//! seen by looking at the daemon's threads many times a second: how often is a worker running, or
//! ready to, while the transfer path is.

use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::shared::{EACH, KIB, of_side, plans, shape, single};
use super::{Bar, Bench, Goal, Measurement, room_for, summaries};
use crate::placement::Placement;
use crate::plan::{Dialect, Form, Mix};
use crate::procfs;
use crate::record::{ByMode, Round};
use crate::tree::Tree;
use crate::turns::Outcome;
use crate::wire::Job;

pub(super) const ALL: &[(&str, Measurement)] =
    &[("mixed on one CPU", on_one_cpu), ("mixed on all CPUs", on_all_cpus)];

const CONNS: usize = 1000;

/// Name of the thread that streams bodies.
const TRANSFER: &str = "transfer";

/// How the names of those that serve requests begin.
const WORKER: &str = "worker";

/// Between two looks at the daemon's threads.
const LOOK: Duration = Duration::from_millis(2);

fn on_one_cpu(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    bench.pinned.become_client()?;
    mixed(bench, "mixed, one CPU", bench.pinned)
}

fn on_all_cpus(bench: &Bench<'_>) -> Result<Vec<Bar>> {
    mixed(bench, "mixed, all CPUs", Placement::anywhere())
}

fn mixed(bench: &Bench<'_>, name: &str, place: Placement) -> Result<Vec<Bar>> {
    if let Some(missing) = room_for(CONNS) {
        return Ok(vec![Bar::new(name, Goal::Nothing, None).note(missing)]);
    }
    let tree = Tree::temporary(shape(64, 64 * KIB))?;
    let in_place = bench.daemon(&tree, None, place)?;
    let handed = bench.daemon_told(
        &["--inline-limit", "4KiB", "--in-place-limit", "0"],
        &tree,
        None,
        place,
    )?;
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
    let before = handed.stats()?;
    let over = AtomicBool::new(false);
    let (outcome, looks) = std::thread::scope(|scope| {
        let observer = scope.spawn(|| Looks::until(&over, handed.pid, place));
        let outcome = bench.take(&sides, place);
        over.store(true, Ordering::Relaxed);
        (outcome, observer.join())
    });
    let (outcome, looks) = (outcome?, looks.map_err(|_| anyhow!("the observer panicked"))??);
    let stats = handed.stats()?.since(&before);
    summaries(&outcome)?;
    let mut bars = Vec::new();
    for (side, how) in [(1, "sent in place"), (2, "two paths")] {
        let bar = |what, q| {
            let figure = move |round: &Round| fdpass_us(round, q);
            told(&format!("{name}, {how}: {what} us of fdpass"), &outcome, side, figure)
                .floor(of_side(&outcome, 3, figure))
                .note(format!(
                    "fdpass alone {:.0}; the copies {:.0}",
                    of_side(&outcome, 0, |r| r.percentile_us(q)),
                    of_side(&outcome, side, |r| copy_us(r, q))
                ))
        };
        bars.extend([bar("p50", 0.5), bar("p99", 0.99)]);
        let both = told(&format!("{name}, {how}: objects/s"), &outcome, side, Round::rate);
        bars.push(both.floor(of_side(&outcome, 3, Round::rate)).note(format!(
            "with {:.0} MiB/s of bodies; fdpass alone {:.0}/s",
            of_side(&outcome, side, Round::bytes_rate) / 1_048_576.0,
            of_side(&outcome, 0, Round::rate),
        )));
    }
    bars.push(looks.bar(name, stats.get("transfer.bodies").unwrap_or(0.0)));
    Ok(bars)
}

fn told(name: &str, outcome: &Outcome, side: usize, figure: impl Fn(&Round) -> f64) -> Bar {
    Bar::new(name, Goal::Nothing, Some(of_side(outcome, side, figure)))
}

fn way_us(round: &Round, way: impl Fn(&ByMode) -> f64) -> f64 {
    round.tally.by_mode.as_ref().map_or(f64::NAN, way)
}

fn fdpass_us(round: &Round, quantile: f64) -> f64 {
    way_us(round, |by_mode| by_mode.fdpass.percentile_us(quantile))
}

fn copy_us(round: &Round, quantile: f64) -> f64 {
    way_us(round, |by_mode| by_mode.copy.percentile_us(quantile))
}

/// Looks at the daemon's threads.
#[derive(Default)]
struct Looks {
    /// Those that found the transfer path at work.
    transfer: u32,
    /// Of these, those that found a worker at work too.
    both: u32,
}

impl Looks {
    fn until(over: &AtomicBool, pid: i32, place: Placement) -> Result<Self> {
        place.become_neighbour()?;
        let mut looks = Self::default();
        while !over.load(Ordering::Relaxed) {
            let running = procfs::running(pid)?;
            if running.iter().any(|name| name == TRANSFER) {
                looks.transfer += 1;
                looks.both += u32::from(running.iter().any(|name| name.starts_with(WORKER)));
            }
            std::thread::sleep(LOOK);
        }
        Ok(looks)
    }

    fn bar(&self, name: &str, bodies: f64) -> Bar {
        let share = f64::from(self.both) / f64::from(self.transfer.max(1));
        let name = format!("{name}: a worker runs while the transfer path does");
        // Of a thousand connections some always wait for a worker, unless it waits for the other.
        Bar::new(&name, Goal::AtLeast(0.5), Some(share))
            .note(format!("{} of {} looks; {bodies:.0} bodies", self.both, self.transfer))
    }
}
