//! The error numbers that callers match on, so that no other crate needs `libc`.
//!
//! Linux numbers of the target; compare them with [`crate::Error::errno`]. See errno(3).

pub use libc::{
    EACCES, EADDRINUSE, EAGAIN, EBADF, EBUSY, ECANCELED, ECONNREFUSED, ECONNRESET, EDQUOT, EEXIST,
    EFBIG, EINTR, EINVAL, EIO, EISDIR, ELOOP, EMFILE, EMSGSIZE, ENAMETOOLONG, ENFILE, ENOBUFS,
    ENODEV, ENOENT, ENOMEM, ENOPROTOOPT, ENOSPC, ENOSYS, ENOTCONN, ENOTDIR, ENOTSOCK, ENXIO,
    EOPNOTSUPP, EPERM, EPIPE, EROFS, ESTALE, ETIMEDOUT, ETOOMANYREFS, EXDEV,
};
