//! The other end of the wire: a thread that reads requests and answers with the bytes that a test
//! gives it, right or wrong. It knows nothing of objects.
#![allow(dead_code, unreachable_pub)] // each test program uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod command;
pub mod daemon;

use objmapper_client::{Answer, Client, Error, Mode, Request, Result};
use objmapper_os::fds::count_open;
use objmapper_os::socket::Stream;
use objmapper_proto::frame::{Frame, Header, Op};
pub use objmapper_proto::hello::OUT_OF_ORDER;
use objmapper_proto::{
    Delivery, HelloAck, Item, Kind, ObjectHead, Range, Reason, Reply, Status, Version, limits,
};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client of these tests waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

static TURN: Mutex<()> = Mutex::new(());

/// One test at a time, since they count the descriptors of the whole process; checks at the end
/// that there are as many as at the beginning. Daemons are started in turn as well: until a child
/// has begun it has our sockets, and what we close is not closed.
pub struct NoLeak {
    before: usize,
    _turn: MutexGuard<'static, ()>,
}

pub fn no_leak() -> NoLeak {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    NoLeak { before: count_open().unwrap(), _turn: turn }
}

impl Drop for NoLeak {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(count_open().unwrap(), self.before, "descriptors leaked");
        }
    }
}

/// Asks something, is lied to, and checks what becomes of it.
pub fn lie<T: std::fmt::Debug>(
    ask: impl FnOnce(&mut Client) -> Result<T, Error>,
    answer: impl FnOnce(&mut Peer, u64) + Send + 'static,
    expected: &str,
) {
    let _no_leak = no_leak();
    let (mut client, peer) = against(move |mut peer| {
        let asked = peer.request().expect("a request");
        answer(&mut peer, asked.header.id);
        peer.listen();
    });
    let error = ask(&mut client).expect_err(expected);
    let text = error.to_string();
    assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    assert!(error.ends_connection(), "{error:?}");
    assert!(error.is_daemon_fault(), "{error:?}");
    let later = client.ping().unwrap_err();
    assert!(matches!(&later, Error::Closed { reason } if reason.contains(expected)), "{later}");
    // The socket is closed already, so the peer's thread ends while the client lives.
    peer.join().unwrap();
    drop(client);
}

pub struct Peer {
    stream: Stream,
}

pub struct Asked {
    pub header: Header,
    pub payload: Vec<u8>,
}

impl Asked {
    pub fn frame(&self) -> Frame<'_> {
        Frame { header: self.header, payload: &self.payload }
    }
}

/// A client that has said hello, and what the peer does afterwards.
pub fn against(script: impl FnOnce(Peer) + Send + 'static) -> (Client, JoinHandle<()>) {
    let (client, thread) = against_raw(PATIENCE, move |mut peer| {
        peer.greet();
        script(peer);
    });
    (client.unwrap(), thread)
}

/// The same, where both sides agree that answers may overtake bodies.
pub fn against_out_of_order(
    script: impl FnOnce(Peer) + Send + 'static,
) -> (Client, JoinHandle<()>) {
    let (ours, theirs) = Stream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut peer = Peer { stream: theirs };
        peer.greet_with(HelloAck { capabilities: OUT_OF_ORDER, ..ack() });
        script(peer);
    });
    let builder = Client::builder().timeout(PATIENCE).out_of_order(true);
    (builder.over(ours.into_fd()).unwrap(), thread)
}

/// A client, and the other end of its connection in the same thread: nothing here may wait. Both
/// have agreed on these capabilities.
pub fn alone(capabilities: u64) -> (Client, Peer) {
    let (ours, theirs) = Stream::pair().unwrap();
    let mut peer = Peer { stream: theirs };
    let mut hello = Vec::new();
    HelloAck { capabilities, ..ack() }.encode(1, &mut hello);
    peer.raw(&hello, &[]);
    let builder = Client::builder().timeout(PATIENCE).out_of_order(capabilities != 0);
    let client = builder.over(ours.into_fd()).unwrap();
    peer.request().unwrap();
    (client, peer)
}

/// The same, without the peer's answer to HELLO.
pub fn against_raw(
    patience: Duration,
    script: impl FnOnce(Peer) + Send + 'static,
) -> (Result<Client, Error>, JoinHandle<()>) {
    let (ours, theirs) = Stream::pair().unwrap();
    let thread = std::thread::spawn(move || script(Peer { stream: theirs }));
    (Client::builder().timeout(patience).over(ours.into_fd()), thread)
}

pub fn ack() -> HelloAck {
    HelloAck {
        version: limits::VERSION,
        capabilities: 0,
        max_payload: u32::try_from(limits::REQUEST_PAYLOAD).unwrap(),
        max_pipeline: limits::PIPELINE,
        max_descriptors: 0,
        max_uri: u16::try_from(limits::URI).unwrap(),
        max_data: u32::try_from(limits::DATA_PAYLOAD).unwrap(),
    }
}

impl Peer {
    /// Over a socket from elsewhere.
    pub fn over(socket: OwnedFd) -> Self {
        Self { stream: Stream::from_fd(socket).unwrap() }
    }

    pub fn greet(&mut self) {
        self.greet_with(ack());
    }

    pub fn greet_with(&mut self, ack: HelloAck) {
        let hello = self.request().expect("a HELLO");
        assert_eq!(hello.header.op, Op::Hello as u8);
        let mut bytes = Vec::new();
        ack.encode(hello.header.id, &mut bytes);
        self.raw(&bytes, &[]);
    }

    /// The next request, or `None` at the end of the stream.
    pub fn request(&mut self) -> Option<Asked> {
        let header = Header::decode(&self.exactly(limits::HEADER)?).unwrap();
        let payload = self.exactly(header.length as usize)?;
        Some(Asked { header, payload })
    }

    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            let room = bytes.get_mut(at..).unwrap();
            match self.stream.recv_bytes(room) {
                Ok(n) if n > 0 => at += n,
                _ => return None,
            }
        }
        Some(bytes)
    }

    /// Sends whatever it is. A client that has hung up in disgust is no failure of the test.
    pub fn raw(&mut self, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut fds = fds;
        while !bytes.is_empty() {
            match self.stream.send(bytes, fds, false) {
                Ok(n) => bytes = bytes.get(n..).unwrap(),
                Err(error) if error.is_disconnected() => return,
                Err(error) => panic!("{error}"),
            }
            fds = &[];
        }
    }

    pub fn reply(&mut self, id: u64, reply: Reply<'_>, fds: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        reply.encode(id, u16::try_from(fds.len()).unwrap(), &mut bytes);
        self.raw(&bytes, fds);
    }

    pub fn pong(&mut self) {
        let ping = self.request().expect("a PING");
        assert_eq!(ping.header.op, Op::Ping as u8);
        self.reply(ping.header.id, Reply::Pong(&ping.payload), &[]);
    }

    /// Reads until the client hangs up.
    pub fn listen(&mut self) {
        while self.request().is_some() {}
    }
}

/// Two copies, and any other.
pub const A: Request<'static> = get("/a");
pub const B: Request<'static> = get("/b");

pub const fn get(uri: &'static str) -> Request<'static> {
    Request::get(uri, Mode::Copy)
}

/// The bytes of an object that came.
pub fn bytes(answer: Result<Answer>) -> Vec<u8> {
    match answer {
        Ok(Answer::Object(object)) => object.into_bytes().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Queues these, and gives the place of each answer in the order in which they come.
pub fn ask_all(client: &mut Client, requests: &[Request<'_>]) -> Vec<(usize, Result<Answer>)> {
    let mut pipeline = client.pipeline().unwrap();
    let ids: Vec<u64> = requests.iter().map(|asked| pipeline.queue(*asked).unwrap()).collect();
    let place = |id| ids.iter().position(|known| *known == id).unwrap();
    pipeline.map(|(id, answer)| (place(id), answer)).collect()
}

pub fn head(delivery: Delivery, size: u64) -> ObjectHead {
    ObjectHead {
        status: Status::Ok,
        kind: Kind::File,
        delivery,
        reason: Reason::Asked,
        // With a descriptor it is the receiver who checks.
        flags: if delivery == Delivery::Descriptor { 0 } else { ObjectHead::CHECKED },
        size,
        mtime_ns: 1_700_000_000_000_000_000,
        version: Version(7),
        range: Range { offset: 0, length: size },
        seals: 0,
    }
}

pub fn item(head: ObjectHead) -> Item<'static> {
    Item { head, text: "", inline: b"" }
}

pub fn inline(bytes: &[u8]) -> Item<'_> {
    let head = head(Delivery::Inline, bytes.len() as u64);
    Item { head, text: "", inline: bytes }
}

/// What is answered when the caller has this version.
pub fn not_modified(version: Version) -> Item<'static> {
    let status = Status::NotModified;
    item(ObjectHead { status, version, ..head(Delivery::None, 5) })
}

pub fn refused(status: Status, text: &str) -> Item<'_> {
    Item { head: ObjectHead::failed(status), text, inline: b"" }
}

pub fn items(all: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in all {
        item.encode(&mut bytes);
    }
    bytes
}

/// A file with this content.
pub fn file(content: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    reopened(&file)
}

/// The same file with a position of its own, at the beginning.
pub fn reopened(file: &std::fs::File) -> std::fs::File {
    std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

pub fn borrow(file: &std::fs::File) -> BorrowedFd<'_> {
    file.as_fd()
}
