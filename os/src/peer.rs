//! Who is at the other end of a connection, as the kernel knows it.
//!
//! The identity is that of the process at the moment of connect(2) (for an accepted socket) or of
//! listen(2) (for a connecting one), whatever it has become since and whoever else holds the
//! socket now. The user number is what to judge by; the process number is for logs only, since it
//! may have been given to another process. Which users may do what is not decided here.

use crate::errno;
use crate::error::{Error, Result};
use crate::raw;
use crate::socket::Stream;
use std::os::fd::AsFd;

/// The peer's credentials. `SO_PEERCRED` and `SO_PEERGROUPS` in unix(7)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its process number; `None` where it has none in our namespace.
    pub pid: Option<i32>,
    /// Its effective user. 65534, the overflow user, stands for any that our namespace lacks.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups, ascending, without repetition.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel. ENOTCONN if the socket has no peer.
    pub fn of(stream: &Stream) -> Result<Self> {
        let (pid, uid, gid) = raw::peer_credentials(stream.as_fd())
            .map_err(|error| error.with_detail("SO_PEERCRED"))?;
        if uid == u32::MAX {
            return Err(Error::new("getsockopt", errno::ENOTCONN).with_detail("SO_PEERCRED"));
        }
        let groups = groups_of(stream).map_err(|error| error.with_detail("SO_PEERGROUPS"))?;
        Ok(Self { pid: (pid > 0).then_some(pid), uid, gid, groups })
    }

    /// Whether it belongs to the group, by its effective or a supplementary one.
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.binary_search(&gid).is_ok()
    }
}

/// The effective user of this process. geteuid(2)
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The effective group of this process, and its supplementary groups. getegid(2), getgroups(2)
pub fn own_groups() -> Result<(u32, Vec<u32>)> {
    let groups = nix::unistd::getgroups().map_err(Error::from_nix("getgroups"))?;
    let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    Ok((nix::unistd::getegid().as_raw(), groups))
}

fn groups_of(stream: &Stream) -> Result<Vec<u32>> {
    let mut groups = vec![0; 32]; // not tuned; one more call for who has more
    loop {
        let count = raw::peer_groups(stream.as_fd(), &mut groups)?;
        let fits = count <= groups.len();
        groups.resize(count, 0);
        if fits {
            groups.sort_unstable();
            groups.dedup();
            return Ok(groups);
        }
    }
}
