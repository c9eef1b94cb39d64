//! One file of a journal, byte by byte: a segment, or a snapshot, which is read as a backup as well. Where
//! the input's last byte is odd its checksums are made to hold.

#![no_main]

use std::fs;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use objmapper::kv::{restore, verify_backup};
use objmapper_fuzz::disk::Memory;
use objmapper_fuzz::{format, open_twice};
use tempfile::TempDir;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").unwrap());

fuzz_target!(|input: &[u8]| {
    let [bytes @ .., how] = input else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 == 1 {
        format::mend(&mut bytes);
    }
    let first = bytes.get(16..24).map_or(1, |word| u64::from_le_bytes(word.try_into().unwrap()));
    let is_snapshot = bytes.starts_with(format::SNAPSHOT);
    let name =
        if is_snapshot { format::snapshot_name(u64::from(how >> 1)) } else { format::segment_name(first) };
    open_twice(&Arc::new(Memory::with([(name, bytes.clone())])));
    if is_snapshot {
        let backup = DIR.path().join("backup");
        fs::write(&backup, &bytes).unwrap();
        let (read, to) = (verify_backup(&backup), DIR.path().join("kv"));
        let restored = restore(&backup, &to);
        assert_eq!(restored.is_ok(), read.is_ok(), "{restored:?} {read:?}");
        let _ = fs::remove_dir_all(&to);
    }
});
