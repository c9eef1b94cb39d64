//! The other end of the second door, by hand: requests as somebody types them, replies as they can
//! be read, and whole conversations to be compared.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use objmapper_proto::resp::{Args, line};

use super::PATIENCE;
use super::daemon::{Daemon, Place, Setup};

/// A daemon with a socket for these clients.
pub fn start() -> Daemon {
    start_as(Setup::default())
}

/// The same, set up.
pub fn start_as(setup: Setup) -> Daemon {
    let place = Place::new();
    let path = socket(&place);
    setup.argument("--kv-socket").argument(path.to_str().unwrap()).start_in(place)
}

/// Where it is.
pub fn socket(place: &Place) -> PathBuf {
    place.outside("run/keys")
}

/// What was answered. Shown as a line: `+OK`, `-ERR no`, `:1`, `"bytes"`, `nil`, `[one two]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Said>),
    /// Keys and values in turn.
    Map(Vec<Said>),
    Set(Vec<Said>),
    Push(Vec<Said>),
    /// Of version 3: double, boolean, big number, verbatim text.
    Other(char, String),
}

impl Said {
    #[track_caller]
    pub fn integer(&self) -> i64 {
        let Self::Integer(number) = self else { panic!("{self} is no integer") };
        *number
    }

    #[track_caller]
    pub fn bulk(&self) -> &[u8] {
        let Self::Bulk(bytes) = self else { panic!("{self} is no bulk string") };
        bytes
    }

    #[track_caller]
    pub fn list(&self) -> &[Self] {
        let Self::Array(list) = self else { panic!("{self} is no array") };
        list
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |f: &mut fmt::Formatter<'_>, open, list: &[Self], close| {
            let list: Vec<_> = list.iter().map(ToString::to_string).collect();
            write!(f, "{open}{}{close}", list.join(" "))
        };
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, ":{number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Null => write!(f, "nil"),
            Self::Array(list) => many(f, "[", list, "]"),
            Self::Map(list) => many(f, "{", list, "}"),
            Self::Set(list) => many(f, "~[", list, "]"),
            Self::Push(list) => many(f, ">[", list, "]"),
            Self::Other(kind, text) => write!(f, "{kind}{text}"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Talker {
    stream: BufReader<UnixStream>,
}

impl Talker {
    /// To a daemon that [`start`] started.
    pub fn of(daemon: &Daemon) -> Self {
        Self::connect(&socket(daemon))
    }

    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a request, and waits for nothing.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.send(&request);
    }

    /// Sends a request and gives what was answered.
    #[track_caller]
    pub fn say<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Said {
        self.ask(words);
        self.hear()
    }

    /// The same for a request as it is typed: `SET k "two words"`.
    #[track_caller]
    pub fn line(&mut self, text: &str) -> Said {
        let (mut words, mut ranges) = (Vec::new(), Vec::new());
        line::split(text.as_bytes(), &mut words, &mut ranges).expect("quotes that close");
        let words: Vec<&[u8]> = Args::new(&words, &ranges).iter().collect();
        self.say(&words)
    }

    /// Says each line and compares what is answered with what stands behind `=>`. Empty lines, and
    /// those that begin with `#`, are for the reader.
    #[track_caller]
    pub fn holds(&mut self, conversation: &str) {
        for text in conversation.lines().map(str::trim) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (request, expected) = text.split_once(" => ").expect("=>");
            let said = self.line(request.trim_end()).to_string();
            assert_eq!(said, expected, "to {request}");
        }
    }

    /// What is answered next.
    #[track_caller]
    pub fn hear(&mut self) -> Said {
        self.try_hear().expect("an answer, not the end of the connection")
    }

    /// The same; `None` at the end of the connection.
    #[track_caller]
    pub fn try_hear(&mut self) -> Option<Said> {
        let mut head = Vec::new();
        self.stream.read_until(b'\n', &mut head).unwrap();
        if head.is_empty() {
            return None;
        }
        let text = head.strip_suffix(b"\r\n").expect("a whole line");
        let text = String::from_utf8_lossy(text).into_owned();
        let mut letters = text.chars();
        let kind = letters.next().unwrap();
        let rest = letters.as_str().to_owned();
        let count = || rest.parse::<i64>().unwrap();
        let many = |talker: &mut Self, count: i64| (0..count).map(|_| talker.hear()).collect();
        Some(match kind {
            '+' => Said::Simple(rest),
            '-' => Said::Error(rest),
            ':' => Said::Integer(count()),
            '_' => Said::Null,
            '$' | '*' if count() < 0 => Said::Null,
            '$' => Said::Bulk(self.bytes(count())),
            '=' => Said::Other(kind, String::from_utf8_lossy(&self.bytes(count())).into_owned()),
            '*' => Said::Array(many(self, count())),
            '~' => Said::Set(many(self, count())),
            '>' => Said::Push(many(self, count())),
            '%' => Said::Map(many(self, count() * 2)),
            _ => Said::Other(kind, rest),
        })
    }

    fn bytes(&mut self, length: i64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap() + 2];
        self.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes[bytes.len() - 2..], b"\r\n");
        bytes.truncate(bytes.len() - 2);
        bytes
    }
}
