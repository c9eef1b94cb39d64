//! What the kernel does: the one crate of objmapper that makes system calls.
//!
//! Everything here is a noun of the kernel (a socket, a root, a limit) with the few verbs that
//! objmapper needs, checked and named. No URI, no request, no policy: those live above. All unsafe
//! code of the project is in one file of this crate, `raw.rs`, block by block with its reason.
//!
//! Linux only. What is older than the oldest supported kernel (5.6, for `openat2`) is used without
//! asking; what is newer has a fallback, and [`probe::features`] says what is there:
//!
//! | feature | kernel | used for | without it | test |
//! |---|---|---|---|---|
//! | `openat2` with `RESOLVE_BENEATH` | 5.6 | [`root`] | no tree can be served | `openat2_beneath_refuses_dotdot_with_exdev` |
//! | `preadv2` with `RWF_NOWAIT` | 4.14 | [`file::read_at_cached`] | nothing counts as in memory but tmpfs | `rwf_nowait_says_what_is_cold_and_willneed_warms_it` |
//! | `RESOLVE_CACHED` | 5.12 | [`root::Resolve::CachedOnly`] | everything counts as cold | `a_name_that_was_never_asked_for_is_cold` |
//! | `open_tree`, `mount_setattr` | 5.2, 5.12 | [`root::Root::read_only_clone`] | a read-only mount by the service manager | `descriptor_through_read_only_clone_cannot_be_reopened_for_writing` |
//! | `SO_PEERGROUPS` | 4.13 | [`peer::Peer::groups`] | none: it is required | `a_peer_may_have_very_many_groups` |
//! | `MFD_NOEXEC_SEAL` | 6.3 | [`memory::sealed`] | a memfd without that seal | `sealed_memory_is_immutable_for_every_holder` |
//! | `SO_PASSRIGHTS` | 6.16 | [`socket::refuse_descriptors`] | descriptors that nobody asked for are closed on arrival | `a_socket_that_refuses_descriptors_makes_the_sender_fail` |
//!
//! What else of the kernel this project leans on, and the test of each: `tests/README.md`.
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

pub mod destination;
pub mod file;

pub mod disk;
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
