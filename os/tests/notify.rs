//! Messages to a service manager, seen from its side.

mod common;

use common::{Balance, directory, null, times};
use objmapper_os::errno;
use objmapper_os::fds::MAX_PER_MESSAGE;
use objmapper_os::service_manager::Notify;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::ffi::OsStr;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// One message: its text and the number of descriptors, which are closed.
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // fails its test
fn heard(socket: &UnixDatagram) -> (String, usize) {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut text = [0; 512];
    let mut bytes = [IoSliceMut::new(&mut text)];
    let message = recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = control.drain().map(|part| match part {
        RecvAncillaryMessage::ScmRights(fds) => fds.count(),
        _ => 0,
    });
    let fds = rights.sum();
    (String::from_utf8_lossy(&text[..message.bytes]).into_owned(), fds)
}

#[test]
fn a_path_and_an_abstract_name_are_reached() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    Notify::to(path.as_os_str()).unwrap().notify("READY=1\nSTATUS=serving").unwrap();
    assert_eq!(heard(&manager), ("READY=1\nSTATUS=serving".into(), 0));

    let name = format!("objmapper-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    Notify::to(OsStr::new(&format!("@{name}"))).unwrap().notify("STOPPING=1").unwrap();
    assert_eq!(heard(&manager), ("STOPPING=1".into(), 0));
}

#[test]
fn other_addresses_are_refused() {
    let _balance = Balance::new();
    let error = Notify::to(OsStr::new("vsock:2:1234")).unwrap_err();
    assert_eq!(error.errno(), errno::EINVAL);
    assert!(Notify::to(OsStr::new("/nobody/here")).unwrap_err().is_not_found());
}

#[test]
fn descriptors_are_stored_by_name_in_as_many_messages_as_it_takes() {
    let _balance = Balance::new();
    let directory = directory();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let (notify, fd) = (Notify::to(path.as_os_str()).unwrap(), null());
    notify.store("clients", &times(&fd, 300)).unwrap();
    assert_eq!(heard(&manager), ("FDSTORE=1\nFDNAME=clients".into(), 253));
    assert_eq!(heard(&manager), ("FDSTORE=1\nFDNAME=clients".into(), 47));
    notify.forget("clients").unwrap();
    assert_eq!(heard(&manager), ("FDSTOREREMOVE=1\nFDNAME=clients".into(), 0));
    for bad in ["", "a:b", "a\nb", &"x".repeat(256)] {
        assert_eq!(notify.store(bad, &times(&fd, 1)).unwrap_err().errno(), errno::EINVAL);
    }
}
