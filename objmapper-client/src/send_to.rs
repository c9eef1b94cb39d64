//! Objects that the daemon sends into a pipe or a socket of the caller's.

use crate::client::Client;
use crate::error::Result;
use crate::sending;
use std::ops::RangeBounds;
use std::os::fd::AsFd;

impl Client {
    /// Has the daemon send some of the object's bytes into `destination`: the writing end of a pipe
    /// or FIFO, or a connected stream socket (Unix or TCP). They do not pass through this process, and
    /// into a pipe the kernel moves them without a copy. Waits until all are there; gives how many.
    ///
    /// Needs [`crate::Builder::pass_descriptors`] and a daemon whose operator allows it; else it is
    /// refused with `UNSUPPORTED`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/example.rs"));
    /// # fn main() { with_daemon(|| {
    /// use objmapper_client::Client;
    /// use std::io::Read;
    /// use std::thread;
    ///
    /// let mut client = Client::builder().pass_descriptors(true).connect()?;
    /// let (mut reader, writer) = std::io::pipe().expect("a pipe");
    /// let received = thread::spawn(move || {
    ///     let mut bytes = Vec::new();
    ///     reader.read_to_end(&mut bytes).map(|_| bytes)
    /// });
    /// let sent = client.send_to("/models/a.gguf", .., &writer)?;
    /// drop(writer); // the last one: now the reader sees the end
    /// let bytes = received.join().expect("no panic").expect("no error");
    /// assert_eq!((sent, bytes.len()), (3_000_000, 3_000_000));
    /// # Ok(()) }) }
    /// ```
    ///
    /// - Somebody else must read meanwhile: what does not fit waits. The timeout of the client does not
    ///   count while bytes are on their way; the daemon gives up on a destination that takes nothing
    ///   for as long as its own settings say (`DESTINATION_STALLED`).
    /// - After an error the destination may have some of the bytes, of which none must be used. What
    ///   ends early is not begun again, whatever [`crate::Reconnect`] says. The connection goes on after
    ///   `BAD_DESTINATION` (it is something else, such as a file), `DESTINATION_GONE` (nobody reads any
    ///   more) and `DESTINATION_STALLED`.
    /// - The descriptor stays the caller's, status flags included; a blocking one will do. The daemon has
    ///   closed its own when this returns.
    pub fn send_to(
        &mut self,
        uri: &str,
        range: impl RangeBounds<u64>,
        destination: impl AsFd,
    ) -> Result<u64> {
        sending::send_to(&mut self.connection, uri, range, destination.as_fd())
    }

    /// Whether the daemon has agreed to take descriptors from this client; see
    /// [`crate::Builder::pass_descriptors`].
    pub fn may_send_to(&self) -> bool {
        self.connection.passes()
    }
}
