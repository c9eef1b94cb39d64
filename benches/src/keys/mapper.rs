//! One of many processes that map the same value, to see that they share one copy.
//!
//! Says `mapped` when every page has been read, and, when it is told a line, how much memory its
//! mapping shows: resident, and its share of what is resident (`Rss`, `Pss` of proc(5), bytes).

use anyhow::{Context, Result, ensure};
use objmapper_client::Client;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::cli::MapperArgs;

/// A page, or less than one.
const PAGE: usize = 4096;

/// Maps the value, and tells.
#[allow(clippy::print_stdout)] // for whoever started it
pub(crate) fn run(args: &MapperArgs) -> Result<()> {
    let value = Client::builder().path(&args.socket).connect()?.open(&args.uri)?.map()?;
    let sum: u64 = value.iter().step_by(PAGE).map(|byte| u64::from(*byte)).sum();
    println!("mapped {sum}");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let (rss, pss) = shown(value.as_ptr().addr()).context("the mapping is not in smaps")?;
    println!("{rss} {pss}");
    std::io::stdout().flush()?;
    // The others' shares are of what all have: stays until nobody asks any more.
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}

/// `Rss` and `Pss` of the mapping that begins there, in bytes.
fn shown(address: usize) -> Option<(u64, u64)> {
    let smaps = fs::read_to_string("/proc/self/smaps").ok()?;
    let start = format!("{address:x}-");
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
    let mut figure = |name: &str| {
        let line = lines.by_ref().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((figure("Rss:")?, figure("Pss:")?))
}

/// Such a process, which has mapped the value.
pub(crate) struct Mapper {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Mapper {
    /// Starts one.
    pub(crate) fn start(socket: &Path, uri: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("who am I")?);
        command.arg("mapper").arg("--socket").arg(socket).args(["--uri", uri]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let said = BufReader::new(child.stdout.take().context("its output is not piped")?);
        let mut mapper = Self { child, said };
        let line = mapper.line()?;
        ensure!(line.starts_with("mapped"), "a mapper says {line:?}");
        Ok(mapper)
    }

    /// Bytes that it has resident of the value, and its share of them.
    pub(crate) fn shown(&mut self) -> Result<(u64, u64)> {
        let input = self.child.stdin.as_mut().context("its input is not piped")?;
        input.write_all(b"\n")?;
        let line = self.line()?;
        let (rss, pss) = line.trim().split_once(' ').context("two numbers are expected")?;
        Ok((rss.parse()?, pss.parse()?))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        // It has ended by itself, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
