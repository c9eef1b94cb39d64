//! A socket that accepts connections, made here or inherited from a service manager.
//!
//! Never blocks: without a waiting connection `accept` says EAGAIN. One that was bound to a path
//! by this process removes the path when it is dropped, if the path still is its own.

use super::bind::{self, BindOptions, Inode};
use super::{Stream, address, refuse_extras};
use crate::errno;
use crate::error::{Error, Result};
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A listening stream socket: of Unix, or of TCP. unix(7), tcp(7)
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: Option<PathBuf>,
    /// Of TCP.
    address: Option<SocketAddr>,
    /// What to remove at the end, independent of the working directory.
    ours: Option<(PathBuf, Inode)>,
}

impl Listener {
    /// Listens at `path`, or at an abstract name if it begins with `@`.
    ///
    /// The path appears complete: with mode, owner and backlog, in the place of a dead socket if
    /// there is one. EADDRINUSE if somebody listens there; ENOTSOCK if it is another kind of file;
    /// ENAMETOOLONG beyond 107 bytes; EPERM if the owner cannot be set.
    pub fn bind(path: &Path, options: BindOptions) -> Result<Self> {
        let (socket, inode) = bind::bind(path, options)?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let ours = inode.map(|inode| (absolute, inode));
        Ok(Self { socket, path: Some(path.to_owned()), address: None, ours })
    }

    /// Listens at an address of the Internet protocols; port 0 is any that is free. An address that
    /// was in use a moment ago will do, one where somebody listens is EADDRINUSE. What is accepted
    /// sends at once, however little it is. ip(7), tcp(7)
    pub fn bind_tcp(address: SocketAddr, backlog: u32) -> Result<Self> {
        let told = |error: Error| error.with_detail(address.to_string());
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            .map_err(Error::on("socket"))
            .map_err(told)?;
        sockopt::set_socket_reuseaddr(&socket, true)
            .map_err(Error::on("setsockopt"))
            .map_err(told)?;
        rustix::net::bind(&socket, &address).map_err(Error::on("bind")).map_err(told)?;
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        rustix::net::listen(&socket, backlog).map_err(Error::on("listen")).map_err(told)?;
        let bound = rustix::net::getsockname(&socket).map_err(Error::on("getsockname"))?;
        let address = SocketAddr::try_from(bound).map_err(Error::on("getsockname"))?;
        Ok(Self { socket, path: None, address: Some(address), ours: None })
    }

    /// Takes a listening socket that somebody else made; its path is not removed. EINVAL, with the
    /// reason, if it is not a listening Unix stream socket. Sets non-blocking and close-on-exec.
    pub fn from_fd(socket: OwnedFd) -> Result<Self> {
        let no = |text: &str| Error::new("getsockopt", errno::EINVAL).with_detail(text);
        let asked = Error::on("getsockopt");
        if sockopt::socket_domain(&socket).map_err(&asked)? != AddressFamily::UNIX {
            return Err(no("not a Unix socket"));
        }
        if sockopt::socket_type(&socket).map_err(&asked)? != SocketType::STREAM {
            return Err(no("not a stream socket"));
        }
        if !sockopt::socket_acceptconn(&socket).map_err(&asked)? {
            return Err(no("not listening"));
        }
        let flags = rustix::fs::fcntl_getfl(&socket).map_err(Error::on("fcntl"))?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK).map_err(Error::on("fcntl"))?;
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(Error::on("fcntl"))?;
        refuse_extras(socket.as_fd());
        let path = rustix::net::getsockname(&socket).ok().and_then(address::to_path);
        Ok(Self { socket, path, address: None, ours: None })
    }

    /// The next connection, non-blocking and close-on-exec. EAGAIN if none waits. EMFILE and
    /// ENFILE leave it waiting and the listener readable: see [`crate::limits::ReserveFd`]. They
    /// come even if no connection waits, since the kernel takes a number first. accept4(2)
    pub fn accept(&self) -> Result<Stream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match rustix::net::accept_with(&self.socket, flags) {
                Ok(socket) => {
                    if self.address.is_some() {
                        // Fails only if the peer has gone, which the first read will tell.
                        let _ = sockopt::set_tcp_nodelay(&socket, true);
                    }
                    return Ok(Stream::new(socket));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => (),
                Err(errno) => return Err(Error::on("accept4")(errno)),
            }
        }
    }

    /// The name it listens at, as `connect` takes it: for an inherited one what the kernel says,
    /// which is the name at bind(2) even if the path was renamed since.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The address it listens at, if it is one of TCP.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Leaves the path alone when dropped, because a successor has this same socket.
    pub fn keep_path(&mut self) {
        self.ours = None;
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, inode)) = &self.ours {
            bind::unlink_if_ours(path, *inode);
        }
    }
}
