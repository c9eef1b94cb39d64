//! Where and how a thread runs: for workers that are pinned and for measurements.
//!
//! Both act on the calling thread only. See sched(7).

use crate::error::{Error, Result};
use crate::raw;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread runs on this processor only (0 is the first). EINVAL if there is none of
/// that number, or this process may not use it. sched_setaffinity(2)
pub fn pin_to_cpu(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).map_err(Error::from_nix("sched_setaffinity"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|errno| Error::from_nix("sched_setaffinity")(errno).with_detail(cpu.to_string()))
}

/// The processors that the calling thread may use, ascending. sched_getaffinity(2)
pub fn allowed_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(Error::from_nix("sched_getaffinity"))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// The calling thread is scheduled as batch work: it does not preempt others when it wakes, which
/// keeps a load generator from disturbing what it measures. sched_setscheduler(2), `SCHED_BATCH`
pub fn batch() -> Result<()> {
    raw::schedule_as_batch()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_one_processor() {
        std::thread::spawn(|| {
            let last = *allowed_cpus().unwrap().last().unwrap();
            pin_to_cpu(last).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            assert!(pin_to_cpu(1023).is_err());
            batch().unwrap();
        })
        .join()
        .unwrap();
    }
}
