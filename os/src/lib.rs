//! What the kernel does: the one crate of objmapper that makes system calls.
//!
//! Everything here is a noun of the kernel (a socket, a root, a limit) with the few verbs that
//! objmapper needs, checked and named. No URI, no request, no policy: those live above. All unsafe
//! code of the project is in one file of this crate, `raw.rs`, block by block with its reason.
//!
//! Linux only. What is older than the oldest supported kernel (5.6, for `openat2`) is used without
//! asking; what is newer has a fallback, and [`probe::features`] says what is there:
//!
//! | feature | kernel | used for | without it |
//! |---|---|---|---|
//! | `openat2` with `RESOLVE_BENEATH` | 5.6 | [`root`] | no tree can be served |
//! | `preadv2` with `RWF_NOWAIT` | 4.14 | [`file::read_at_cached`] | a plain read |
//! | `RESOLVE_CACHED` | 5.12 | [`root::Resolve::CachedOnly`] | everything counts as cold |
//! | `open_tree`, `mount_setattr` | 5.2, 5.12 | [`root::Root::read_only_clone`] | a read-only mount by the service manager |
//! | `SO_PEERGROUPS` | 4.13 | [`peer::Peer::groups`] | none: it is required |
//! | `MFD_NOEXEC_SEAL` | 6.3 | [`memory::sealed`] | a memfd without that seal |
//! | `SO_PASSRIGHTS` | 6.16 | [`socket::refuse_descriptors`] | descriptors that nobody asked for are closed on arrival |
//!
//! The modules form a ladder: each uses only those before it.

#[cfg(not(target_os = "linux"))]
compile_error!("objmapper passes descriptors by openat2 and SCM_RIGHTS as Linux has them");

pub mod errno;
pub mod error;
mod raw;

pub mod clock;
pub mod limits;
pub mod sched;
pub mod user;

pub mod fds;
pub mod opened;
pub mod socket;

pub mod file;
#[cfg(feature = "map")]
pub mod mapping;
pub mod memory;
pub mod peer;
pub mod pipe;
#[cfg(feature = "poll")]
pub mod poll;
pub mod root;
pub mod service_manager;
pub mod signal;
pub mod watch;

pub mod probe;

pub use error::{Error, Result};
