//! A disk in memory that remembers what is durable, tears, and fails when it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use objmapper::kv::journal::{Disk, File};
use objmapper_os::{Error, Result, errno};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// One thing that was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Create(String),
    Append(String, Vec<u8>),
    /// So many zeros at the end of the file; what is appended goes where it would have gone.
    Fill(String, usize),
    /// What was filled and not written over is gone.
    Trim(String),
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
    no_descriptors: bool,
    no_trims: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<Inside>>, Arc<Mutex<()>>, Arc<Pair>);

/// Two syncs at the same time, of which the second is told of an error that both are about.
#[derive(Debug, Default)]
struct Pair(Mutex<Stage>, Condvar);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Off,
    Awaited,
    FirstIsIn,
    BothAreIn,
    FirstIsThrough,
}

impl Pair {
    fn reach(&self, stage: Stage, at_most: Duration) -> bool {
        let mut now = self.0.lock();
        self.1.wait_while_for(&mut now, |now| *now < stage, at_most);
        *now >= stage
    }

    fn set(&self, stage: Stage) {
        *self.0.lock() = stage;
        self.1.notify_all();
    }

    fn sync(&self) -> Result<()> {
        let now = *self.0.lock();
        match now {
            Stage::Off | Stage::BothAreIn | Stage::FirstIsThrough => return Ok(()),
            Stage::Awaited => {
                self.set(Stage::FirstIsIn);
                // Nobody comes if only one may sync at a time.
                if self.reach(Stage::BothAreIn, Duration::from_millis(300)) {
                    return Ok(());
                }
                self.set(Stage::Off);
            }
            Stage::FirstIsIn => {
                self.set(Stage::BothAreIn);
                assert!(self.reach(Stage::FirstIsThrough, Duration::from_mins(1)));
            }
        }
        Err(Error::new("fdatasync", errno::EIO))
    }
}

impl Fake {
    pub(crate) fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self(
            Arc::new(Mutex::new(Inside { files, ..Inside::default() })),
            Arc::default(),
            Arc::default(),
        )
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

    /// No sync of a file comes back while this is held.
    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.1.lock()
    }

    /// From now on only so many syncs succeed.
    pub(crate) fn fail_syncs_after(&self, n: usize) {
        self.0.lock().syncs = Some(n);
    }

    pub(crate) fn syncs_work_again(&self) {
        self.0.lock().syncs = None;
    }

    /// Of the next two syncs that come together the second is told that they failed, as the kernel tells
    /// one of those who have a descriptor; it comes back when the first is said to be through.
    pub(crate) fn tell_one_of_two(&self) {
        self.2.set(Stage::Awaited);
    }

    pub(crate) fn wait_for_the_first(&self) {
        assert!(self.2.reach(Stage::FirstIsIn, Duration::from_mins(1)));
    }

    pub(crate) fn first_is_through(&self) {
        self.2.set(Stage::FirstIsThrough);
    }

    pub(crate) fn make_read_only(&self) {
        self.0.lock().read_only = true;
    }

    /// Whether no file can be made for want of descriptors.
    pub(crate) fn has_no_descriptors(&self, now: bool) {
        self.0.lock().no_descriptors = now;
    }

    /// Whether room that was filled cannot be cut off.
    pub(crate) fn cannot_trim(&self, now: bool) {
        self.0.lock().no_trims = now;
    }

    fn opened(&self, name: &str) -> Arc<dyn File> {
        let (inside, syncs, pair) = (self.0.clone(), self.1.clone(), self.2.clone());
        let position = AtomicUsize::new(0);
        Arc::new(Opened { inside, syncs, pair, name: name.to_owned(), position })
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
        if inside.no_descriptors {
            return Err(Error::new("openat", errno::EMFILE));
        }
        if inside.files.insert(name.to_owned(), Vec::new()).is_some() {
            return Err(Error::new("openat", errno::EEXIST));
        }
        inside.events.push(Event::Create(name.to_owned()));
        Ok(self.opened(name))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>> {
        if !self.0.lock().files.contains_key(name) {
            return Err(missing(name));
        }
        Ok(self.opened(name))
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
    syncs: Arc<Mutex<()>>,
    pair: Arc<Pair>,
    name: String,
    /// Where what is appended goes.
    position: AtomicUsize,
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
        let at = self.position.fetch_add(n, Ordering::Relaxed);
        let file = inside.files.get_mut(&self.name).unwrap();
        let new = (at + n).saturating_sub(file.len());
        file.resize(file.len() + new, 0);
        file[at..at + n].copy_from_slice(&bytes[..n]);
        if let Some(room) = &mut inside.room {
            *room -= new;
        }
        inside.events.push(Event::Append(self.name.clone(), bytes[..n].to_vec()));
        Ok(n)
    }

    fn prefill(&self, offset: u64, length: u64) -> Result<()> {
        let mut inside = self.inside.lock();
        let (from, n) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        // What fits is filled even if not all does.
        let fits = n.min(inside.room.unwrap_or(n));
        let file = inside.files.get_mut(&self.name).unwrap();
        assert!(file.len() >= from && self.position.load(Ordering::Relaxed) <= from);
        let new = (from + fits).saturating_sub(file.len());
        file.resize(file.len() + new, 0);
        inside.events.push(Event::Fill(self.name.clone(), new));
        if let Some(room) = &mut inside.room {
            *room -= new;
        }
        if fits < n {
            return Err(Error::new("pwrite", errno::ENOSPC));
        }
        Ok(())
    }

    fn trim(&self, length: u64) -> Result<()> {
        let mut inside = self.inside.lock();
        let length = usize::try_from(length).unwrap();
        assert_eq!(self.position.load(Ordering::Relaxed), length);
        if inside.no_trims {
            return Err(Error::new("ftruncate", errno::EIO));
        }
        let file = inside.files.get_mut(&self.name).unwrap();
        let gone = file.len() - length;
        file.truncate(length);
        if let Some(room) = &mut inside.room {
            *room += gone;
        }
        inside.events.push(Event::Trim(self.name.clone()));
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let turn = self.syncs.try_lock_for(Duration::from_mins(1)).unwrap();
        drop(turn);
        self.pair.sync()?;
        let mut inside = self.inside.lock();
        if let Some(left) = &mut inside.syncs {
            if *left == 0 {
                return Err(Error::new("fdatasync", errno::EIO));
            }
            *left -= 1;
        }
        // What comes while it is under way is not meant.
        inside.events.push(Event::SyncFile(self.name.clone()));
        drop(inside);
        std::thread::yield_now();
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
