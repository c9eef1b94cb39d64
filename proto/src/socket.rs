//! Where daemon and clients meet unless somebody says otherwise: the names in section 1 of
//! `PROTOCOL.md`. Nothing here looks anything up.

/// The environment variable that holds the socket's path, or `@` and an abstract name.
pub const VARIABLE: &str = "OBJMAPPER_SOCKET";

/// The socket of the system's daemon.
pub const SYSTEM: &str = "/run/objmapper/objmapper.sock";

/// The socket of a user's own daemon, in the directory that `XDG_RUNTIME_DIR` names.
pub const IN_RUNTIME_DIR: &str = "objmapper.sock";
