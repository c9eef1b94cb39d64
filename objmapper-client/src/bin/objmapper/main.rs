//! `objmapper`: asking objmapperd from a shell.
//!
//! One subcommand, one function; what they share is how errors end the program (`fault`), how
//! numbers look (`format`) and where bytes go (`output`). Everything that speaks to the daemon is
//! in the library.

#![forbid(unsafe_code)]

mod fault;
mod format;
mod output;
mod progress;

mod args;
mod watch;

mod flush;
mod get;
mod kv;
mod list;
mod manual;
mod ping;
mod show;
mod stats;

use anyhow::Result;
use args::{Command, CommandLine};
use clap::FromArgMatches;
use clap::error::ErrorKind;
use objmapper_client::{Client, Reconnect};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let matches = args::command().get_matches();
    let line = CommandLine::from_arg_matches(&matches).unwrap_or_else(|wrong| wrong.exit());
    if let Err(wrong) = line.check() {
        args::command().error(ErrorKind::ArgumentConflict, wrong).exit();
    }
    let done = run(&line).and_then(|code| {
        io::stdout().flush()?; // what is lost here would be lost in silence
        Ok(code)
    });
    ExitCode::from(done.unwrap_or_else(|error| fault::conclude(&error)))
}

fn run(line: &CommandLine) -> Result<u8> {
    match &line.command {
        Command::Completions(completions) => return manual::completions(completions).map(|()| 0),
        Command::Man(man) => return manual::man(man).map(|()| 0),
        Command::Kv(kv) => {
            if let Some(done) = kv::offline(kv) {
                return done;
            }
        }
        _ => (),
    }
    let mut client = connect(line)?;
    let client = &mut client;
    match &line.command {
        Command::Get(get) => get::get(client, get).map(|outcome| outcome.code()),
        Command::Cat(cat) => get::cat(client, cat).map(|outcome| outcome.code()),
        Command::Stat(stat) => show::stat(client, stat).map(|outcome| outcome.code()),
        Command::Ls(ls) => list::ls(client, ls).map(|outcome| outcome.code()),
        Command::Ping(ping) => ping::ping(client, ping).map(|()| 0),
        Command::Stats(stats) => stats::stats(client, stats).map(|()| 0),
        Command::Flush(flush) => flush::flush(client, flush).map(|()| 0),
        Command::Kv(kv) => kv::run(client, kv),
        Command::Completions(_) | Command::Man(_) => Ok(0),
    }
}

fn connect(line: &CommandLine) -> Result<Client> {
    let builder = match &line.socket {
        Some(path) if !path.is_empty() => Client::builder().path(path),
        _ => Client::builder(), // which reads the environment
    };
    let builder = builder.pass_descriptors(line.command.passes());
    let timeout = line.timeout();
    let builder = match timeout {
        time if time.is_zero() => builder.no_timeout(),
        time => builder.timeout(time),
    };
    let builder = match timeout {
        _ if !line.command.watches() => builder,
        time if time.is_zero() => builder.reconnect(Reconnect::Within(Duration::MAX)),
        time => builder.reconnect(Reconnect::Within(time)),
    };
    Ok(builder.connect()?)
}
