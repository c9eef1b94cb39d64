//! Values from files and into files, and by pieces.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use objmapper_os as os;

use super::Db;
use crate::kv::Fault;
use crate::kv::copies::{forget, place};
use crate::kv::journal::segment::UNFINISHED;
use crate::kv::journal::{Disk, disk};
use crate::kv::stream::Stream;

impl Db<'_> {
    /// Keeps what `source` gives until its end, up to [`LONGEST`](crate::kv::LONGEST) bytes; gives how
    /// many those are. Nobody sees the key before all of them have come; if the source fails nothing
    /// is changed. A value above [`Options::inline`](crate::kv::Options) goes piece by piece into
    /// sealed memory, which is where it stays, and from there into the journal: there is no second
    /// copy of it.
    ///
    /// ```
    /// # use std::io::Read;
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// let bytes = keys.db(0).put_stream("noise", std::io::repeat(7).take(1 << 20))?;
    /// assert_eq!(bytes, 1 << 20);
    /// # Ok::<(), objmapper::kv::Fault>(())
    /// ```
    pub fn put_stream(&self, key: impl AsRef<[u8]>, mut source: impl Read) -> Result<u64, Fault> {
        let content = self.keyspace.content_of(&mut source)?;
        let length = content.len();
        self.keep(key.as_ref(), content, |_, _| true)?;
        Ok(length)
    }

    /// A value to be read piece by piece: as it is now, whatever happens to its key meanwhile. What
    /// lies in sealed memory is not copied for it.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// keys.db(0).put("text", "a\nb\n")?;
    /// if let Some(mut stream) = keys.db(0).get_stream("text")? {
    ///     std::io::copy(&mut stream, &mut std::io::stdout())?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_stream(&self, key: impl AsRef<[u8]>) -> Result<Option<Stream>, Fault> {
        Ok(self.take(key.as_ref())?.map(Stream::new))
    }

    /// Keeps what a file holds, as [`Self::put_stream`] does; gives how many bytes those are. What is
    /// written into the file meanwhile may be in it or not.
    ///
    /// ```
    /// # use objmapper::kv::{Keyspace, Options};
    /// # let keys = Keyspace::in_memory(Options::default());
    /// # let place = tempfile::tempdir()?;
    /// # std::fs::write(place.path().join("a.bin"), [7; 100_000])?;
    /// keys.db(0).put_file("models/a", place.path().join("a.bin"))?;
    /// keys.db(0).get_file("models/a", place.path().join("b.bin"))?;
    /// assert_eq!(std::fs::read(place.path().join("b.bin"))?, [7; 100_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_file(&self, key: impl AsRef<[u8]>, from: impl AsRef<Path>) -> Result<u64, Fault> {
        let path = from.as_ref();
        let file = File::open(path).map_err(|error| {
            os::Error::from_io("open", &error).with_detail(path.to_string_lossy())
        })?;
        self.put_stream(key, file)
    }

    /// Writes a value into a file of its owner's alone, in place of what has that name; gives how many
    /// bytes those are, `None` if the key is not there (then no file is made). The name is there with
    /// all of it or not at all, and durably when this returns.
    pub fn get_file(
        &self,
        key: impl AsRef<[u8]>,
        to: impl AsRef<Path>,
    ) -> Result<Option<u64>, Fault> {
        let Some(stream) = self.get_stream(key)? else { return Ok(None) };
        let (dir, name) = place(to.as_ref())?;
        let part = format!("{name}{UNFINISHED}");
        forget(&dir, &part)?;
        let write = || -> Result<(), Fault> {
            let file = Disk::create(&dir, &part)?;
            stream.pieces(|piece| disk::append_all(&*file, piece))?;
            file.sync()?;
            dir.rename(&part, &name)?;
            Ok(dir.sync()?)
        };
        write().inspect_err(|_| drop(forget(&dir, &part)))?;
        Ok(Some(stream.len()))
    }
}
