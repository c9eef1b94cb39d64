//! A disk in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use objmapper::kv::journal::{Disk, File};
use objmapper_os::{Error, Result, errno};
use parking_lot::Mutex;

type Files = BTreeMap<String, Arc<Content>>;

#[derive(Debug, Default)]
pub struct Memory(Mutex<Files>);

/// Bytes, and where the next one goes that is appended.
#[derive(Debug, Default)]
struct Content(Mutex<(Vec<u8>, usize)>);

impl Memory {
    pub fn with(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let file = |(name, bytes)| (name, Arc::new(Content(Mutex::new((bytes, 0)))));
        Self(Mutex::new(files.into_iter().map(file).collect()))
    }

    /// Another one with the same on it.
    pub fn copy(&self) -> Self {
        let file = |(name, content): (&String, &Arc<Content>)| (name.clone(), content.0.lock().0.clone());
        Self::with(self.0.lock().iter().map(file).collect::<Vec<_>>())
    }

    fn find(&self, name: &str) -> Result<Arc<Content>> {
        let missing = || Error::new("openat", errno::ENOENT).with_detail(name);
        self.0.lock().get(name).cloned().ok_or_else(missing)
    }
}

impl Disk for Memory {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.lock().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        if self.0.lock().contains_key(name) {
            return Err(Error::new("openat", errno::EEXIST));
        }
        let content = Arc::new(Content::default());
        self.0.lock().insert(name.to_owned(), content.clone());
        Ok(content)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>> {
        Ok(self.find(name)?)
    }

    fn cut(&self, name: &str, length: u64) -> Result<()> {
        self.find(name)?.0.lock().0.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let content = self.find(from)?;
        let mut files = self.0.lock();
        files.remove(from);
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.find(name)?;
        self.0.lock().remove(name);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl File for Content {
    fn append(&self, bytes: &[u8]) -> Result<usize> {
        let mut content = self.0.lock();
        let (file, end) = &mut *content;
        file.resize(file.len().max(*end + bytes.len()), 0);
        file[*end..*end + bytes.len()].copy_from_slice(bytes);
        *end += bytes.len();
        Ok(bytes.len())
    }

    fn prefill(&self, offset: u64, length: u64) -> Result<()> {
        self.0.lock().0.resize(usize::try_from(offset + length).unwrap(), 0);
        Ok(())
    }

    fn trim(&self, length: u64) -> Result<()> {
        self.0.lock().0.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn length(&self) -> Result<u64> {
        Ok(self.0.lock().0.len() as u64)
    }

    fn read(&self, out: &mut Vec<u8>, offset: u64, length: usize) -> Result<usize> {
        let content = self.0.lock();
        let rest = content.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let n = rest.len().min(length);
        out.extend_from_slice(&rest[..n]);
        Ok(n)
    }
}
