//! What happens where descriptors run out: in this process, and under way for one user.

mod common;

use common::{Balance, CHILD, assert_passed, child, directory, null, pair, queue, skip, times};
use objmapper_os::errno;
use objmapper_os::fds::MAX_PER_MESSAGE;
use objmapper_os::limits::{ReserveFd, nofile};
use objmapper_os::socket::{BindOptions, Listener, Received, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Lowers the soft limit on descriptors and takes all but `free` of them, until dropped.
struct Shortage {
    before: (u64, u64),
    taken: Vec<OwnedFd>,
}

impl Shortage {
    #[allow(clippy::unwrap_used)] // fails its test
    fn leaving(free: usize) -> Self {
        let mut shortage = Self { before: nofile().unwrap(), taken: Vec::new() };
        set_soft_limit(256);
        while let Ok(file) = File::open("/dev/null") {
            shortage.taken.push(file.into());
        }
        shortage.taken.truncate(shortage.taken.len() - free);
        shortage
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        set_soft_limit(self.before.0);
    }
}

#[allow(clippy::unwrap_used)] // fails its test
fn set_soft_limit(soft: u64) {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_NOFILE, soft, nofile().unwrap().1).unwrap();
}

#[test]
fn a_receiver_at_its_limit_gets_fewer_and_is_told() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let (fd, mut fds) = (null(), queue());
    one.send(b"abc", &times(&fd, 5), false).unwrap();
    let shortage = Shortage::leaving(2);
    let received = other.recv(&mut [0; 8], &mut fds);
    drop(shortage);
    assert_eq!(received.unwrap(), Received { bytes: 3, fds: 2, cut: true });
}

#[test]
fn emfile_at_accept_leaves_the_listener_readable() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let listener = Listener::bind(&path, BindOptions::default()).unwrap();
    let mut reserve = ReserveFd::new().unwrap();
    let client = Stream::connect(&path, None).unwrap();

    let shortage = Shortage::leaving(0);
    let refused = listener.accept().map(drop);
    let mut asked = [PollFd::new(&listener, PollFlags::IN)];
    let ready = poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    let accepted = reserve.release_and(|| listener.accept().map(drop));
    let again = listener.accept().map(drop);
    drop(shortage);

    let error = refused.unwrap_err();
    assert!(error.errno() == errno::EMFILE && error.is_resource(), "{error}");
    assert_eq!(ready, Ok(1));
    accepted.expect("the reserve made room");
    assert!(reserve.is_held());
    assert!(client.has_hung_up().unwrap(), "the client is told at once");
    // The number is taken before the kernel looks whether anybody waits: not EAGAIN.
    assert_eq!(again.unwrap_err().errno(), errno::EMFILE);
    assert!(listener.accept().unwrap_err().is_would_block());
}

#[test]
fn descriptors_under_way_are_counted_per_user() {
    const SOME_USER: u32 = 64_001; // that nobody else is, so that the count is ours alone
    let _balance = Balance::new();
    if std::env::var_os(CHILD).is_some() {
        return send_until_there_are_too_many();
    }
    let mut child = child(&[], "descriptors_under_way_are_counted_per_user", Path::new("-"));
    match child.uid(SOME_USER).gid(SOME_USER).output() {
        Ok(output) => assert_passed(&output),
        Err(error) => skip(&format!("not as another user: {error}")),
    }
}

#[allow(clippy::unwrap_used)] // fails its test
fn send_until_there_are_too_many() {
    set_soft_limit(64);
    let ((one, one_end), (two, two_end)) = (pair(), pair());
    let fd = null();
    one.send(b"x", &times(&fd, MAX_PER_MESSAGE), false).unwrap();
    // Another connection, but the same user: it pays for a peer that does not read.
    let error = two.send(b"x", &times(&fd, 1), false).unwrap_err();
    assert!(error.errno() == errno::ETOOMANYREFS && error.is_resource(), "{error}");
    two.send(b"bytes go on", &[], false).unwrap();
    // Receiving them ends it, even if this process cannot have them all.
    let received = one_end.recv(&mut [0; 8], &mut queue()).unwrap();
    assert!(received.cut && received.fds < 64);
    two.send(b"x", &times(&fd, MAX_PER_MESSAGE), false).unwrap();
    assert_eq!(one.send(b"x", &times(&fd, 1), false).unwrap_err().errno(), errno::ETOOMANYREFS);
    // So does the end of the connection.
    drop(two_end);
    one.send(b"x", &times(&fd, 1), false).unwrap();
}
