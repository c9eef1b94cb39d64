//! The one place that decides in which form an object is delivered.

use objmapper_proto::{Delivery, Mode, Reason, limits};

/// The sizes at which the decision turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A body of at most so many bytes is sent at once by whoever answers; a longer
    /// one is streamed. At most [`limits::INLINE`]; 0 streams all that are not empty.
    pub inline: u64,
    /// `auto` sends a body of at most so many bytes, and a descriptor above.
    pub auto: u64,
}

impl Default for Limits {
    /// `objmapper-bench --mode copy` over file sizes: sending at once is cheaper than
    /// a hand-over to the transfer path up to the wire's limit; `--mode fdpass`
    /// against it: from 16 KiB on a descriptor and a read cost both sides less.
    fn default() -> Self {
        Self { inline: limits::INLINE as u64, auto: 16 * 1024 }
    }
}

/// How `length` bytes go to somebody who asked for `mode`, has room for `room` bytes in
/// one piece, and can have a descriptor now, or cannot.
#[inline]
pub fn plan(
    mode: Mode,
    length: u64,
    room: u64,
    descriptors: bool,
    limits: Limits,
) -> (Delivery, Reason) {
    let bytes = if length <= limits.inline.min(room) { Delivery::Inline } else { Delivery::Stream };
    match mode {
        Mode::Fdpass => (Delivery::Descriptor, Reason::Asked),
        Mode::Copy => (bytes, Reason::Asked),
        // Nothing to move: an empty stream would be two frames instead of one.
        Mode::Splice if length == 0 => (Delivery::Inline, Reason::Asked),
        Mode::Splice => (Delivery::Stream, Reason::Asked),
        Mode::Auto if length <= limits.auto => (bytes, Reason::Small),
        Mode::Auto if !descriptors => (bytes, Reason::Descriptors),
        Mode::Auto => (Delivery::Descriptor, Reason::Large),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { inline: 100, auto: 10 };

    fn plan(mode: Mode, length: u64, limits: Limits) -> (Delivery, Reason) {
        super::plan(mode, length, u64::MAX, true, limits)
    }

    #[test]
    fn what_does_not_fit_in_one_piece_is_streamed() {
        assert_eq!(super::plan(Mode::Copy, 100, 99, true, LIMITS).0, Delivery::Stream);
    }

    #[test]
    fn fdpass_is_a_descriptor_at_any_size() {
        for length in [0, 1, u64::MAX] {
            assert_eq!(plan(Mode::Fdpass, length, LIMITS).0, Delivery::Descriptor);
        }
    }

    #[test]
    fn copy_turns_at_the_inline_limit() {
        assert_eq!(plan(Mode::Copy, 100, LIMITS).0, Delivery::Inline);
        assert_eq!(plan(Mode::Copy, 101, LIMITS).0, Delivery::Stream);
        assert_eq!(plan(Mode::Copy, 1, Limits { inline: 0, auto: 10 }).0, Delivery::Stream);
    }

    #[test]
    fn auto_sends_bytes_where_no_descriptor_can_be_had() {
        let plan = |length| super::plan(Mode::Auto, length, u64::MAX, false, LIMITS);
        assert_eq!(plan(11), (Delivery::Inline, Reason::Descriptors));
        assert_eq!(plan(101), (Delivery::Stream, Reason::Descriptors));
        assert_eq!(plan(10), (Delivery::Inline, Reason::Small));
    }

    #[test]
    fn auto_says_why() {
        assert_eq!(plan(Mode::Auto, 10, LIMITS), (Delivery::Inline, Reason::Small));
        assert_eq!(plan(Mode::Auto, 11, LIMITS), (Delivery::Descriptor, Reason::Large));
    }
}
