//! Connections that leave the pool and come back: to the transfer path, from there to a helper,
//! and back to a worker, while their peers go on.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use objmapperd::pool::{Loan, Turn};

use crate::town::{Connection, Gate, explore, pair, pool};

/// Where loans wait for who takes them.
type Letters = Gate<Vec<Loan<Connection>>>;

fn send(letters: &Letters, loan: Loan<Connection>) {
    letters.change(|letters| letters.push(loan));
}

/// Takes so many, one after the other.
fn borrower(
    letters: &Arc<Letters>,
    loans: usize,
    serve: impl Fn(Loan<Connection>) + 'static,
) -> JoinHandle<()> {
    let letters = letters.clone();
    thread::spawn(move || (0..loans).for_each(|_| serve(letters.wait(Vec::pop))))
}

#[test]
fn what_comes_while_it_is_lent_is_seen_when_it_is_back() {
    for back in [Turn::Wait, Turn::Again] {
        explore(2, move || {
            let (seen, letters) = (Gate::new(0), Gate::new(Vec::new()));
            let mut pool = {
                let (seen, letters) = (seen.clone(), letters.clone());
                let turn = move |c: &Connection, _| {
                    let n = c.read();
                    seen.change(|seen| *seen = n);
                    if c.step() == 0 { Turn::Leave } else { Turn::Wait }
                };
                pool(1, turn, move |loan| send(&letters, loan))
            };
            let borrower = borrower(&letters, 1, move |mut loan| {
                loan.connection().unwrap().step();
                loan.give_back(back);
            });
            let (connection, peer) = pair("");
            pool.admit(connection);
            peer.send();
            peer.send();
            seen.wait(|&mut seen| (seen == 2).then_some(()));
            borrower.join().unwrap();
            pool.stop();
        });
    }
}

#[test]
fn who_is_given_back_blocked_hears_of_room_to_write() {
    explore(2, || {
        let (over, letters) = (Gate::new(false), Gate::new(Vec::new()));
        let mut pool = {
            let (over, letters) = (over.clone(), letters.clone());
            let turn = move |c: &Connection, _| {
                if c.step() == 0 {
                    return Turn::Leave;
                }
                over.change(|over| *over = true);
                Turn::Wait
            };
            pool(1, turn, move |loan| send(&letters, loan))
        };
        let borrower = borrower(&letters, 1, |loan| loan.give_back(Turn::Blocked));
        let (connection, peer) = pair("");
        pool.admit(connection);
        peer.send();
        over.wait(|&mut over| over.then_some(()));
        borrower.join().unwrap();
        pool.stop();
    });
}

#[test]
fn who_hangs_up_while_it_is_lent_is_parted_with() {
    explore(2, || {
        let (closed, letters) = (Gate::new(false), Gate::new(Vec::new()));
        let mut pool = {
            let (closed, letters) = (closed.clone(), letters.clone());
            let turn = move |c: &Connection, hung_up: bool| match c.step() {
                0 => Turn::Leave,
                _ if hung_up => {
                    closed.change(|closed| *closed = true);
                    Turn::Close
                }
                _ => Turn::Wait,
            };
            pool(1, turn, move |loan| send(&letters, loan))
        };
        let borrower = borrower(&letters, 1, |loan| loan.give_back(Turn::Wait));
        let (connection, peer) = pair("");
        pool.admit(connection);
        peer.send();
        peer.hang_up();
        closed.wait(|&mut closed| closed.then_some(()));
        borrower.join().unwrap();
        pool.stop();
    });
}

#[test]
fn to_the_transfer_path_to_a_helper_and_back_between_two_frames() {
    explore(2, || {
        let seen = Gate::new(0);
        let (transfers, errands) = (Gate::new(Vec::new()), Gate::new(Vec::new()));
        let serve = {
            let seen = seen.clone();
            move |c: &Connection| {
                let n = c.read();
                seen.change(|seen| *seen = n);
                c.step();
                if c.stage.get() < 6 { Turn::Leave } else { Turn::Wait }
            }
        };
        let mut pool = {
            let (serve, transfers) = (serve.clone(), transfers.clone());
            pool(1, move |c: &Connection, _| serve(c), move |loan| send(&transfers, loan))
        };
        // The next window is not in memory, then something came between two frames, then all
        // is sent.
        let transfer = {
            let errands = errands.clone();
            borrower(&transfers, 3, move |mut loan| match loan.connection().unwrap().step() {
                1 => send(&errands, loan),
                3 => loan.give_back(Turn::Again),
                stage => {
                    assert_eq!(stage, 5);
                    loan.give_back(Turn::Wait);
                }
            })
        };
        let helper = {
            let transfers = transfers.clone();
            borrower(&errands, 1, move |mut loan| match serve(loan.connection().unwrap()) {
                Turn::Leave => send(&transfers, loan),
                turn => loan.give_back(turn),
            })
        };
        let (connection, peer) = pair("");
        pool.admit(connection);
        peer.send();
        peer.send();
        transfer.join().unwrap();
        helper.join().unwrap();
        seen.wait(|&mut seen| (seen == 2).then_some(()));
        pool.stop();
    });
}
