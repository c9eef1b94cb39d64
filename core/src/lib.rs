//! The core of objmapper: names to objects to deliveries.
//!
//! A [`Store`] holds mounts, and an index of the names that were resolved. It is
//! asked with a [`Caller`] and a [`Want`] and answers with a [`Delivery`]: an open
//! descriptor, or a body to be sent. It knows no socket, no frame and no executor; a
//! daemon puts those around it, and a program that embeds it needs none of them. (The
//! one thread it may start syncs the journal of a [`kv::Keyspace`] at intervals.)
//!
//! ```
//! use std::sync::Arc;
//! use objmapper::{Caller, Mode, Mount, Mounts, Patience, Rules, Store, Tree, Want};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! std::fs::write(dir.path().join("greeting"), "hello")?;
//!
//! let tree = Tree::open(dir.path(), objmapper::Links::Refuse)?;
//! let mount = Mount::new("/data".parse()?, Arc::new(tree), Rules::owner_only());
//! let store = Store::new(Mounts::new(vec![mount])?);
//!
//! let mut me = Caller::own();
//! let want = Want { uri: b"/data/greeting", mode: Mode::Fdpass, ..Want::default() };
//! let delivery = store.deliver(&mut me, &want, Patience::Block)?;
//! assert_eq!(delivery.object.size, 5);
//! # Ok(()) }
//! ```
//!
//! The modules form a ladder: each uses only those before it.

#![forbid(unsafe_code)]

pub mod refusal;

pub mod rule;

pub mod caller;

pub mod index;

pub mod kv;

pub mod object;
pub mod plan;

pub mod backing;

pub mod shared;

pub mod delivery;
pub mod mount;

pub mod store;

pub use backing::keys::Keys;
pub use backing::tree::{ReadOnly, Tree};
pub use backing::{Backing, Found, MountId, Patience};
pub use caller::Caller;
pub use delivery::{Body, Delivered, Delivery, Fill};
pub use index::Index;
pub use mount::{Mount, Mounts};
pub use object::Object;
pub use objmapper_os::opened::{Closer, Opened};
pub use objmapper_os::root::Links;
pub use objmapper_proto::{Kind, Mode, Range, Reason, Status, Uri, UriBuf, Version};
pub use plan::Limits;
pub use refusal::{Miss, Refusal};
pub use rule::{Rule, Rules, Subject, Verbs};
pub use shared::Shared;
pub use store::{Listing, Page, Store, Want};
