//! What time it is: cheaply for stamps and expiry, exactly for durations.
//!
//! All are answered from memory that the kernel maps into every process, without a system
//! call. See clock_gettime(2). Nothing here sleeps.

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

const NANOSECONDS: i64 = 1_000_000_000;

/// Wall-clock time in nanoseconds since 1970, as of the last timer tick
/// ([`coarse_resolution_ns`] ago at most). The clock that file times are taken from; it may jump.
pub fn realtime_coarse_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::RealtimeCoarse))
}

/// Wall-clock time in milliseconds since 1970, exact; for what was given a moment to end at.
pub fn realtime_ms() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime)) / 1_000_000
}

/// How far apart two readings of [`realtime_coarse_ns`] may be and still be equal, in nanoseconds
/// (1 to 10 ms, by the kernel's configuration).
pub fn coarse_resolution_ns() -> i64 {
    nanoseconds(clock_getres(ClockId::RealtimeCoarse))
}

/// Nanoseconds since some moment before this process started; never goes back, stands still while
/// the machine sleeps.
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic)).unsigned_abs()
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(NANOSECONDS).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back() {
        let mut before = monotonic_ns();
        for _ in 0..10_000 {
            let now = monotonic_ns();
            assert!(now >= before);
            before = now;
        }
    }

    #[test]
    fn the_coarse_clock_is_the_wall_clock_within_its_resolution() {
        let exact = nanoseconds(clock_gettime(ClockId::Realtime));
        let coarse = realtime_coarse_ns();
        let slack = coarse_resolution_ns() + 50_000_000; // a scheduling pause between the two
        assert!(coarse_resolution_ns() > 0);
        assert!((exact - coarse).abs() <= slack, "{exact} {coarse}");
    }
}
