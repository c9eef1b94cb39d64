//! A client that speaks RESP, with nothing hidden: requests are sent when told, replies are lines.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::PATIENCE;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Ok(String),
    Error(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Null,
}

pub struct Redis {
    input: BufReader<UnixStream>,
    output: Vec<u8>,
}

impl Redis {
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { input: BufReader::new(socket), output: Vec::new() })
    }

    /// Puts a request behind those that are not sent yet.
    pub fn say(&mut self, words: &[&[u8]]) {
        write!(self.output, "*{}\r\n", words.len()).unwrap();
        for word in words {
            write!(self.output, "${}\r\n", word.len()).unwrap();
            self.output.extend_from_slice(word);
            self.output.extend_from_slice(b"\r\n");
        }
    }

    /// Sends them.
    pub fn send(&mut self) -> io::Result<()> {
        let output = std::mem::take(&mut self.output);
        self.input.get_mut().write_all(&output)
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, text) = line.trim_end().split_at(1);
        Ok(match kind {
            "+" => Reply::Ok(text.to_owned()),
            "-" => Reply::Error(text.to_owned()),
            ":" => Reply::Integer(text.parse().unwrap()),
            "_" => Reply::Null,
            "$" if text == "-1" => Reply::Null,
            "$" => {
                let mut bytes = vec![0; text.parse::<usize>().unwrap() + 2];
                self.input.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            other => panic!("a reply of kind {other}"),
        })
    }

    /// One request and its reply.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        self.say(&words);
        self.send()?;
        self.reply()
    }
}
