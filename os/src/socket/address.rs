//! A name of a socket as the kernel wants it: a path, or `@` and an abstract name.

use crate::errno;
use crate::error::{Error, Result};
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path, in bytes: `sun_path` has 108 with the nul. unix(7)
pub(super) const MAX_PATH: usize = 107;

/// The abstract name, without the `@`, if it is one.
pub(super) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"@")
}

/// Either kind of name.
pub(super) fn of(path: &Path) -> Result<SocketAddrUnix> {
    let told = |errno: rustix::io::Errno| {
        Error::new("socket address", errno.raw_os_error()).with_detail(path.to_string_lossy())
    };
    match abstract_name(path) {
        Some(name) => SocketAddrUnix::new_abstract_name(name).map_err(told),
        None if path.as_os_str().len() > MAX_PATH => {
            let text = format!("{}: more than {MAX_PATH} bytes", path.display());
            Err(Error::new("socket address", errno::ENAMETOOLONG).with_detail(text))
        }
        None => SocketAddrUnix::new(path).map_err(told),
    }
}

/// The name that the kernel tells, written as [`of`] reads it; `None` for a socket without one.
pub(super) fn to_path(address: SocketAddrAny) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(address).ok()?;
    if let Some(name) = address.abstract_name() {
        let mut text = vec![b'@'];
        text.extend_from_slice(name);
        return Some(PathBuf::from(OsStr::from_bytes(&text)));
    }
    let path = address.path_bytes()?;
    let path = path.split(|&byte| byte == 0).next()?; // the nul may be counted in
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_or_abstract_and_bounded() {
        let abstract_socket = of(Path::new("@objmapper-test")).unwrap();
        assert_eq!(abstract_socket.abstract_name(), Some(&b"objmapper-test"[..]));
        assert!(of(Path::new("./@file")).unwrap().abstract_name().is_none());
        let longest = "x".repeat(MAX_PATH);
        let named = to_path(of(Path::new(&longest)).unwrap().into());
        assert_eq!(named.as_deref(), Some(Path::new(&longest)));
        let error = of(Path::new(&"x".repeat(MAX_PATH + 1))).unwrap_err();
        assert_eq!(error.errno(), errno::ENAMETOOLONG);
    }
}
