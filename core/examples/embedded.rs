//! A keyspace inside a program, in a directory of its own: `cargo run -p objmapper --example embedded`
//!
//! Run it again and it goes on where it was. While it runs, no other process can open the directory.

#![allow(clippy::print_stdout)] // what it is for

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use objmapper::kv::{JournalOptions, Keyspace, Options, SyncPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("objmapper-embedded"), PathBuf::from);
    // `Keyspace::open(&path)` would do; this one waits for the disk before a verb returns.
    let journal = JournalOptions { sync: SyncPolicy::Always, ..JournalOptions::default() };
    let (keys, found) = Keyspace::open_with(&path, Options::default(), journal, |_, _| ())?;
    println!("{}: {} records read back", path.display(), found.records);

    // Shared by threads as it is. This one keeps the journal short; it sleeps until that pays.
    let keys = Arc::new(keys);
    let compactor = thread::spawn({
        let keys = keys.clone();
        move || {
            let Some(journal) = keys.journal() else { return };
            while journal.wait_to_compact(Instant::now()) {
                if let Err(failure) = keys.compact() {
                    eprintln!("not compacted: {failure}");
                    return;
                }
            }
        }
    });

    let db = keys.db(0);
    db.insert_if_absent("runs", "0")?;
    let runs: u64 = String::from_utf8(db.get_or_default("runs", "0")?)?.parse()?;
    db.put("runs", (runs + 1).to_string())?;
    println!("run number {}", runs + 1);

    // All of them, or none.
    db.put_batch(&[("users/1", "ada"), ("users/2", "grace"), ("users/3", "edsger")])?;
    db.update_if_present("users/2", "barbara")?;
    db.delete("users/3")?;

    // In order, by prefix and by range.
    for entry in db.prefix("users/") {
        let (key, value) = entry?;
        println!("{} = {}", key.escape_ascii(), value.escape_ascii());
    }
    println!("{} keys from r to u", db.range("r".."u").count());

    // A large value: by pieces in, by pieces out, and as memory that another process may be given.
    db.put_stream("noise", std::io::repeat(7).take(8 << 20))?;
    if let Some(mut stream) = db.get_stream("noise")? {
        let bytes = stream.len();
        let read = std::io::copy(&mut stream, &mut std::io::sink())?;
        println!("noise: {read} of {bytes} bytes");
    }

    let backup = path.with_extension("backup");
    let kept = keys.backup(&backup)?;
    println!("{}: {} keys in {} bytes", backup.display(), kept.keys, kept.bytes);

    if let Some(journal) = keys.journal() {
        journal.stop();
    }
    compactor.join().map_err(|_| "the compactor panicked")?;
    keys.close()?;
    Ok(())
}
