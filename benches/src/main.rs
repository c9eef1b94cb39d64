//! `objmapper-bench`: what objmapperd costs, beside what the kernel itself costs for the same job.
//!
//! ```text
//!  cli ─> run ──> tree      files to ask for
//!          │      servers   objmapperd and the floor, each a process of its own
//!          │      plan      requests, encoded before the clock starts
//!          └───> turns ──> load ──> connection ──> wire      one round: ask, answer, note
//!                  │  │                  └──> progress       what a burst still owes
//!                  │  └──> company                           who else is on the server
//!                  └──> record, summary ──> report, assertion
//!  bars = many such, each held against its goal;  index_choices = in-process, no socket
//!  keys = RESP, beside Redis;  mapper = one of many that map a value
//! ```
//!
//! Guarantees: the client does the same for ours and for the floor; the two take turns; server CPU
//! is read from outside; nothing outlives the program (child processes, files, sockets); every run
//! has a time limit. Not here: any system call (that is objmapper-os) and any parsing of the wire
//! (objmapper-proto).
//!
//! The modules form a ladder: each uses only those before it.

// Figures for people: the casts lose digits that nobody reads.
#![allow(clippy::cast_precision_loss)]

mod assertion;
mod lines;
mod neighbour;
mod procfs;
mod stop;
mod tree;
mod wire;

mod cli;

mod floor;
mod placement;
mod plan;
mod progress;
mod record;

mod connection;
mod servers;

mod company;
mod load;
mod summary;
mod svg;
mod turns;

mod report;
mod run;

mod index_choices;
mod keys;

mod bars;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let outcome = match cli.command {
        Some(cli::Command::FloorServer(args)) => {
            floor::serve(&args.root, &args.socket, args.send_buffer).map(|()| true)
        }
        Some(cli::Command::Mapper(args)) => keys::mapper::run(&args).map(|()| true),
        Some(cli::Command::Bars(args)) => bars::run(&args),
        None if cli.run.mode == cli::RunMode::Kv => keys::run(&cli.run),
        None if cli.run.mode == cli::RunMode::Index => index_choices::run(&cli.run),
        None => run::run(&cli.run),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("objmapper-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
