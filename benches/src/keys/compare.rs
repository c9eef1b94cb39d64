//! Servers that take turns with the same requests.

use anyhow::Result;
use std::time::Duration;

use super::bursts::Bursts;
use super::load::{self, Client, Round};
use super::server::Server;
use crate::cli::kv::KvArgs;
use crate::record::median;
use crate::stop::Stop;

/// What is asked of each server.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) kv: &'a KvArgs,
    pub(crate) conns: u32,
    pub(crate) pipeline: u32,
    pub(crate) rounds: u32,
    pub(crate) warmup: Duration,
    /// Of each round of each server.
    pub(crate) time: Duration,
}

/// Sets all keys, and asks each server in turn; gives the rounds of each.
pub(crate) fn take(servers: &[Server], asked: Asked<'_>, stop: &Stop) -> Result<Vec<Vec<Round>>> {
    let protocol = asked.kv.protocol;
    let all: Vec<_> = servers
        .iter()
        .map(|s| Bursts::new(asked.kv, asked.pipeline, s.endpoint(protocol).0))
        .collect();
    let mut clients = Vec::new();
    for (server, bursts) in servers.iter().zip(&all) {
        load::fill(&server.socket, Bursts::fill(asked.kv))?;
        let (conns, size) = (asked.conns as usize, asked.kv.value_size.as_u64());
        clients.push(Client::connect(server.endpoint(protocol), conns, bursts, size)?);
    }
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for number in 0..=asked.rounds {
        let sides = servers.iter().zip(&all).zip(&mut clients).zip(&mut rounds);
        for (((server, bursts), client), rounds) in sides {
            stop.check()?;
            // The first warms up.
            let time = if number == 0 { asked.warmup } else { asked.time };
            let round = client.round(bursts, server.pid, time, stop)?;
            if number > 0 {
                rounds.push(round);
            }
        }
    }
    Ok(rounds)
}

/// The median over rounds of a figure of the one, divided by that of the other.
pub(crate) fn ratio(ours: &[Round], theirs: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    median(ours.iter().zip(theirs).map(|(our, their)| figure(our) / figure(their).max(1e-9)))
}

impl Round {
    /// Replies a second.
    pub(crate) fn rate(&self) -> f64 {
        self.seen.replies as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Microseconds of the server's CPU for each.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.server_cpu_ns as f64 / 1e3 / (self.seen.replies as f64).max(1.0)
    }

    /// Replies that were not what they should be.
    pub(crate) fn wrong(&self) -> u64 {
        self.seen.errors + self.seen.nulls + self.seen.odd
    }
}
