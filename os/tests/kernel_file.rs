//! Open files: identity, reads that do not wait, sendfile, sealed memory.

mod common;

use common::{Balance, directory, disk_directory, file, pair, skip};
use objmapper_os::clock::realtime_coarse_ns;
use objmapper_os::file::{
    CachedRead, Page, filesystem, identity, identity_at, is_memory, may_hang, page_at, read_at,
    read_at_append, read_at_cached, reopen, send_file, will_need,
};
use objmapper_os::memory::{sealed, seals};
use objmapper_os::{errno, signal};
use rustix::fs::{Advice, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

/// What statfs(2) calls it.
const TMPFS_MAGIC: u64 = 0x0102_1994;

#[allow(clippy::unwrap_used)] // fails its test
fn opened(name: &str, bytes: &[u8]) -> (tempfile::TempDir, File) {
    let directory = disk_directory();
    let path = file(&directory, name, bytes);
    let file = File::options().read(true).write(true).open(path).unwrap();
    (directory, file)
}

/// The same on the file system of temporary files, which may be another.
#[allow(clippy::unwrap_used)] // fails its test
fn in_memory() -> (tempfile::TempDir, File) {
    let directory = directory();
    let path = file(&directory, "a", b"");
    let file = File::options().read(true).write(true).open(path).unwrap();
    (directory, file)
}

#[test]
fn every_change_shows_in_the_identity() {
    let _balance = Balance::new();
    let (directory, mut file) = opened("a", b"1234");
    let place = File::open(directory.path()).unwrap();
    let first = identity(file.as_fd()).unwrap();
    assert!(first.is_regular() && !first.is_dir());
    assert_eq!((first.size, first.nlink), (4, 1));
    let by_name = identity_at(place.as_fd(), b"a", true).unwrap();
    assert_eq!(by_name, first);
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"5").unwrap();
    assert_ne!(identity(file.as_fd()).unwrap(), first);
    let second = identity(file.as_fd()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_ne!(identity(file.as_fd()).unwrap().mode, second.mode);
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let third = identity(file.as_fd()).unwrap();
    assert_eq!(third.mtime_ns, 0);
    assert!(third.ctime_ns >= second.ctime_ns && third.ctime_ns > 0, "ctime cannot be set");
    std::fs::remove_file(directory.path().join("a")).unwrap();
    assert_eq!(identity(file.as_fd()).unwrap().nlink, 0);
    assert_eq!(identity_at(place.as_fd(), b"a", true).unwrap_err().errno(), errno::ENOENT);
}

/// Versions rest on it: a stamp that is older than the clock's last tick gets no second meaning.
#[test]
fn a_change_is_stamped_no_earlier_than_the_coarse_clock_says() {
    let _balance = Balance::new();
    for (_directory, file) in [opened("a", b""), in_memory()] {
        for n in 0..2000 {
            let before = realtime_coarse_ns();
            file.write_at(&[7], n).unwrap();
            let stamped = identity(file.as_fd()).unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            for ns in [stamped.mtime_ns, stamped.ctime_ns] {
                assert!(ns >= before && u128::try_from(ns).unwrap() <= now, "{before} {ns} {now}");
            }
        }
    }
}

#[test]
fn reads_at_an_offset_move_no_position() {
    let _balance = Balance::new();
    let (_directory, mut file) = opened("a", b"0123456789");
    let mut buf = [0; 4];
    assert_eq!(read_at(file.as_fd(), &mut buf, 8).unwrap(), 2);
    assert_eq!(read_at(file.as_fd(), &mut buf, 100).unwrap(), 0);
    assert_eq!(read_at(file.as_fd(), &mut buf, u64::MAX).unwrap_err().errno(), errno::EINVAL);
    let error = read_at_cached(file.as_fd(), &mut buf, u64::MAX).unwrap_err();
    assert_eq!(error.errno(), errno::EINVAL, "-1 would be the shared position");
    let error = read_at_append(file.as_fd(), &mut Vec::new(), 4, u64::MAX, true).unwrap_err();
    assert_eq!(error.errno(), errno::EINVAL);
    assert_eq!(read_at_cached(file.as_fd(), &mut buf, 2).unwrap(), CachedRead::Bytes(4));
    assert_eq!(&buf, b"2345");
    assert_eq!(file.stream_position().unwrap(), 0);
}

#[test]
fn appending_grows_and_keeps_what_was_there() {
    let _balance = Balance::new();
    let (_directory, file) = opened("a", b"0123456789");
    let mut buf = b"head:".to_vec();
    for cached_only in [true, false] {
        let read = read_at_append(file.as_fd(), &mut buf, 4, 3, cached_only).unwrap();
        assert_eq!(read, CachedRead::Bytes(4));
    }
    assert_eq!(buf, b"head:34563456");
    let read = read_at_append(file.as_fd(), &mut buf, 1 << 16, 8, false).unwrap();
    assert_eq!((read, buf.len()), (CachedRead::Bytes(2), 15));
    let read = read_at_append(file.as_fd(), &mut buf, 0, 0, false).unwrap();
    assert_eq!((read, buf.len()), (CachedRead::Bytes(0), 15));
}

#[test]
fn rwf_nowait_says_what_is_cold_and_willneed_warms_it() {
    let _balance = Balance::new();
    let (_directory, file) = opened("a", &vec![7; 1 << 16]);
    let mut buf = [0; 1 << 12];
    assert_eq!(read_at_cached(file.as_fd(), &mut buf, 0).unwrap(), CachedRead::Bytes(1 << 12));
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let mut vec = Vec::with_capacity(8);
    if read_at_cached(file.as_fd(), &mut buf, 0).unwrap() != CachedRead::Cold {
        return skip("this file system keeps its pages (in memory, or an overlay)");
    }
    let read = read_at_append(file.as_fd(), &mut vec, 8, 0, true).unwrap();
    assert_eq!((read, vec.len()), (CachedRead::Cold, 0));
    assert_eq!(page_at(file.as_fd(), 1 << 15).unwrap(), Page::Cold);
    assert_eq!(page_at(file.as_fd(), 1 << 20).unwrap(), Page::Cached, "behind the end");
    will_need(file.as_fd(), 1 << 15, 1 << 12).unwrap();
    while page_at(file.as_fd(), 1 << 15).unwrap() == Page::Cold {
        std::thread::yield_now(); // it is read by and by, and nobody else asks for it
    }
    assert_eq!(read_at(file.as_fd(), &mut buf, 0).unwrap(), 1 << 12);
    assert_eq!(read_at_cached(file.as_fd(), &mut buf, 0).unwrap(), CachedRead::Bytes(1 << 12));
}

#[test]
fn memory_is_never_cold() {
    let _balance = Balance::new();
    let memory = sealed("m", b"abc").unwrap();
    let mut buf = [0; 8];
    assert_eq!(read_at_cached(memory.as_fd(), &mut buf, 0).unwrap(), CachedRead::Bytes(3));
    let mut vec = Vec::new();
    let read = read_at_append(memory.as_fd(), &mut vec, 8, 1, true).unwrap();
    assert_eq!((read, vec.as_slice()), (CachedRead::Bytes(2), &b"bc"[..]));
    assert_eq!(filesystem(memory.as_fd()).unwrap(), TMPFS_MAGIC);
    assert_eq!(page_at(memory.as_fd(), 0).unwrap(), Page::Cached);
    assert!(is_memory(memory.as_fd()).unwrap());
    assert!(!may_hang(memory.as_fd()).unwrap());
}

#[test]
fn who_does_not_know_rwf_nowait_may_wait() {
    let _balance = Balance::new();
    let told = File::open("/proc/self/status").unwrap();
    let mut byte = [0];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    let nowait = rustix::io::ReadWriteFlags::NOWAIT;
    let answer = rustix::io::preadv2(&told, &mut buffers, 0, nowait);
    assert_eq!(answer, Err(rustix::io::Errno::OPNOTSUPP), "procfs knows it: use another");
    assert!(!is_memory(told.as_fd()).unwrap());
    assert_eq!(page_at(told.as_fd(), 0).unwrap(), Page::Cold);
    assert_eq!(read_at_cached(told.as_fd(), &mut [0; 8], 0).unwrap(), CachedRead::Cold);
    let mut vec = Vec::new();
    assert_eq!(read_at_append(told.as_fd(), &mut vec, 8, 0, true).unwrap(), CachedRead::Cold);
    let read = read_at_append(told.as_fd(), &mut vec, 5, 0, false).unwrap();
    assert_eq!((read, vec.as_slice()), (CachedRead::Bytes(5), &b"Name:"[..]));
}

#[test]
fn sealed_memory_is_immutable_for_every_holder() {
    let _balance = Balance::new();
    let memory = sealed("m", &[1; 10_000]).unwrap();
    assert!(seals(memory.as_fd()).unwrap().unwrap().are_immutable());
    let name = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let holder = rustix::fs::open(name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for fd in [&memory, &holder] {
        let refused = Err(rustix::io::Errno::PERM);
        assert_eq!(rustix::io::pwrite(fd, b"x", 0), refused);
        assert_eq!(rustix::fs::ftruncate(fd, 5).map(|()| 0), refused);
        assert_eq!(rustix::fs::ftruncate(fd, 50_000).map(|()| 0), refused);
        let more = SealFlags::FUTURE_WRITE;
        assert_eq!(fcntl_add_seals(fd, more).map(|()| 0), refused);
    }
    assert_eq!(identity(memory.as_fd()).unwrap().size, 10_000);
    assert!(seals(sealed("empty", b"").unwrap().as_fd()).unwrap().unwrap().are_immutable());
}

#[test]
fn a_future_write_seal_is_not_immutability() {
    let _balance = Balance::new();
    let fd = memfd_create("f", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    fcntl_add_seals(&fd, SealFlags::FUTURE_WRITE | SealFlags::GROW | SealFlags::SHRINK).unwrap();
    let found = seals(fd.as_fd()).unwrap().unwrap();
    assert!(!found.are_immutable() && found.forbid_shrinking());
    let (_directory, file) = opened("a", b"");
    assert_eq!(seals(file.as_fd()).unwrap(), None);
}

#[test]
fn a_reopened_file_has_a_position_of_its_own() {
    let _balance = Balance::new();
    let memory = sealed("m", b"abcdef").unwrap();
    let private = reopen(memory.as_fd()).unwrap();
    let mut buf = [0; 4];
    rustix::io::read(&private, &mut buf).unwrap();
    assert_eq!(rustix::fs::tell(&private).unwrap(), 4);
    assert_eq!(rustix::fs::tell(&memory).unwrap(), 0);
    assert!(rustix::io::pwrite(&private, b"x", 0).is_err());
}

#[test]
fn sendfile_starts_at_its_offset_and_stops_when_the_socket_is_full() {
    let _balance = Balance::new();
    let (_directory, mut file) = opened("a", &vec![9; 4 << 20]);
    let (one, other) = pair();
    one.set_nonblocking(true).unwrap();
    let mut offset = 10;
    let error = loop {
        match send_file(&one, file.as_fd(), offset, 4 << 20) {
            Ok(bytes) => offset += bytes as u64,
            Err(error) => break error,
        }
    };
    assert!(error.is_would_block(), "{error}");
    assert!(offset > 10 && offset < 4 << 20, "{offset}");
    assert_eq!(file.stream_position().unwrap(), 0);
    let (mut buf, mut total) = (vec![0; 1 << 20], 0);
    while let Ok(bytes) = other.recv_bytes(&mut buf) {
        total += bytes as u64;
    }
    assert_eq!(total, offset - 10);
    assert_eq!(send_file(&one, file.as_fd(), 4 << 20, 1).unwrap(), 0, "the end of the file");
}

#[test]
fn sendfile_is_no_snapshot() {
    let _balance = Balance::new();
    let (_directory, file) = opened("a", &[b'o'; 4096]);
    let (one, other) = pair();
    assert_eq!(send_file(&one, file.as_fd(), 0, 4096).unwrap(), 4096);
    file.write_all_at(&[b'n'; 4096], 0).unwrap();
    let mut buf = [0; 4096];
    assert_eq!(other.recv_bytes(&mut buf).unwrap(), 4096);
    assert_eq!(buf[0], b'n', "the receiver sees what was written after the send");
}

#[test]
fn sendfile_to_a_peer_that_has_gone_is_epipe() {
    let _balance = Balance::new();
    signal::ignore_sigpipe().unwrap();
    let (_directory, file) = opened("a", b"abc");
    let (one, other) = pair();
    drop(other);
    assert_eq!(send_file(&one, file.as_fd(), 0, 3).unwrap_err().errno(), errno::EPIPE);
}
