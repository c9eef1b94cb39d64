//! Fetches every regular file of a directory in every mode, one by one and many at a time, and
//! compares what came with what is there.
//!
//! ```text
//! cargo run --release --example verify_tree -- DIR              starts objmapperd for it
//! cargo run --release --example verify_tree -- DIR SOCKET       asks one that serves DIR at /
//! ```
//!
//! Without a socket it runs the `objmapperd` that was built beside this program, else the one in
//! `PATH`. Ends with 1 if anything differs.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use objmapper_client::{Client, Error as ClientError, Mode, Object, Opened, UriBuf};

/// Objects, and bytes of objects, that are asked for at a time. Each may be a descriptor.
const BATCH: usize = 250;
const BATCH_BYTES: u64 = 64 << 20;

/// Four modes, one by one and many at a time.
const PASSES: usize = 8;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("verify_tree: {error}");
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stdout)] // what it is for
fn run() -> Result<bool, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: verify_tree DIR [SOCKET]")?);
    let daemon = match arguments.next() {
        Some(socket) => Daemon { child: None, socket: socket.into(), _place: None },
        None => Daemon::start(&dir)?,
    };
    let mut client = daemon.client()?;
    let (files, direct) = read_directly(&dir)?;
    if files.is_empty() {
        return Err(format!("{} has no regular files", dir.display()).into());
    }
    println!("{direct}");
    let mut equal = true;
    for pass in verify(&mut client, &files) {
        println!("{pass}");
        pass.different.iter().take(20).for_each(|what| println!("    {what}"));
        equal &= pass.different.is_empty();
    }
    let verdict = if equal { "all equal" } else { "NOT EQUAL" };
    println!("{} files, {} passes: {verdict}", files.len(), PASSES);
    Ok(equal)
}

/// A file, and what a direct read of it gave.
#[derive(Debug)]
pub(crate) struct Known {
    uri: String,
    size: u64,
    checksum: u64,
}

/// One way through all files.
#[derive(Debug)]
pub(crate) struct Pass {
    /// How.
    pub(crate) name: String,
    /// Files that came.
    pub(crate) files: usize,
    /// Bytes that came.
    pub(crate) bytes: u64,
    /// What did not come, or came otherwise.
    pub(crate) different: Vec<String>,
    /// Asking, reading and adding up.
    pub(crate) time: Duration,
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self { name, files, bytes, different, time }, wrong) = (self, self.different.len());
        write!(
            f,
            "{name:<16} {files:>8} files {bytes:>13} bytes {time:>9.2?} {wrong:>6} different"
        )?;
        different.first().map_or(Ok(()), |first| write!(f, ", such as {first}"))
    }
}

impl Pass {
    fn new(name: impl Into<String>) -> Self {
        let (different, time) = (Vec::new(), Duration::ZERO);
        Self { name: name.into(), files: 0, bytes: 0, different, time }
    }

    fn note(&mut self, known: &Known, got: Result<Sum, Box<dyn Error>>) {
        match got {
            Ok(sum) if sum.length == known.size && sum.value() == known.checksum => {}
            Ok(sum) => self.different.push(format!(
                "{}: {} bytes came, {} are there",
                known.uri, sum.length, known.size
            )),
            Err(error) => return self.different.push(format!("{}: {error}", known.uri)),
        }
        self.files += 1;
        self.bytes += known.size;
    }
}

/// All regular files below a directory, read as anybody would. Links are not followed.
pub(crate) fn read_directly(dir: &Path) -> io::Result<(Vec<Known>, Pass)> {
    let started = Instant::now();
    let (mut files, mut pass) = (Vec::new(), Pass::new("direct"));
    let mut directories = vec![(dir.to_owned(), Vec::new())];
    while let Some((path, name)) = directories.pop() {
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        for entry in fs::read_dir(&path).map_err(named)? {
            let entry = entry?;
            let name = [&name, b"/".as_slice(), entry.file_name().as_bytes()].concat();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push((entry.path(), name));
            } else if kind.is_file() {
                let uri = UriBuf::from_path(&name).map_err(io::Error::other)?.to_string();
                let mut sum = Sum::default();
                let named = |error: io::Error| {
                    io::Error::other(format!("{}: {error}", entry.path().display()))
                };
                io::copy(&mut File::open(entry.path()).map_err(named)?, &mut sum)?;
                pass.files += 1;
                pass.bytes += sum.length;
                files.push(Known { uri, size: sum.length, checksum: sum.value() });
            }
        }
    }
    pass.time = started.elapsed();
    Ok((files, pass))
}

/// Every file in every mode, one by one and many at a time.
pub(crate) fn verify(client: &mut Client, files: &[Known]) -> Vec<Pass> {
    let (drain, mut passes) = (Drain::start(), Vec::new());
    for mode in [Mode::Fdpass, Mode::Copy, Mode::Splice, Mode::Auto] {
        passes.push(timed(format!("{mode}, single"), |pass| {
            for known in files {
                pass.note(known, single(client, &drain, known, mode));
            }
        }));
        passes.push(timed(format!("{mode}, many"), |pass| {
            batches(files).for_each(|batch| many(client, batch, mode, pass));
        }));
    }
    passes
}

fn timed(name: String, work: impl FnOnce(&mut Pass)) -> Pass {
    let mut pass = Pass::new(name);
    let started = Instant::now();
    work(&mut pass);
    pass.time = started.elapsed();
    pass
}

fn single(
    client: &mut Client,
    drain: &Drain,
    known: &Known,
    mode: Mode,
) -> Result<Sum, Box<dyn Error>> {
    let mut sum = Sum::default();
    match mode {
        Mode::Fdpass => return read(&client.open(&known.uri)?),
        Mode::Copy => drop(client.copy_to(&known.uri, &mut sum)?),
        Mode::Splice => return drain.splice(client, &known.uri),
        Mode::Auto => return any(client.get(&known.uri, mode)?),
    }
    Ok(sum)
}

fn many(client: &mut Client, batch: &[Known], mode: Mode, pass: &mut Pass) {
    let uris: Vec<&str> = batch.iter().map(|known| known.uri.as_str()).collect();
    let results: Vec<Result<Object, ClientError>> = client.get_many(&uris, mode);
    for (known, result) in batch.iter().zip(results) {
        pass.note(known, result.map_err(Into::into).and_then(any));
    }
}

fn any(object: Object) -> Result<Sum, Box<dyn Error>> {
    match object {
        Object::Descriptor(opened) => read(&opened),
        Object::Bytes(bytes, _) => {
            let mut sum = Sum::default();
            sum.add(&bytes);
            Ok(sum)
        }
    }
}

fn read(opened: &Opened) -> Result<Sum, Box<dyn Error>> {
    let (mut sum, mut buffer) = (Sum::default(), vec![0; 256 * 1024]);
    loop {
        let length = opened.read_at(&mut buffer, sum.length)?;
        if length == 0 {
            return Ok(sum);
        }
        sum.add(buffer.get(..length).unwrap_or_default());
    }
}

/// A thread that reads pipes to their end, one after the other.
struct Drain {
    pipes: mpsc::Sender<io::PipeReader>,
    sums: mpsc::Receiver<io::Result<Sum>>,
}

impl Drain {
    fn start() -> Self {
        let (pipes, given) = mpsc::channel::<io::PipeReader>();
        let (done, sums) = mpsc::channel();
        // Ends when nobody gives it pipes any more.
        std::thread::spawn(move || {
            for mut pipe in given {
                let mut sum = Sum::default();
                if done.send(io::copy(&mut pipe, &mut sum).map(|_| sum)).is_err() {
                    break;
                }
            }
        });
        Self { pipes, sums }
    }

    /// By splice(2) into a pipe, whose other end is read meanwhile.
    fn splice(&self, client: &mut Client, uri: &str) -> Result<Sum, Box<dyn Error>> {
        let (out, into) = io::pipe()?;
        self.pipes.send(out)?;
        let moved = client.splice_to(uri, &into);
        drop(into); // the reader sees the end
        let sum = self.sums.recv()??;
        moved?;
        Ok(sum)
    }
}

/// Pieces of a bounded number of files and bytes.
fn batches(files: &[Known]) -> impl Iterator<Item = &[Known]> {
    let mut rest = files;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |known: &&Known| {
            bytes += known.size;
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take(BATCH).take_while(fits).count().max(1);
        let (batch, behind) = rest.split_at_checked(count)?;
        rest = behind;
        Some(batch)
    })
}

/// A sum over bytes in their order, whatever pieces they come in. It finds mistakes, not forgery.
#[derive(Debug, Default)]
struct Sum {
    state: u64,
    word: u64,
    length: u64,
}

impl Sum {
    fn add(&mut self, mut bytes: &[u8]) {
        while !self.length.is_multiple_of(8)
            && let Some((&byte, rest)) = bytes.split_first()
        {
            self.byte(byte);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
            self.length += 8;
        }
        for &byte in rest {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.word |= u64::from(byte) << (8 * (self.length % 8));
        self.length += 1;
        if self.length.is_multiple_of(8) {
            let word = std::mem::take(&mut self.word);
            self.mix(word);
        }
    }

    fn mix(&mut self, word: u64) {
        let mixed = (self.state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.state = mixed ^ mixed >> 29;
    }

    fn value(&self) -> u64 {
        (self.state ^ self.word).wrapping_mul(0xa076_1d64_78bd_642f) ^ self.length
    }
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The daemon that is asked; one of our own ends with this.
struct Daemon {
    child: Option<Child>,
    socket: PathBuf,
    _place: Option<tempfile::TempDir>,
}

impl Daemon {
    fn start(dir: &Path) -> io::Result<Self> {
        // .../target/release/examples/verify_tree
        let built = std::env::current_exe()?.ancestors().nth(2).map(|dir| dir.join("objmapperd"));
        let program = built.filter(|path| path.exists()).unwrap_or("objmapperd".into());
        let place = tempfile::tempdir()?;
        let socket = place.path().join("socket");
        let child = Command::new(&program)
            .args(["--config", "/dev/null", "--log", "warn", "--socket"])
            .arg(&socket)
            .arg("--root")
            .arg(fs::canonicalize(dir)?)
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", program.display())))?;
        Ok(Self { child: Some(child), socket, _place: Some(place) })
    }

    /// Connects as soon as it listens.
    fn client(&self) -> Result<Client, ClientError> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match Client::builder().path(&self.socket).connect() {
                Err(ClientError::Unreachable(_)) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It keeps nothing that would have to be put in order.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
