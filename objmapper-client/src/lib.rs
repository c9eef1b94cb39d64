//! A small blocking client for objmapperd, which can also be driven by an event loop.
//!
//! objmapperd maps URIs to open file descriptors. A [`Client`] asks it over a Unix socket and
//! receives a descriptor ([`Client::open`]) or the bytes ([`Client::read`], [`Client::copy_to`],
//! [`Client::splice_to`]), of one object or of many at a time ([`Client::open_many`],
//! [`Client::pipeline`]). It can also have the daemon send the bytes elsewhere
//! ([`Client::send_to`]), or fetch an object only if it has changed ([`Client::open_unless`]).
//! Keys and their values are at [`Client::keys`].
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
//! - The daemon is not trusted: lengths, counts and descriptors are checked before use, no memory
//!   is allocated for a size that is merely announced, and every descriptor received is
//!   close-on-exec, owned, and closed on every error path.
//! - One answer is never taken for another: after an error in the middle of one the connection is
//!   closed. See [`Error::ends_connection`], and [`Reconnect`] for what comes next.
//! - Answers come in the order of the requests unless [`Builder::out_of_order`] says otherwise.
//! - After a fork the child is refused ([`Error::Forked`]); the parent is not disturbed.
//! - No thread is started, no signal is raised by a send, nothing is printed.
//!
//! A client serves one thread; several threads use a [`Pool`], an event loop uses
//! [`Pipeline::try_next`]. There is no asynchronous runtime here.
//!
//! With the feature `map` a sealed object can be mapped safely ([`Opened`]`::map`), and any other
//! object under a promise that only its owner can give.
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
mod keys;
mod many;
mod pool;
mod send_to;

pub use client::{
    Builder, Client, DEFAULT_SOCKET, DEFAULT_TIMEOUT, SOCKET_VARIABLE, default_socket,
};
pub use dial::Reconnect;
pub use error::{Error, Result};
pub use keys::{Applied, Batch, Compacted, Found, Keys, Put, Scan, milliseconds};
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
