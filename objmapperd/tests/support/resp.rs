//! A client that speaks RESP by hand: what it sends is what a test gives it, what it gets is taken
//! apart by the specification and by nothing else.

use std::fmt::{self, Debug, Display};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use objmapper_proto::resp::{Args, line as typed};

use super::PATIENCE;
use super::daemon::{Daemon, Place, Setup};

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    /// Arrays and sets.
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Double(String),
    Boolean(bool),
}

impl Reply {
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Double(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn array(&self) -> &[Reply] {
        match self {
            Self::Array(replies) => replies,
            other => panic!("{other:?} is no array"),
        }
    }

    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("{other} is no integer"),
        }
    }

    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Bulk(bytes) => bytes,
            other => panic!("{other} is no bulk string"),
        }
    }
}

/// As a line: `+OK`, `-ERR no`, `:1`, `"bytes"`, `nil`, `[one two]`.
impl Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, ":{number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Null => f.write_str("nil"),
            Self::Array(replies) => {
                let replies: Vec<_> = replies.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", replies.join(" "))
            }
            Self::Map(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                write!(f, "{{{}}}", pairs.join(" "))
            }
            Self::Double(text) => write!(f, ",{text}"),
            Self::Boolean(yes) => write!(f, "#{yes}"),
        }
    }
}

pub fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

pub fn queued() -> Reply {
    Reply::Simple("QUEUED".to_owned())
}

pub fn bulk(text: impl AsRef<[u8]>) -> Reply {
    Reply::Bulk(text.as_ref().to_vec())
}

pub fn error(text: &str) -> Reply {
    Reply::Error(text.to_owned())
}

pub trait Wire: Read + Write + Debug + Send {}

impl<T: Read + Write + Debug + Send> Wire for T {}

/// A connection.
#[derive(Debug)]
pub struct Resp {
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
}

impl Resp {
    pub fn connect(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { wire: Box::new(stream), buffer: Vec::new() })
    }

    pub fn tcp(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { wire: Box::new(stream), buffer: Vec::new() })
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.write_all(bytes)
    }

    /// Says a command, its words with a blank between them, and gives the reply.
    #[track_caller]
    pub fn say(&mut self, words: &str) -> Reply {
        self.ask(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    /// Says a command and gives the reply.
    #[track_caller]
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        self.send(&encoded(words));
        self.reply()
    }

    /// Says a command as it is typed, with quotes: `SET k "two words"`.
    #[track_caller]
    pub fn line(&mut self, text: &str) -> Reply {
        let (mut words, mut ranges) = (Vec::new(), Vec::new());
        typed::split(text.as_bytes(), &mut words, &mut ranges).expect("quotes that close");
        let words: Vec<&[u8]> = Args::new(&words, &ranges).iter().collect();
        self.ask(&words)
    }

    /// Says each line and compares the reply with what stands behind `=>`. Empty lines, and those
    /// that begin with `#`, are for the reader.
    #[track_caller]
    pub fn holds(&mut self, conversation: &str) {
        for text in conversation.lines().map(str::trim) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (request, expected) = text.split_once(" => ").expect("=>");
            assert_eq!(self.line(request.trim_end()).to_string(), expected, "to {request}");
        }
    }

    /// The next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.reply_or_end().expect("the daemon closed the connection")
    }

    /// The next reply, or `None` at the end of the stream.
    #[track_caller]
    pub fn reply_or_end(&mut self) -> Option<Reply> {
        match self.try_reply() {
            Ok(reply) => Some(reply),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let rest = String::from_utf8_lossy(&self.buffer);
                assert!(rest.is_empty(), "the stream ends inside a reply: {rest:.200}");
                None
            }
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next reply; `UnexpectedEof` at the end of the stream, inside a reply or not.
    pub fn try_reply(&mut self) -> std::io::Result<Reply> {
        loop {
            let mut rest = self.buffer.as_slice();
            if let Some(reply) = parse(&mut rest) {
                let used = self.buffer.len() - rest.len();
                self.buffer.drain(..used);
                return Ok(reply);
            }
            let at = self.buffer.len();
            self.buffer.resize(at + (64 << 10).max(at), 0);
            let read = self.wire.read(&mut self.buffer[at..]);
            self.buffer.truncate(at + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }

    /// Nothing more comes.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert_eq!(self.reply_or_end(), None);
    }
}

/// A command as an array of bulk strings.
pub fn encoded<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend(format!("${}\r\n", word.as_ref().len()).into_bytes());
        out.extend(word.as_ref());
        out.extend(b"\r\n");
    }
    out
}

fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&bytes[..end]).unwrap();
    *bytes = &bytes[end + 2..];
    Some(line)
}

/// A reply, if all of it is there.
fn parse(bytes: &mut &[u8]) -> Option<Reply> {
    let line = line(bytes)?;
    let (kind, rest) = line.split_at(1);
    let number = || rest.parse::<i64>().unwrap();
    Some(match kind {
        "+" => Reply::Simple(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Integer(number()),
        "_" => Reply::Null,
        "," => Reply::Double(rest.to_owned()),
        "#" => Reply::Boolean(rest == "t"),
        "$" | "*" if number() == -1 => Reply::Null,
        "$" | "=" => {
            let length = usize::try_from(number()).unwrap();
            if bytes.len() < length + 2 {
                return None;
            }
            let (text, after) = bytes.split_at(length);
            *bytes = after.strip_prefix(b"\r\n").expect("a bulk string ends with its line");
            let text = if kind == "=" { text.strip_prefix(b"txt:").unwrap() } else { text };
            Reply::Bulk(text.to_vec())
        }
        "*" | "~" => Reply::Array((0..number()).map(|_| parse(bytes)).collect::<Option<Vec<_>>>()?),
        "%" => {
            let pair = |_| Some((parse(bytes)?, parse(bytes)?));
            Reply::Map((0..number()).map(pair).collect::<Option<Vec<_>>>()?)
        }
        other => panic!("{other:?} begins no reply"),
    })
}

/// Where the keyspace's socket is in a place.
pub fn socket(place: &Place) -> PathBuf {
    place.outside("run/keys")
}

/// A daemon with a keyspace.
pub fn keyspace(setup: Setup, place: &Place) -> Setup {
    setup.argument("--kv-socket").argument(socket(place).to_str().unwrap())
}

/// A daemon with a keyspace, that is started.
pub fn start() -> Daemon {
    let place = Place::new();
    keyspace(Setup::default(), &place).start_in(place)
}

/// Another connection.
#[track_caller]
pub fn connect(place: &Place) -> Resp {
    Resp::connect(&socket(place)).unwrap()
}
