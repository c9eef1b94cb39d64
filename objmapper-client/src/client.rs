//! The client: one connection, one request at a time.
//!
//! Every call sends a request and waits for its answer. Many at a time: [`Client::open_many`] for
//! one round trip, [`Client::pipeline`] for a stream of requests of different kinds. A client
//! may be sent to another thread; several threads want one each.

use crate::answer;
use crate::connection::Connection;
use crate::dial::{Dial, Reconnect};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::listing::Listing;
use crate::metadata::Metadata;
use crate::name;
use crate::opened::{Object, Opened};
use crate::pipeline::Pipeline;
use crate::request::{Answer, PING, Request, Wanted};
use crate::sink::{Discard, Memory};
use crate::transfer::Transfer;
use objmapper_os::socket::Stream;
use objmapper_proto::hello::{Capabilities, OUT_OF_ORDER, PASS_FDS};
use objmapper_proto::{self as proto, Mode, Reply, Version, socket};
use std::io::Write;
use std::ops::RangeBounds;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The environment variable that names the daemon's socket: `OBJMAPPER_SOCKET`.
pub const SOCKET_VARIABLE: &str = socket::VARIABLE;

/// Where the system's daemon listens by default: `/run/objmapper/objmapper.sock`.
pub const DEFAULT_SOCKET: &str = socket::SYSTEM;

/// Where a client looks if nobody says otherwise: [`SOCKET_VARIABLE`], else a daemon of one's own
/// (`$XDG_RUNTIME_DIR/objmapper.sock`) if there is such a name, else [`DEFAULT_SOCKET`].
///
/// Only the name is looked at. A socket that a killed daemon of one's own has left behind is chosen
/// all the same and refuses the connection, rather than that another daemon answers unexpectedly.
pub fn default_socket() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let own = || Some(PathBuf::from(set("XDG_RUNTIME_DIR")?).join(socket::IN_RUNTIME_DIR));
    set(SOCKET_VARIABLE)
        .map(PathBuf::from)
        .or_else(|| own().filter(|path| path.exists()))
        .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}

/// How long a daemon may be silent, unless somebody says otherwise: a cold disk is quicker.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to objmapperd.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
/// # fn main() { with_daemon(|| {
/// let mut client = objmapper_client::Client::connect()?;
/// let model = client.open("/models/a.gguf")?;
/// println!("{} bytes, version {}", model.size(), model.metadata().version());
/// let mut magic = [0; 4];
/// model.read_at(&mut magic, 0)?;
/// # Ok(()) }) }
/// ```
#[derive(Debug)]
pub struct Client {
    pub(crate) connection: Connection,
}

/// How to connect.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
/// # fn main() { with_daemon(|| {
/// use objmapper_client::Client;
/// use std::time::Duration;
/// # let path = objmapper_client::default_socket();
/// let client = Client::builder().path(path).timeout(Duration::from_secs(5)).connect()?;
/// # drop(client);
/// # Ok(()) }) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    path: Option<PathBuf>,
    timeout: Option<Duration>,
    reconnect: Reconnect,
    offered: Capabilities,
}

impl Builder {
    /// The daemon's socket: a path, or an abstract name behind an `@`. Without it,
    /// [`default_socket`].
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// How long the daemon may be silent while an answer is awaited, and how long connecting may
    /// take; [`DEFAULT_TIMEOUT`] if nothing is said. A long body may take longer in all, as long
    /// as it keeps coming. Must not be zero.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits for ever.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// What the client does when the daemon has closed the connection; [`Reconnect::Once`] if
    /// nothing is said. Has no effect on [`Builder::over`], whose socket cannot be had again.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// use objmapper_client::{Client, Reconnect};
    /// use std::time::Duration;
    /// let patient = Reconnect::Within(Duration::from_secs(20)); // a restart takes less
    /// let mut client = Client::builder().reconnect(patient).connect()?;
    /// # client.ping()?;
    /// # Ok(()) }) }
    /// ```
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.reconnect = policy;
        self
    }

    /// Whether answers may overtake bodies in a [`Pipeline`]; false if nothing is said. Then a
    /// pipeline gives each answer when it is whole: a short one passes a long body, and up to 16
    /// bodies come at a time, a piece of each in turn. [`Request::ordered`] and
    /// [`Request::priority`] say otherwise for one request. A daemon that does not know this answers
    /// in order ([`Client::is_out_of_order`]).
    ///
    /// Not for a client that asks for one thing at a time: so that replies can overtake it a body is
    /// sent in smaller portions, and comes more slowly.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// use objmapper_client::{Client, Mode, Request};
    /// let mut client = Client::builder().out_of_order(true).connect()?;
    /// let mut pipeline = client.pipeline()?;
    /// let model = pipeline.get("/models/a.gguf", Mode::Copy)?; // megabytes
    /// let index = pipeline.queue(Request::get("/data/index", Mode::Copy).priority())?;
    /// let (first, answer) = pipeline.next().expect("two answers are owed");
    /// assert_eq!(first, index, "it has overtaken {model}");
    /// # answer?;
    /// # Ok(()) }) }
    /// ```
    pub fn out_of_order(self, may: bool) -> Self {
        self.offer(OUT_OF_ORDER, may)
    }

    /// Whether descriptors will be passed to the daemon, for [`Client::send_to`]; false if nothing is
    /// said. A daemon that does not know this, or whose operator does not allow it to this user,
    /// takes none all the same ([`Client::may_send_to`]).
    pub fn pass_descriptors(self, wants: bool) -> Self {
        self.offer(PASS_FDS, wants)
    }

    fn offer(mut self, capability: Capabilities, wants: bool) -> Self {
        self.offered = self.offered & !capability | if wants { capability } else { 0 };
        self
    }

    /// How long anything may take; `None` is for ever.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.timeout
    }

    /// The path that [`Builder::connect`] will use.
    pub fn socket_path(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(default_socket)
    }

    /// Connects and greets. [`Error::Unreachable`] if nobody answers there.
    pub fn connect(&self) -> Result<Client> {
        let (timeout, reconnect, offered) = (self.timeout, self.reconnect, self.offered);
        let dial = Dial { path: self.socket_path(), timeout, reconnect, offered };
        Ok(Client { connection: Connection::dial(dial)? })
    }

    /// Greets over a connected Unix stream socket that came from elsewhere: inherited, passed by a
    /// sandbox's parent, one half of a socket pair.
    pub fn over(&self, socket: OwnedFd) -> Result<Client> {
        let stream = Stream::from_fd(socket)?;
        Ok(Client { connection: Connection::over(stream, self.timeout, self.offered)? })
    }
}

impl Default for Builder {
    fn default() -> Self {
        let (timeout, reconnect) = (Some(DEFAULT_TIMEOUT), Reconnect::default());
        Self { path: None, timeout, reconnect, offered: 0 }
    }
}

impl Client {
    /// Connects to the daemon at [`default_socket`].
    pub fn connect() -> Result<Self> {
        Self::builder().connect()
    }

    /// Other paths, other timeouts.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An open, read-only descriptor of the object; costs the same for every size.
    pub fn open(&mut self, uri: &str) -> Result<Opened> {
        self.fetch_opened(&Request::get(uri, Mode::Fdpass))
    }

    fn fetch_opened(&mut self, asked: &Request<'_>) -> Result<Opened> {
        let arrived = self.connection.fetch(asked, &mut Discard)?;
        let fd = arrived.fd.ok_or(Error::bad("OBJECT", "no descriptor came"))?;
        Ok(Opened::new(fd, arrived.metadata))
    }

    /// The same, unless the object still is that version: then `None`, and nothing was sent. For
    /// whoever keeps objects open and wants to know, in one round trip, whether they are current.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// let mut kept = client.open("/models/a.gguf")?;
    /// // ... and whenever it is used again:
    /// if let Some(newer) = client.open_unless("/models/a.gguf", kept.metadata().version())? {
    ///     kept = newer;
    /// }
    /// # drop(kept);
    /// # Ok(()) }) }
    /// ```
    ///
    /// An object that changed a moment ago has a version that is never given again; it is sent once
    /// more than would have been necessary.
    pub fn open_unless(&mut self, uri: &str, version: Version) -> Result<Option<Opened>> {
        match self.get_unless(uri, Mode::Fdpass, version)? {
            None => Ok(None),
            Some(Object::Descriptor(opened)) => Ok(Some(opened)),
            Some(Object::Bytes(..)) => Err(Error::bad("OBJECT", "no descriptor came")),
        }
    }

    /// As [`Client::open`], and the descriptor may be one whose open file description others have as
    /// well: cheaper for the daemon, where its operator allows it. Whether it is, is told by
    /// [`Metadata::is_shared`]; then anybody who has it can move its position, change its status
    /// flags and its locks. Read it at offsets only, as [`Opened`] does. For many at a time there is
    /// [`Client::open_many_shared`], for everything else that can be said of a request
    /// [`Request::shared`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// let model = client.open_shared("/models/a.gguf")?;
    /// let whose = if model.metadata().is_shared() { "shared with others" } else { "ours alone" };
    /// println!("{} bytes, {whose}", model.read_to_vec()?.len());
    /// # Ok(()) }) }
    /// ```
    ///
    /// A daemon from before this was offered refuses with `UNSUPPORTED`.
    pub fn open_shared(&mut self, uri: &str) -> Result<Opened> {
        self.fetch_opened(&Request::get(uri, Mode::Fdpass).shared())
    }

    /// Makes the daemon close shared open files at or below `prefix`, so that what they lie on can
    /// be unmounted; gives how many. For root and the user that the daemon runs as.
    pub fn flush(&mut self, prefix: &str) -> Result<u32> {
        let name = name::normal(prefix)?;
        let flush = proto::Request::Flush(name.as_uri().as_bytes());
        let read = |link: &mut _, id| {
            answer::plain(link, id, |reply| match reply {
                Reply::Flushed(count) => Some(Ok(*count)),
                _ => None,
            })
        };
        self.connection.exchange(flush, read).map_err(|error| error.about(prefix))
    }

    /// All bytes of the object. For large ones prefer [`Client::open`], which copies nothing.
    pub fn read(&mut self, uri: &str) -> Result<Vec<u8>> {
        self.read_range(uri, ..)
    }

    /// Some bytes of the object: as many of the range as there are. A range that begins past the
    /// end is refused with `BAD_RANGE`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// let header = client.read_range("/data/index", ..512)?;
    /// assert_eq!(header.len(), 512);
    /// # Ok(()) }) }
    /// ```
    pub fn read_range(&mut self, uri: &str, range: impl RangeBounds<u64>) -> Result<Vec<u8>> {
        let mut memory = Memory::default();
        self.connection.fetch(&Request::get(uri, Mode::Copy).range(range), &mut memory)?;
        Ok(memory.into_bytes())
    }

    /// The object in the given mode; with [`Mode::Auto`] the daemon chooses: a small one comes as
    /// bytes, a large one as a descriptor.
    pub fn get(&mut self, uri: &str, mode: Mode) -> Result<Object> {
        self.get_range(uri, mode, ..)
    }

    /// As [`Client::get`]. A descriptor gives access to the whole object whatever the range is.
    pub fn get_range(
        &mut self,
        uri: &str,
        mode: Mode,
        range: impl RangeBounds<u64>,
    ) -> Result<Object> {
        let mut memory = Memory::default();
        let asked = Request::get(uri, mode).range(range);
        let arrived = self.connection.fetch(&asked, &mut memory)?;
        Ok(arrived.into_object(memory))
    }

    /// As [`Client::get`], unless the object still is that version: then `None`. Bytes come with
    /// the metadata that has the version for the next time.
    pub fn get_unless(
        &mut self,
        uri: &str,
        mode: Mode,
        version: Version,
    ) -> Result<Option<Object>> {
        let mut memory = Memory::default();
        let asked = Request::get(uri, mode).unless(version);
        let arrived = self.connection.fetch(&asked, &mut memory)?;
        Ok((!arrived.not_modified).then(|| arrived.into_object(memory)))
    }

    /// Whatever can be said of one request: see [`Request`]. The order of answers is of no
    /// importance here, as there is one.
    pub fn ask(&mut self, request: Request<'_>) -> Result<Answer> {
        if request.wanted == Wanted::Pong {
            return self.ping().map(|_| Answer::Pong);
        }
        let mut memory = Memory::default();
        let arrived = self.connection.fetch(&request, &mut memory)?;
        Ok(arrived.into_answer(request.wanted, memory))
    }

    /// Copies the object's bytes to `out`; gives how many. See [`Client::transfer`] for a part of
    /// the object, or to watch the progress.
    ///
    /// What was written before an error must not be used: the object may have changed meanwhile.
    /// If `out` fails, the connection is closed, since the rest of the body is still on its way.
    pub fn copy_to(&mut self, uri: &str, out: &mut dyn Write) -> Result<u64> {
        self.transfer(uri).copy_to(out)
    }

    /// Moves the object's bytes to `out`; gives how many. Into a pipe the kernel moves them by
    /// splice(2), past this process; into anything else they are read and written. (For files:
    /// [`Client::open`] and [`std::io::copy`], which uses copy_file_range(2).)
    ///
    /// `out` should block; a non-blocking one that is full is an [`Error::Output`]. A pipe whose
    /// reader has gone is that too, and SIGPIPE where the program has not ignored it (Rust
    /// programs have). After an error the same holds as for [`Client::copy_to`].
    pub fn splice_to(&mut self, uri: &str, out: impl AsFd) -> Result<u64> {
        self.transfer(uri).splice_to(out)
    }

    /// Moving an object's bytes, with a range and a report of the progress.
    pub fn transfer<'a>(&'a mut self, uri: &'a str) -> Transfer<'a> {
        Transfer::new(&mut self.connection, uri)
    }

    /// What the object is, without opening it for us.
    pub fn stat(&mut self, uri: &str) -> Result<Metadata> {
        Ok(self.connection.fetch(&Request::stat(uri), &mut Discard)?.metadata)
    }

    /// The names directly below `prefix`, page by page as they are asked for.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// # let mut client = objmapper_client::Client::connect()?;
    /// for entry in client.list("/models")? {
    ///     println!("{}", entry?.uri());
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn list(&mut self, prefix: &str) -> Result<Listing<'_>> {
        Ok(Listing::new(&mut self.connection, name::normal(prefix)?))
    }

    /// Sending requests without waiting for the answers before.
    pub fn pipeline(&mut self) -> Result<Pipeline<'_>> {
        Pipeline::new(&mut self.connection)
    }

    /// Asks whether anybody is there; gives the time it took.
    ///
    /// Nobody has to: what a daemon closes because it was idle (`timeouts.idle` of its settings,
    /// never by default) is connected again with the next request, as [`Builder::reconnect`] says, and
    /// that a daemon has gone shows at [`Client::socket`] at once. Whoever has no way to connect
    /// again ([`Builder::over`], [`Reconnect::Never`]) asks this in less than half of that time.
    pub fn ping(&mut self) -> Result<Duration> {
        let sent = Instant::now();
        self.connection.exchange(proto::Request::Ping(PING), answer::pong)?;
        Ok(sent.elapsed())
    }

    /// The daemon's counters, in its order.
    pub fn stats(&mut self) -> Result<Vec<(String, String)>> {
        self.connection.exchange(proto::Request::Stats, counters)
    }

    /// Whether the daemon has agreed that answers may overtake bodies; see
    /// [`Builder::out_of_order`].
    pub fn is_out_of_order(&self) -> bool {
        self.connection.is_out_of_order()
    }

    /// The socket, to wait for it or to look at it; `None` once the connection is closed. What is
    /// read from it or written to it is missing here.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.connection.socket()
    }

    /// Says goodbye and waits until the daemon has heard it. Dropping a client is fine too; this
    /// tells whether all went well to the end.
    pub fn close(self) -> Result<()> {
        self.connection.close()
    }
}

/// Reads lines of `name value`.
pub(crate) fn counters(link: &mut Link, id: u64) -> Result<Vec<(String, String)>> {
    let counter = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    };
    answer::plain(link, id, |reply| match reply {
        Reply::Stats(text) => Some(Ok(text.lines().map(counter).collect())),
        _ => None,
    })
}
