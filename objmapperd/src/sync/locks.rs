//! loom's locks, called as parking_lot's are.

use std::sync::PoisonError;
use std::time::Duration;

use loom::sync::MutexGuard;

/// A lock.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked one.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Waits for it.
    pub fn lock(&self) -> Guard<'_, T> {
        Guard { mutex: self, guard: Some(self.enter()) }
    }

    fn enter(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has this has the lock.
pub struct Guard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` while a condition is waited for.
    guard: Option<MutexGuard<'a, T>>,
}

#[allow(clippy::expect_used)]
impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_deref().expect("not waiting")
    }
}

#[allow(clippy::expect_used)]
impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_deref_mut().expect("not waiting")
    }
}

/// A condition.
#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    /// Nobody waits.
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    /// Wakes one, if there is one.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Waits, with the lock given up meanwhile.
    pub fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        guard.guard = guard
            .guard
            .take()
            .map(|guard| self.0.wait(guard).unwrap_or_else(PoisonError::into_inner));
    }

    /// Time passes as soon as others have had their turn.
    pub fn wait_for<T>(&self, guard: &mut Guard<'_, T>, _: Duration) {
        guard.guard = None;
        loom::thread::yield_now();
        guard.guard = Some(guard.mutex.enter());
    }
}
