//! A disk in memory that remembers what is durable, tears, and fails when it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use objmapper::kv::journal::{Disk, File};
use objmapper_os::{Error, Result, errno};
use parking_lot::Mutex;

/// One thing that was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Create(String),
    Append(String, Vec<u8>),
    SyncFile(String),
    Cut(String, u64),
    Rename(String, String),
    Remove(String),
    SyncNames,
    /// Somebody was told that all up to here is kept.
    Told(usize),
}

#[derive(Debug, Default)]
struct Inside {
    files: BTreeMap<String, Vec<u8>>,
    events: Vec<Event>,
    /// Bytes that may still be appended.
    room: Option<usize>,
    /// Syncs of files that still succeed.
    syncs: Option<usize>,
    read_only: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<Inside>>);

impl Fake {
    pub(crate) fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self(Arc::new(Mutex::new(Inside { files, ..Inside::default() })))
    }

    /// As a process that died leaves it: whatever was handed over is there.
    pub(crate) fn killed(&self) -> Self {
        Self::with(self.files())
    }

    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().files.clone()
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.0.lock().files.get_mut(name).unwrap());
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().events.clone()
    }

    pub(crate) fn told(&self, n: usize) {
        self.0.lock().events.push(Event::Told(n));
    }

    /// From now on only so many bytes fit.
    pub(crate) fn fill_up(&self, room: usize) {
        self.0.lock().room = Some(room);
    }

    pub(crate) fn is_roomy_again(&self) {
        self.0.lock().room = None;
    }

    /// From now on only so many syncs succeed.
    pub(crate) fn fail_syncs_after(&self, n: usize) {
        self.0.lock().syncs = Some(n);
    }

    pub(crate) fn syncs_work_again(&self) {
        self.0.lock().syncs = None;
    }

    pub(crate) fn make_read_only(&self) {
        self.0.lock().read_only = true;
    }

    fn writable(&self) -> Result<()> {
        if self.0.lock().read_only { Err(Error::new("openat", errno::EROFS)) } else { Ok(()) }
    }
}

fn missing(name: &str) -> Error {
    Error::new("openat", errno::ENOENT).with_detail(name)
}

impl Disk for Fake {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        self.writable()?;
        let mut inside = self.0.lock();
        if inside.files.insert(name.to_owned(), Vec::new()).is_some() {
            return Err(Error::new("openat", errno::EEXIST));
        }
        inside.events.push(Event::Create(name.to_owned()));
        Ok(Arc::new(Opened { inside: self.0.clone(), name: name.to_owned() }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>> {
        if !self.0.lock().files.contains_key(name) {
            return Err(missing(name));
        }
        Ok(Arc::new(Opened { inside: self.0.clone(), name: name.to_owned() }))
    }

    fn cut(&self, name: &str, length: u64) -> Result<()> {
        self.writable()?;
        let mut inside = self.0.lock();
        let file = inside.files.get_mut(name).ok_or_else(|| missing(name))?;
        file.truncate(usize::try_from(length).unwrap());
        inside.events.push(Event::Cut(name.to_owned(), length));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.writable()?;
        let mut inside = self.0.lock();
        let file = inside.files.remove(from).ok_or_else(|| missing(from))?;
        inside.files.insert(to.to_owned(), file);
        inside.events.push(Event::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.writable()?;
        let mut inside = self.0.lock();
        inside.files.remove(name).ok_or_else(|| missing(name))?;
        inside.events.push(Event::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.0.lock().events.push(Event::SyncNames);
        Ok(())
    }
}

/// A file by its name: it is not renamed while it is written, but for snapshots that are complete.
#[derive(Debug)]
struct Opened {
    inside: Arc<Mutex<Inside>>,
    name: String,
}

impl File for Opened {
    fn append(&self, bytes: &[u8]) -> Result<usize> {
        // Others may come in between, as with a disk.
        std::thread::yield_now();
        let mut inside = self.inside.lock();
        let most = inside.room.unwrap_or(usize::MAX);
        if most == 0 {
            return Err(Error::new("write", errno::ENOSPC));
        }
        // Short writes are ordinary.
        let n = bytes.len().min(most).min(1000);
        if let Some(room) = &mut inside.room {
            *room -= n;
        }
        inside.files.get_mut(&self.name).unwrap().extend_from_slice(&bytes[..n]);
        inside.events.push(Event::Append(self.name.clone(), bytes[..n].to_vec()));
        Ok(n)
    }

    fn sync(&self) -> Result<()> {
        let mut inside = self.inside.lock();
        if let Some(left) = &mut inside.syncs {
            if *left == 0 {
                return Err(Error::new("fdatasync", errno::EIO));
            }
            *left -= 1;
        }
        inside.events.push(Event::SyncFile(self.name.clone()));
        Ok(())
    }

    fn length(&self) -> Result<u64> {
        Ok(self.inside.lock().files[&self.name].len() as u64)
    }

    fn read(&self, out: &mut Vec<u8>, offset: u64, length: usize) -> Result<usize> {
        let inside = self.inside.lock();
        let rest = inside.files[&self.name].get(usize::try_from(offset).unwrap()..);
        let rest = rest.unwrap_or_default();
        let n = rest.len().min(length);
        out.extend_from_slice(&rest[..n]);
        Ok(n)
    }
}
