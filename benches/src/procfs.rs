//! What a process has used, read from outside.
//!
//! CPU time is the first number of each task's `schedstat`: nanoseconds on a CPU, of the process
//! and of its children. A task that has ended takes its share along; so does a child. Memory is
//! the resident set of the process and its children.

use anyhow::{Context, Result};
use std::fs;

/// The unit of `/proc/stat`: `USER_HZ` is 100 on every Linux that Rust runs on.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// Nanoseconds on a CPU so far, of all tasks of the process and of its descendants.
pub(crate) fn cpu_ns(pid: i32) -> Result<u64> {
    let mut total = 0;
    for task in tasks(pid)? {
        total += fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat"))
            .ok() // the task has just ended
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0);
    }
    for child in children(pid)? {
        total += cpu_ns(child).unwrap_or(0); // it has just ended
    }
    Ok(total)
}

/// Names of the threads that are running now, or ready to.
pub(crate) fn running(pid: i32) -> Result<Vec<String>> {
    let of = |task: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/stat")).ok()?;
        // "123 (name) R ...": the name may hold anything.
        let (head, rest) = text.rsplit_once(") ")?;
        let (_, name) = head.split_once('(')?;
        rest.starts_with('R').then(|| name.to_owned())
    };
    Ok(tasks(pid)?.into_iter().filter_map(of).collect())
}

/// CPU time of this process alone, threads that have ended included; in steps of 10 ms.
pub(crate) fn own_cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th after.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * TICK_NS
}

/// Bytes of memory that are there now, of the process and of its descendants.
pub(crate) fn rss_bytes(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .with_context(|| format!("{path} has no VmRSS"))?;
    let below: u64 = children(pid)?.into_iter().map(|child| rss_bytes(child).unwrap_or(0)).sum();
    Ok(kib * 1024 + below)
}

fn tasks(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| path.clone())?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn children(pid: i32) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for task in tasks(pid)? {
        // A kernel without it (CONFIG_PROC_CHILDREN) has children that are not counted.
        let path = format!("/proc/{pid}/task/{task}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|word| word.parse::<i32>().ok()));
    }
    Ok(all)
}

/// How busy one processor, or all together, has been, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Busy {
    pub(crate) all: u64,
    pub(crate) busy: u64,
}

impl Busy {
    /// Of this processor; of all with `None`.
    pub(crate) fn now(cpu: Option<usize>) -> Self {
        let label = cpu.map_or_else(|| "cpu".to_owned(), |cpu| format!("cpu{cpu}"));
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{label} ")));
        let ticks: Vec<u64> = line
            .unwrap_or_default()
            .split_whitespace()
            .take(8) // user nice system idle iowait irq softirq steal
            .filter_map(|word| word.parse().ok())
            .collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self { all, busy: all - idle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let own = i32::try_from(std::process::id()).unwrap();
        // The number moves at a tick or a switch of tasks only, and falls when another test's
        // thread ends: so it is only asked whether it ever shows anything.
        let mut sum = 0_u64;
        let used = (0..1000).any(|_| {
            for i in 0..1_000_000_u64 {
                sum = std::hint::black_box(sum.wrapping_add(i));
            }
            cpu_ns(own).unwrap() > 0 && own_cpu_ns() >= TICK_NS
        });
        assert!(used);
        assert!(rss_bytes(own).unwrap() > 100_000);
        assert!(cpu_ns(-1).is_err());
    }
}
