//! A quantum: how much a turn may do before other connections have theirs.
//!
//! A connection that used up its quantum has the next one cut into slices: after each slice the
//! turn checks whether other connections have become ready, and ends if so. A client with little
//! to ask then waits for one slice, not for everything that an endless sender sends. Batches of
//! ordinary size never use up a quantum, and so leave in one message each, however many clients
//! send them. (Slicing those too costs an eighth of the throughput of 50 connections with
//! batches of 64.)
//!
//! A quantum counts objects, not time: in a pipeline of misses reading a clock costs more than
//! the cost of an object varies. Bytes are converted into objects.

/// Objects of a slice, some 70 us of misses. Half of it makes p99 of a neighbour of somebody who
/// never stops shorter by a twentieth, and looks twice as often.
pub const SLICE: usize = 18;

/// Slices of a quantum: some 400 us of opening, a batch of 64 with room to spare.
const SLICES: usize = 4;

/// Objects of a quantum.
pub const QUANTUM: usize = SLICES * SLICE;

/// Bytes that take about as long to copy as an object to open.
const BYTES: u64 = 4096;

/// Of one turn.
pub struct Quantum<'a> {
    /// Objects that are left of this slice.
    left: usize,
    /// Slices after this one.
    slices: usize,
    others: &'a mut dyn FnMut() -> bool,
}

impl<'a> Quantum<'a> {
    /// For a connection whose last turn used its quantum up, or not. `others` looks whether
    /// anybody waits for a turn.
    pub fn new(used_up: bool, others: &'a mut dyn FnMut() -> bool) -> Self {
        if used_up {
            Self { left: SLICE, slices: SLICES - 1, others }
        } else {
            Self { left: QUANTUM, slices: 0, others }
        }
    }

    /// Whether the turn has to end before anything else is begun.
    #[inline]
    pub fn is_over(&mut self) -> bool {
        self.left == 0 && !self.renew()
    }

    fn renew(&mut self) -> bool {
        if self.slices == 0 || (self.others)() {
            self.end();
            return false;
        }
        self.slices -= 1;
        self.left = SLICE;
        true
    }

    /// Objects that may be opened before others are looked for.
    #[inline]
    pub fn left(&self) -> usize {
        self.left
    }

    /// An object is opened, or whatever else a request asks for.
    #[inline]
    pub fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// So many bytes are copied or sent.
    #[inline]
    pub fn spend_bytes(&mut self, bytes: u64) {
        let objects = usize::try_from(bytes / BYTES).unwrap_or(usize::MAX);
        self.left = self.left.saturating_sub(objects);
    }

    /// Something comes next that may take as long as many turns: others are to see to those who
    /// become ready meanwhile.
    pub fn foresee(&mut self) {
        (self.others)();
    }

    /// Something is done that is worth a turn.
    pub fn end(&mut self) {
        (self.left, self.slices) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one step of a turn spends.
    type Spend = fn(&mut Quantum<'_>);

    const OBJECT: Spend = |quantum| quantum.spend();
    const END: Spend = |quantum| quantum.end();
    const TWO_OBJECTS: Spend = |quantum| quantum.spend_bytes(2 * BYTES);
    const GIB: Spend = |quantum| quantum.spend_bytes(1 << 30);

    /// Steps until it is over.
    fn steps(used_up: bool, mut others: impl FnMut() -> bool, spend: Spend) -> usize {
        let mut quantum = Quantum::new(used_up, &mut others);
        let mut steps = 0;
        while !quantum.is_over() {
            spend(&mut quantum);
            steps += 1;
        }
        assert!(quantum.is_over(), "and stays so");
        steps
    }

    #[test]
    fn who_never_stops_has_a_slice_while_others_wait() {
        assert_eq!(steps(true, || false, OBJECT), QUANTUM);
        assert_eq!(steps(true, || true, OBJECT), SLICE);
        let mut looks = 0;
        let at_the_second_look = || {
            looks += 1;
            looks == 2
        };
        assert_eq!(steps(true, at_the_second_look, OBJECT), 2 * SLICE);
    }

    #[test]
    fn who_used_up_none_has_a_whole_one() {
        let nobody_looks = || panic!("nobody looks");
        assert_eq!(steps(false, nobody_looks, OBJECT), QUANTUM);
        assert_eq!(steps(false, nobody_looks, TWO_OBJECTS), QUANTUM / 2);
    }

    #[test]
    fn bytes_count_and_so_does_what_is_worth_a_turn() {
        assert_eq!(steps(true, || true, TWO_OBJECTS), SLICE / 2);
        assert_eq!(steps(true, || false, GIB), SLICES);
        assert_eq!(steps(false, || false, GIB), 1);
        assert_eq!(steps(true, || false, END), 1);
    }
}
