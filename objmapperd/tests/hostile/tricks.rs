//! Names that lead to what is no file, and mounts that change under a request.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use objmapper_proto::{Mode, Range, Status};

use crate::support::{skip, until};
use crate::town::{all_is_well, town};

/// Makes a FIFO. mkfifo(1)
fn fifo(path: &std::path::Path) -> bool {
    Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success())
}

#[test]
fn a_fifo_that_nobody_writes_to() {
    let (daemon, mut neighbour) = town();
    if !fifo(&daemon.path("fifo")) {
        return skip("mkfifo(1) is needed");
    }
    let mut peer = daemon.greeted();
    for mode in Mode::ALL {
        // Opening it would wait for a writer, for ever.
        assert_eq!(peer.get(mode, b"/fifo", Range::ALL).status(), Status::NotRegular, "{mode}");
        let answers = peer.get_many(mode, &["/fifo", "/neighbour/small", "/fifo"]);
        let statuses: Vec<Status> =
            answers.iter().map(crate::support::peer::Answer::status).collect();
        assert_eq!(statuses, [Status::NotRegular, Status::Ok, Status::NotRegular]);
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_fifo_whose_writer_waits_for_a_reader() {
    let (daemon, mut neighbour) = town();
    let path = daemon.path("fifo");
    if !fifo(&path) {
        return skip("mkfifo(1) is needed");
    }
    // It waits in open(2) until somebody opens the other end.
    let mut writer = Command::new("sh").arg("-c").arg("exec 3>\"$0\"").arg(&path).spawn().unwrap();
    let mut peer = daemon.greeted();
    // (That it was looked at lets the writer go on; it finds nobody there.)
    until("the writer has ended", || {
        let status = peer.get(Mode::Fdpass, b"/fifo", Range::ALL).status();
        assert_eq!(status, Status::NotRegular);
        writer.try_wait().unwrap().is_some()
    });
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_socket_among_the_files() {
    let (daemon, mut neighbour) = town();
    let _listener = UnixListener::bind(daemon.path("socket")).unwrap();
    let mut peer = daemon.greeted();
    for mode in Mode::ALL {
        assert_eq!(peer.get(mode, b"/socket", Range::ALL).status(), Status::NotRegular, "{mode}");
    }
    drop(peer);
    all_is_well(&daemon, &mut neighbour);
}

#[test]
fn a_name_that_is_a_file_and_a_fifo_in_turn() {
    let (daemon, mut neighbour) = town();
    if !fifo(&daemon.path("fifo")) {
        return skip("mkfifo(1) is needed");
    }
    daemon.write("file", b"a file");
    let (one, other, name) = (daemon.path("file"), daemon.path("fifo"), daemon.path("name"));
    std::fs::hard_link(&one, &name).unwrap();
    let asking = AtomicBool::new(true);
    let answers = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut peer = daemon.greeted();
            let answers = (0..500).map(|round| {
                peer.get(Mode::ALL[round % Mode::ALL.len()], b"/name", Range::ALL).status()
            });
            let answers: Vec<Status> = answers.collect();
            asking.store(false, Ordering::Relaxed);
            answers
        });
        let aside = daemon.path("aside");
        let mut swaps = 0;
        while asking.load(Ordering::Relaxed) && !client.is_finished() {
            let target = if swaps % 2 == 0 { &other } else { &one };
            std::fs::hard_link(target, &aside).unwrap();
            std::fs::rename(&aside, &name).unwrap();
            swaps += 1;
        }
        client.join().unwrap()
    });
    let fine =
        |status: &Status| matches!(status, Status::Ok | Status::NotRegular | Status::Changed);
    assert!(answers.iter().all(fine), "{answers:?}");
    all_is_well(&daemon, &mut neighbour);
}
