//! A client that speaks RESP by hand: what it sends is what a test gives it, what it gets is taken
//! apart by the specification and by nothing else.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::PATIENCE;
use super::daemon::{Place, Setup};

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

    /// The next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.reply_or_end().expect("the daemon closed the connection")
    }

    /// The next reply, or `None` at the end of the stream.
    #[track_caller]
    pub fn reply_or_end(&mut self) -> Option<Reply> {
        loop {
            let mut rest = self.buffer.as_slice();
            if let Some(reply) = parse(&mut rest) {
                let used = self.buffer.len() - rest.len();
                self.buffer.drain(..used);
                return Some(reply);
            }
            let at = self.buffer.len();
            self.buffer.resize(at + (64 << 10).max(at), 0);
            let read = match self.wire.read(&mut self.buffer[at..]) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("nothing came: {error}"),
            };
            self.buffer.truncate(at + read);
            if read == 0 {
                let rest = String::from_utf8_lossy(&self.buffer);
                assert!(rest.is_empty(), "the stream ends inside a reply: {rest:.200}");
                return None;
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

/// Another connection.
#[track_caller]
pub fn connect(place: &Place) -> Resp {
    Resp::connect(&socket(place)).unwrap()
}
