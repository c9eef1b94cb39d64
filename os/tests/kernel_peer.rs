//! Who the kernel says is at the other end.

mod common;

use common::{Balance, CHILD, assert_passed, child, directory, in_a_namespace, pair, skip};
use objmapper_os::peer::{Peer, own_groups, own_uid};
use objmapper_os::socket::{BindOptions, Listener, Stream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Nobody's numbers.
const SOME_USER: u32 = 64_001;
const SOME_GROUP: u32 = 64_002;

#[test]
fn the_peer_of_a_pair_is_oneself() {
    let _balance = Balance::new();
    let (one, _other) = pair();
    let peer = Peer::of(&one).unwrap();
    assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
    assert_eq!(peer.uid, own_uid());
    let (gid, mut groups) = own_groups().unwrap();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!((peer.gid, &peer.groups), (gid, &groups));
    assert!(peer.is_in_group(gid));
}

#[test]
fn the_peer_is_who_connected_even_when_it_has_gone() {
    let _balance = Balance::new();
    if let Some(path) = std::env::var_os(CHILD) {
        let server = Stream::connect(Path::new(&path), None).unwrap();
        assert_ne!(Peer::of(&server).unwrap().uid, SOME_USER, "the listener's, not ours");
        return;
    }
    let directory = directory();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), everybody).unwrap();
    let path = directory.path().join("s");
    let options = BindOptions { mode: 0o666, ..BindOptions::default() };
    let listener = Listener::bind(&path, options).unwrap();
    let mut client = child(&[], "the_peer_is_who_connected_even_when_it_has_gone", &path);
    match client.uid(SOME_USER).gid(SOME_GROUP).output() {
        Ok(output) => assert_passed(&output),
        Err(error) => return skip(&format!("not as another user: {error}")),
    }
    let peer = Peer::of(&listener.accept().unwrap()).unwrap();
    assert!(peer.pid.is_some_and(|pid| pid != std::process::id().cast_signed()));
    assert_eq!((peer.uid, peer.gid), (SOME_USER, SOME_GROUP));
    assert!(peer.groups.is_empty() && peer.is_in_group(SOME_GROUP) && !peer.is_in_group(0));
}

#[test]
fn a_peer_may_have_very_many_groups() {
    let _balance = Balance::new();
    let many: Vec<u32> = (SOME_GROUP..SOME_GROUP + 1000).collect();
    if std::env::var_os(CHILD).is_some() {
        let groups: Vec<_> = many.iter().map(|&gid| nix::unistd::Gid::from_raw(gid)).collect();
        nix::unistd::setgroups(&groups).unwrap();
        let peer = Peer::of(&pair().0).unwrap();
        assert!(peer.groups == many && peer.is_in_group(SOME_GROUP + 999));
        return;
    }
    if own_uid() != 0 {
        return skip("only root may take on groups");
    }
    let output = child(&[], "a_peer_may_have_very_many_groups", Path::new("-")).output().unwrap();
    assert_passed(&output);
}

/// So no rule that names a user may match this number.
#[test]
fn a_peer_that_our_namespace_lacks_is_user_65534_and_has_no_number() {
    const OVERFLOW: u32 = 65_534;
    let test = "a_peer_that_our_namespace_lacks_is_user_65534_and_has_no_number";
    if let Some(path) = std::env::var_os(CHILD) {
        let path = Path::new(&path);
        if own_uid() == SOME_USER {
            Stream::connect(path, None).unwrap();
            return;
        }
        let options = BindOptions { mode: 0o666, ..BindOptions::default() };
        let listener = Listener::bind(path, options).unwrap();
        let next = || loop {
            match listener.accept() {
                Ok(stream) => return Peer::of(&stream).unwrap(),
                Err(error) => assert!(error.is_would_block(), "{error}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!((next().pid, own_uid()), (None, 0), "whoever mapped us in");
        let stranger = next();
        assert_eq!((stranger.pid, stranger.uid, stranger.gid), (None, OVERFLOW, OVERFLOW));
        return;
    }
    let _balance = Balance::new();
    let Some(before) = in_a_namespace("--fork") else { return };
    let directory = directory();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), everybody).unwrap();
    let path = directory.path().join("s");
    let before = [&before[..], &["--pid"]].concat();
    let mut server = child(&before, test, &path);
    server.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut server = server.spawn().unwrap();
    while Stream::connect(&path, None).is_err() {
        assert!(server.try_wait().unwrap().is_none(), "it has ended without listening");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    match child(&[], test, &path).uid(SOME_USER).gid(SOME_GROUP).output() {
        Ok(output) => {
            assert_passed(&output);
            assert_passed(&server.wait_with_output().unwrap());
        }
        Err(error) => {
            // Nobody else will come.
            server.kill().unwrap();
            server.wait().unwrap();
            skip(&format!("not as another user: {error}"));
        }
    }
}
