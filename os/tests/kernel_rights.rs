//! Descriptors in messages: what Linux does with them, as objmapper leans on it.

mod common;

use common::{Balance, directory, file, null, pair, queue, skip, times};
use objmapper_os::errno;
use objmapper_os::fds::{FdQueue, MAX_PER_MESSAGE};
use objmapper_os::file::read_at;
use objmapper_os::socket::{Received, Stream, admit_descriptors, refuse_descriptors};
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, fcntl_setfl, flock};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::sockopt::{set_socket_passcred, socket_passcred};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

#[test]
fn fds_come_with_the_first_byte() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    one.send(b"abc", &times(&fd, 2), false).unwrap();
    let (mut fds, mut byte) = (queue(), [0; 1]);
    let first = other.recv(&mut byte, &mut fds).unwrap();
    assert_eq!(first, Received { bytes: 1, fds: 2, cut: false });
    let second = other.recv(&mut byte, &mut fds).unwrap();
    assert_eq!(second, Received { bytes: 1, fds: 0, cut: false });
}

#[test]
fn a_partial_send_has_sent_all_descriptors() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.set_nonblocking(true).unwrap();
    let (fd, bytes) = (null(), vec![7; 4 << 20]);
    let sent = one.send(&bytes, &times(&fd, 3), false).unwrap();
    assert!(sent > 0 && sent < bytes.len(), "{sent}");
    let (mut fds, mut buf, mut total) = (queue(), vec![0; 1 << 16], 0);
    while let Ok(received) = other.recv(&mut buf, &mut fds) {
        total += received.bytes;
    }
    assert_eq!((total, fds.len()), (sent, 3));
}

#[test]
fn at_most_253_descriptors_per_message() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    assert_eq!(one.send(b"x", &times(&fd, MAX_PER_MESSAGE), false).unwrap(), 1);
    let (mut fds, mut buf) = (queue(), [0; 8]);
    let received = other.recv(&mut buf, &mut fds).unwrap();
    assert_eq!(received, Received { bytes: 1, fds: MAX_PER_MESSAGE, cut: false });

    let error = one.send(b"x", &times(&fd, MAX_PER_MESSAGE + 1), false).unwrap_err();
    assert_eq!(error.errno(), errno::EINVAL);
    assert!(error.detail().unwrap().starts_with("254 descriptors"));
    // The limit is the kernel's, not only ours.
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(254))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut room);
    let rights = times(&fd, MAX_PER_MESSAGE + 1);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&rights)));
    let bytes = [std::io::IoSlice::new(b"x")];
    let flags = rustix::net::SendFlags::NOSIGNAL;
    let answer = rustix::net::sendmsg(&one, &bytes, &mut control, flags);
    assert_eq!(answer, Err(rustix::io::Errno::INVAL));
}

#[test]
fn descriptors_without_a_byte_would_vanish() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    assert_eq!(one.send(b"", &times(&fd, 1), false).unwrap_err().errno(), errno::EINVAL);
    assert!(other.recv(&mut [0; 8], &mut queue()).unwrap_err().is_would_block());
}

#[test]
fn sendmsg_with_rights_honours_nonblocking() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.set_nonblocking(true).unwrap();
    let fd = null();
    let mut messages = 0;
    let error = loop {
        match one.send(b"x", &times(&fd, 1), false) {
            Ok(_) => messages += 1,
            Err(error) => break error,
        }
        assert!(messages < 1_000_000);
    };
    assert!(error.is_would_block(), "{error}");
    assert!(messages > 16, "{messages}");
    let (mut fds, mut arrived) = (queue(), 0);
    while other.recv(&mut [0; 8], &mut fds).is_ok() {
        arrived += fds.drain().len();
    }
    assert_eq!(arrived, messages, "what was refused was not sent");
}

#[test]
fn received_descriptors_are_close_on_exec() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
    one.send(b"x", &[fd.as_fd()], false).unwrap();
    let mut fds = queue();
    other.recv(&mut [0; 8], &mut fds).unwrap();
    let arrived = fds.pop_front().unwrap();
    assert!(fcntl_getfd(&arrived).unwrap().contains(FdFlags::CLOEXEC));
}

/// So the flag is given with each receive, and how many came is counted.
#[test]
fn close_on_exec_is_not_the_default_and_room_for_one_lets_two_through() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    one.send(b"x", &times(&fd, 3), false).unwrap();
    // CMSG_SPACE for one: header and content, each filled up to the size of a long.
    let word = size_of::<usize>();
    let exactly = size_of::<libc::cmsghdr>().next_multiple_of(word) + word;
    let mut space = [MaybeUninit::uninit(); 128];
    let begin = space.as_ptr().align_offset(word);
    let mut control = RecvAncillaryBuffer::new(&mut space[begin..begin + exactly]);
    let mut byte = [0; 1];
    let room = &mut [IoSliceMut::new(&mut byte)];
    let received = recvmsg(&other, room, &mut control, RecvFlags::empty()).unwrap();
    assert!(received.flags.contains(ReturnFlags::CTRUNC));
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    assert_eq!(fds.len(), word / size_of::<i32>());
    assert!(!fcntl_getfd(&fds[0]).unwrap().contains(FdFlags::CLOEXEC));
}

#[test]
fn msg_peek_duplicates_descriptors() {
    let _balance = Balance::new();
    let (one, other) = pair();
    one.send(b"x", &times(&null(), 1), false).unwrap();
    for flags in [RecvFlags::PEEK, RecvFlags::PEEK, RecvFlags::empty()] {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0; 1];
        let room = &mut [IoSliceMut::new(&mut byte)];
        recvmsg(&other, room, &mut control, flags | RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(control.drain().count(), 1, "{flags:?}");
    }
    let nothing = other.recv(&mut [0; 1], &mut queue()).unwrap_err();
    assert!(nothing.is_would_block());
}

#[test]
fn a_cut_control_message_leaks_nothing() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    one.send(b"abc", &times(&fd, 5), false).unwrap();
    let mut fds = FdQueue::with_capacity(2);
    let received = other.recv(&mut [0; 8], &mut fds).unwrap();
    assert_eq!(received, Received { bytes: 3, fds: 2, cut: true });
    assert_eq!(fds.len(), 2);
}

#[test]
fn a_receive_never_joins_two_descriptor_sets() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    one.send(b"plain", &[], false).unwrap();
    one.send(b"first", &times(&fd, 2), false).unwrap();
    one.send(b"rest", &[], false).unwrap();
    one.send(b"second", &times(&fd, 1), false).unwrap();
    let (mut fds, mut buf) = (queue(), [0; 64]);
    let mut received = || other.recv(&mut buf, &mut fds).map(|got| (got.bytes, got.fds));
    // It may begin with earlier plain bytes, and ends with the send that brought descriptors.
    assert_eq!(received().unwrap(), (10, 2));
    assert_eq!(received().unwrap(), (10, 1));
    assert!(received().unwrap_err().is_would_block());
}

#[test]
fn plain_recv_closes_descriptors_silently() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let fd = null();
    one.send(b"abc", &times(&fd, 3), false).unwrap();
    let mut buf = [0; 8];
    assert_eq!(other.recv_bytes(&mut buf).unwrap(), 3);
    one.send(b"d", &[], false).unwrap();
    let mut fds = queue();
    other.recv(&mut buf, &mut fds).unwrap();
    assert!(fds.is_empty(), "they are gone, not late");
}

#[test]
fn unread_descriptors_are_closed_with_the_socket() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let (reader, writer) = Stream::pair().unwrap();
    one.send(b"x", &[writer.as_fd()], false).unwrap();
    drop(writer);
    assert!(!reader.has_hung_up().unwrap(), "under way counts as open");
    drop(other);
    assert!(reader.has_hung_up().unwrap());
}

#[test]
fn a_descriptor_is_duplicated_when_it_is_sent() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let (reader, writer) = Stream::pair().unwrap();
    one.send(b"x", &[writer.as_fd()], false).unwrap();
    drop(writer);
    let mut fds = queue();
    other.recv(&mut [0; 8], &mut fds).unwrap();
    let writer = Stream::from_fd(fds.pop_front().unwrap()).unwrap();
    writer.send(b"alive", &[], false).unwrap();
    let mut buf = [0; 8];
    assert_eq!(reader.recv_bytes(&mut buf).unwrap(), 5);
}

#[test]
fn a_passed_descriptor_shares_its_position() {
    let _balance = Balance::new();
    let (one, other) = pair();
    let memory = objmapper_os::memory::sealed("shared", b"abcdef").unwrap();
    one.send(b"x", &[memory.as_fd()], false).unwrap();
    let mut fds = queue();
    other.recv(&mut [0; 8], &mut fds).unwrap();
    let received = fds.pop_front().unwrap();
    let mut buf = [0; 3];
    assert_eq!(rustix::io::read(&received, &mut buf).unwrap(), 3);
    assert_eq!(rustix::io::read(&memory, &mut buf).unwrap(), 3);
    assert_eq!(&buf, b"def");
}

/// What whoever has a shared description can do to the others, and what not.
#[test]
fn receivers_of_one_description_share_its_flags_and_locks() {
    let _balance = Balance::new();
    let directory = directory();
    let path = file(&directory, "f", b"abcdef");
    let (one, other) = pair();
    let ours = File::open(&path).unwrap();
    one.send(b"x", &[ours.as_fd()], false).unwrap();
    let mut fds = queue();
    other.recv(&mut [0; 8], &mut fds).unwrap();
    let theirs = fds.pop_front().unwrap();

    fcntl_setfl(&theirs, OFlags::NONBLOCK | OFlags::APPEND).unwrap();
    let flags = fcntl_getfl(&ours).unwrap();
    assert!(flags.contains(OFlags::NONBLOCK | OFlags::APPEND), "{flags:?}");
    assert!(!fcntl_getfl(File::open(&path).unwrap()).unwrap().contains(OFlags::APPEND));

    let third = File::open(&path).unwrap();
    let lock = |fd: &dyn AsFd, how| flock(fd.as_fd(), how);
    lock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
    lock(&ours, FlockOperation::NonBlockingLockExclusive).expect("it has it already");
    let taken = lock(&third, FlockOperation::NonBlockingLockShared).unwrap_err();
    assert_eq!(taken, rustix::io::Errno::AGAIN);
    lock(&ours, FlockOperation::Unlock).unwrap();
    lock(&third, FlockOperation::NonBlockingLockShared).expect("theirs is gone as well");

    assert!(rustix::io::write(&theirs, b"x").is_err(), "nobody writes");
    let mut bytes = [0; 3];
    rustix::fs::seek(&theirs, rustix::fs::SeekFrom::End(0)).unwrap();
    assert_eq!(read_at(ours.as_fd(), &mut bytes, 1).unwrap(), 3);
    assert_eq!(&bytes, b"bcd", "at an offset nothing is different");
}

/// Whoever reads none of it would leak a descriptor for each message.
#[test]
fn what_an_inherited_socket_was_set_to_bring_is_turned_off() {
    let _balance = Balance::new();
    let (one, other) = pair();
    set_socket_passcred(other.as_fd(), true).unwrap();
    let other = Stream::from_fd(other.into_fd()).unwrap();
    assert!(!socket_passcred(other.as_fd()).unwrap());
    one.send(b"x", &[], false).unwrap();
    let received = other.recv(&mut [0; 8], &mut queue()).unwrap();
    assert_eq!(received, Received { bytes: 1, fds: 0, cut: false });
}

#[test]
fn a_socket_that_refuses_descriptors_makes_the_sender_fail() {
    let _balance = Balance::new();
    let (one, other) = pair();
    if !refuse_descriptors(other.as_fd()).unwrap() {
        return skip("this kernel has no SO_PASSRIGHTS");
    }
    let fd = null();
    let error = one.send(b"x", &times(&fd, 1), false).unwrap_err();
    assert_eq!(error.errno(), errno::EPERM);
    assert!(other.recv(&mut [0; 8], &mut queue()).unwrap_err().is_would_block());
    one.send(b"bytes pass", &[], false).unwrap();
    other.send(b"x", &times(&fd, 1), false).expect("it may send them itself");
    assert!(admit_descriptors(other.as_fd()).unwrap());
    one.send(b"x", &times(&fd, 1), false).unwrap();
}
