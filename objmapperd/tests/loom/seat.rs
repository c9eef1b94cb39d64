//! A task's seat, and who sleeps: what the pool rests on, by itself and to the end.

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use objmapperd::pool::sleep::Sleepers;
use objmapperd::pool::slots::Slots;
use objmapperd::pool::task::Task;

/// A connection that notes how many events it has seen.
type Seen = usize;

struct World {
    task: Task<Seen>,
    queue: Mutex<VecDeque<()>>,
    events: AtomicUsize,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            task: Task::new(Box::new(0), (0, 0), 0),
            queue: Mutex::new(VecDeque::new()),
            events: AtomicUsize::new(0),
        })
    }

    fn push(&self) {
        let mut queue = self.queue.lock().unwrap();
        queue.push_back(());
        assert!(queue.len() <= 1, "a task is in the queue once");
    }

    fn pop(&self) -> bool {
        self.queue.lock().unwrap().pop_front().is_some()
    }

    /// What an event loop does.
    fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
        if self.task.notify(false) {
            self.push();
        }
    }

    /// What a worker does: one turn, if there is one.
    fn turn(&self) {
        if self.pop() {
            let (mut connection, _) = self.task.begin().expect("a queued task can begin");
            *connection = self.events.load(Ordering::Relaxed);
            self.give_back(connection);
        }
    }

    fn give_back(&self, connection: Box<Seen>) {
        if self.task.finish(connection) {
            self.push();
        }
    }

    /// Runs what is left and returns what the connection saw last.
    fn drain(&self) -> Seen {
        while self.pop() {
            let (mut connection, _) = self.task.begin().unwrap();
            *connection = self.events.load(Ordering::Relaxed);
            self.give_back(connection);
        }
        assert!(self.task.notify(false), "at rest when all is done");
        *self.task.begin().unwrap().0
    }
}

#[test]
fn no_event_is_lost_and_the_connection_has_one_owner() {
    loom::model(|| {
        let world = World::new();
        let notifier = {
            let w = world.clone();
            thread::spawn(move || w.event())
        };
        let thief = {
            let w = world.clone();
            thread::spawn(move || w.turn())
        };
        world.event();
        world.turn();
        notifier.join().unwrap();
        thief.join().unwrap();
        assert_eq!(world.drain(), 2, "the last turn saw every event");
    });
}

#[test]
fn a_connection_on_loan_is_nobody_elses_and_misses_nothing() {
    loom::model(|| {
        let world = World::new();
        world.event();
        assert!(world.pop());
        let (connection, _) = world.task.begin().unwrap();
        // The transfer path has it, while events go on and a worker looks for work.
        let borrower = {
            let w = world.clone();
            thread::spawn(move || {
                let mut connection = connection;
                *connection = 0;
                w.give_back(connection);
            })
        };
        let notifier = {
            let w = world.clone();
            thread::spawn(move || w.event())
        };
        world.turn();
        borrower.join().unwrap();
        notifier.join().unwrap();
        let seen = world.drain();
        assert_eq!(seen, 2, "the event during the loan led to a turn");
    });
}

#[test]
fn a_requeued_task_is_queued_once() {
    loom::model(|| {
        let world = World::new();
        world.event();
        assert!(world.pop());
        let (connection, _) = world.task.begin().unwrap();
        let notifier = {
            let w = world.clone();
            thread::spawn(move || w.event())
        };
        world.task.requeue(connection);
        world.push();
        notifier.join().unwrap();
        assert_eq!(world.drain(), 2);
    });
}

#[test]
fn work_is_never_left_with_everybody_asleep() {
    loom::model(|| {
        let sleepers = Arc::new(Sleepers::new(1));
        let work = Arc::new(AtomicBool::new(false));
        let woken = Arc::new(AtomicBool::new(false));
        let giver = {
            let (sleepers, work, woken) = (sleepers.clone(), work.clone(), woken.clone());
            thread::spawn(move || {
                work.store(true, Ordering::Relaxed);
                if sleepers.pick(0).is_some() {
                    woken.store(true, Ordering::Relaxed);
                }
            })
        };
        sleepers.lie_down(0);
        let slept = !work.load(Ordering::Relaxed);
        if !slept {
            sleepers.get_up(0);
        }
        giver.join().unwrap();
        assert!(!slept || woken.load(Ordering::Relaxed), "asleep, with work, and not woken");
    });
}

#[test]
fn one_sleeper_is_woken_once() {
    loom::model(|| {
        let sleepers = Arc::new(Sleepers::new(1));
        sleepers.lie_down(0);
        let other = {
            let s = sleepers.clone();
            thread::spawn(move || s.pick(0))
        };
        let mine = sleepers.pick(0);
        let theirs = other.join().unwrap();
        assert_eq!(usize::from(mine.is_some()) + usize::from(theirs.is_some()), 1);
    });
}

#[test]
fn an_event_that_is_under_way_does_not_find_the_next_in_the_slot() {
    loom::model(|| {
        let admit = |slots: &mut Slots<Arc<Task<Seen>>>| {
            let make = |token| Ok::<_, ()>(Arc::new(Task::new(Box::new(0), (0, 0), token)));
            slots.add(make).unwrap()
        };
        let mut slots = Slots::default();
        let old = admit(&mut slots);
        let slots = Arc::new(Mutex::new(slots));
        // A neighbour has taken an event from the kernel: the peer has hung up.
        let neighbour = {
            let slots = slots.clone();
            thread::spawn(move || {
                let found = slots.lock().unwrap().at(old).cloned();
                found.is_some_and(|task| task.notify(true))
            })
        };
        // Its owner has seen as much, and the next connection comes.
        let gone = slots.lock().unwrap().remove(old);
        let new = admit(&mut slots.lock().unwrap());
        let queued = neighbour.join().unwrap();
        assert_eq!(queued, gone.unwrap().hung_up(), "it was for the one that is gone");
        assert!(!slots.lock().unwrap().at(new).unwrap().hung_up());
    });
}
