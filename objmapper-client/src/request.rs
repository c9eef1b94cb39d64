//! One request with all that can be said about it, and what it can be answered by.

use crate::error::Result;
use crate::metadata::Metadata;
use crate::name::{self, wire_range};
use crate::opened::Object;
use objmapper_proto as proto;
use objmapper_proto::word::flag;
use objmapper_proto::{Mode, Range, UriBuf, Version};
use std::ops::RangeBounds;

/// What a PING carries.
pub(crate) const PING: &[u8] = b"are you there";

/// What is asked for, as far as it decides which answers make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// STAT.
    Metadata,
    /// GET, and an item of GET_MANY.
    Object { mode: Mode, range: Range, unless: Option<Version>, shared: bool },
    /// GET, into a descriptor that goes with it.
    Sent { range: Range },
    /// PING.
    Pong,
}

impl Wanted {
    /// All of an object, whatever anybody has of it.
    pub(crate) const fn object(mode: Mode) -> Self {
        Self::Object { mode, range: Range::ALL, unless: None, shared: false }
    }

    /// Whether a descriptor may be one that others share.
    pub(crate) fn may_be_shared(self) -> bool {
        matches!(self, Self::Object { shared: true, .. })
    }

    /// The version that need not be sent.
    pub(crate) fn unless(self) -> Option<Version> {
        match self {
            Self::Object { unless, .. } => unless,
            Self::Metadata | Self::Sent { .. } | Self::Pong => None,
        }
    }

    /// As it is sent; `name` is in its normal form.
    pub(crate) fn on(self, name: &[u8]) -> proto::Request<'_> {
        match self {
            Self::Metadata => proto::Request::Stat(name),
            Self::Object { mode, range, unless, shared } => proto::Request::Get(proto::Get {
                unless,
                shared,
                ..proto::Get::new(mode, range, name)
            }),
            Self::Sent { range } => {
                let get = proto::Get::new(Mode::Splice, range, name);
                proto::Request::Get(proto::Get { to: true, ..get })
            }
            Self::Pong => proto::Request::Ping(PING),
        }
    }
}

/// A request: for [`crate::Client::ask`], and for [`crate::Pipeline::queue`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
/// # fn main() { with_daemon(|| {
/// use objmapper_client::{Answer, Client, Mode, Request};
/// # let mut client = Client::connect()?;
/// # let version = client.stat("/data/index")?.version();
/// let header = Request::get("/data/index", Mode::Copy).range(..512).unless(version);
/// match client.ask(header)? {
///     Answer::NotModified(_) => println!("what we have is current"),
///     Answer::Object(object) => println!("{} bytes are new", object.into_bytes()?.len()),
///     other => unreachable!("{other:?} does not answer a get"),
/// }
/// # Ok(()) }) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nothing is asked until a client or a pipeline has it"]
pub struct Request<'a> {
    pub(crate) uri: &'a str,
    pub(crate) wanted: Wanted,
    /// Header flags that mean something only where answers may overtake bodies.
    pub(crate) order: u8,
}

impl<'a> Request<'a> {
    /// For an object; see [`crate::Client::get`].
    pub const fn get(uri: &'a str, mode: Mode) -> Self {
        Self { uri, wanted: Wanted::object(mode), order: 0 }
    }

    /// For what an object is; see [`crate::Client::stat`].
    pub const fn stat(uri: &'a str) -> Self {
        Self { uri, wanted: Wanted::Metadata, order: 0 }
    }

    /// For bytes to be sent elsewhere: the descriptor goes with it.
    pub(crate) fn sent(uri: &'a str, bytes: impl RangeBounds<u64>) -> Self {
        Self { uri, wanted: Wanted::Sent { range: wire_range(&bytes) }, order: 0 }
    }

    /// For a sign of life; see [`crate::Client::ping`].
    pub const fn ping() -> Self {
        Self { uri: "", wanted: Wanted::Pong, order: 0 }
    }

    /// Of a get: only these bytes, as many of them as there are. A descriptor gives access to the
    /// whole object all the same.
    pub fn range(mut self, bytes: impl RangeBounds<u64>) -> Self {
        if let Wanted::Object { range, .. } = &mut self.wanted {
            *range = wire_range(&bytes);
        }
        self
    }

    /// Of a get: not if the object still is this version. Then the answer is
    /// [`Answer::NotModified`]. Versions of different URIs tell nothing about each other.
    pub fn unless(mut self, version: Version) -> Self {
        if let Wanted::Object { unless, .. } = &mut self.wanted {
            *unless = Some(version);
        }
        self
    }

    /// Of a get: a descriptor may be one whose open file description others have as well, and what
    /// came says whether it is. See [`crate::Client::open_shared`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # use objmapper_client::{Answer, Mode, Object, Request};
    /// # let mut client = objmapper_client::Client::connect()?;
    /// // Small ones as bytes, large ones by a descriptor that may be shared.
    /// let mut pipeline = client.pipeline()?;
    /// for uri in ["/models/a.json", "/models/a.gguf"] {
    ///     pipeline.queue(Request::get(uri, Mode::Auto).shared())?;
    /// }
    /// for (_, answer) in &mut pipeline {
    ///     match answer? {
    ///         Answer::Object(Object::Bytes(bytes, _)) => println!("{} bytes", bytes.len()),
    ///         Answer::Object(Object::Descriptor(opened)) => {
    ///             let whose = if opened.metadata().is_shared() { "everybody's" } else { "ours" };
    ///             println!("a descriptor, and its position is {whose}");
    ///         }
    ///         other => unreachable!("{other:?} does not answer a get"),
    ///     }
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn shared(mut self) -> Self {
        if let Wanted::Object { shared, .. } = &mut self.wanted {
            *shared = true;
        }
        self
    }

    /// Not before all earlier requests are answered, and what is queued behind it waits with it.
    /// Without [`crate::Builder::out_of_order`] that goes without saying.
    pub fn ordered(mut self) -> Self {
        self.order |= flag::ORDERED;
        self
    }

    /// Of a get: its body goes before those without priority. Without
    /// [`crate::Builder::out_of_order`] nothing goes before anything.
    pub fn priority(mut self) -> Self {
        self.order |= flag::PRIORITY;
        self
    }

    /// The same in another mode.
    pub(crate) fn by(mut self, by: Mode) -> Self {
        if let Wanted::Object { mode, .. } = &mut self.wanted {
            *mode = by;
        }
        self
    }

    /// The name in its normal form; `None` where nothing is named.
    pub(crate) fn name(&self) -> Result<Option<UriBuf>> {
        match self.wanted {
            Wanted::Pong => Ok(None),
            _ => name::normal(self.uri).map(Some),
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Answer {
    /// To a get.
    Object(Object),
    /// To a get with [`Request::unless`]: the object still is that version.
    NotModified(Metadata),
    /// To a [`crate::Pipeline::send_to`]: all bytes are in the destination.
    Sent(Metadata),
    /// To a stat.
    Metadata(Metadata),
    /// To a ping.
    Pong,
}

/// A request whose answer has not been read.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) id: u64,
    pub(crate) wanted: Wanted,
    /// What it was about; nothing if it named nothing.
    pub(crate) uri: Box<str>,
}

/// What became of one that was owed.
pub(crate) type Answered = Result<Answer>;
