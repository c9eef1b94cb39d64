//! Who may use the keyspace: those whom the kernel or the configuration knows, and those who know
//! the password.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use objmapper::{Caller, Rules, Verbs};
use objmapper_os::peer;

use crate::config::Kv;
use crate::session::keys::Trust;

/// The longest password in bytes; as long as an argument of somebody unknown may be, about.
const LONGEST: u64 = 4096;

/// Permissions that let everybody read the file, or change it.
const FOR_ALL: u32 = 0o006;

/// Who is let in.
pub struct Access {
    rules: Rules,
    password: Option<Box<[u8]>>,
    /// Over TCP without a password.
    open: bool,
    /// There is a keyspace that somebody was meant to use.
    served: bool,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        let Self { rules, open, served, .. } = self;
        f.debug_struct("Access")
            .field("rules", rules)
            .field("open", open)
            .field("served", served)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// As the settings say; the password is read now.
    pub fn new(kv: &Kv, served: bool) -> anyhow::Result<Self> {
        let rules = rules(kv);
        let password = kv.password_file.as_deref().map(read).transpose()?;
        Ok(Self { rules, password, open: kv.listen_without_password, served })
    }

    /// What is known of somebody at the socket.
    pub fn of_peer(&self, caller: &Caller) -> Trust {
        let uid = caller.uid();
        Trust { known: self.knows(caller), owner: uid == 0 || uid == peer::own_uid() }
    }

    /// Whether there are keys at all that can be asked for in our own protocol.
    pub const fn is_served(&self) -> bool {
        self.served
    }

    /// Whether the rules let them in.
    pub fn knows(&self, caller: &Caller) -> bool {
        self.rules.allowed(caller.uid(), |gid| caller.is_in_group(gid)) != Verbs::NONE
    }

    /// What is known of somebody who came over TCP: nothing.
    pub const fn of_stranger(&self) -> Trust {
        Trust { known: self.open, owner: false }
    }

    /// Whether there is a password at all.
    pub const fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether this is the password. Takes as long whatever is right of it.
    pub fn is_password(&self, said: &[u8]) -> bool {
        self.password.as_deref().is_some_and(|password| same(password, said))
    }
}

/// Whom the kernel is asked about: the daemon's own user and root, unless somebody was named.
pub fn rules(kv: &Kv) -> Rules {
    if kv.allow.is_empty() { Rules::owner_only() } else { Rules::new(kv.allow.clone()) }
}

/// The first line of the file.
fn read(path: &Path) -> anyhow::Result<Box<[u8]>> {
    let shown = path.display();
    let told = || format!("cannot read {shown} (kv.password_file)");
    let file = fs::File::open(path).with_context(told)?;
    let mode = file.metadata().with_context(told)?.mode();
    anyhow::ensure!(
        mode & FOR_ALL == 0,
        "{shown} (kv.password_file) is open to every user of this machine, its mode is {:04o}: \
         chmod 0600 {shown}",
        mode & 0o7777
    );
    let mut text = Vec::new();
    file.take(LONGEST + 2).read_to_end(&mut text).with_context(told)?;
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    anyhow::ensure!(!line.is_empty(), "{shown} (kv.password_file): its first line is empty");
    anyhow::ensure!(
        line.len() as u64 <= LONGEST,
        "{shown} (kv.password_file): its first line is longer than {LONGEST} bytes"
    );
    Ok(line.into())
}

/// Compares in a time that depends on the length of what was said alone.
fn same(password: &[u8], said: &[u8]) -> bool {
    let mut differ = usize::from(password.len() != said.len());
    for (at, &byte) in said.iter().enumerate() {
        // Round and round, so that its length does not show either.
        let known = password.get(at % password.len().max(1)).copied().unwrap_or(0);
        differ |= usize::from(std::hint::black_box(known ^ byte));
    }
    std::hint::black_box(differ) == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // fails its test
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn equal_is_equal_in_every_byte() {
        assert!(same(b"secret", b"secret"));
        for wrong in [&b""[..], b"s", b"secre", b"secret ", b"secretsecret", b"Secret", b"secreT"] {
            assert!(!same(b"secret", wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_password_is_the_first_line_of_a_file_that_is_not_open_to_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let put = |text: &[u8], mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(put(b"secret\r\nmore\n", 0o600).unwrap().as_ref(), b"secret");
        assert_eq!(put(b"\xff x", 0o440).unwrap().as_ref(), b"\xff x");
        assert!(put(b"secret\n", 0o604).unwrap_err().contains("chmod 0600"));
        assert!(put(b"\nsecret", 0o600).unwrap_err().contains("its first line is empty"));
        assert!(put(&[b'x'; 5000], 0o600).unwrap_err().contains("longer than 4096"));
        fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("kv.password_file"));
    }
}
