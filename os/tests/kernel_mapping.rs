//! What the kernel promises about mapped files, and what it does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(unsafe_code)] // what is not promised has to be tried

use objmapper_os::errno;
use objmapper_os::mapping::Mapping;
use objmapper_os::memory::sealed;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

fn memory(bytes: &[u8], seals: SealFlags) -> File {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

#[test]
fn a_sealed_file_is_mapped_as_far_as_was_asked() {
    let content: Vec<u8> = (0..10_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let fd = sealed("test", &content).unwrap();
    for length in [1, 4096, 4097, 10_000] {
        let mapping = Mapping::sealed(&fd, length as u64).unwrap().unwrap();
        assert_eq!(&*mapping, &content[..length]);
    }
    let mapping = Mapping::sealed(&fd, 10_000).unwrap().unwrap();
    drop(fd);
    assert_eq!(&*mapping, content, "the mapping keeps the file");
    let error = Mapping::sealed(sealed("test", &content).unwrap(), 10_001).unwrap_err();
    assert_eq!(error.errno(), errno::EINVAL);
    assert!(error.to_string().contains("10001 bytes of a file that has 10000"), "{error}");
}

#[test]
fn nothing_of_an_empty_file_can_be_mapped() {
    let fd = sealed("test", b"").unwrap();
    assert!(Mapping::sealed(&fd, 0).unwrap().unwrap().is_empty());
    assert!(Mapping::sealed(&fd, 1).is_err());
    assert!(Mapping::sealed(&fd, u64::MAX).is_err());
}

/// Each of these leaves somebody a way to change the bytes or to take them away.
#[test]
fn half_of_the_seals_is_none() {
    for seals in [
        SealFlags::empty(),
        SealFlags::WRITE,
        SealFlags::SHRINK,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        SealFlags::FUTURE_WRITE | SealFlags::SHRINK,
    ] {
        assert!(Mapping::sealed(memory(b"abc", seals), 3).unwrap().is_none(), "{seals:?}");
    }
    let enough = memory(b"abc", SealFlags::WRITE | SealFlags::SHRINK);
    assert_eq!(&*Mapping::sealed(enough, 3).unwrap().unwrap(), b"abc");
    let file = tempfile::tempfile().unwrap();
    assert!(Mapping::sealed(file, 0).unwrap().is_none(), "a file on a disk has no seals");
}

#[test]
fn a_mapping_beyond_the_end_of_a_truncated_file_is_sigbus() {
    const INSIDE: &str = "KERNEL_MAPPING_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let file = memory(b"abc", SealFlags::empty());
        // SAFETY: none, that is the point: the process is about to end for it.
        let mapping = unsafe { Mapping::unsealed(&file, 3) }.unwrap();
        assert_eq!(&*mapping, b"abc");
        ftruncate(&file, 0).unwrap();
        let gone = std::hint::black_box(mapping[0]);
        panic!("it was still there: {gone}");
    }
    let program = std::env::current_exe().unwrap();
    let test = "a_mapping_beyond_the_end_of_a_truncated_file_is_sigbus";
    let output = Command::new(program).args(["--exact", test]).env(INSIDE, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(7), "{output:?}");
}
