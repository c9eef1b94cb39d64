//! The classic choices for an index that all workers share, measured in-process.
//!
//! Every choice stands behind [`choice::Choice`] and is asked the same: names of realistic length,
//! evenly or a few of them mostly, by one thread and by several, with few or many changes. Values
//! have the size of what the core's index keeps for a name. Then the store itself: what resolving
//! a name costs with the index and without.
//!
//! To add a choice: implement the trait and add a line to [`choice::all`].

mod choice;
mod names;
mod resolve;

use anyhow::Result;
use objmapper_os::sched;
use serde::Serialize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::RunArgs;
use crate::report;
use crate::stop::Stop;
use crate::summary::round3;
use crate::turns;
use choice::{Choice, VALUE};
use names::{Names, Spread};

/// Length of one measurement of one choice.
const SLICE: Duration = Duration::from_millis(20);

/// Operations between two looks at the clock; few, since a put may copy a whole map.
const CHUNK: usize = 16;

/// Reads among 100 operations.
const MIXES: [u32; 3] = [90, 50, 10];

/// How a choice is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Ask {
    keys: Spread,
    threads: usize,
    reads_percent: u32,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
struct Cell {
    choice: &'static str,
    #[serde(flatten)]
    ask: Ask,
    mops_per_s: f64,
    ns_per_op: f64,
}

#[derive(Serialize)]
struct Answer {
    choices: Vec<Cell>,
    resolve: Vec<resolve::Cost>,
}

/// Measures and prints.
pub(crate) fn run(args: &RunArgs) -> Result<bool> {
    let stop = Stop::install(args.time_limit)?;
    let asks = asks(args.load.threads as usize);
    let cells = measure(&asks, args.rounds, &stop)?;
    let resolve = resolve::measure(args.rounds, &stop)?;
    turns::progress("");
    if args.json {
        report::print_json(&Answer { choices: cells, resolve })?;
    } else {
        report::print(&format!("{}\n\n{}", table(&cells), resolve::table(&resolve)))?;
    }
    Ok(true)
}

/// By one thread, by two, and by as many as were asked for.
fn asks(threads: usize) -> Vec<Ask> {
    let mut counts = vec![1, 2, threads];
    counts.sort_unstable();
    counts.dedup();
    let mut asks = Vec::new();
    for threads in counts {
        for keys in [Spread::Even, Spread::Skewed] {
            asks.extend(MIXES.map(|reads_percent| Ask { keys, threads, reads_percent }));
        }
    }
    asks
}

/// The best of all rounds: what disturbs, like other processes, can only take away.
fn measure(asks: &[Ask], rounds: u32, stop: &Stop) -> Result<Vec<Cell>> {
    let cpus = sched::allowed_cpus()?;
    let names = Names::new();
    let most = asks.iter().map(|ask| ask.threads).max().unwrap_or(1);
    let choices = choice::all(names.all(), most);
    let mut cells: Vec<Cell> = Vec::new();
    for (choice, _) in &choices {
        let cell = |ask: &Ask| Cell { choice, ask: *ask, mops_per_s: 0.0, ns_per_op: 0.0 };
        cells.extend(asks.iter().map(cell));
    }
    for round in 0..rounds {
        turns::progress(&format!("round {} of {rounds}", round + 1));
        let pairs =
            choices.iter().flat_map(|(_, choice)| asks.iter().map(move |ask| (choice, ask)));
        for (cell, (choice, ask)) in cells.iter_mut().zip(pairs) {
            stop.check()?;
            let mops = round3(rate(&**choice, &names, *ask, &cpus, round)? / 1e6);
            if mops > cell.mops_per_s {
                cell.mops_per_s = mops;
                cell.ns_per_op = round3(ask.threads as f64 * 1e3 / mops);
            }
        }
    }
    Ok(cells)
}

/// Operations per second of all threads together.
fn rate(choice: &dyn Choice, names: &Names, ask: Ask, cpus: &[usize], round: u32) -> Result<f64> {
    let over = AtomicBool::new(false);
    let gate = Barrier::new(ask.threads + 1);
    std::thread::scope(|scope| {
        let (over, gate) = (&over, &gate);
        let workers: Vec<_> = (0..ask.threads)
            .map(|number| {
                let script = names.script(ask.keys, u64::from(round) << 8 | number as u64);
                let cpu = cpus.get(number % cpus.len().max(1)).copied();
                scope.spawn(move || {
                    let pinned = cpu.map_or(Ok(()), sched::pin_to_cpu);
                    gate.wait();
                    pinned?;
                    anyhow::Ok(work(choice, number, names, &script, ask.reads_percent, over))
                })
            })
            .collect();
        gate.wait();
        let start = Instant::now();
        std::thread::sleep(SLICE);
        over.store(true, Ordering::Relaxed);
        let mut done = 0;
        for worker in workers {
            done += worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked"))?;
        }
        Ok(done as f64 / start.elapsed().as_secs_f64())
    })
}

/// One thread: reads and writes until it is over; gives the number of operations.
fn work(
    choice: &dyn Choice,
    number: usize,
    names: &Names,
    script: &[u32],
    reads_percent: u32,
    over: &AtomicBool,
) -> usize {
    let mut done = 0;
    let mut dice = 0_u32;
    for chunk in script.chunks(CHUNK).cycle() {
        for &which in chunk {
            let name = names.get(which);
            // 61 has no factor in common with 100: every remainder comes up equally often.
            dice = (dice + 61) % 100;
            if dice < reads_percent {
                std::hint::black_box(choice.find(number, name));
            } else {
                choice.put(number, name, VALUE);
            }
        }
        done += chunk.len();
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    done
}

/// A row for each choice and kind of keys; a column for each number of threads and mix.
fn table(cells: &[Cell]) -> String {
    let mut columns: Vec<(usize, u32)> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        let column = (cell.ask.threads, cell.ask.reads_percent);
        if !columns.contains(&column) {
            columns.push(column);
        }
        if !rows.contains(&cell.choice) {
            rows.push(cell.choice);
        }
    }
    let mut header = vec!["Mops/s (ns/op)".to_owned(), "keys".to_owned()];
    header.extend(columns.iter().map(|(threads, r)| format!("{threads}T {r}/{}", 100 - r)));
    let mut table = report::table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for keys in [Spread::Even, Spread::Skewed] {
        for name in &rows {
            let mut row = vec![(*name).to_owned(), keys.name().to_owned()];
            row.extend(columns.iter().map(|&(threads, reads_percent)| {
                let ask = Ask { keys, threads, reads_percent };
                let found = cells.iter().find(|cell| cell.choice == *name && cell.ask == ask);
                found.map_or_else(String::new, |cell| {
                    format!("{:.2} ({:.0})", cell.mops_per_s, cell.ns_per_op)
                })
            }));
            table.add_row(row);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_finds_what_was_put() {
        let names = Names::new();
        for (name, choice) in choice::all(names.all(), 3) {
            for thread in 0..3 {
                assert_eq!(choice.find(thread, names.get(7)), Some(VALUE), "{name}");
                assert_eq!(choice.find(thread, b"/no such name"), None, "{name}");
            }
            choice.put(1, b"/new", VALUE);
            assert_eq!(choice.find(2, b"/new"), Some(VALUE), "{name}");
        }
    }
}
