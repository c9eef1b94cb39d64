//! A worker's queue: a lane for each kind of client, taken from in turn.
//!
//! However many clients of one kind are ready, one of another kind waits for one of their turns:
//! that many ask for keys is not to be seen by somebody who asks for a descriptor, and the other way
//! round. Within a lane the oldest is first, so that one that always has more to do goes to the back.
//!
//! Lanes are of deques that can be stolen from, and can be stolen from themselves.

use std::array;
use std::cell::Cell;
use std::sync::Arc;

use super::deques::{Deque, Injector, Steal, Stealer};
use super::task::Task;

/// Kinds of clients.
#[cfg(not(loom))]
pub(super) const LANES: usize = 2;
/// Which lane comes next orders nothing: models have one, and fewer states.
#[cfg(loom)]
pub(super) const LANES: usize = 1;

/// Tasks that are taken from outside at once.
const BATCH: usize = 16;

/// The worker's end.
pub(super) struct Lanes<C> {
    lanes: [Deque<Arc<Task<C>>>; LANES],
    next: Cell<usize>,
}

/// The others' end.
pub(super) struct Stealers<C>([Stealer<Arc<Task<C>>>; LANES]);

impl<C> Lanes<C> {
    pub(super) fn new() -> Self {
        Self { lanes: array::from_fn(|_| Deque::new_fifo()), next: Cell::new(0) }
    }

    pub(super) fn stealers(&self) -> Stealers<C> {
        Stealers(array::from_fn(|n| self.lane(n).stealer()))
    }

    fn lane(&self, number: usize) -> &Deque<Arc<Task<C>>> {
        let [first, ..] = &self.lanes;
        self.lanes.get(number).unwrap_or(first)
    }

    pub(super) fn push(&self, task: Arc<Task<C>>) {
        self.lane(task.lane).push(task);
    }

    /// The oldest of the lane whose turn it is, or of the next one that has any.
    pub(super) fn pop(&self) -> Option<Arc<Task<C>>> {
        (0..LANES).find_map(|_| {
            let number = self.next.get();
            self.next.set((number + 1) % LANES);
            self.lane(number).pop()
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(Deque::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Deque::is_empty)
    }

    /// Takes some from outside; gives the first.
    pub(super) fn take_from(&self, injector: &Injector<Arc<Task<C>>>) -> Steal<Arc<Task<C>>> {
        for _ in 0..BATCH {
            match injector.steal() {
                Steal::Success(task) => self.push(task),
                Steal::Retry if self.is_empty() => return Steal::Retry,
                Steal::Empty | Steal::Retry => break,
            }
        }
        self.pop().map_or(Steal::Empty, Steal::Success)
    }
}

impl<C> Stealers<C> {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Stealer::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Stealer::is_empty)
    }

    /// The older half of each lane, to the same lane of somebody else.
    pub(super) fn steal_batch(&self, into: &Lanes<C>) -> Steal<()> {
        self.each(into, Stealer::steal_batch)
    }

    /// The same, no more than so many in all.
    pub(super) fn steal_batch_with_limit(&self, into: &Lanes<C>, limit: usize) -> Steal<()> {
        let each = (limit / LANES).max(1);
        self.each(into, |from, to| from.steal_batch_with_limit(to, each))
    }

    /// The same without limit, and the first of what was stolen.
    pub(super) fn steal_batch_and_pop(&self, into: &Lanes<C>) -> Steal<Arc<Task<C>>> {
        match self.steal_batch(into) {
            Steal::Success(()) => into.pop().map_or(Steal::Empty, Steal::Success),
            Steal::Empty => Steal::Empty,
            Steal::Retry => Steal::Retry,
        }
    }

    fn each(
        &self,
        into: &Lanes<C>,
        steal: impl Fn(&Stealer<Arc<Task<C>>>, &Deque<Arc<Task<C>>>) -> Steal<()>,
    ) -> Steal<()> {
        let (mut found, mut retry) = (false, false);
        for (from, to) in self.0.iter().zip(&into.lanes) {
            if from.is_empty() {
                continue;
            }
            let stolen = steal(from, to);
            found |= stolen.is_success();
            retry |= stolen.is_retry();
        }
        match (found, retry) {
            (true, _) => Steal::Success(()),
            (false, true) => Steal::Retry,
            (false, false) => Steal::Empty,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn task(lane: usize, token: usize) -> Arc<Task<()>> {
        Arc::new(Task::new(Box::new(()), (0, lane), token))
    }

    fn drained(lanes: &Lanes<()>) -> Vec<usize> {
        std::iter::from_fn(|| lanes.pop()).map(|task| task.token).collect()
    }

    #[test]
    fn lanes_take_turns_and_the_oldest_is_first() {
        let lanes = Lanes::new();
        for (lane, token) in [(0, 1), (0, 2), (0, 3), (1, 11), (0, 4), (1, 12)] {
            lanes.push(task(lane, token));
        }
        assert_eq!(lanes.len(), 6);
        assert_eq!(drained(&lanes), [1, 11, 2, 12, 3, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn what_is_stolen_stays_in_its_lane() {
        let (lanes, thief) = (Lanes::new(), Lanes::new());
        let stealers = lanes.stealers();
        for (lane, token) in [(0, 1), (0, 2), (1, 11), (1, 12), (1, 13), (1, 14)] {
            lanes.push(task(lane, token));
        }
        assert!(stealers.steal_batch(&thief).is_success());
        assert_eq!((stealers.len(), thief.len()), (3, 3), "half of each");
        assert_eq!(drained(&thief), [1, 11, 12]);
        assert_eq!(drained(&lanes).len(), 3);
        assert!(matches!(stealers.steal_batch_and_pop(&thief), Steal::Empty));
    }

    #[test]
    fn what_comes_from_outside_goes_to_its_lane() {
        let (lanes, injector) = (Lanes::new(), Injector::new());
        for (lane, token) in [(0, 1), (0, 2), (1, 11)] {
            injector.push(task(lane, token));
        }
        let Steal::Success(first) = lanes.take_from(&injector) else { panic!("nothing came") };
        assert_eq!(first.token, 1);
        assert_eq!(drained(&lanes), [11, 2]);
    }
}
