//! The files that are asked for, and what a correct answer must look like.
//!
//! Either a tree of our own in a temporary directory, removed when dropped, or one that exists.
//! Our own files differ in every page, so that a body out of place is noticed.

use anyhow::{Context, Result, bail};
use objmapper_proto::UriBuf;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// As the daemon is asked.
    pub(crate) uri: Vec<u8>,
    /// As the floor is asked: relative to the root.
    pub(crate) name: Vec<u8>,
    /// Bytes in it.
    pub(crate) size: u64,
    /// Its number, where we can see the file.
    pub(crate) ino: Option<u64>,
}

/// A root and some files beneath it.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Option<PathBuf>,
    pub(crate) objects: Vec<Object>,
    /// A large file that is not among them: for neighbours of what is measured.
    spare: Option<Object>,
    /// Removes the files when dropped, if they are ours.
    temporary: Option<TempDir>,
}

/// What a temporary tree shall consist of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) files: u32,
    pub(crate) size: u64,
    /// Directories above each file.
    pub(crate) depth: u32,
    /// Holes instead of bytes.
    pub(crate) sparse: bool,
}

impl Tree {
    /// Writes files of equal size.
    pub(crate) fn temporary(shape: Shape) -> Result<Self> {
        Self::of_shapes(&[shape])
    }

    /// Writes files of several sizes; [`Tree::part`] tells them apart.
    pub(crate) fn of_shapes(shapes: &[Shape]) -> Result<Self> {
        let dir = TempDir::with_prefix("objmapper-bench-").context("cannot make a directory")?;
        let root = Some(dir.path().to_owned());
        let mut tree = Self { root, objects: vec![], spare: None, temporary: None };
        for shape in shapes {
            tree.write(dir.path(), *shape)?;
        }
        tree.temporary = Some(dir);
        Ok(tree)
    }

    fn write(&mut self, root: &Path, shape: Shape) -> Result<()> {
        let total = u64::from(shape.files).saturating_mul(shape.size);
        if !shape.sparse && total > 16 << 30 {
            bail!(
                "{total} bytes of files are too many: lower --files or --file-size, or add --sparse"
            );
        }
        let mut below = PathBuf::new();
        below.extend((0..shape.depth).map(|level| format!("level{level}")));
        fs::create_dir_all(root.join(&below)).context("cannot make a directory")?;
        let from = u32::try_from(self.objects.len())?;
        for number in from..from + shape.files {
            let name = below.join(format!("object-{number:06}"));
            let path = root.join(&name);
            write(&path, number, shape).with_context(|| format!("{}", path.display()))?;
            self.objects.push(Object::new(&name, &path)?);
        }
        Ok(())
    }

    /// Adds a file of holes that nobody is asked for by a plan; to a tree of our own only.
    pub(crate) fn with_spare(mut self, size: u64) -> Result<Self> {
        let dir = self.temporary.as_ref().context("files are written to trees of our own only")?;
        let name = Path::new("spare");
        let path = dir.path().join(name);
        write(&path, 0, Shape { files: 1, size, depth: 0, sparse: true })?;
        self.spare = Some(Object::new(name, &path)?);
        Ok(self)
    }

    /// The spare file, or else the largest of the others.
    pub(crate) fn large(&self) -> Option<&Object> {
        self.spare.as_ref().or_else(|| self.objects.iter().max_by_key(|object| object.size))
    }

    /// Some of its files, by number; valid as long as the whole tree.
    pub(crate) fn part(&self, numbers: std::ops::Range<usize>) -> Self {
        let objects = self.objects.get(numbers).unwrap_or_default().to_vec();
        Self { root: self.root.clone(), objects, spare: self.spare.clone(), temporary: None }
    }

    /// Takes up to `limit` regular files of a tree that exists.
    pub(crate) fn existing(root: &Path, limit: usize) -> Result<Self> {
        let mut objects = Vec::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop().filter(|_| objects.len() < limit) {
            let entries =
                fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() && objects.len() < limit {
                    let path = entry.path();
                    objects.push(Object::new(path.strip_prefix(root)?, &path)?);
                }
            }
        }
        if objects.is_empty() {
            bail!("{}: no regular file in it", root.display());
        }
        Ok(Self { root: Some(root.to_owned()), objects, spare: None, temporary: None })
    }

    /// Files that a daemon listed; nobody here can see them.
    pub(crate) fn remote(objects: Vec<Object>) -> Self {
        Self { root: None, objects, spare: None, temporary: None }
    }

    /// The directory, if it is known.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Where a file is, if that is known.
    pub(crate) fn path(&self, object: &Object) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join(std::ffi::OsStr::from_bytes(&object.name)))
    }
}

impl Object {
    fn new(name: &Path, path: &Path) -> Result<Self> {
        let metadata = path.symlink_metadata()?;
        let name = name.as_os_str().as_bytes().to_vec();
        let uri = UriBuf::from_path(&[b"/", name.as_slice()].concat())?;
        let uri = uri.as_uri().as_bytes().to_vec();
        Ok(Self { uri, name, size: metadata.len(), ino: Some(metadata.ino()) })
    }
}

fn write(path: &Path, number: u32, shape: Shape) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    if shape.sparse {
        return file.set_len(shape.size);
    }
    let mut left = shape.size;
    let mut page = 0_u64;
    while left > 0 {
        let bytes = contents(u64::from(number) << 32 | page);
        let length = left.min(bytes.len() as u64);
        file.write_all(bytes.get(..usize::try_from(length).unwrap_or(0)).unwrap_or(&bytes))?;
        left -= length;
        page += 1;
    }
    Ok(())
}

/// 4096 bytes that depend on the seed (a xorshift generator).
fn contents(seed: u64) -> [u8; 4096] {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = [0; 4096];
    for chunk in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_what_was_asked_for_and_goes_away() {
        let shape = Shape { files: 3, size: 5000, depth: 2, sparse: false };
        let tree =
            Tree::of_shapes(&[shape, Shape { files: 1, size: 1 << 40, sparse: true, ..shape }]);
        let tree = tree.unwrap();
        assert_eq!(tree.part(3..4).objects[0].size, 1 << 40);
        let root = tree.root().unwrap().to_owned();
        let path = tree.path(&tree.objects[1]).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 5000);
        assert_ne!(
            fs::read(&path).unwrap(),
            fs::read(tree.path(&tree.objects[0]).unwrap()).unwrap()
        );
        assert_eq!(tree.objects[2].uri, b"/level0/level1/object-000002");
        assert_eq!(Tree::existing(&root, 2).unwrap().objects.len(), 2);
        drop(tree);
        assert!(!root.exists());
    }
}
