//! HELLO and HELLO_ACK: who speaks, which version, what each side can take.
//!
//! Both payloads are 32 bytes. A client may send requests right behind its HELLO,
//! without waiting for the answer, as long as it keeps to the limits in
//! [`crate::limits`].

#![allow(clippy::cast_possible_truncation)] // only of constants, see limits.rs

use crate::bytes::{Reader, Record};
use crate::frame::{Header, Op, Violation};
use crate::limits;

/// Bytes of either payload.
pub const PAYLOAD: usize = 32;

/// What either side can do beyond the basics; both offer, the intersection holds.
/// The values 4 (leases) and 8 (segments) are reserved.
pub type Capabilities = u64;

/// Replies may overtake bodies that are under way; a client tells them apart by their ids.
pub const OUT_OF_ORDER: Capabilities = 1;

/// The client may pass a descriptor with a GET, which the daemon moves the body into.
pub const PASS_FDS: Capabilities = 2;

/// The client's first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version that the client speaks.
    pub version_min: u16,
    /// Highest version that the client speaks.
    pub version_max: u16,
    /// What the client offers.
    pub capabilities: Capabilities,
    /// Largest reply payload that the client takes, in bytes; at least
    /// [`limits::REPLY_PAYLOAD_MIN`].
    pub max_payload: u32,
    /// Requests that the client wants to have under way.
    pub max_pipeline: u32,
    /// Descriptors that the client takes in one message, 1 to [`limits::DESCRIPTORS`].
    pub max_descriptors: u16,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            version_min: limits::VERSION,
            version_max: limits::VERSION,
            capabilities: 0,
            max_payload: limits::REPLY_PAYLOAD as u32,
            max_pipeline: limits::PIPELINE,
            max_descriptors: limits::DESCRIPTORS as u16,
        }
    }
}

impl Hello {
    /// Appends the frame.
    pub fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let payload = Record::<PAYLOAD>::new()
            .put(limits::MAGIC)
            .put(self.version_min.to_le_bytes())
            .put(self.version_max.to_le_bytes())
            .put(self.capabilities.to_le_bytes())
            .put(self.max_payload.to_le_bytes())
            .put(self.max_pipeline.to_le_bytes())
            .put(self.max_descriptors.to_le_bytes())
            .put([0; 6])
            .done();
        out.extend_from_slice(&Header::new(Op::Hello, id, PAYLOAD as u32, 0).encode());
        out.extend_from_slice(&payload);
    }

    /// Reads the payload and checks that the two sides can talk.
    pub fn decode(payload: &[u8]) -> Result<Self, Violation> {
        if payload.first_chunk() != Some(&limits::MAGIC) {
            return Err(Violation::BadMagic);
        }
        let hello = Self::fields(payload)
            .ok_or(Violation::BadFrame { what: "HELLO", why: "its payload must be 32 bytes" })?;
        if hello.version_min > limits::VERSION || hello.version_max < limits::VERSION {
            return Err(Violation::BadVersion {
                min: hello.version_min,
                max: hello.version_max,
                ours: limits::VERSION,
            });
        }
        if !(1..=limits::DESCRIPTORS).contains(&usize::from(hello.max_descriptors)) {
            return Err(Violation::BadFrame {
                what: "HELLO",
                why: "descriptors per message must be 1 to 253",
            });
        }
        if (hello.max_payload as usize) < limits::REPLY_PAYLOAD_MIN {
            return Err(Violation::BadFrame {
                what: "HELLO",
                why: "the largest reply payload must be at least 8192 bytes",
            });
        }
        Ok(hello)
    }

    fn fields(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; PAYLOAD] = payload.try_into().ok()?;
        let mut r = Reader::new(payload);
        r.array::<4>()?;
        Some(Self {
            version_min: r.u16()?,
            version_max: r.u16()?,
            capabilities: r.u64()?,
            max_payload: r.u32()?,
            max_pipeline: r.u32()?,
            max_descriptors: r.u16()?,
        })
    }
}

/// The daemon's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloAck {
    /// The version that holds from now on.
    pub version: u16,
    /// What both offered.
    pub capabilities: Capabilities,
    /// Largest request payload that the daemon takes, in bytes.
    pub max_payload: u32,
    /// Requests under way before the daemon stops reading.
    pub max_pipeline: u32,
    /// Descriptors in one message from the client; 0 while it may send none.
    pub max_descriptors: u16,
    /// Longest URI in bytes.
    pub max_uri: u16,
    /// Largest DATA payload that the daemon sends, in bytes.
    pub max_data: u32,
}

impl HelloAck {
    /// Appends the frame.
    pub fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let payload = Record::<PAYLOAD>::new()
            .put(limits::MAGIC)
            .put(self.version.to_le_bytes())
            .put([0; 2])
            .put(self.capabilities.to_le_bytes())
            .put(self.max_payload.to_le_bytes())
            .put(self.max_pipeline.to_le_bytes())
            .put(self.max_descriptors.to_le_bytes())
            .put(self.max_uri.to_le_bytes())
            .put(self.max_data.to_le_bytes())
            .done();
        out.extend_from_slice(&Header::new(Op::HelloAck, id, PAYLOAD as u32, 0).encode());
        out.extend_from_slice(&payload);
    }

    /// Reads the payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Violation> {
        if payload.first_chunk() != Some(&limits::MAGIC) {
            return Err(Violation::BadMagic);
        }
        let ack = Self::fields(payload).ok_or(Violation::BadFrame {
            what: "HELLO_ACK",
            why: "its payload must be 32 bytes",
        })?;
        if ack.version == limits::VERSION {
            Ok(ack)
        } else {
            Err(Violation::BadVersion { min: ack.version, max: ack.version, ours: limits::VERSION })
        }
    }

    fn fields(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; PAYLOAD] = payload.try_into().ok()?;
        let mut r = Reader::new(payload);
        r.array::<4>()?;
        let version = r.u16()?;
        r.u16()?;
        Some(Self {
            version,
            capabilities: r.u64()?,
            max_payload: r.u32()?,
            max_pipeline: r.u32()?,
            max_descriptors: r.u16()?,
            max_uri: r.u16()?,
            max_data: r.u32()?,
        })
    }
}
