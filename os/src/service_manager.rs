//! What a service manager gives at start (sockets, a watchdog) and wants to hear (ready, status).
//!
//! The protocol is the one of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3): variables
//! of the environment and datagrams. Without the variables everything here says "nothing" and the
//! program runs on its own. What the sockets are for is decided above, by their names.

use crate::errno;
use crate::error::{Error, Result};
use crate::fds::MAX_PER_MESSAGE;
use crate::raw::{self, SingleThreaded};
use sendfd::SendWithFd;
use std::env;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// More than this is a mistake in the environment, not a number of sockets. Not tuned.
const MOST: usize = 65_536;

/// What a service manager sets for the descriptors that it passes.
const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// How long a notification may wait for a service manager that does not read. Not tuned.
const PATIENCE: Duration = Duration::from_secs(5);

/// The descriptors passed to this process, with their names (`unknown` without one), in order;
/// close-on-exec from now on. They are given once: later calls give none, and so do children,
/// since the variables are removed.
///
/// Call it first thing: EBUSY if threads have been started (the environment cannot be changed
/// then), EINVAL if a variable makes no sense or a number is a descriptor of our own making.
pub fn listen_fds() -> Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let Some(count) = passed_to_us()? else { return Ok(Vec::new()) };
    let single = SingleThreaded::check()?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    raw::forget_variables(&single, &VARIABLES);
    let names = names.split(':').filter(|name| !name.is_empty());
    let names = names.map(str::to_owned).chain(std::iter::repeat("unknown".to_owned()));
    (FIRST..).take(count).zip(names).map(|(number, name)| Ok((name, adopt(number)?))).collect()
}

/// How many descriptors the environment says were passed to this very process.
fn passed_to_us() -> Result<Option<usize>> {
    if env::var("LISTEN_PID").ok().as_deref() != Some(&std::process::id().to_string()) {
        return Ok(None);
    }
    let Some(count) = env::var_os("LISTEN_FDS") else { return Ok(None) };
    let parsed = count.to_str().and_then(|text| text.parse().ok()).filter(|&count| count <= MOST);
    match parsed {
        Some(count) => Ok(Some(count)),
        None => Err(Error::new("listen_fds", errno::EINVAL)
            .with_detail(format!("LISTEN_FDS={}", count.to_string_lossy()))),
    }
}

fn adopt(number: RawFd) -> Result<OwnedFd> {
    raw::adopt_inherited(number).map_err(|error| match error.detail() {
        Some(reason) => {
            let text = format!("descriptor {number} {reason}");
            error.with_detail(text)
        }
        None => error.with_detail(format!("descriptor {number}")),
    })
}

/// How often the watchdog wants to hear `WATCHDOG=1`, in microseconds: at least twice in that
/// time. `None` if it is not asked of this process. sd_watchdog_enabled(3)
pub fn watchdog_usec() -> Option<u64> {
    let usec = env::var("WATCHDOG_USEC").ok()?.parse().ok().filter(|&usec| usec > 0)?;
    match env::var("WATCHDOG_PID") {
        Ok(pid) if pid != std::process::id().to_string() => None,
        _ => Some(usec),
    }
}

/// The way to the service manager. sd_notify(3)
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
}

impl Notify {
    /// To the socket that `NOTIFY_SOCKET` names, a path or an abstract name; `None` without the
    /// variable. EINVAL for other kinds of address.
    pub fn from_env() -> Result<Option<Self>> {
        env::var_os("NOTIFY_SOCKET").map(|name| Self::to(&name)).transpose()
    }

    /// To this socket: an absolute path, or an abstract name if it begins with `@`.
    pub fn to(name: &OsStr) -> Result<Self> {
        let told = |error: &std::io::Error| {
            Error::from_io("connect", error).with_detail(name.to_string_lossy())
        };
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(name),
            _ => Err(std::io::Error::from_raw_os_error(errno::EINVAL)),
        };
        let address = address.map_err(|error| told(&error))?;
        let socket = UnixDatagram::unbound().map_err(|error| Error::from_io("socket", &error))?;
        socket.connect_addr(&address).map_err(|error| told(&error))?;
        socket
            .set_write_timeout(Some(PATIENCE))
            .map_err(|error| Error::from_io("setsockopt", &error))?;
        Ok(Self { socket })
    }

    /// Sends one message of `NAME=value` lines, for example `READY=1`. EAGAIN if the service
    /// manager has not read for five seconds.
    pub fn notify(&self, message: &str) -> Result<()> {
        again(|| self.socket.send(message.as_bytes()))
            .map_err(|error| Error::from_io("send", &error).with_detail(message))
    }

    /// Puts descriptors into the descriptor store under a name (no colon, no control character, at
    /// most 255 bytes), from where the next start gets them by [`listen_fds`]. The service must
    /// have `FileDescriptorStoreMax=`, or they are closed without a word.
    pub fn store(&self, name: &str, fds: &[BorrowedFd<'_>]) -> Result<()> {
        if name.is_empty() || name.len() > 255 || name.contains(|c: char| c == ':' || c < ' ') {
            return Err(Error::new("FDSTORE", errno::EINVAL).with_detail(name));
        }
        let message = format!("FDSTORE=1\nFDNAME={name}");
        for part in fds.chunks(MAX_PER_MESSAGE) {
            let numbers: Vec<RawFd> = part.iter().map(AsRawFd::as_raw_fd).collect();
            again(|| self.socket.send_with_fd(message.as_bytes(), &numbers))
                .map_err(|error| Error::from_io("sendmsg", &error).with_detail(name))?;
        }
        Ok(())
    }

    /// Takes descriptors of that name out of the descriptor store.
    pub fn forget(&self, name: &str) -> Result<()> {
        self.notify(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))
    }
}

fn again(send: impl Fn() -> std::io::Result<usize>) -> std::io::Result<()> {
    loop {
        match send() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
            other => return other.map(drop),
        }
    }
}
