//! objmapperd: answers many clients over Unix sockets from one [`objmapper::Store`].
//!
//! ```text
//!  listener ─▶ pool ─▶ attendant ─▶ session ─▶ service ─▶ outbox ─▶ socket
//!               ▲          ├─▶ helpers  (what has to wait for a disk)
//!               └──────────┴─▶ transfer (bodies)
//! ```
//!
//! The library is there for the binary and for tests; embed [`objmapper`] instead.
//! The modules form a ladder: each uses only those before it.

#![cfg_attr(not(loom), forbid(unsafe_code))]

pub mod config;

mod manual;

pub mod cli;
pub mod logging;

pub mod closers;
pub mod mounts;

pub mod supervisor;
pub mod watchdog;

pub mod budget;
pub mod metrics;

pub mod sync;

pub mod pool;

pub mod deadline;
pub mod ledger;

pub mod admission;
pub mod clients;
pub mod session;
pub mod ticker;
pub mod unsettled;

pub mod outbox;

pub mod link;

pub mod transfer;

pub mod destination;
pub mod forward;

pub mod bodies;

pub mod connection;
pub mod input;

pub mod committer;
pub mod helpers;
pub mod quantum;

pub mod keeper;
pub mod service;
pub mod transfer_path;

pub mod attendant;

pub mod allowance;
pub mod listener;
pub mod reload;

pub mod front;

pub mod server;

pub use server::run;
