//! Queues that can be stolen from: the library's. Under `--cfg loom`, which does not see
//! into it, plain ones with a lock.

#[cfg(not(loom))]
pub(super) use crossbeam_deque::{Injector, Steal, Stealer, Worker as Deque};
#[cfg(loom)]
pub(super) use model::{Injector, Steal, Stealer, Worker as Deque};

/// The length is a relaxed atomic beside the lock, as the ends of the real ones are: to look
/// whether there is work orders nothing, which is why [`super::sleep`] has fences. And as
/// there, what is stolen in a batch is in nobody's queue for a moment.
#[cfg(loom)]
mod model {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use crate::sync::Mutex;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    struct Queue<T> {
        items: Mutex<VecDeque<T>>,
        len: AtomicUsize,
    }

    impl<T> Queue<T> {
        fn new() -> Arc<Self> {
            Arc::new(Self { items: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0) })
        }

        fn change<R>(&self, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
            let mut items = self.items.lock();
            let changed = change(&mut items);
            self.len.store(items.len(), Ordering::Relaxed);
            changed
        }

        fn len(&self) -> usize {
            self.len.load(Ordering::Relaxed)
        }

        fn push(&self, item: T) {
            self.change(|items| items.push_back(item));
        }

        fn pop(&self) -> Option<T> {
            if self.len() == 0 {
                return None;
            }
            self.change(VecDeque::pop_front)
        }

        /// The older half, or so many.
        fn steal(&self, at_most: usize, into: &Worker<T>) -> usize {
            if self.len() == 0 {
                return 0;
            }
            let stolen: Vec<T> = self.change(|items| {
                let half = items.len().div_ceil(2).min(at_most);
                items.drain(..half).collect()
            });
            let count = stolen.len();
            if count > 0 {
                into.0.change(|items| items.extend(stolen));
            }
            count
        }
    }

    pub(in super::super) enum Steal<T> {
        Empty,
        Success(T),
        #[allow(dead_code)] // the real one's word for a race that was lost
        Retry,
    }

    impl<T> Steal<T> {
        fn of(found: Option<T>) -> Self {
            found.map_or(Self::Empty, Self::Success)
        }

        pub(in super::super) const fn is_success(&self) -> bool {
            matches!(self, Self::Success(_))
        }

        pub(in super::super) const fn is_retry(&self) -> bool {
            matches!(self, Self::Retry)
        }
    }

    pub(in super::super) struct Worker<T>(Arc<Queue<T>>);

    impl<T> Worker<T> {
        pub(in super::super) fn new_fifo() -> Self {
            Self(Queue::new())
        }

        pub(in super::super) fn stealer(&self) -> Stealer<T> {
            Stealer(self.0.clone())
        }

        pub(in super::super) fn push(&self, item: T) {
            self.0.push(item);
        }

        pub(in super::super) fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        pub(in super::super) fn len(&self) -> usize {
            self.0.len()
        }

        pub(in super::super) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    pub(in super::super) struct Stealer<T>(Arc<Queue<T>>);

    impl<T> Stealer<T> {
        pub(in super::super) fn len(&self) -> usize {
            self.0.len()
        }

        pub(in super::super) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(in super::super) fn steal_batch(&self, into: &Worker<T>) -> Steal<()> {
            self.steal_batch_with_limit(into, usize::MAX)
        }

        pub(in super::super) fn steal_batch_with_limit(
            &self,
            into: &Worker<T>,
            at_most: usize,
        ) -> Steal<()> {
            Steal::of((self.0.steal(at_most, into) > 0).then_some(()))
        }

        pub(in super::super) fn steal_batch_and_pop(&self, into: &Worker<T>) -> Steal<T> {
            self.0.steal(usize::MAX, into);
            Steal::of(into.pop())
        }
    }

    pub(in super::super) struct Injector<T>(Arc<Queue<T>>);

    impl<T> Injector<T> {
        pub(in super::super) fn new() -> Self {
            Self(Queue::new())
        }

        pub(in super::super) fn push(&self, item: T) {
            self.0.push(item);
        }

        pub(in super::super) fn is_empty(&self) -> bool {
            self.0.len() == 0
        }

        pub(in super::super) fn steal(&self) -> Steal<T> {
            Steal::of(self.0.pop())
        }

        pub(in super::super) fn steal_batch_and_pop(&self, into: &Worker<T>) -> Steal<T> {
            self.0.steal(usize::MAX, into);
            Steal::of(into.pop())
        }
    }
}
