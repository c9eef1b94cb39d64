//! The other end of the wire, by hand: sends what a test gives it, right or wrong, and takes the
//! daemon at its word. Every frame that comes is held against the specification: descriptors
//! are there when their frame is, none comes that no frame declares, no message has more of them
//! and no frame is larger than HELLO said, a body has the length that was announced.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use objmapper_os as os;
use objmapper_proto::frame::{self, Split};
use objmapper_proto::reply::End;
use objmapper_proto::request::List;
use objmapper_proto::{
    Delivery, ErrorReply, Get, GetMany, Hello, HelloAck, Item, Kind, Mode, ObjectHead, Op, Range,
    Reply, Request, Status, Version, limits,
};
use os::errno;
use os::fds::FdQueue;
use os::socket::Stream;

use super::PATIENCE;

/// A frame, and the descriptors that it declared.
#[derive(Debug)]
pub struct Frame {
    pub header: objmapper_proto::Header,
    payload: Vec<u8>,
    pub fds: Vec<File>,
}

impl Frame {
    pub fn borrowed(&self) -> objmapper_proto::Frame<'_> {
        objmapper_proto::Frame { header: self.header, payload: &self.payload }
    }

    #[track_caller]
    pub fn reply(&self) -> Reply<'_> {
        Reply::decode(self.borrowed()).unwrap()
    }
}

/// The answer about one object, its body included.
#[derive(Debug)]
pub struct Answer {
    /// Of a refusal, the status alone.
    pub head: ObjectHead,
    pub text: String,
    pub retry_after_ms: u32,
    pub bytes: Vec<u8>,
    pub file: Option<File>,
    /// How the body ended.
    pub end: Status,
}

impl Answer {
    fn refused(error: &ErrorReply<'_>) -> Self {
        let mut answer = Self::of(&Item {
            head: ObjectHead::failed(error.status),
            text: error.text,
            inline: b"",
        });
        answer.retry_after_ms = error.retry_after_ms;
        answer
    }

    fn of(item: &Item<'_>) -> Self {
        Self {
            head: item.head,
            text: item.text.to_owned(),
            retry_after_ms: 0,
            bytes: item.inline.to_vec(),
            file: None,
            end: Status::Ok,
        }
    }

    pub fn status(&self) -> Status {
        self.head.status
    }
}

/// A connection.
#[derive(Debug)]
pub struct Peer {
    pub stream: Stream,
    buffer: Vec<u8>,
    fds: FdQueue,
    id: u64,
    hello: Hello,
}

impl Peer {
    pub fn connect(socket: &Path) -> os::Result<Self> {
        let stream = Stream::connect(socket, Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let fds = FdQueue::with_capacity(limits::MANY + limits::DESCRIPTORS);
        Ok(Self { stream, buffer: Vec::new(), fds, id: 0, hello: Hello::default() })
    }

    pub fn greet(&mut self) -> HelloAck {
        self.greet_with(Hello::default())
    }

    pub fn greet_with(&mut self, hello: Hello) -> HelloAck {
        let bytes = self.hello(hello);
        self.send(&bytes);
        self.acknowledged()
    }

    /// The bytes of a HELLO, which holds from now on.
    pub fn hello(&mut self, hello: Hello) -> Vec<u8> {
        self.hello = hello;
        self.id += 1;
        let mut bytes = Vec::new();
        hello.encode(self.id, &mut bytes);
        bytes
    }

    #[track_caller]
    pub fn acknowledged(&mut self) -> HelloAck {
        let frame = self.frame();
        assert_eq!(frame.header.op, Op::HelloAck as u8, "{frame:?}");
        HelloAck::decode(&frame.payload).unwrap()
    }

    /// Appends a request and gives its id.
    pub fn encode(&mut self, request: Request<'_>, out: &mut Vec<u8>) -> u64 {
        self.id += 1;
        request.encode(self.id, out);
        self.id
    }

    /// Sends a request and gives its id.
    pub fn request(&mut self, request: Request<'_>) -> u64 {
        let mut bytes = Vec::new();
        let id = self.encode(request, &mut bytes);
        self.send(&bytes);
        id
    }

    /// Sends all of it.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends all of it, if the daemon is there to take it.
    pub fn try_send(&self, mut bytes: &[u8]) -> os::Result<()> {
        while !bytes.is_empty() {
            let sent = self.stream.send(bytes, &[], false)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// The same socket, for a thread that writes while this one reads.
    pub fn writer(&self) -> Stream {
        Stream::from_fd(self.stream.as_fd().try_clone_to_owned().unwrap()).unwrap()
    }

    /// Sends bytes with descriptors.
    pub fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> os::Result<usize> {
        self.stream.send(bytes, fds, false)
    }

    /// Whether anything has come that was not taken.
    pub fn has_come(&self) -> bool {
        !self.buffer.is_empty() || self.stream.has_input().unwrap()
    }

    /// The next frame.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.frame_or_end().expect("the daemon closed the connection")
    }

    /// The next frame, or `None` at the end of the stream.
    #[track_caller]
    pub fn frame_or_end(&mut self) -> Option<Frame> {
        let max = (self.hello.max_payload as usize).min(limits::REPLY_PAYLOAD);
        loop {
            if let Split::Whole(frame, used) = frame::split(&self.buffer, max).unwrap() {
                let declared = usize::from(frame.header.fds);
                assert!(declared <= self.fds.len(), "descriptors come with their frame at last");
                assert_eq!(frame.header.flags, 0);
                let (header, payload) = (frame.header, frame.payload.to_vec());
                self.buffer.drain(..used);
                let fds = (0..declared).filter_map(|_| self.fds.pop_front()).map(File::from);
                return Some(Frame { header, payload, fds: fds.collect() });
            }
            if self.receive() == 0 {
                assert!(self.buffer.is_empty(), "the stream ends inside a frame");
                assert!(self.fds.is_empty(), "descriptors that no frame declared");
                return None;
            }
        }
    }

    /// Receives once; 0 is the end.
    fn receive(&mut self) -> usize {
        let at = self.buffer.len();
        self.buffer.resize(at + 64 * 1024, 0);
        let received = match self.stream.recv(&mut self.buffer[at..], &mut self.fds) {
            Ok(received) => received,
            // What was sent and not read makes a close into a reset.
            Err(error) if error.errno() == errno::ECONNRESET => {
                self.buffer.truncate(at);
                return 0;
            }
            Err(error) => panic!("nothing came: {error}"),
        };
        self.buffer.truncate(at + received.bytes);
        assert!(!received.cut, "descriptors were cut off");
        let most = usize::from(self.hello.max_descriptors);
        assert!(received.fds <= most, "{} descriptors in one message", received.fds);
        received.bytes
    }

    /// Nothing more comes.
    #[track_caller]
    pub fn expect_end(&mut self) {
        if let Some(frame) = self.frame_or_end() {
            panic!("expected the end: {:?}", frame.reply());
        }
    }

    /// An ERROR with id 0, and then the end.
    #[track_caller]
    pub fn expect_dismissal(&mut self) -> (Status, String) {
        let frame = self.frame();
        let Reply::Error(error) = frame.reply() else { panic!("{frame:?}") };
        assert_eq!(frame.header.id, 0, "{error:?}");
        let said = (error.status, error.text.to_owned());
        self.expect_end();
        said
    }

    /// The answer to a GET or STAT, with its body.
    #[track_caller]
    pub fn object(&mut self, id: u64) -> Answer {
        let mut frame = self.frame();
        assert_eq!(frame.header.id, id);
        let mut answer = match frame.reply() {
            Reply::Object(item) => {
                check_item(&item);
                Answer::of(&item)
            }
            Reply::Error(error) => Answer::refused(&error),
            other => panic!("{other:?}"),
        };
        let delivered = usize::from(answer.head.delivery == Delivery::Descriptor);
        assert_eq!(frame.fds.len(), delivered, "descriptors of {answer:?}");
        answer.file = frame.fds.pop();
        self.complete(id, &mut answer);
        answer
    }

    /// The answer to a GET_MANY of `count`.
    #[track_caller]
    pub fn objects(&mut self, id: u64, count: usize) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::new();
        loop {
            let mut frame = self.frame();
            assert_eq!(frame.header.id, id);
            let mut fds = std::mem::take(&mut frame.fds).into_iter();
            let Reply::Objects(part) = frame.reply() else { panic!("{frame:?}") };
            assert_eq!(part.first as usize, answers.len(), "items come in order, without a gap");
            assert!(part.count() > 0, "a part has items");
            for item in part.items() {
                check_item(&item);
                let open = answers.len() > part.first as usize
                    && answers.last().unwrap().head.delivery == Delivery::Stream;
                assert!(!open, "a streamed item is the last of its part");
                let mut answer = Answer::of(&item);
                if item.head.delivery == Delivery::Descriptor {
                    answer.file = Some(fds.next().expect("a descriptor for each such item"));
                }
                answers.push(answer);
            }
            assert_eq!(fds.count(), 0, "more descriptors than items");
            assert_eq!(part.last, answers.len() == count, "`last` is where it belongs");
            self.complete(id, answers.last_mut().unwrap());
            if part.last {
                return answers;
            }
        }
    }

    /// Reads the body that follows, if one does.
    #[track_caller]
    fn complete(&mut self, id: u64, answer: &mut Answer) {
        if answer.head.delivery == Delivery::Stream && answer.status() == Status::Ok {
            (answer.bytes, answer.end) = self.body(id, answer.head.range.length);
        }
    }

    /// DATA frames and END of a body of which this much was announced.
    #[track_caller]
    pub fn body(&mut self, id: u64, announced: u64) -> (Vec<u8>, Status) {
        let mut bytes = Vec::new();
        loop {
            let frame = self.frame();
            assert_eq!(frame.header.id, id, "nothing comes between the frames of a body");
            match frame.reply() {
                Reply::Data(piece) => {
                    assert!((1..=limits::DATA_PAYLOAD).contains(&piece.len()));
                    bytes.extend_from_slice(piece);
                }
                Reply::End(End { status, length, text }) => {
                    assert_eq!(length, bytes.len() as u64, "END says what came");
                    assert!(length <= announced);
                    assert!(status != Status::Ok || length == announced, "OK means whole");
                    assert_eq!(status == Status::Ok, text.is_empty(), "a failure has a text");
                    return (bytes, status);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    pub fn get(&mut self, mode: Mode, uri: &[u8], range: Range) -> Answer {
        let id = self.request(Request::Get(Get::new(mode, range, uri)));
        self.object(id)
    }

    /// As [`Self::get`], unless it still is this version.
    #[track_caller]
    pub fn get_unless(&mut self, mode: Mode, uri: &[u8], version: Version) -> Answer {
        let get = Get { unless: Some(version), ..Get::new(mode, Range::ALL, uri) };
        let id = self.request(Request::Get(get));
        self.object(id)
    }

    /// Asks for the bytes of something large and reads no more than the head: the id of the
    /// request, and how long the body is.
    #[track_caller]
    pub fn begin_body(&mut self, uri: &[u8]) -> (u64, u64) {
        let id = self.request(Request::Get(Get::new(Mode::Copy, Range::ALL, uri)));
        let frame = self.frame();
        let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
        (id, item.head.range.length)
    }

    #[track_caller]
    pub fn stat(&mut self, uri: &[u8]) -> Answer {
        let id = self.request(Request::Stat(uri));
        self.object(id)
    }

    #[track_caller]
    pub fn get_many<U: AsRef<[u8]>>(&mut self, mode: Mode, uris: &[U]) -> Vec<Answer> {
        let list = uri_list(uris);
        let id = self.request(Request::GetMany(GetMany::new(mode, &list).unwrap()));
        self.objects(id, uris.len())
    }

    /// One page: its names with their kinds, and the cursor; or why not.
    #[track_caller]
    pub fn list(&mut self, prefix: &[u8], cursor: &[u8], limit: u32) -> Result<Page, Box<Answer>> {
        let id = self.request(Request::List(List { limit, prefix, cursor }));
        let frame = self.frame();
        assert_eq!(frame.header.id, id);
        match frame.reply() {
            Reply::Entries(page) => {
                assert!(page.count() <= limit as usize);
                let names = page.entries().map(|e| (e.name.to_vec(), e.kind, e.size)).collect();
                Ok(Page { names, cursor: page.cursor.to_vec() })
            }
            Reply::Error(error) => Err(Box::new(Answer::refused(&error))),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn ping(&mut self) {
        let id = self.request(Request::Ping(b"there?"));
        let frame = self.frame();
        assert_eq!((frame.header.id, frame.reply()), (id, Reply::Pong(b"there?")));
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub names: Vec<(Vec<u8>, objmapper_proto::Kind, u64)>,
    pub cursor: Vec<u8>,
}

/// URIs in the form that GET_MANY takes.
pub fn uri_list<U: AsRef<[u8]>>(uris: &[U]) -> Vec<u8> {
    let mut list = Vec::new();
    for uri in uris {
        GetMany::push_uri(&mut list, uri.as_ref());
    }
    list
}

/// What fits together in an item.
#[track_caller]
fn check_item(item: &Item<'_>) {
    let head = &item.head;
    let told = matches!(head.status, Status::Ok | Status::NotModified);
    assert_eq!(told, item.text.is_empty(), "{item:?}");
    match head.delivery {
        Delivery::Inline => assert_eq!(item.inline.len() as u64, head.range.length),
        _ => assert_eq!(item.inline, b""),
    }
    assert!(item.inline.len() <= limits::INLINE);
    if head.status != Status::Ok {
        assert_eq!(head.delivery, Delivery::None, "{item:?}");
        return;
    }
    let checked = matches!(head.kind, Kind::File | Kind::None);
    let flags = if checked { ObjectHead::CHECKED } else { ObjectHead::IMMUTABLE };
    assert_eq!(head.flags, flags, "files of a tree can change, values cannot: {item:?}");
}
