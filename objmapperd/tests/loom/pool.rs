//! The pool as it runs, workers and all: readiness, turns, stealing, relief, sleep.

use objmapperd::pool::Turn;
use objmapperd::sync::kernel;

use crate::town::{Connection, Gate, explore, pair, pool, stays};

#[test]
fn whoever_serves_a_connection_it_sees_everything() {
    explore(2, || {
        let seen = Gate::new(0);
        let mut pool = {
            let seen = seen.clone();
            let turn = move |c: &Connection, _| {
                let n = c.read();
                seen.change(|seen| *seen = n);
                Turn::Wait
            };
            pool(2, turn, stays)
        };
        let (connection, peer) = pair("");
        pool.admit(connection);
        peer.send();
        peer.send();
        seen.wait(|&mut seen| (seen == 2).then_some(()));
        pool.stop();
    });
}

#[test]
fn one_that_has_more_to_do_gets_further_turns_of_itself() {
    explore(1, || {
        let over = Gate::new(false);
        let mut pool = {
            let over = over.clone();
            let turn = move |c: &Connection, _| match c.step() {
                0 => Turn::Again,
                // There is room to write, as the kernel says when it is asked.
                1 => Turn::Blocked,
                _ => {
                    over.change(|over| *over = true);
                    Turn::Close
                }
            };
            pool(2, turn, stays)
        };
        let (connection, peer) = pair("");
        pool.admit(connection);
        peer.send();
        over.wait(|&mut over| over.then_some(()));
        pool.stop();
    });
}

#[test]
fn a_worker_that_cannot_poll_is_relieved() {
    explore(1, || {
        kernel::let_time_pass();
        let (begun, served) = (Gate::new(false), Gate::new(false));
        let mut pool = {
            let (begun, served) = (begun.clone(), served.clone());
            let turn = move |c: &Connection, _| {
                match c.name {
                    "long" => {
                        begun.change(|begun| *begun = true);
                        served.wait(|&mut served| served.then_some(()));
                    }
                    "other" => served.change(|served| *served = true),
                    _ => {}
                }
                Turn::Wait
            };
            pool(2, turn, stays)
        };
        // Workers take turns at taking in: the last is at home where the first is.
        let [first, second, third] = ["long", "neighbour", "other"].map(|name| {
            let (connection, peer) = pair(name);
            pool.admit(connection);
            peer
        });
        first.send();
        begun.wait(|&mut begun| begun.then_some(()));
        // Whoever goes to sleep from now on looks after the one that is in a turn.
        second.send();
        third.send();
        served.wait(|&mut served| served.then_some(()));
        pool.stop();
    });
}
