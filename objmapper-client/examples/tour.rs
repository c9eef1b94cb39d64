//! The example of the README, word for word: a daemon that serves this repository must run,
//! and `OBJMAPPER_SOCKET` say where.
#![allow(clippy::print_stdout)] // what it is for

use objmapper_client::{Client, Error};

fn main() -> Result<(), Error> {
    let mut client = Client::connect()?; // OBJMAPPER_SOCKET, or the usual places

    let text = client.open("/LICENSE-APACHE")?; // an open descriptor, any size
    println!("{} bytes", text.size());
    let file = text.into_file(); // read it, map it, pass it on

    // Many in one round trip, each with a status of its own.
    for opened in client.open_many(&["/LICENSE-MIT", "/docs/operating.md"]) {
        println!("version {}", opened?.metadata().version());
    }

    let small = client.read("/LICENSE-MIT")?; // just the bytes
    println!("{} bytes", small.len());
    drop(file);
    Ok(())
}
