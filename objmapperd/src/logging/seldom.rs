//! Lines that a client could cause by the thousand: one a second of each kind, and how many
//! were left out is told by the next.

use std::sync::atomic::{AtomicU64, Ordering};

use objmapper_os::clock;

const SECOND_NS: u64 = 1_000_000_000;

/// One kind of line.
#[derive(Debug, Default)]
pub struct Seldom {
    /// When the next one may be written.
    due_ns: AtomicU64,
    left_out: AtomicU64,
}

/// A line that may be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Lines that were not written since the last one; none is no number.
    pub left_out: Option<u64>,
}

impl Seldom {
    /// Nothing written yet.
    pub const fn new() -> Self {
        Self { due_ns: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether to write one.
    pub fn now(&self) -> Option<Now> {
        self.at(clock::monotonic_ns())
    }

    fn at(&self, now: u64) -> Option<Now> {
        let due = self.due_ns.load(Ordering::Relaxed);
        let next = now.saturating_add(SECOND_NS);
        let swap = || {
            self.due_ns.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if now < due || !swap() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        Some(Now { left_out: (left_out > 0).then_some(left_out) })
    }
}

/// As `tracing::warn!` and its like, the level first, at most once a second for each place in the
/// source; `left_out` says how many lines there would have been since.
#[macro_export]
macro_rules! seldom {
    ($level:ident, $($line:tt)+) => {{
        static KIND: $crate::logging::Seldom = $crate::logging::Seldom::new();
        if tracing::enabled!(tracing::Level::$level)
            && let Some(now) = KIND.now()
        {
            tracing::event!(tracing::Level::$level, left_out = now.left_out, $($line)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_and_the_rest_is_counted() {
        let lines = Seldom::new();
        let left_out = |now| lines.at(now * SECOND_NS / 10).map(|now| now.left_out);
        assert_eq!(left_out(50), Some(None));
        assert_eq!((left_out(51), left_out(52), left_out(59)), (None, None, None));
        assert_eq!(left_out(60), Some(Some(3)));
        assert_eq!(left_out(61), None);
        assert_eq!(left_out(99), Some(Some(1)));
        assert_eq!(left_out(109), Some(None));
    }
}
