//! Listening, connecting, closing: what Unix stream sockets do.

mod common;

use common::{Balance, directory, null, pair, queue, skip, times};
use objmapper_os::clock::monotonic_ns;
use objmapper_os::errno;
use objmapper_os::peer::own_uid;
use objmapper_os::socket::{BindOptions, Listener, Stream, refuse_descriptors};
use rustix::net::sockopt::set_socket_linger;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

fn listen(path: &Path) -> objmapper_os::Result<Listener> {
    Listener::bind(path, BindOptions::default())
}

/// A socket file on which nobody listens any more.
#[allow(clippy::unwrap_used)] // fails its test
fn dead_socket(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
}

#[test]
fn a_path_appears_with_its_mode_and_leaves_with_its_listener() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let options = BindOptions { mode: 0o620, group: Some(0), ..BindOptions::default() };
    let group_is_ours = own_uid() == 0;
    let options = if group_is_ours { options } else { BindOptions { group: None, ..options } };
    let listener = Listener::bind(&path, options).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o620);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing beside it");
    let client = Stream::connect(&path, None).unwrap();
    let server = listener.accept().unwrap();
    client.send(b"hello", &[], false).unwrap();
    assert_eq!(server.recv_bytes(&mut [0; 8]).unwrap(), 5);
    assert!(listener.accept().unwrap_err().is_would_block());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_dead_socket_is_replaced() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    dead_socket(&path);
    let before = path.metadata().unwrap().ino();
    let listener = listen(&path).unwrap();
    assert_ne!(path.metadata().unwrap().ino(), before);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    Stream::connect(&path, None).unwrap();
    drop(listener);
}

#[test]
fn a_live_socket_is_never_replaced() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let first = listen(&path).unwrap();
    let error = listen(&path).unwrap_err();
    assert_eq!(error.errno(), errno::EADDRINUSE);
    assert!(error.to_string().contains("another process is listening here"), "{error}");
    Stream::connect(&path, None).unwrap();
    first.accept().unwrap();
    assert!(first.accept().is_ok(), "the probe of the second");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn another_kind_of_file_is_never_replaced() {
    let _balance = Balance::new();
    let directory = directory();
    let path = common::file(&directory, "s", b"precious");
    assert_eq!(listen(&path).unwrap_err().errno(), errno::ENOTSOCK);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert_eq!(listen(&link).unwrap_err().errno(), errno::ENOTSOCK);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_path_that_is_another_socket_by_now_is_left_alone() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let first = listen(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = listen(&path).unwrap();
    drop(first);
    Stream::connect(&path, None).unwrap();
    drop(second);
    assert!(!path.exists());

    let mut handed_over = listen(&path).unwrap();
    handed_over.keep_path();
    drop(handed_over);
    assert!(path.metadata().unwrap().file_type().is_socket());
}

#[test]
fn of_two_that_start_at_the_same_time_one_wins() {
    let _balance = Balance::new();
    for round in 0..200 {
        let directory = directory();
        let path = directory.path().join("s");
        if round % 2 == 0 {
            dead_socket(&path);
        }
        let barrier = std::sync::Barrier::new(8);
        let started: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                listen(&path)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners = started.iter().filter(|listener| listener.is_ok()).count();
        assert_eq!(winners, 1, "round {round}: {started:?}");
        for error in started.iter().filter_map(|listener| listener.as_ref().err()) {
            assert_eq!(error.errno(), errno::EADDRINUSE, "{error}");
        }
        Stream::connect(&path, None).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn who_holds_the_directorys_lock_stops_nobody() {
    let _balance = Balance::new();
    let directory = directory();
    let lock = std::fs::File::open(directory.path()).unwrap();
    lock.lock().unwrap();
    let path = directory.path().join("s");
    dead_socket(&path);
    let listener = listen(&path).unwrap();
    Stream::connect(&path, None).unwrap();
    drop(listener);
}

#[test]
fn a_path_of_107_bytes_is_the_longest() {
    let _balance = Balance::new();
    let directory = directory();
    let room = 107 - directory.path().as_os_str().len() - 1;
    let path = directory.path().join("s".repeat(room));
    let listener = listen(&path).unwrap();
    Stream::connect(&path, None).unwrap();
    listener.accept().unwrap();
    let path = directory.path().join("s".repeat(room + 1));
    assert_eq!(listen(&path).unwrap_err().errno(), errno::ENAMETOOLONG);
    assert_eq!(Stream::connect(&path, None).unwrap_err().errno(), errno::ENAMETOOLONG);
}

#[test]
fn abstract_names_need_no_file() {
    let _balance = Balance::new();
    let name = format!("@objmapper-test-{}", std::process::id());
    let name = Path::new(&name);
    let listener = listen(name).unwrap();
    assert_eq!(listen(name).unwrap_err().errno(), errno::EADDRINUSE);
    Stream::connect(name, None).unwrap();
    listener.accept().unwrap();
    let again = Listener::from_fd(listener.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(again.path(), Some(name));
}

#[test]
fn an_inherited_listener_is_examined() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let why = |fd: OwnedFd| Listener::from_fd(fd).unwrap_err().detail().unwrap().to_owned();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(why(tcp.into()), "not a Unix socket");
    assert_eq!(why(Stream::pair().unwrap().0.into_fd()), "not listening");
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert_eq!(why(datagram.into()), "not a stream socket");
    assert!(Listener::from_fd(null()).is_err());

    let made = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::from_fd(made.into()).unwrap();
    assert!(listener.accept().unwrap_err().is_would_block(), "non-blocking from now on");
    assert_eq!(listener.path(), Some(path.as_path()));
    drop(listener);
    assert!(path.exists(), "whoever made the path removes it");
}

#[test]
fn accepted_sockets_inherit_passrights_off() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listen(&path).unwrap();
    let early = Stream::connect(&path, None).unwrap();
    if !refuse_descriptors(listener.as_fd()).unwrap() {
        return skip("this kernel has no SO_PASSRIGHTS");
    }
    let late = Stream::connect(&path, None).unwrap();
    let fd = null();
    // Even before it is accepted: the setting is the listener's at the time of connect(2).
    let error = late.send(b"x", &times(&fd, 1), false).unwrap_err();
    assert_eq!(error.errno(), errno::EPERM);
    early.send(b"x", &times(&fd, 1), false).expect("it connected before");
    let (one, other) = (listener.accept().unwrap(), listener.accept().unwrap());
    assert_eq!(one.recv(&mut [0; 8], &mut queue()).unwrap().fds, 1);
    assert_eq!(late.send(b"x", &times(&fd, 1), false).unwrap_err().errno(), errno::EPERM);
    other.send(b"x", &times(&fd, 1), false).expect("replies may carry descriptors");
    assert_eq!(late.recv(&mut [0; 8], &mut queue()).unwrap().fds, 1);
}

#[test]
fn a_full_backlog_makes_connect_wait_until_its_timeout() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let options = BindOptions { backlog: 0, ..BindOptions::default() };
    let listener = Listener::bind(&path, options).unwrap();
    let _first = Stream::connect(&path, None).unwrap(); // a backlog of 0 has room for one
    let (limit, before) = (Duration::from_millis(50), monotonic_ns());
    let error = Stream::connect(&path, Some(limit)).unwrap_err();
    assert_eq!(error.errno(), errno::ETIMEDOUT, "{error}");
    assert!(monotonic_ns() - before >= 40_000_000, "timers may be a tick early");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| Stream::connect(&path, Some(Duration::from_secs(20))));
        listener.accept().unwrap();
        waits.join().unwrap().expect("there is room now");
    });
    let error = listen(&path).unwrap_err();
    assert_eq!(error.errno(), errno::EADDRINUSE, "a full backlog is alive: {error}");
}

#[test]
fn connecting_says_what_is_missing() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("s");
    let error = Stream::connect(&path, None).unwrap_err();
    assert!(error.is_not_found());
    assert!(error.to_string().contains("/s\"): No such file or directory (ENOENT)"), "{error}");
    dead_socket(&path);
    assert_eq!(Stream::connect(&path, None).unwrap_err().errno(), errno::ECONNREFUSED);
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for other in [&file, directory.path()] {
        assert_eq!(Stream::connect(other, None).unwrap_err().errno(), errno::ENOTSOCK);
    }
}

#[test]
fn siocoutq_is_zero_when_the_peer_has_read() {
    let _balance = Balance::new();
    let (one, other) = pair();
    assert_eq!(one.unread().unwrap(), 0);
    let fd = null();
    one.send(b"abc", &times(&fd, 2), false).unwrap();
    assert!(one.unread().unwrap() >= 3);
    let mut fds = queue();
    other.recv(&mut [0; 1], &mut fds).unwrap();
    assert_eq!(fds.len(), 2);
    assert!(one.unread().unwrap() > 0, "two bytes are left");
    other.recv(&mut [0; 8], &mut fds).unwrap();
    assert_eq!(one.unread().unwrap(), 0);
}

#[test]
fn a_half_close_is_no_hang_up() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.send(b"last", &[], false).unwrap();
    one.shutdown_write().unwrap();
    assert!(!other.has_hung_up().unwrap());
    let mut buf = [0; 8];
    assert_eq!(other.recv_bytes(&mut buf).unwrap(), 4);
    assert_eq!(other.recv_bytes(&mut buf).unwrap(), 0);
    other.send(b"answer", &[], false).unwrap();
    assert_eq!(one.recv_bytes(&mut buf).unwrap(), 6);
    drop(one);
    assert!(other.has_hung_up().unwrap());
}

#[test]
fn what_was_sent_before_a_close_can_still_be_read() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    one.send(b"abc", &times(&fd, 1), false).unwrap();
    drop(one);
    assert!(other.has_hung_up().unwrap());
    let received = other.recv(&mut [0; 8], &mut queue()).unwrap();
    assert_eq!((received.bytes, received.fds), (3, 1));
    assert_eq!(other.recv(&mut [0; 8], &mut queue()).unwrap().bytes, 0);
}

#[test]
fn closing_with_unread_bytes_is_a_reset_for_the_peer() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.send(b"never read", &[], false).unwrap();
    drop(other);
    let error = one.recv_bytes(&mut [0; 8]).unwrap_err();
    assert_eq!(error.errno(), errno::ECONNRESET);
    assert!(error.is_disconnected());
}

#[test]
fn sending_to_a_peer_that_has_gone_is_epipe_without_a_signal() {
    let _balance = Balance::new();
    let (one, other) = pair();
    drop(other);
    let fd = null();
    // With SIGPIPE blocked in this thread, one that was made would be found waiting.
    let mut sigpipe = nix::sys::signal::SigSet::empty();
    sigpipe.add(nix::sys::signal::Signal::SIGPIPE);
    sigpipe.thread_block().unwrap();
    assert_eq!(one.send(b"x", &[], false).unwrap_err().errno(), errno::EPIPE);
    assert_eq!(one.send(b"x", &times(&fd, 1), true).unwrap_err().errno(), errno::EPIPE);
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
    assert_eq!(u64::from_str_radix(pending.trim(), 16).unwrap(), 0, "no signal waits");
}

#[test]
fn msg_more_holds_nothing_back() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.send(b"head", &[], true).unwrap();
    assert_eq!(other.recv_bytes(&mut [0; 8]).unwrap(), 4);
}

#[test]
fn a_send_buffer_can_shrink_again() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.set_nonblocking(true).unwrap();
    let fits = |stream: &Stream| {
        let mut sent = 0;
        while let Ok(n) = stream.send(&[0; 4096], &[], false) {
            sent += n;
        }
        let mut room = vec![0; sent];
        let mut read = 0;
        while read < sent {
            read += other.recv_bytes(&mut room).unwrap();
        }
        sent
    };
    one.grow_send_buffer(100_000).unwrap();
    let before = fits(&one);
    one.shrink_send_buffer(8_000).unwrap();
    let after = fits(&one);
    assert!(after < before / 2, "{after} of {before}");
    one.shrink_send_buffer(1 << 20).unwrap();
    assert_eq!(fits(&one), after, "it only shrinks");
}

#[test]
fn the_send_buffer_bounds_what_is_under_way() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.set_nonblocking(true).unwrap();
    let fill = || {
        let (mut total, chunk) = (0, [0; 4096]);
        while let Ok(bytes) = one.send(&chunk, &[], false) {
            total += bytes;
        }
        let mut buf = vec![0; 1 << 20];
        while other.recv_bytes(&mut buf).is_ok() {}
        total
    };
    let before = fill();
    let achieved = one.grow_send_buffer(1 << 20).unwrap();
    let after = fill();
    if achieved < 2 << 20 {
        return skip("net.core.wmem_max is small and may not be overstepped");
    }
    assert!(after > before * 2, "{before} {after}");
    assert_eq!(one.grow_send_buffer(1 << 10).unwrap(), achieved, "it never shrinks");
    other.grow_recv_buffer(4 << 20).unwrap();
    assert!(fill() < after * 2, "the receive buffer has no say");
}

/// Of a socket that a client sent it may be the last reference that is closed.
#[test]
fn closing_a_socket_that_lingers_waits_for_its_peer() {
    let _balance = Balance::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    set_socket_linger(&ours, Some(Duration::from_mins(1))).unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[7; 1 << 12]).is_ok() {}
    let (tell, told) = std::sync::mpsc::channel();
    let closing = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        drop(ours);
    });
    // The call that it is in, for as long as it sleeps there. proc_pid_syscall(5)
    let path = format!("/proc/self/task/{}/syscall", told.recv().unwrap());
    let in_close = libc::SYS_close.to_string();
    let mut seen = false;
    while !seen && !closing.is_finished() {
        match std::fs::read_to_string(&path) {
            Ok(call) => seen = call.split(' ').next() == Some(&in_close),
            Err(error) => return skip(&format!("{path}: {error}")),
        }
    }
    assert!(seen, "close has returned although bytes are unread");
    let mut buf = vec![0; 1 << 20];
    while theirs.read(&mut buf).unwrap() > 0 {}
    closing.join().unwrap();
}

#[test]
fn a_read_timeout_ends_a_blocking_receive() {
    let _balance = Balance::new();
    let (one, _other) = Stream::pair().unwrap();
    one.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(one.recv(&mut [0; 8], &mut queue()).unwrap_err().is_would_block());
    assert!(one.recv_bytes(&mut [0; 8]).unwrap_err().is_would_block());
    assert_eq!(one.set_read_timeout(Some(Duration::ZERO)).unwrap_err().errno(), errno::EINVAL);
    one.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    let chunk = [0; 4096];
    let error = loop {
        if let Err(error) = one.send(&chunk, &[], false) {
            break error;
        }
    };
    assert!(error.is_would_block());
}

#[test]
fn a_stream_from_elsewhere_is_examined() {
    let _balance = Balance::new();
    let why = |fd: OwnedFd| Stream::from_fd(fd).unwrap_err().detail().map(str::to_owned);
    assert_eq!(
        why(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).as_deref(),
        Some("not a Unix socket")
    );
    let (datagram, _peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert_eq!(why(datagram.into()).as_deref(), Some("not a stream socket"));
    let directory = directory();
    let listener = listen(&directory.path().join("s")).unwrap();
    let listening = listener.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(why(listening).as_deref(), Some("not connected"));
    assert!(why(null()).is_none());
}

#[test]
fn there_is_room_while_a_quarter_of_the_buffer_waits_at_most() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.shrink_send_buffer(64 * 1024).unwrap();
    one.set_nonblocking(true).unwrap();
    let room = || one.readiness().unwrap().room;
    assert!(room());
    while room() {
        one.send(&[7; 4096], &[], false).unwrap();
    }
    let unread = one.unread().unwrap();
    assert!((32 * 1024..64 * 1024).contains(&unread), "{unread} of 128 KiB, told in pieces");
    assert!(one.send(&[7; 4096], &[], false).is_ok(), "and yet it takes more");
    while !room() {
        other.recv_bytes(&mut [0; 4096]).unwrap();
    }
    assert!(one.unread().unwrap() > 0, "long before all of it was read");
    while room() {
        one.send(&[7; 4096], &[], false).unwrap();
    }
    other.shutdown().unwrap();
    drop(other);
    assert!(room(), "who has gone is not waited for");
}

#[test]
fn input_is_bytes_or_the_end() {
    let _balance = Balance::new();
    let (one, other) = pair();
    assert!(!one.has_input().unwrap());
    other.send(b"x", &[], false).unwrap();
    assert!(one.has_input().unwrap());
    one.recv_bytes(&mut [0; 8]).unwrap();
    assert!(!one.has_input().unwrap());
    other.shutdown_write().unwrap();
    assert!(one.has_input().unwrap());
}
