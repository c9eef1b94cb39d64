//! Sides that take turns: ours and the floor, or a small file and a large one.
//!
//! ```text
//!  open+close | ours floor | open+close | floor ours | open+close | ours floor ...
//! ```
//!
//! A machine that is slow for a while is slow for all sides of that round, so a ratio is taken
//! within each round and its median over the rounds. Also told: how much of the CPU went to
//! processes that have nothing to do with it, since that moves everything.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::company::Company;
use crate::load::{self, Load};
use crate::neighbour::Neighbour;
use crate::placement::Placement;
use crate::plan::{Dialect, Plan};
use crate::procfs::{self, Busy};
use crate::record::{Round, median};
use crate::servers::Server;
use crate::stop::Stop;

/// How long the plain open+close is measured before each round.
const OPEN_CLOSE: Duration = Duration::from_millis(10);

/// One of those that take turns.
pub(crate) struct Side<'a> {
    pub(crate) name: &'static str,
    pub(crate) server: &'a Server,
    pub(crate) plan: &'a Plan<'a>,
    /// Of each round.
    pub(crate) load: Load,
    /// Who else is on the server meanwhile.
    pub(crate) beside: Option<Neighbour>,
}

/// How the turns are taken.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) rounds: u32,
    pub(crate) place: Placement,
    pub(crate) stop: &'a Stop,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For each side its rounds.
    pub(crate) sides: Vec<Vec<Round>>,
    /// Microseconds of a plain open+close, for each round; empty if no file can be seen.
    pub(crate) open_close_us: Vec<f64>,
    /// Share of the CPU (or of all) that others took, 0 to 1.
    pub(crate) others: f64,
}

/// Measures each side once per round.
pub(crate) fn take(sides: &[Side<'_>], rules: Rules<'_>) -> Result<Outcome> {
    let mut outcome = Outcome {
        sides: sides.iter().map(|_| Vec::new()).collect(),
        open_close_us: vec![],
        others: 0.0,
    };
    let file = sides.first().and_then(|side| side.plan.tree.path(side.plan.object(0)));
    // Until the end: so that a neighbour's presence is all that differs.
    let compared = sides.iter().any(|side| side.beside.is_some());
    let _nobody = compared.then(|| Company::nobody(rules.place)).transpose()?;
    let mut pids: Vec<i32> = sides.iter().map(|side| side.server.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let noise = Noise::begin(rules.place, &pids)?;
    for number in 0..rules.rounds {
        if let Some(path) = &file {
            outcome.open_close_us.push(open_close_us(path)?);
        }
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if number % 2 == 1 {
            order.reverse(); // so that no side is always the one behind the other
        }
        for which in order {
            let Some(side) = sides.get(which) else { continue };
            progress(&format!("round {} of {}: {}", number + 1, rules.rounds, side.name));
            let round = one(side, rules).with_context(|| side.name.to_owned())?;
            rules.stop.check()?; // a round that was cut short does not count
            if let Some(rounds) = outcome.sides.get_mut(which) {
                rounds.push(round);
            }
        }
    }
    progress("");
    outcome.others = noise.end(&pids)?;
    Ok(outcome)
}

fn one(side: &Side<'_>, rules: Rules<'_>) -> Result<Round> {
    let Some(neighbour) = side.beside else {
        return load::round(side.server, side.plan, side.load, rules.stop);
    };
    let ours = side.plan.dialect == Dialect::Objm;
    let before = if ours { side.server.connections()? } else { None };
    let company = Company::join(neighbour, side.server, side.plan, rules.place)
        .with_context(|| format!("the neighbour ({neighbour})"))?;
    let mut round = load::round(side.server, side.plan, side.load, rules.stop)?;
    round.neighbour = Some(company.leave()?);
    if ours {
        side.server.wait_for_departures(before)?;
    }
    Ok(round)
}

impl Outcome {
    /// The median over rounds of what `figure` says of side `a`, divided by that of side `b`.
    pub(crate) fn ratio(&self, a: usize, b: usize, figure: impl Fn(&Round) -> f64) -> f64 {
        let (Some(a), Some(b)) = (self.sides.get(a), self.sides.get(b)) else { return f64::NAN };
        median(a.iter().zip(b).map(|(a, b)| figure(a) / figure(b).max(1e-9)))
    }

    /// The median over rounds of a side's server CPU as a multiple of a plain open+close.
    pub(crate) fn multiple_of_open_close(&self, side: usize) -> Option<f64> {
        let rounds = self.sides.get(side).filter(|_| !self.open_close_us.is_empty())?;
        Some(median(rounds.iter().zip(&self.open_close_us).map(|(r, us)| r.cpu_us() / us)))
    }
}

/// Microseconds that open(2) and close(2) of this file take here and now: the median of many short
/// stretches, so that one in which another process had the CPU does not count.
fn open_close_us(path: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut stretches = Vec::new();
    while start.elapsed() < OPEN_CLOSE {
        let begin = Instant::now();
        for _ in 0..16 {
            drop(File::open(path).with_context(|| path.display().to_string())?);
        }
        stretches.push(begin.elapsed().as_secs_f64() * 1e6 / 16.0);
    }
    Ok(median(stretches))
}

/// CPU time by others, since `begin`.
pub(crate) struct Noise {
    cpu: Option<usize>,
    before: Busy,
    own_ns: u64,
}

impl Noise {
    /// The servers are these processes.
    pub(crate) fn begin(place: Placement, pids: &[i32]) -> Result<Self> {
        let cpu = place.shared_cpu();
        Ok(Self { cpu, before: Busy::now(cpu), own_ns: own_ns(pids)? })
    }

    /// Their share of the CPU (or of all), 0 to 1.
    pub(crate) fn end(&self, pids: &[i32]) -> Result<f64> {
        let after = Busy::now(self.cpu);
        let tick = procfs::TICK_NS as f64;
        let all = after.all.saturating_sub(self.before.all) as f64 * tick;
        let busy = after.busy.saturating_sub(self.before.busy) as f64 * tick;
        let own = own_ns(pids)?.saturating_sub(self.own_ns) as f64;
        Ok(((busy - own) / all.max(1.0)).clamp(0.0, 1.0))
    }
}

/// CPU of this process and of the servers.
fn own_ns(pids: &[i32]) -> Result<u64> {
    pids.iter().try_fold(procfs::own_cpu_ns(), |sum, pid| Ok(sum + procfs::cpu_ns(*pid)?))
}

/// One line that is overwritten, for somebody who watches.
pub(crate) fn progress(text: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nobody can be told that telling failed.
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}
