//! Asking objmapperd for objects: a small client that blocks, or looks when it is told to.
//!
//! objmapperd maps URIs to open file descriptors. A [`Client`] asks it over a Unix socket and gets
//! a descriptor back ([`Client::open`]), or the bytes ([`Client::read`], [`Client::copy_to`],
//! [`Client::splice_to`]), for one object or for many at a time ([`Client::open_many`],
//! [`Client::pipeline`]), or none of both because the daemon sends them elsewhere
//! ([`Client::send_to`]), or nothing if what the caller has is current ([`Client::open_unless`]).
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
//! # fn main() { with_daemon(|| {
//! use objmapper_client::Client;
//!
//! let mut client = Client::connect()?; // OBJMAPPER_SOCKET, or the usual path
//! let weights = client.open("/models/a.gguf")?.into_file();
//! match client.read("/models/a.json") {
//!     Ok(bytes) => println!("{} bytes of configuration", bytes.len()),
//!     Err(error) if error.is_not_found() => println!("no configuration"),
//!     Err(error) => return Err(error),
//! }
//! # drop(weights);
//! # Ok(()) }) }
//! ```
//!
//! What holds:
//! - The daemon is not believed: lengths, counts and descriptors are checked before they are used,
//!   no memory is taken for a size that is only announced, and every descriptor that arrives is
//!   owned (close-on-exec) and closed on every way out.
//! - An answer is never mistaken for another: after an error in the middle of one, the connection
//!   is closed. See [`Error::ends_connection`], and [`Reconnect`] for what comes next.
//! - Answers come in the order of the requests unless [`Builder::out_of_order`] says otherwise.
//! - After a fork the child is refused ([`Error::Forked`]); the parent is not disturbed.
//! - No thread is started, no signal is raised by a send, nothing is printed.
//!
//! One client serves one thread: several threads take a [`Pool`]. A program that waits for many
//! things at a time takes [`Pipeline::try_next`]. Not here: an asynchronous runtime.
//!
//! With the feature `map` a sealed object can be had as memory ([`Opened`]`::map`), and any other by
//! whoever vouches for it.
//!
//! The command `objmapper` is in this package as well, behind the default feature `cli`. Programs
//! that link the library want `default-features = false`.
//!
//! The modules form a ladder: each uses only those before it.

#![forbid(unsafe_code)]

mod error;
mod metadata;
mod name;
mod opened;

mod link;
mod sink;

mod request;

mod answer;
mod bodies;
mod hello;

mod dial;

mod connection;

mod sending;

mod listing;
mod pipeline;
mod transfer;

mod client;
mod many;
mod pool;
mod send_to;

pub use client::{
    Builder, Client, DEFAULT_SOCKET, DEFAULT_TIMEOUT, SOCKET_VARIABLE, default_socket,
};
pub use dial::Reconnect;
pub use error::{Error, Result};
pub use listing::{Entry, Listing};
pub use metadata::Metadata;
pub use opened::{Object, Opened};
pub use pipeline::Pipeline;
pub use pool::{Lent, Pool};
pub use request::{Answer, Request};
pub use transfer::Transfer;

pub use objmapper_os::Error as OsError;
#[cfg(feature = "map")]
pub use objmapper_os::mapping::Mapping;
pub use objmapper_proto::word::mode::NoSuchMode;
pub use objmapper_proto::word::object::NoVersion;
pub use objmapper_proto::{Kind, Mode, Reason, Status, UriBuf, UriError, Version, Violation};
