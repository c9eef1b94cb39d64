//! What two sides have agreed on and where they are: protocol state as plain data.
//!
//! No socket, no clock, no I/O: a session is given frames and says what they ask, or
//! that the peer broke the protocol.

pub mod keys;

use objmapper_proto::frame::{self, Split};
use objmapper_proto::hello::{Capabilities, OUT_OF_ORDER, PASS_FDS};
use objmapper_proto::word::flag;
use objmapper_proto::{BadRequest, Frame, Hello, HelloAck, Op, Request, Violation, limits};

/// What this daemon offers everybody beyond the basics.
const CAPABILITIES: Capabilities = OUT_OF_ORDER;

/// Descriptors that a client may send in one message.
pub const PER_MESSAGE: u16 = 16;

/// Bytes of a DATA frame where replies may overtake: one waits for the frame that has
/// begun and for what is in the socket, about as much again.
pub const SHORT_DATA: usize = 64 * 1024;

/// One connection's protocol state.
#[derive(Debug, Clone, Default)]
pub struct Session {
    agreed: Option<Agreed>,
    /// Whether this client may pass descriptors, if it wants to.
    pub may_pass: bool,
    /// Items of the GET_MANY at the front of the input that are answered already.
    pub many_done: u32,
    /// CLOSE was answered: what comes after is not read.
    pub closing: bool,
}

/// What HELLO settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Largest reply payload that the client takes, in bytes.
    pub max_payload: usize,
    /// Bytes of one DATA frame at most.
    pub max_data: usize,
    /// Descriptors that the client takes in one message.
    pub max_descriptors: usize,
    /// Replies may overtake bodies.
    pub out_of_order: bool,
    /// The client may pass descriptors.
    pub passes: bool,
}

/// When a request is answered, if replies may overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    /// Not before all earlier ones.
    pub ordered: bool,
    /// Its body before those of others.
    pub urgent: bool,
}

/// What a frame asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Answer with this.
    Hello(HelloAck),
    /// A request, with what was agreed on.
    Request(Request<'a>, Agreed, Order),
    /// A request that makes no sense.
    Bad(BadRequest),
}

impl Session {
    /// Whether HELLO has come.
    #[inline]
    pub const fn is_greeted(&self) -> bool {
        self.agreed.is_some()
    }

    /// Cuts the first frame off `input`.
    #[inline]
    pub fn split<'a>(&self, input: &'a [u8]) -> Result<Split<'a>, Violation> {
        frame::split(input, limits::REQUEST_PAYLOAD)
    }

    /// What a frame asks.
    #[inline]
    pub fn admit<'a>(&mut self, mut frame: Frame<'a>) -> Result<Asked<'a>, Violation> {
        self.check_fds(&frame)?;
        if frame.header.id == 0 {
            let why = "id 0 is the connection's own: number requests from 1";
            return Err(Violation::BadFrame { what: "request", why });
        }
        match self.agreed {
            Some(agreed) if frame.header.op != Op::Hello as u8 => {
                let order =
                    if agreed.out_of_order { take_order(&mut frame) } else { Order::default() };
                let passing = frame.header.flags & (flag::TO | flag::FROM);
                if passing != 0 && !agreed.passes {
                    return Ok(Asked::Bad(BadRequest::Flags(passing)));
                }
                let request = Request::decode(frame);
                Ok(request.map_or_else(Asked::Bad, |r| Asked::Request(r, agreed, order)))
            }
            None if frame.header.op == Op::Hello as u8 => self.greet(&frame).map(Asked::Hello),
            _ => Err(Violation::HelloExpected),
        }
    }

    /// A frame declares as many descriptors as it may have.
    #[inline]
    fn check_fds(&self, frame: &Frame<'_>) -> Result<(), Violation> {
        let header = frame.header;
        let passes = self.passes();
        let has = |op, flag| header.op == op as u8 && header.flags & flag != 0;
        let due = passes && (has(Op::Get, flag::TO) || has(Op::KvSet, flag::FROM));
        let (declared, due) = (header.fds, u16::from(due));
        if declared == due {
            return Ok(());
        }
        let why = if passes {
            "a GET with TO has one, a KV_SET with FROM too, and no other request has any"
        } else {
            "this daemon takes none: HELLO_ACK said so"
        };
        Err(Violation::Declared { declared, due, why })
    }

    fn greet(&mut self, frame: &Frame<'_>) -> Result<HelloAck, Violation> {
        let hello = Hello::decode(frame.payload)?;
        if frame.header.flags != 0 {
            return Err(Violation::BadFrame { what: "HELLO", why: "its flags must be 0" });
        }
        let capabilities = hello.capabilities & self.offered();
        let out_of_order = capabilities & OUT_OF_ORDER != 0;
        let max_payload = (hello.max_payload as usize).min(limits::REPLY_PAYLOAD);
        self.agreed = Some(Agreed {
            max_payload,
            max_data: max_payload.min(if out_of_order { SHORT_DATA } else { limits::DATA_PAYLOAD }),
            max_descriptors: usize::from(hello.max_descriptors),
            out_of_order,
            passes: capabilities & PASS_FDS != 0,
        });
        Ok(ack(capabilities))
    }

    /// Whether its client may pass descriptors.
    pub fn passes(&self) -> bool {
        self.agreed.is_some_and(|agreed| agreed.passes)
    }

    const fn offered(&self) -> Capabilities {
        CAPABILITIES | if self.may_pass { PASS_FDS } else { 0 }
    }

    /// Whether replies may overtake each other here.
    pub fn is_out_of_order(&self) -> bool {
        self.agreed.is_some_and(|agreed| agreed.out_of_order)
    }
}

/// Takes the flags that say when out of a frame's header.
fn take_order(frame: &mut Frame<'_>) -> Order {
    let flags = frame.header.flags;
    frame.header.flags &= !(flag::ORDERED | flag::PRIORITY);
    Order { ordered: flags & flag::ORDERED != 0, urgent: flags & flag::PRIORITY != 0 }
}

#[allow(clippy::cast_possible_truncation)] // constants, asserted in `limits`
const fn ack(capabilities: Capabilities) -> HelloAck {
    HelloAck {
        version: limits::VERSION,
        capabilities,
        max_payload: limits::REQUEST_PAYLOAD as u32,
        max_pipeline: limits::PIPELINE,
        max_descriptors: if capabilities & PASS_FDS == 0 { 0 } else { PER_MESSAGE },
        max_uri: limits::URI as u16,
        max_data: limits::DATA_PAYLOAD as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use objmapper_proto::{Get, Mode, Range};

    fn frame(bytes: &[u8]) -> Frame<'_> {
        match Session::default().split(bytes).unwrap() {
            Split::Whole(frame, used) if used == bytes.len() => frame,
            other => panic!("{other:?}"),
        }
    }

    fn hello() -> Vec<u8> {
        let mut bytes = Vec::new();
        Hello { max_descriptors: 7, ..Hello::default() }.encode(1, &mut bytes);
        bytes
    }

    fn ping() -> Vec<u8> {
        let mut bytes = Vec::new();
        Request::Ping(b"x").encode(2, &mut bytes);
        bytes
    }

    #[test]
    fn hello_comes_first_and_once() {
        let mut session = Session::default();
        assert_eq!(session.admit(frame(&ping())), Err(Violation::HelloExpected));
        assert_eq!(session.admit(frame(&hello())), Ok(Asked::Hello(ack(0))));
        let agreed = Agreed {
            max_payload: limits::REPLY_PAYLOAD,
            max_data: limits::DATA_PAYLOAD,
            max_descriptors: 7,
            out_of_order: false,
            passes: false,
        };
        let bytes = ping();
        let asked = session.admit(frame(&bytes));
        assert_eq!(asked, Ok(Asked::Request(Request::Ping(b"x"), agreed, Order::default())));
        assert_eq!(session.admit(frame(&hello())), Err(Violation::HelloExpected));
    }

    #[test]
    fn order_is_said_only_where_it_was_agreed_on() {
        let mut flagged = ping();
        flagged[5] = flag::ORDERED | flag::PRIORITY;
        let mut session = Session::default();
        session.admit(frame(&hello())).unwrap();
        let refused = session.admit(frame(&flagged));
        assert_eq!(refused, Ok(Asked::Bad(BadRequest::Flags(3))));

        let mut session = Session::default();
        let mut bytes = Vec::new();
        Hello { capabilities: !0, ..Hello::default() }.encode(1, &mut bytes);
        assert_eq!(session.admit(frame(&bytes)), Ok(Asked::Hello(ack(OUT_OF_ORDER))));
        assert!(session.is_out_of_order());
        let Ok(Asked::Request(_, _, order)) = session.admit(frame(&flagged)) else { panic!() };
        assert_eq!(order, Order { ordered: true, urgent: true });
        flagged[5] |= flag::SHARED;
        let refused = session.admit(frame(&flagged));
        assert_eq!(refused, Ok(Asked::Bad(BadRequest::Flags(flag::SHARED))));
    }

    #[test]
    fn id_0_is_the_connections_own() {
        let mut bytes = hello();
        bytes[8] = 0;
        let refused = Session::default().admit(frame(&bytes));
        assert!(matches!(refused, Err(Violation::BadFrame { what: "request", .. })));
    }

    #[test]
    fn descriptors_that_nobody_asked_for_end_it() {
        let mut bytes = hello();
        bytes[6] = 1;
        let refused = Session::default().admit(frame(&bytes));
        assert!(matches!(refused, Err(Violation::Declared { declared: 1, due: 0, .. })));
    }

    /// A GET that wants to be sent elsewhere, with so many descriptors.
    fn get_to(fds: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let get = Get { to: true, ..Get::new(Mode::Splice, Range::ALL, b"/a") };
        Request::Get(get).encode(3, &mut bytes);
        bytes[6..8].copy_from_slice(&fds.to_le_bytes());
        bytes
    }

    #[test]
    fn descriptors_are_passed_by_those_who_may_and_asked_to() {
        let greeted = |may_pass, capabilities| {
            let mut bytes = Vec::new();
            Hello { capabilities, ..Hello::default() }.encode(1, &mut bytes);
            let mut session = Session { may_pass, ..Session::default() };
            session.admit(frame(&bytes)).unwrap();
            session
        };
        for mut session in [greeted(false, !0), greeted(true, 0)] {
            let refused = session.admit(frame(&get_to(1))).unwrap_err();
            assert!(matches!(refused, Violation::Declared { declared: 1, due: 0, .. }));
            let told = "the number of descriptors that a frame declares is 1, not 0: ";
            assert!(refused.to_string().starts_with(told), "{refused}");
            let bytes = get_to(0);
            let refused = session.admit(frame(&bytes));
            assert_eq!(refused, Ok(Asked::Bad(BadRequest::Flags(flag::TO))));
        }
        let mut session = greeted(true, PASS_FDS);
        let bytes = get_to(1);
        let Ok(Asked::Request(Request::Get(get), ..)) = session.admit(frame(&bytes)) else {
            panic!()
        };
        assert!(get.to);
        for fds in [0, 2, u16::MAX] {
            let refused = session.admit(frame(&get_to(fds))).unwrap_err();
            assert_eq!(refused.status(), objmapper_proto::Status::UnexpectedDescriptor);
        }
    }

    #[test]
    fn a_request_that_makes_no_sense_is_no_violation() {
        let mut session = Session::default();
        session.admit(frame(&hello())).unwrap();
        let mut bytes = ping();
        bytes[4] = 0x55;
        assert_eq!(session.admit(frame(&bytes)), Ok(Asked::Bad(BadRequest::NoSuchOp(0x55))));
    }
}
