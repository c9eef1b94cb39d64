//! Helpers: a few threads that may wait for a disk.
//!
//! A request that would have to wait (a cold name, a cold page of a small body, a
//! directory) takes its connection here, where it gets a turn like any other, only with
//! patience; replies stay in order because the connection is here, whole. (Opens on
//! network and user-space file systems may wait in a worker all the same: the kernel
//! cannot say beforehand.)

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::connection::Connection;
use crate::pool::{Loan, Serve, Turn};

/// The way to the helpers.
#[derive(Clone, Default)]
pub struct Helpers {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    loans: VecDeque<Loan<Connection>>,
    stop: bool,
}

impl Helpers {
    /// Starts a thread that serves with `attendant`, which has patience.
    pub fn start(
        &self,
        number: usize,
        attendant: impl Serve<Connection = Connection>,
    ) -> std::io::Result<JoinHandle<()>> {
        let queue = self.queue.clone();
        let name = format!("helper-{number}");
        thread::Builder::new().name(name).spawn(move || queue.serve(attendant))
    }

    /// Hands over a connection whose next request has to wait. The queue is as long
    /// as there are connections at most.
    pub fn send(&self, loan: Loan<Connection>) {
        self.queue.waiting.lock().loans.push_back(loan);
        self.queue.more.notify_one();
    }

    /// Lets the threads end.
    pub fn stop(&self) {
        let mut waiting = self.queue.waiting.lock();
        waiting.stop = true;
        waiting.loans.clear();
        drop(waiting);
        self.queue.more.notify_all();
    }
}

impl Queue {
    fn serve(&self, mut attendant: impl Serve<Connection = Connection>) {
        while let Some(mut loan) = self.next() {
            let hung_up = loan.hung_up();
            let Some(connection) = loan.connection() else { continue };
            match attendant.turn(connection, hung_up) {
                Turn::Leave => attendant.leave(loan),
                turn => loan.give_back(turn),
            }
        }
    }

    fn next(&self) -> Option<Loan<Connection>> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.stop {
                return None;
            }
            if let Some(loan) = waiting.loans.pop_front() {
                return Some(loan);
            }
            self.more.wait(&mut waiting);
        }
    }
}
