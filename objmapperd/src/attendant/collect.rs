//! A request that is longer than one read: collected where its beginning lies already.

use super::Attendant;
use super::endings::{crowded, parting};
use crate::connection::Connection;
use crate::input::Read;
use crate::pool::Turn;

/// Reads in one turn that only collects a long request. Not tuned.
const COLLECTED: usize = 16;

impl Attendant {
    /// Collects a frame that comes in small pieces where its beginning lies already, so
    /// that a byte costs the same however many came before it. How the turn ends if it
    /// is not whole yet.
    pub(super) fn collect(&mut self, c: &mut Connection, hung_up: bool) -> Option<Turn> {
        let mut collected = 0;
        while c.leftover.len() < c.wanted {
            if !c.queued.may_grow() {
                // What it has sent stays with the kernel, unless nobody waits for an answer.
                let gone = hung_up && c.link.socket.has_hung_up().unwrap_or(true);
                let over = gone || c.deadline.is_late().is_some();
                return Some(if over { Turn::Close } else { crowded(c) });
            }
            let read = self.input.read(c);
            if let Some(turn) = self.take_in(c, read) {
                return Some(turn);
            }
            match read {
                Read::End => {
                    c.session.closing = true;
                    return Some(parting(c));
                }
                Read::Gone => return Some(Turn::Close),
                Read::Empty => return Some(self.rest(c)),
                Read::Some | Read::Last | Read::Descriptors | Read::Lost => {
                    c.leftover.extend_from_slice(self.input.bytes());
                    self.input.clear();
                    c.queued.set(c.leftover.len() + c.kept());
                    collected += 1;
                    if collected == COLLECTED && c.leftover.len() < c.wanted {
                        return Some(Turn::Again);
                    }
                    if read == Read::Last && !hung_up && c.leftover.len() < c.wanted {
                        return Some(self.rest(c));
                    }
                }
            }
        }
        None
    }
}
