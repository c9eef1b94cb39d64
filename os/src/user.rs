//! Names of users and groups, as configuration files write them.
//!
//! Looked up through the C library, so that every source the system knows (files, LDAP, ...) is
//! asked; it may block and is for start and reload only. See getpwnam(3), getgrnam(3).

use crate::error::{Error, Result};
use nix::unistd::{Group, User};

/// The number of a user by name; a decimal number stands for itself, whether or not such a user
/// exists. `Ok(None)` if there is no user of that name.
pub fn uid_by_name(name: &str) -> Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let user = User::from_name(name)
        .map_err(|errno| Error::from_nix("getpwnam_r")(errno).with_detail(name))?;
    Ok(user.map(|user| user.uid.as_raw()))
}

/// The number of a group by name; a decimal number stands for itself, whether or not such a group
/// exists. `Ok(None)` if there is no group of that name.
pub fn gid_by_name(name: &str) -> Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let group = Group::from_name(name)
        .map_err(|errno| Error::from_nix("getgrnam_r")(errno).with_detail(name))?;
    Ok(group.map(|group| group.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(uid_by_name("root").unwrap(), Some(0));
        assert_eq!(gid_by_name("root").unwrap(), Some(0));
        assert_eq!(uid_by_name("4711").unwrap(), Some(4711));
        assert_eq!(gid_by_name("no such group").unwrap(), None);
        assert_eq!(uid_by_name("-1").unwrap(), None);
    }
}
