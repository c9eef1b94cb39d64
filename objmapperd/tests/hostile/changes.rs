//! Files that change under a body.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use objmapper_proto::{Mode, Reply, Status};

use crate::support::content::content;
use crate::support::daemon::counter;
use crate::town::{a_get, all_is_well, town};

/// The file becomes shorter, longer, or other while its body is half out: END says so, and the
/// stream of frames goes on.
fn changed_meanwhile(mode: Mode, change: fn(&File)) {
    let (daemon, mut neighbour) = town();
    let path = daemon.write("large", &content(32 << 20, 5));
    let file = File::options().write(true).open(path).unwrap();
    let mut peer = daemon.greeted();
    let mut bytes = a_get(&mut peer, mode, "/large");
    bytes.extend(a_get(&mut peer, mode, "/neighbour/small"));
    peer.send(&bytes);
    let frame = peer.frame();
    let Reply::Object(item) = frame.reply() else { panic!("{frame:?}") };
    let announced = item.head.range.length;
    assert_eq!(announced, 32 << 20);
    // The head is here, the rest does not fit into the socket.
    change(&file);
    let (_, end) = peer.body(2, announced);
    assert_eq!(end, Status::Changed);
    assert_eq!(peer.object(3).bytes, content(300, 1));
    assert_eq!(counter(&mut neighbour.client, "transfer.changed"), 1);
    // And in the midst of many.
    let answers = peer.get_many(mode, &["/large", "/neighbour/small"]);
    assert!(answers.iter().all(|answer| answer.end == Status::Ok));
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_file_that_is_truncated_while_it_is_copied() {
    changed_meanwhile(Mode::Copy, |file| file.set_len(1_000_001).unwrap());
}

#[test]
fn a_file_that_is_emptied_while_it_is_spliced() {
    changed_meanwhile(Mode::Splice, |file| file.set_len(0).unwrap());
}

#[test]
fn a_file_that_grows_while_it_is_copied() {
    changed_meanwhile(Mode::Copy, |file| file.set_len(40 << 20).unwrap());
}

#[test]
fn a_file_that_is_overwritten_while_it_is_spliced() {
    changed_meanwhile(Mode::Splice, |file| {
        std::os::unix::fs::FileExt::write_all_at(file, b"other", 31 << 20).unwrap();
    });
}

/// Which cannot be told from a change of its content: both move the same time.
#[test]
fn a_file_whose_mode_is_changed_while_it_is_copied() {
    changed_meanwhile(Mode::Copy, |file| {
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    });
}
